//! Reasons of `source`: reading messages and committing offsets.

use super::reasons;

reasons! {
    /// Why no messages come, or why their offsets are not committed.
    SourceReason {
        // While messages are consumed.
        /// No broker can be reached.
        KafkaUnreachable = "kafka_unreachable", Outage;
        /// A topic is missing, or we may not read it.
        KafkaTopic = "kafka_topic", Outage;
        /// The group refuses us.
        KafkaGroup = "kafka_group", Outage;
        /// The start offsets of partitions are unknown.
        KafkaStart = "kafka_start", Outage;
        KafkaCommits = "kafka_commits", Outage;
        /// A partition delivers nothing although it has more messages.
        PartitionSilent = "partition_silent", Outage;

        // What a source ends with.
        KafkaRefused = "kafka_refused", Permanent;
        KafkaSettingsInvalid = "kafka_settings_invalid", Permanent;
        /// The consumer's thread has ended.
        ConsumerFailed = "kafka_consumer_failed", Permanent;
        FileUnreadable = "source_unreadable", Permanent;
    }
}
