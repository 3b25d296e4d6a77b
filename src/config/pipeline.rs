//! Settings of `[pipeline]`.

use super::KafkaSettings;
use super::reader::{Reader, Review};
use super::text::Expected;

/// `[pipeline]`: bounds, retries and drain.
#[derive(Clone, Debug)]
pub struct PipelineSettings {
    /// Requests processed at once. A JSON message is one; four with nothing to embed count as one.
    pub in_flight_max: usize,
    /// Messages that were taken and wait while others proceed: for their turn, for a host that is down, or for an earlier message
    /// of their asset. A message that brings several requests counts once for each of those that wait.
    pub held_messages_max: usize,
    /// Messages of one partition from its watermark to the last one taken.
    pub uncommitted_messages_max: u64,
    /// Fetched and not yet decoded media, in bytes.
    pub media_in_flight_bytes_max: u64,
    /// Whether to skip embedding pictures and texts that the store already has.
    pub skip_unchanged: bool,
    /// Attempts at a transient failure before it becomes a dead letter.
    pub attempts_max: u32,
    /// Longest wait before the second attempt; it doubles with each further attempt.
    pub backoff_base_ms: u64,
    /// Longest wait between two attempts, whatever `Retry-After` says.
    pub backoff_cap_ms: u64,
    /// How often settled offsets are committed.
    pub commit_interval_ms: u64,
    /// How long a stop or a revocation waits for work in flight.
    pub drain_deadline_ms: u64,
    /// A message in flight that makes no progress, or a partition that delivers nothing although there is more, is reported
    /// in `/readyz` after this time; 0: never.
    pub stalled_after_ms: u64,
    /// After this many starts in a row at one offset that settle nothing, the messages there are tried in isolation. A message
    /// that crashes this many processes, alone, becomes a dead letter. 0: never.
    pub crashes_max: u32,
    /// This many dead letters in a row, of whatever class, stop the worker; 0: no limit.
    pub dead_letters_in_row_max: u64,
    /// When more than this many percent of the last 1,000 settled messages became dead letters, the worker stops; 0: no limit.
    pub dead_letters_percent_max: usize,
}

impl Default for PipelineSettings {
    fn default() -> Self {
        Self {
            in_flight_max: 256,
            held_messages_max: 10_000,
            uncommitted_messages_max: 100_000,
            media_in_flight_bytes_max: 256 * 1024 * 1024,
            skip_unchanged: true,
            attempts_max: 5,
            backoff_base_ms: 200,
            backoff_cap_ms: 30_000,
            commit_interval_ms: 1_000,
            drain_deadline_ms: 30_000,
            stalled_after_ms: 600_000,
            crashes_max: 3,
            dead_letters_in_row_max: 1_000,
            dead_letters_percent_max: 50,
        }
    }
}

impl PipelineSettings {
    pub(super) fn read(section: &mut Reader) -> Self {
        let default = Self::default();
        let mut bytes = |key, default| section.number(key, default, 1 << 20..=1 << 40);
        let media_in_flight_bytes_max = bytes("media_in_flight_bytes_max", default.media_in_flight_bytes_max);
        Self {
            in_flight_max: section.number("in_flight_max", default.in_flight_max, 1..=1_000_000),
            held_messages_max: section.number("held_messages_max", default.held_messages_max, 1..=1_000_000),
            uncommitted_messages_max: section.number(
                "uncommitted_messages_max",
                default.uncommitted_messages_max,
                1..=1_000_000_000,
            ),
            media_in_flight_bytes_max,
            skip_unchanged: section.flag("skip_unchanged", default.skip_unchanged),
            attempts_max: section.number("attempts_max", default.attempts_max, 1..=1_000),
            backoff_base_ms: section.number("backoff_base_ms", default.backoff_base_ms, 1..=3_600_000),
            backoff_cap_ms: section.number("backoff_cap_ms", default.backoff_cap_ms, 1..=3_600_000),
            commit_interval_ms: section.number("commit_interval_ms", default.commit_interval_ms, 1..=3_600_000),
            drain_deadline_ms: section.number("drain_deadline_ms", default.drain_deadline_ms, 1..=86_400_000),
            stalled_after_ms: section.number("stalled_after_ms", default.stalled_after_ms, 0..=86_400_000),
            crashes_max: section.number("crashes_max", default.crashes_max, 0..=1_000),
            dead_letters_in_row_max: section.number(
                "dead_letters_in_row_max",
                default.dead_letters_in_row_max,
                0..=1_000_000_000,
            ),
            dead_letters_percent_max: section.number(
                "dead_letters_percent_max",
                default.dead_letters_percent_max,
                0..=100,
            ),
        }
    }

    pub(super) fn review(&self, kafka: &KafkaSettings, media_bytes_max: u64, review: &mut Review<'_>) {
        review.expect(self.backoff_base_ms <= self.backoff_cap_ms, "pipeline.backoff_base_ms", || {
            Expected::new(format!("at most pipeline.backoff_cap_ms, which is {}", self.backoff_cap_ms))
        });
        let least = self.in_flight_max as u64;
        review.expect(self.uncommitted_messages_max >= least, "pipeline.uncommitted_messages_max", || {
            Expected::new(format!("at least pipeline.in_flight_max, which is {least}"))
        });
        if let Err(expected) = kafka.check_drain(self.drain_deadline_ms) {
            review.wrong("pipeline.drain_deadline_ms", expected);
        }
        review.expect(media_bytes_max <= self.media_in_flight_bytes_max, "pipeline.media_in_flight_bytes_max", || {
            Expected::new(format!("at least media.media_bytes_max, which is {media_bytes_max}"))
        });
    }
}
