//! Settings of `[dead_letter]`.

use std::path::PathBuf;
use std::time::Duration;

use super::reader::{Reader, Review};
use super::text::Expected;
use super::{KafkaSettings, OffsetReset, StoreSettings, is_pattern};
use crate::domain::Guard;

/// Longest delay: the default retention of brokers.
const RETRY_DELAY_MAX_S: u64 = 7 * 24 * 3600;

/// `[dead_letter]`: where messages go that cannot be processed.
#[derive(Clone, Debug)]
pub struct DeadLetterSettings {
    /// Kafka topic; `{topic}` is the topic that the message came from.
    pub topic: String,
    /// JSON Lines file for sources other than Kafka; `None`: standard error only.
    pub file: Option<PathBuf>,
    /// Delay of each retry topic, in order; empty: no retry topics.
    pub retry_delays_s: Vec<u64>,
}

/// A topic in which messages wait after a transient failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryTopic {
    pub name: String,
    /// The topic of its messages when they failed: the source, or the retry topic before this one.
    pub after: String,
    /// The source topic.
    pub source: String,
    pub delay: Duration,
}

impl Default for DeadLetterSettings {
    fn default() -> Self {
        Self { topic: "{topic}.dlq".into(), file: None, retry_delays_s: Vec::new() }
    }
}

impl DeadLetterSettings {
    pub(super) fn read(section: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            topic: section.value("topic", default.topic),
            file: section.optional("file", default.file),
            retry_delays_s: section.numbers("retry_delays_s", default.retry_delays_s, 1..=RETRY_DELAY_MAX_S),
        }
    }

    /// The dead-letter topic of messages from `topic`.
    pub fn topic_of(&self, topic: &str) -> String {
        self.topic.replace("{topic}", topic)
    }

    /// The retry topics of `topics`; those of one topic in the order in which its messages pass through them.
    pub fn retry_topics(&self, topics: &[String]) -> Vec<RetryTopic> {
        let name = |source: &str, level: usize| match level {
            0 => source.to_owned(),
            level => format!("{source}.retry.{level}"),
        };
        let of = |source: &String| {
            let topic = |(level, delay): (usize, &u64)| RetryTopic {
                name: name(source, level + 1),
                after: name(source, level),
                source: source.clone(),
                delay: Duration::from_secs(*delay),
            };
            self.retry_delays_s.iter().enumerate().map(topic).collect::<Vec<_>>()
        };
        topics.iter().flat_map(of).collect()
    }

    pub(super) fn review(&self, kafka: &KafkaSettings, store: &StoreSettings, review: &mut Review<'_>) {
        let rest = self.topic_of("x");
        review.expect(!rest.contains(['{', '}']), "dead_letter.topic", || {
            Expected::new("a topic's name with no placeholder but {topic}")
        });
        // Kafka's own rule for names of topics.
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '{' | '}');
        review.expect(self.topic.chars().all(legal), "dead_letter.topic", || {
            Expected::new("letters, digits, '.', '_' and '-' only, and {topic}")
        });
        for topic in &kafka.topics {
            review.expect(!kafka.topics.contains(&self.topic_of(topic)), "dead_letter.topic", || {
                Expected::new("a topic that is not in kafka.topics, or dead letters would be consumed again")
            });
        }
        if !self.retry_delays_s.is_empty() {
            self.review_retries(kafka, store, review);
        }
    }

    fn review_retries(&self, kafka: &KafkaSettings, store: &StoreSettings, review: &mut Review<'_>) {
        const KEY: &str = "dead_letter.retry_delays_s";
        let none = |because: String| Expected::new(format!("to be empty {because}"));
        review.expect(store.guard == Guard::Strict, KEY, || {
            none("unless store.guard is strict: a message that comes back late could replace a newer one".into())
                .hint("set store.guard to strict")
        });
        review.expect(kafka.offset_reset() == Some(OffsetReset::Earliest), KEY, || {
            none("unless kafka.auto_offset_reset is earliest: what waits in a new retry topic would be skipped".into())
        });
        let all_s: u64 = self.retry_delays_s.iter().sum();
        review.expect(all_s < store.tombstone_retention_s, KEY, || {
            Expected::new(format!(
                "less in all than store.tombstone_retention_s, which is {}, or a message could bring a deleted asset back",
                store.tombstone_retention_s
            ))
        });
        if let Some(pattern) = kafka.topics.iter().find(|topic| is_pattern(topic)) {
            let because =
                format!("while kafka.topics has the pattern {pattern}: the names of its retry topics are unknown");
            review.wrong(KEY, none(because).hint("name the topics"));
        }
        for RetryTopic { name, source, .. } in self.retry_topics(&kafka.topics) {
            let taken = kafka.topics.contains(&name) || self.topic_of(&source) == name;
            review.expect(!taken, KEY, || {
                none(format!("while {name}, which would be the retry topic of {source}, is in kafka.topics"))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_topics_follow_their_source_and_each_other() {
        let settings = DeadLetterSettings { retry_delays_s: vec![60, 600], ..DeadLetterSettings::default() };
        let topics = settings.retry_topics(&["a".to_owned(), "b".to_owned()]);
        let topic = |name: &str, after: &str, source: &str, seconds| RetryTopic {
            name: name.into(),
            after: after.into(),
            source: source.into(),
            delay: Duration::from_secs(seconds),
        };
        let expected = [
            topic("a.retry.1", "a", "a", 60),
            topic("a.retry.2", "a.retry.1", "a", 600),
            topic("b.retry.1", "b", "b", 60),
            topic("b.retry.2", "b.retry.1", "b", 600),
        ];
        assert_eq!(topics, expected);
        assert_eq!(DeadLetterSettings::default().retry_topics(&["a".to_owned()]), []);
    }
}
