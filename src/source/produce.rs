//! Produces messages to a topic, for the `produce` verb, the demo and tests.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::OAuthToken;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use crate::config::KafkaSettings;
use crate::domain::Finding;
use crate::kafka_client;
use crate::redact;

/// Wait before the next attempt when librdkafka's queue is full.
const QUEUE_WAIT: Duration = Duration::from_millis(5);
const ADMIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Names the topic and the broker's error.
pub type ProduceError = Finding;

/// Sends messages with many in flight; cheap to clone. Idempotent with `acks=all`: acknowledged messages are stored once, per
/// key in the order of `send`.
#[derive(Clone)]
pub struct Producer {
    producer: FutureProducer<Noting>,
    noted: Noted,
}

/// Why the brokers refuse this client, in librdkafka's words, with a hint. A failed delivery only reports a timeout.
type Noted = Arc<Mutex<Option<Finding>>>;

struct Noting {
    noted: Noted,
    settings: KafkaSettings,
}

impl ClientContext for Noting {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, property: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        kafka_client::oauth_token(property)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        kafka_client::log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
        let why = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
                Some(kafka_client::refused(&self.settings, reason))
            }
            _ => kafka_client::untrusted(&self.settings, reason),
        };
        if why.is_some() {
            *self.noted.lock().unwrap_or_else(PoisonError::into_inner) = why;
        }
    }
}

impl Producer {
    /// # Errors
    /// A refused property. Brokers are not contacted yet.
    pub fn new(settings: &KafkaSettings) -> Result<Self, ProduceError> {
        let config = kafka_client::config(
            settings,
            &[("enable.idempotence", "true"), ("compression.type", "zstd"), ("linger.ms", "5")],
        );
        let noted = Noted::default();
        let context = Noting { noted: noted.clone(), settings: settings.clone() };
        FutureProducer::from_config_and_context(&config, context)
            .map(|producer| Self { producer, noted })
            .map_err(|error| kafka_client::creation_error(&error))
    }

    /// Queues the message, waiting while the queue is full, and returns its delivery: partition and offset once all in-sync
    /// replicas have it. The delivery continues whether or not the result is awaited.
    ///
    /// # Errors
    /// Outer: the message cannot be sent at all (too large, unknown topic). Inner: the broker did not accept it.
    pub async fn send(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<impl Future<Output = Result<(i32, i64), ProduceError>> + Send + use<>, ProduceError> {
        self.send_to(topic, None, key, value, headers).await
    }

    /// Like [`Producer::send`], to this partition; `None`: the partition of the key.
    ///
    /// # Errors
    /// See [`Producer::send`].
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
                Err((error, _)) => return Err(refused(topic, &error, &self.noted)),
            }
        };
        let (topic, noted) = (topic.to_owned(), self.noted.clone());
        Ok(async move {
            match delivery.await {
                Ok(Ok(delivery)) => Ok((delivery.partition, delivery.offset)),
                Ok(Err((error, _))) => Err(refused(&topic, &error, &noted)),
                Err(_) => {
                    let message = format!("a message to topic {topic:?} was not delivered: the producer was closed");
                    Err(ProduceError::new(message).hint("flush it first"))
                }
            }
        })
    }

    /// Waits until everything sent so far is delivered or refused.
    ///
    /// # Errors
    /// If that takes longer than `timeout`.
    pub async fn flush(&self, timeout: Duration) -> Result<(), ProduceError> {
        let producer = self.producer.clone();
        let flushed = tokio::task::spawn_blocking(move || {
            producer.flush(timeout).map_err(|error| {
                let (left, seconds) = (producer.in_flight_count(), timeout.as_secs());
                ProduceError::new(format!("{left} messages are not delivered after {seconds} s: {error}"))
                    .hint("check kafka.brokers and the topic")
            })
        });
        flushed.await.unwrap_or_else(|error| Err(ProduceError::new(format!("flushing the producer failed: {error}"))))
    }
}

fn refused(topic: &str, error: &KafkaError, noted: &Noted) -> ProduceError {
    let code = error.rdkafka_error_code();
    if code == Some(RDKafkaErrorCode::MessageTimedOut)
        && let Some(why) = noted.lock().unwrap_or_else(PoisonError::into_inner).as_ref()
    {
        return Finding {
            message: format!("topic {topic:?} does not accept a message: {}", why.message),
            ..why.clone()
        };
    }
    let hint = match code {
        Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => "create the topic",
        Some(RDKafkaErrorCode::UnknownPartition) => "the topic has fewer partitions than before",
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => "make the message smaller, or raise the topic's limit",
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => "grant this user WRITE on the topic",
        _ => "check kafka.brokers and that they are running",
    };
    let what = code.map_or_else(|| error.to_string(), |code| code.to_string());
    ProduceError::new(format!("topic {topic:?} does not accept a message: {}", redact::cut(&what, 300))).hint(hint)
}

/// Creates missing topics with the brokers' default replication. Existing topics are not changed.
/// (librdkafka's mock cluster has no admin requests; create topics there through `MockCluster::create_topic`.)
///
/// # Errors
/// No broker is reachable, or it refuses a topic; names each.
pub async fn ensure_topics(settings: &KafkaSettings, topics: &[&str], partitions: i32) -> Result<(), ProduceError> {
    let admin = kafka_client::admin(settings).await?;
    // -1: the broker's `default.replication.factor` (KIP-464).
    let wanted: Vec<_> =
        topics.iter().map(|topic| NewTopic::new(topic, partitions, TopicReplication::Fixed(-1))).collect();
    let options = AdminOptions::new().request_timeout(Some(ADMIN_TIMEOUT)).operation_timeout(Some(ADMIN_TIMEOUT));
    let answers = admin.create_topics(&wanted, &options).await.map_err(|error| {
        ProduceError::new(format!("topics cannot be created: {error}"))
            .hint("check kafka.brokers and that they are running")
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
        Err(ProduceError::new(format!("the broker does not create {}", refused.join(", ")))
            .hint("check this user's permissions"))
    }
}
