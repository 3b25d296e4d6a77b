//! The consumer's readiness, derived from librdkafka's errors.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;

use super::startup_probe::{questions, topic_problem};
use crate::domain::SourceReason;
use crate::kafka_client;
use crate::redact;
use crate::telemetry::{Component, Health};

/// Interval of probes that check whether a problem is over, and how long one may block the thread.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// Kinds of problems. Each has its own condition for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// No broker is reachable. Ends when one answers.
    Connection,
    /// A topic is missing or access is denied. Ends when the broker describes every topic without an error.
    Topic,
    /// The group rejects this member. Ends with an assignment.
    Group,
    /// The start offsets of partitions are unknown. Ends when they are known.
    Start,
    /// Offsets are not committed. Ends with the next commit.
    Commits,
    /// A partition delivers nothing although there is more. Ends when it does.
    Stalled,
}

impl Kind {
    fn reason(self) -> SourceReason {
        match self {
            Self::Connection => SourceReason::KafkaUnreachable,
            Self::Topic => SourceReason::KafkaTopic,
            Self::Group => SourceReason::KafkaGroup,
            Self::Start => SourceReason::KafkaStart,
            Self::Commits => SourceReason::KafkaCommits,
            Self::Stalled => SourceReason::PartitionSilent,
        }
    }
}

fn kind(code: RDKafkaErrorCode) -> Option<Kind> {
    use RDKafkaErrorCode as Code;
    Some(match code {
        Code::AllBrokersDown
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::Resolve
        | Code::SSL
        | Code::ClusterAuthorizationFailed => Kind::Connection,
        Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition
        | Code::TopicAuthorizationFailed
        | Code::InvalidTopic => Kind::Topic,
        Code::GroupAuthorizationFailed | Code::GroupMaxSizeReached | Code::InconsistentGroupProtocol => Kind::Group,
        _ => return None,
    })
}

/// librdkafka could not decode data from a broker, and skips it.
fn is_about_data(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BadMessage
            | Code::BadCompression
            | Code::InvalidMessage
            | Code::MessageSizeTooLarge
            | Code::NotImplemented
    )
}

/// Derives the consumer's readiness from librdkafka's (often repeated) error events.
#[derive(Debug)]
pub(super) struct ConsumerHealth {
    health: Health,
    reasons: BTreeMap<Kind, String>,
    probed_at: Instant,
}

impl ConsumerHealth {
    pub fn new(health: Health) -> Self {
        Self { health, reasons: BTreeMap::new(), probed_at: Instant::now() }
    }

    pub fn report(&mut self, code: RDKafkaErrorCode, reason: &str) {
        let Some(kind) = kind(code) else {
            if is_about_data(code) {
                kafka_client::log_error(code, reason);
            } else {
                tracing::debug!(target: "librdkafka", %code, "{reason}");
            }
            return;
        };
        let hint = match kind {
            Kind::Connection => "check that kafka.brokers are running and accept this client",
            Kind::Topic => "check that the topics exist and that this user may read them",
            _ => "check kafka.group_id, its permissions and the other members' assignment strategy",
        };
        self.begin(kind, format!("{}; {hint}", redact::cut(reason, 300)));
    }

    /// The start offsets of partitions are unknown, or (`None`) known again.
    pub fn start(&mut self, unknown: Option<String>) {
        match unknown {
            Some(error) => {
                let why = format!("the brokers do not report where the partitions of this worker begin: {error}");
                let hint = "check that the group's coordinator is running, and that this user may READ the group and the topics";
                self.begin(Kind::Start, format!("{}; {hint}", redact::cut(&why, 300)));
            }
            None => self.over(Kind::Start),
        }
    }

    /// Commits have failed for a while, or (`None`) no longer fail.
    pub fn commits(&mut self, failing: Option<String>) {
        match failing {
            Some(error) => {
                let why = format!("offsets are not committed: {error}; their messages would be delivered again");
                self.begin(Kind::Commits, why);
            }
            None => self.over(Kind::Commits),
        }
    }

    /// Partitions have stalled, or (`None`) no longer stall.
    pub fn stalled(&mut self, summary: Option<String>) {
        match summary {
            Some(summary) => {
                let hint = "check that its partitions have leaders; restart the process if they do";
                self.begin(Kind::Stalled, format!("{summary}; {hint} (limit: pipeline.stalled_after_ms)"));
            }
            None => self.over(Kind::Stalled),
        }
    }

    /// Whether it is known that no broker is reachable.
    pub fn is_cut_off(&self) -> bool {
        self.reasons.contains_key(&Kind::Connection)
    }

    fn begin(&mut self, kind: Kind, why: String) {
        self.health.outage(Component::Kafka, kind.reason(), why.clone());
        self.reasons.insert(kind, why);
    }

    /// A commit was acknowledged, or partitions were assigned, so there is a connection.
    pub fn heard(&mut self) {
        if !self.reasons.is_empty() {
            self.over(Kind::Connection);
        }
    }

    pub fn assigned(&mut self) {
        self.over(Kind::Group);
        self.heard();
    }

    fn over(&mut self, kind: Kind) {
        if self.reasons.remove(&kind).is_none() {
            return;
        }
        match self.reasons.iter().next() {
            Some((kind, why)) => self.health.outage(Component::Kafka, kind.reason(), why.clone()),
            None => self.health.over(Component::Kafka),
        }
    }

    /// While there is a problem, probes the brokers at intervals, because an idle topic delivers no message that would show
    /// that it is over.
    pub fn probe<C: ConsumerContext>(&mut self, consumer: &BaseConsumer<C>, topics: &[String], now: Instant) {
        let worth_it = self.reasons.contains_key(&Kind::Connection) || self.reasons.contains_key(&Kind::Topic);
        if !worth_it || now < self.probed_at + PROBE_INTERVAL {
            return;
        }
        self.probed_at = now;
        for topic in questions(topics) {
            match consumer.fetch_metadata(topic, PROBE_TIMEOUT) {
                Ok(metadata) => {
                    self.over(Kind::Connection);
                    if let Some((code, problem)) = topic_problem(&metadata, topic) {
                        self.report(code, &problem);
                        return;
                    }
                }
                Err(_) => return,
            }
        }
        self.over(Kind::Topic);
    }
}

impl Drop for ConsumerHealth {
    /// A closed consumer no longer affects readiness; the code that closed it does.
    fn drop(&mut self) {
        if !self.reasons.is_empty() {
            self.health.over(Component::Kafka);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_ready_only_when_every_kind_of_trouble_is_over() {
        let health = Health::new();
        let mut consumer_health = ConsumerHealth::new(health.clone());
        consumer_health.report(RDKafkaErrorCode::BrokerTransportFailure, "one broker of several");
        assert!(health.reasons().is_empty());
        consumer_health.report(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        consumer_health.report(RDKafkaErrorCode::GroupAuthorizationFailed, "group refused");
        consumer_health.heard();
        assert!(health.reasons()[0].1.contains("group refused"));
        consumer_health.assigned();
        assert!(health.reasons().is_empty());
    }
}
