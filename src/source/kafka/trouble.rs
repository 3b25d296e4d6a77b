use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;

use super::reach::{questions, topic_problem};
use crate::redact;
use crate::telemetry::Health;

const COMPONENT: &str = "kafka";
/// How often a probe looks whether the trouble is over, and how long one may hold up the thread.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);

/// What is wrong decides what ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// No broker can be talked to. Ends when one answers.
    Connection,
    /// A topic is missing or closed to us. Ends when the broker describes every topic without an error.
    Topic,
    /// The group refuses us. Ends when it assigns.
    Group,
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

/// The consumer's readiness: one log line when trouble starts, one when it is over, however often librdkafka repeats
/// itself in between.
#[derive(Debug)]
pub(super) struct Trouble {
    health: Health,
    reasons: BTreeMap<Kind, String>,
    probed_at: Instant,
}

impl Trouble {
    pub fn new(health: Health) -> Self {
        Self { health, reasons: BTreeMap::new(), probed_at: Instant::now() }
    }

    pub fn report(&mut self, code: RDKafkaErrorCode, reason: &str) {
        let Some(kind) = kind(code) else {
            tracing::debug!(target: "librdkafka", %code, "{reason}");
            return;
        };
        let hint = match kind {
            Kind::Connection => "check that kafka.brokers are up and let this client in",
            Kind::Topic => "check that the topics exist and that this user may read them",
            Kind::Group => "check kafka.group_id, its permissions and the other members' assignment strategy",
        };
        let why = format!("{}; {hint}", redact::cut(reason, 300));
        if self.health.unready(COMPONENT, why.clone()) {
            tracing::warn!(code = %code, "Kafka is not usable: {why}");
        }
        self.reasons.insert(kind, why);
    }

    /// A message or an acknowledged commit: there is a connection.
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
        match self.reasons.values().next() {
            Some(why) => {
                self.health.unready(COMPONENT, why.clone());
            }
            None => {
                if self.health.ready(COMPONENT) {
                    tracing::info!("Kafka is usable again");
                }
            }
        }
    }

    /// While there is trouble, asks the brokers now and then whether it is over: an idle topic brings no message that
    /// would tell.
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

impl Drop for Trouble {
    /// A consumer that is gone says nothing about readiness any more; whoever ended it does.
    fn drop(&mut self) {
        if !self.reasons.is_empty() {
            self.health.ready(COMPONENT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_ready_only_when_every_kind_of_trouble_is_over() {
        let health = Health::new();
        let mut trouble = Trouble::new(health.clone());
        trouble.report(RDKafkaErrorCode::BrokerTransportFailure, "one broker of several");
        assert!(health.reasons().is_empty());
        trouble.report(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        trouble.report(RDKafkaErrorCode::GroupAuthorizationFailed, "group refused");
        trouble.heard();
        assert!(health.reasons()[0].1.contains("group refused"));
        trouble.assigned();
        assert!(health.reasons().is_empty());
    }
}
