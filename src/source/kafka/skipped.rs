//! Reports of messages that the broker removed unread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::TopicPartition;
use crate::telemetry::{Component, Health, Metrics};

/// How long `/readyz` reports skipped messages. They cannot be recovered, so this only needs to be noticed: longer than the
/// usual monitoring interval of about a minute, shorter than the ten minutes after which a Kubernetes rollout fails.
const REPORTED_FOR: Duration = Duration::from_secs(300);
/// How many gaps are listed there.
const NAMED_MAX: usize = 3;

/// Reports messages that the broker removed before they were read, by retention or on request.
#[derive(Debug)]
pub(super) struct Skipped {
    health: Health,
    metrics: Arc<Metrics>,
    recent: VecDeque<(Instant, String)>,
}

impl Skipped {
    pub fn new(health: Health, metrics: Arc<Metrics>) -> Self {
        Self { health, metrics, recent: VecDeque::new() }
    }

    /// Offsets from `from` to below `to` were removed.
    pub fn report(&mut self, partition: &TopicPartition, from: i64, to: i64, now: Instant) {
        let messages = to.saturating_sub(from);
        tracing::error!(
            topic = &*partition.topic,
            partition = partition.partition,
            messages,
            from,
            to = to - 1,
            "messages are lost: the broker removed them before they were read; raise the topic's retention.ms and \
            retention.bytes, or the number of workers, and produce them again if they are needed"
        );
        self.metrics.skipped(partition, messages.try_into().unwrap_or(0));
        self.recent.push_back((now, format!("{messages} of {partition}, offsets {from} to {}", to - 1)));
        self.tell();
    }

    /// Drops expired reports. Call it regularly.
    pub fn forget(&mut self, now: Instant) {
        let before = self.recent.len();
        while self.recent.pop_front_if(|(at, _)| now >= *at + REPORTED_FOR).is_some() {}
        if self.recent.len() < before {
            self.tell();
        }
    }

    fn tell(&self) {
        if self.recent.is_empty() {
            return self.health.ready(Component::KafkaSkipped);
        }
        let named: Vec<_> = self.recent.iter().rev().take(NAMED_MAX).map(|(_, what)| what.as_str()).collect();
        let more = self.recent.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!("; and {more} times more") } else { String::new() };
        let why = format!(
            "messages were removed by the broker before they were read: {}{more} (reported for {} s; \
             clipstream_messages_skipped_total counts them)",
            named.join("; "),
            REPORTED_FOR.as_secs()
        );
        self.health.unready(Component::KafkaSkipped, why);
    }
}

impl Drop for Skipped {
    fn drop(&mut self) {
        self.health.ready(Component::KafkaSkipped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_skipped_is_counted_for_ever_and_said_for_a_while() {
        let (health, metrics, now) = (Health::new(), Arc::new(Metrics::default()), Instant::now());
        let mut skipped = Skipped::new(health.clone(), metrics.clone());
        let partition = TopicPartition { topic: "assets".into(), partition: 3 };
        skipped.report(&partition, 10, 80, now);
        let later = now + REPORTED_FOR / 2;
        skipped.report(&partition, 100, 101, later);
        let why = health.reasons()[0].1.clone();
        assert!(
            why.contains("70 of assets[3], offsets 10 to 79") && why.contains("1 of assets[3], offsets 100 to 100")
        );
        skipped.forget(now + REPORTED_FOR);
        assert!(!health.reasons()[0].1.contains("offsets 10 to 79"), "{health:?}");
        skipped.forget(later + REPORTED_FOR);
        assert_eq!(health.reasons(), []);
        let counted = r#"clipstream_messages_skipped_total{topic="assets",partition="3"} 71"#;
        assert!(metrics.encode().contains(counted), "{}", metrics.encode());
    }

    #[test]
    fn however_often_it_happens_few_are_named_and_the_end_of_the_source_is_the_end_of_it() {
        let (health, now) = (Health::new(), Instant::now());
        let mut skipped = Skipped::new(health.clone(), Arc::default());
        for n in 0..10 {
            skipped.report(&TopicPartition { topic: "t".into(), partition: n }, 0, 5, now);
        }
        let why = health.reasons()[0].1.clone();
        assert!(why.contains("and 7 times more") && why.len() < 500, "{why}");
        drop(skipped);
        assert_eq!(health.reasons(), []);
    }
}
