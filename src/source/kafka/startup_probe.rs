//! The wait for brokers and topics before a consumer starts.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::Metadata;

use super::context::ClientEvent;
use crate::config::{KafkaSettings, is_pattern};
use crate::domain::SourceReason;
use crate::kafka_client;
use crate::redact;
use crate::source::SourceError;

/// One metadata request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// A topic that was just created may still be unknown to the queried broker.
const TOPIC_GRACE: Duration = Duration::from_secs(3);

/// The metadata queries: each topic by name, or, if only patterns are subscribed, all topics.
pub(super) fn questions(topics: &[String]) -> Vec<Option<&str>> {
    let names: Vec<_> = topics.iter().filter(|topic| !is_pattern(topic)).map(|topic| Some(topic.as_str())).collect();
    if names.is_empty() { vec![None] } else { names }
}

/// The problem that the broker reports for `topic`.
pub(super) fn topic_problem(metadata: &Metadata, topic: Option<&str>) -> Option<(RDKafkaErrorCode, String)> {
    let topic = topic?;
    let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else {
        return Some((RDKafkaErrorCode::UnknownTopicOrPartition, format!("topic {topic:?} does not exist")));
    };
    if let Some(error) = found.error() {
        let code = RDKafkaErrorCode::from(error);
        return Some((code, format!("topic {topic:?}: {code}")));
    }
    found
        .partitions()
        .is_empty()
        .then(|| (RDKafkaErrorCode::UnknownTopicOrPartition, format!("topic {topic:?} has no partitions")))
}

/// Waits until a broker answers and describes every topic.
///
/// # Errors
/// After the deadline, or at once if waiting cannot help (refused credentials, a topic that is denied to this user or does
/// not exist).
pub(super) fn wait_for_brokers<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    events: &Receiver<ClientEvent>,
    settings: &KafkaSettings,
    deadline: Duration,
) -> Result<(), SourceError> {
    let start = Instant::now();
    for topic in questions(&settings.topics) {
        let mut last_reason = String::from("no answer");
        // Error events come once per change, and contain more detail than failed requests.
        let mut explained = false;
        loop {
            let mut answered = false;
            match consumer.fetch_metadata(topic, REQUEST_TIMEOUT) {
                Ok(metadata) => match topic_problem(&metadata, topic) {
                    None => break,
                    Some((code, problem)) if is_final(code) || start.elapsed() > TOPIC_GRACE.min(deadline) => {
                        return Err(topic_error(code, problem));
                    }
                    Some(_) => answered = true,
                },
                Err(error) if explained => tracing::debug!(target: "librdkafka", %error, "no metadata"),
                Err(error) => {
                    last_reason = error.rdkafka_error_code().map_or_else(|| error.to_string(), |c| c.to_string());
                }
            }
            // Serves the error events, which contain more detail than "timed out". Nothing is subscribed yet, so no message comes.
            let _ = consumer.poll(Duration::from_millis(50));
            for event in events.try_iter() {
                if let ClientEvent::Error { code, reason } = event {
                    if matches!(code, RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) {
                        let refused = kafka_client::refused(settings, &reason);
                        return Err(SourceError::found(SourceReason::KafkaRefused, refused));
                    }
                    if let Some(untrusted) = kafka_client::untrusted(settings, &reason) {
                        return Err(SourceError::found(SourceReason::KafkaRefused, untrusted));
                    }
                    if code != RDKafkaErrorCode::AllBrokersDown {
                        (last_reason, explained) = (reason, true);
                    }
                }
            }
            if !answered && start.elapsed() > deadline {
                let message = format!(
                    "no Kafka broker of [{}] answered within {} s: {}",
                    redact::cut(&settings.brokers.join(", "), 200),
                    deadline.as_secs(),
                    redact::cut(&last_reason, 300)
                );
                return Err(SourceError::new(SourceReason::KafkaUnreachable, message)
                    .hint("check kafka.brokers, kafka.security_protocol and that the brokers are running"));
            }
        }
    }
    Ok(())
}

fn is_final(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::InvalidTopic)
}

fn topic_error(code: RDKafkaErrorCode, problem: String) -> SourceError {
    SourceError::new(SourceReason::KafkaTopic, problem).hint(match code {
        RDKafkaErrorCode::TopicAuthorizationFailed => {
            "grant this user READ and DESCRIBE on the topic, or correct kafka.topics"
        }
        RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => {
            "create the topic, or correct kafka.topics"
        }
        _ => "correct kafka.topics, or see the broker's log",
    })
}
