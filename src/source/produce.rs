//! The other direction: messages to a topic, for the `produce` verb, the demo and tests.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use crate::config::KafkaSettings;
use crate::kafka_client::{self, Quiet};
use crate::redact;

/// Waiting time when librdkafka's queue is full, before the next attempt.
const QUEUE_WAIT: Duration = Duration::from_millis(5);
const ADMIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Names the topic, what the broker said and the next step.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ProduceError(String);

/// Sends messages with many in flight; cheap to clone. Idempotent and `acks=all`: what is acknowledged is stored once,
/// in the order of `send` per key.
#[derive(Clone)]
pub struct Producer {
    producer: FutureProducer<Quiet>,
}

impl Producer {
    /// # Errors
    /// A refused property. Brokers are not contacted yet.
    pub fn new(settings: &KafkaSettings) -> Result<Self, ProduceError> {
        let config = kafka_client::config(
            settings,
            &[("enable.idempotence", "true"), ("compression.type", "zstd"), ("linger.ms", "5")],
        );
        FutureProducer::from_config_and_context(&config, Quiet)
            .map(|producer| Self { producer })
            .map_err(|error| ProduceError(kafka_client::creation_error(&error)))
    }

    /// Takes the message over, waiting while the queue is full, and returns what becomes of it: partition and offset
    /// once all in-sync replicas have it. The delivery goes on whether or not the result is awaited.
    ///
    /// # Errors
    /// Outer: the message cannot be sent at all (too large, unknown topic). Inner: the broker did not take it.
    pub async fn send(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<impl Future<Output = Result<(i32, i64), ProduceError>> + Send + use<>, ProduceError> {
        self.send_to(topic, None, key, value, headers).await
    }

    /// Like [`Producer::send`], to this partition; none: the one that the key belongs to.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub async fn send_to(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<impl Future<Output = Result<(i32, i64), ProduceError>> + Send + use<>, ProduceError> {
        let owned = headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |all, (name, value)| {
            all.insert(Header { key: name, value: *value })
        });
        let mut record = FutureRecord::<[u8], [u8]>::to(topic).headers(owned);
        record.partition = partition;
        record.key = key;
        record.payload = value;
        let delivery = loop {
            match self.producer.send_result(record) {
                Ok(delivery) => break delivery,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    tokio::time::sleep(QUEUE_WAIT).await;
                }
                Err((error, _)) => return Err(refused(topic, &error)),
            }
        };
        let topic = topic.to_owned();
        Ok(async move {
            match delivery.await {
                Ok(Ok(delivery)) => Ok((delivery.partition, delivery.offset)),
                Ok(Err((error, _))) => Err(refused(&topic, &error)),
                Err(_) => Err(ProduceError(format!(
                    "a message to topic {topic:?} was not delivered: the producer was closed; flush it first"
                ))),
            }
        })
    }

    /// Waits until everything sent so far is delivered or refused.
    ///
    /// # Errors
    /// When that takes longer than `timeout`.
    pub async fn flush(&self, timeout: Duration) -> Result<(), ProduceError> {
        let producer = self.producer.clone();
        let flushed = tokio::task::spawn_blocking(move || {
            producer.flush(timeout).map_err(|error| {
                ProduceError(format!(
                    "{} messages are not delivered after {} s: {error}; check kafka.brokers and the topic",
                    producer.in_flight_count(),
                    timeout.as_secs()
                ))
            })
        });
        flushed.await.unwrap_or_else(|error| Err(ProduceError(format!("flushing the producer failed: {error}"))))
    }
}

fn refused(topic: &str, error: &KafkaError) -> ProduceError {
    let code = error.rdkafka_error_code();
    let next = match code {
        Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => "create the topic",
        Some(RDKafkaErrorCode::UnknownPartition) => "the topic has fewer partitions than it had",
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => "make the message smaller, or raise the topic's limit",
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => "grant this user WRITE on the topic",
        _ => "check kafka.brokers and that they are up",
    };
    let what = code.map_or_else(|| error.to_string(), |code| code.to_string());
    ProduceError(format!("topic {topic:?} does not take a message: {}; {next}", redact::cut(&what, 300)))
}

/// Creates the topics that are missing, with the brokers' default replication. Those that exist stay as they are.
/// (librdkafka's mock cluster has no admin requests; create topics there through `MockCluster::create_topic`.)
///
/// # Errors
/// A broker that cannot be reached or that refuses a topic; names each.
pub async fn ensure_topics(settings: &KafkaSettings, topics: &[&str], partitions: i32) -> Result<(), ProduceError> {
    let config = kafka_client::config(settings, &[]);
    let admin = AdminClient::<Quiet>::from_config_and_context(&config, Quiet)
        .map_err(|error| ProduceError(kafka_client::creation_error(&error)))?;
    // -1: the broker's `default.replication.factor` (KIP-464).
    let wanted: Vec<_> =
        topics.iter().map(|topic| NewTopic::new(topic, partitions, TopicReplication::Fixed(-1))).collect();
    let options = AdminOptions::new().request_timeout(Some(ADMIN_TIMEOUT)).operation_timeout(Some(ADMIN_TIMEOUT));
    let answers = admin.create_topics(&wanted, &options).await.map_err(|error| {
        ProduceError(format!("topics cannot be created: {error}; check kafka.brokers and that they are up"))
    })?;
    let refused: Vec<String> = answers
        .into_iter()
        .filter_map(Result::err)
        .filter(|(_, code)| *code != RDKafkaErrorCode::TopicAlreadyExists)
        .map(|(topic, code)| format!("{topic:?}: {code}"))
        .collect();
    if refused.is_empty() {
        Ok(())
    } else {
        Err(ProduceError(format!("the broker does not create {}; check its permissions", refused.join(", "))))
    }
}
