use std::path::PathBuf;

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
