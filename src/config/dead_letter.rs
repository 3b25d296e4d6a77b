use std::path::PathBuf;

use super::KafkaSettings;
use super::reader::{Expected, Reader, Review};

/// `[dead_letter]`: where messages go that cannot be processed.
#[derive(Clone, Debug)]
pub struct DeadLetterSettings {
    /// Kafka topic; `{topic}` is the topic that the message came from.
    pub topic: String,
    /// JSON Lines file for sources other than Kafka; none: standard error only.
    pub file: Option<PathBuf>,
}

impl Default for DeadLetterSettings {
    fn default() -> Self {
        Self { topic: "{topic}.dlq".into(), file: None }
    }
}

impl DeadLetterSettings {
    pub(super) fn read(section: &mut Reader) -> Self {
        let default = Self::default();
        Self { topic: section.value("topic", default.topic), file: section.optional("file", default.file) }
    }

    /// The dead-letter topic of messages from `topic`.
    pub fn topic_of(&self, topic: &str) -> String {
        self.topic.replace("{topic}", topic)
    }

    pub(super) fn review(&self, kafka: &KafkaSettings, review: &mut Review<'_>) {
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
    }
}
