//! Dead letters in a Kafka topic.

mod form;
mod producer;
mod retries;
#[cfg(test)]
mod tests;
mod topic;

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use rdkafka::error::RDKafkaErrorCode;

use self::form::Form;
use self::producer::{Producer, Refusal};
use self::retries::Retries;
use self::topic::Compacted;
pub use self::topic::{TopicFacts, describe};
use super::letter::Reporter;
use super::{DeadLetter, DeadLetterError, DeadLetters, Sent, unavailable};
use crate::config::{DeadLetterSettings, KafkaSettings};
use crate::kafka_client;
use crate::redact;

/// How long librdkafka tries before `send` returns an error. The caller retries as long as needed, but must be able to report
/// the problem.
const DELIVERY_TIMEOUT_MS: &str = "30000";
/// No client-side limit (librdkafka's maximum): the broker enforces the topic's limit.
const MESSAGE_BYTES_MAX: &str = "1000000000";

/// Dead letters in a Kafka topic: the unchanged message (key, value or tombstone, headers), with the reason in Kafka Connect's
/// headers. Headers of an earlier failure are replaced.
///
/// The record's timestamp is the time of the failure, which starts the topic's retention. With an old message's timestamp, the
/// broker could refuse the letter or delete it at once. The message's own timestamp is a header.
///
/// A message may be too large for the dead-letter topic. Letters are compressed; if one is still too large, it is written in
/// parts (`kafka/form`). Values are never cut, because an incomplete letter could not be replayed.
///
/// A message with a transient failure first goes to its next retry topic, if there is one, in one record and with its own
/// key, because it is consumed again. If that topic cannot store it, it becomes a dead letter.
#[derive(Clone)]
pub struct KafkaDeadLetters {
    producer: Producer,
    kafka: KafkaSettings,
    topics: DeadLetterSettings,
    retries: Retries,
    reporter: Reporter,
    compacted: Arc<Compacted>,
}

impl KafkaDeadLetters {
    /// # Errors
    /// A refused property. Brokers are not contacted yet.
    pub fn new(settings: &KafkaSettings, topics: &DeadLetterSettings) -> Result<Self, DeadLetterError> {
        let config = kafka_client::config(
            settings,
            &[
                ("enable.idempotence", "true"),
                ("acks", "all"),
                ("compression.type", "zstd"),
                // A broker refuses a whole batch: one letter that is too large would make the others fail.
                ("batch.num.messages", "1"),
                ("message.timeout.ms", DELIVERY_TIMEOUT_MS),
                ("message.max.bytes", MESSAGE_BYTES_MAX),
            ],
        );
        Ok(Self {
            producer: Producer::new(config)?,
            kafka: settings.clone(),
            topics: topics.clone(),
            retries: Retries::new(topics.retry_topics(&settings.topics)),
            reporter: Reporter { group: settings.group_id.clone(), client: settings.client_id.clone() },
            compacted: Arc::default(),
        })
    }

    /// Sends the message to its next retry topic. `false`: there is none, or it cannot store the message.
    async fn schedule_retry(&self, letter: &DeadLetter) -> Result<bool, DeadLetterError> {
        let Some(topic) = self.retries.next(letter) else { return Ok(false) };
        match self.write(letter, topic, Form { own_key: false, part_bytes: None }).await {
            Ok(()) => Ok(true),
            Err(Refusal {
                code: Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidRecord),
                what,
            }) => {
                tracing::warn!(topic, what, "the retry topic cannot hold the message: it becomes a dead letter");
                Ok(false)
            }
            Err(refusal) => Err(refused("retry", topic, letter, &refusal)),
        }
    }

    /// Sends the letter in a form that the topic accepts.
    async fn send_letter(&self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        let topic = self.topics.topic_of(self.retries.source(&letter.message.position.topic));
        let bytes = letter.message.value.as_ref().map_or(0, |value| value.len());
        let mut form = Form { own_key: self.compacted.is(&self.kafka, &topic).await, part_bytes: None };
        loop {
            let Err(refusal) = self.write(letter, &topic, form).await else {
                self.compacted.note(&topic, form.own_key);
                return Ok(());
            };
            let next = match refusal.code {
                Some(RDKafkaErrorCode::MessageSizeTooLarge) => form.smaller(bytes),
                // The answer of a compacted topic to a record without a key.
                Some(RDKafkaErrorCode::InvalidRecord) if !form.own_key => Some(Form { own_key: true, ..form }),
                _ => None,
            };
            form = next.ok_or_else(|| refused("dead-letter", &topic, letter, &refusal))?;
        }
    }

    /// Writes the records in order, to one partition.
    async fn write(&self, letter: &DeadLetter, topic: &str, form: Form) -> Result<(), Refusal> {
        let mut partition = None;
        for record in form.records(letter, &self.reporter) {
            partition = Some(self.producer.send(record.to(topic, partition, letter)).await?);
        }
        Ok(())
    }
}

#[async_trait]
impl DeadLetters for KafkaDeadLetters {
    async fn send(&self, letter: &DeadLetter) -> Result<Sent, DeadLetterError> {
        if self.schedule_retry(letter).await? {
            return Ok(Sent::RetryScheduled);
        }
        self.send_letter(letter).await.map(|()| Sent::DeadLetter)
    }
}

fn refused(kind: &str, topic: &str, letter: &DeadLetter, refusal: &Refusal) -> DeadLetterError {
    let hint: Cow<'static, str> = match refusal.code {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
            let bytes = letter.message.memory_bytes();
            format!("its message has {bytes} bytes, with headers: raise the topic's max.message.bytes").into()
        }
        Some(RDKafkaErrorCode::InvalidRecord) => {
            "turn off the validation of schemas by the broker (confluent.value.schema.validation) for this topic: a letter \
             holds what is not valid"
                .into()
        }
        Some(RDKafkaErrorCode::InvalidTimestamp) => {
            "check this machine's clock, or let the topic keep the broker's time (message.timestamp.type=LogAppendTime)"
                .into()
        }
        Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => "create the topic".into(),
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => "grant this user WRITE on the topic".into(),
        Some(RDKafkaErrorCode::ClusterAuthorizationFailed) => {
            "grant this user WRITE on the topic, and on brokers before 2.8 IDEMPOTENT_WRITE on the cluster".into()
        }
        _ => "check that the topic exists and has enough in-sync replicas, and that the brokers are running".into(),
    };
    let what = redact::cut(&refusal.what, 300);
    unavailable(format!("the {kind} topic {topic:?} does not accept a letter: {what}")).hint(hint)
}
