//! Wanted, pending and committed offsets.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::note::Note;
use crate::domain::TopicPartition;
use crate::kafka_client::{self, OffsetEntry};

/// Wait before a failed commit is repeated.
const RETRY_WAIT: Duration = Duration::from_millis(500);
/// Shorter failures are not reported: commits are refused during a rebalance.
const FAILING_MIN: Duration = Duration::from_secs(10);
/// librdkafka answers every commit. If an answer were missing anyway, the next commit is not blocked forever.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Wanted and committed offsets of the partitions that this member may commit. Offsets are those of the next message to
/// consume, as in Kafka. At most one commit is pending, so that an older one never overtakes a newer one.
#[derive(Debug, Default)]
pub(super) struct Commits {
    partitions: BTreeMap<TopicPartition, Progress>,
    sent_at: Option<Instant>,
    not_before: Option<Instant>,
    /// Since when commits have failed, and why.
    failing: Option<(Instant, String)>,
}

/// One partition in one epoch: within it, offsets only grow.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// The group's offset when the epoch began.
    start: Option<i64>,
    wanted: Option<i64>,
    /// Pending. An answer to a commit of an earlier epoch is ignored.
    sent: Option<Mark>,
    committed: Option<Mark>,
    starts: Starts,
    topic_id: Option<Arc<str>>,
    /// The leader epochs of delivered messages, with the offset of the first message of each, in order.
    leader_epochs: VecDeque<(i64, i32)>,
}

/// A committed offset with the starts in its metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    offset: i64,
    starts: u32,
}

/// Starts that settled nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Starts {
    /// The offset. Past it something is settled, and the count is void.
    at: Option<i64>,
    before: u32,
    /// Including this start, once it has begun processing.
    counted: u32,
}

impl Progress {
    fn target(&self) -> Option<Mark> {
        let offset = self.wanted?;
        Some(Mark { offset, starts: if self.starts.at == Some(offset) { self.starts.counted } else { 0 } })
    }

    fn is_due(&self) -> bool {
        let target = self.target();
        target.is_some() && target != self.committed
    }

    fn settled_to(&self) -> Option<i64> {
        self.wanted.max(self.start)
    }

    /// The leader's epoch of the message before `offset`.
    fn leader_epoch(&self, offset: i64) -> Option<i32> {
        let before = self.leader_epochs.iter().rev().find(|(first, _)| *first < offset);
        before.map(|(_, epoch)| *epoch)
    }
}

impl Commits {
    /// A new epoch of the partition. `start`: the group's offset.
    pub fn track(&mut self, partition: TopicPartition, start: Option<i64>, topic_id: Option<Arc<str>>) {
        self.track_after(partition, start, 0, topic_id);
    }

    /// Like [`Self::track`], after a number of starts at that offset that settled nothing.
    pub fn track_after(
        &mut self,
        partition: TopicPartition,
        start: Option<i64>,
        before: u32,
        topic_id: Option<Arc<str>>,
    ) {
        let committed = start.map(|offset| Mark { offset, starts: before });
        let starts = Starts { at: start, before, counted: before };
        self.partitions.insert(partition, Progress { start, committed, starts, topic_id, ..Progress::default() });
    }

    /// Processing of the epoch begins with the message at `first`. This is noted beside the group's offset or, without one,
    /// beside the message's offset.
    pub fn count_start(&mut self, partition: &TopicPartition, first: i64) {
        let Some(progress) = self.partitions.get_mut(partition) else { return };
        let at = Some(progress.settled_to().unwrap_or(first));
        let before = if progress.starts.at == at { progress.starts.before } else { 0 };
        progress.starts = Starts { at, before, counted: before.saturating_add(1) };
        progress.wanted = at;
    }

    /// These partitions are released regularly, so this start was not a crash.
    pub fn end_in_order<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>) {
        for partition in partitions {
            if let Some(progress) = self.partitions.get_mut(partition) {
                progress.starts.counted = progress.starts.before;
            }
        }
    }

    /// Like [`Self::end_in_order`], for all partitions.
    pub fn end_all_in_order(&mut self) {
        for progress in self.partitions.values_mut() {
            progress.starts.counted = progress.starts.before;
        }
    }

    pub fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.partitions.remove(partition);
        }
    }

    /// The topic's id has become known.
    pub fn identify(&mut self, topic: &str, id: &Arc<str>) {
        for (_, progress) in self.partitions.iter_mut().filter(|(partition, _)| &*partition.topic == topic) {
            progress.topic_id = Some(id.clone());
        }
    }

    /// A message came that this leader wrote.
    pub fn written_by(&mut self, partition: &TopicPartition, offset: i64, leader_epoch: i32) {
        let Some(progress) = self.partitions.get_mut(partition) else { return };
        if progress.leader_epochs.back().is_none_or(|(_, last)| *last != leader_epoch) {
            progress.leader_epochs.push_back((offset, leader_epoch));
        }
    }

    /// Offsets of partitions that other members may own are ignored: the broker would accept them from any member of the
    /// group, and set the new owner back.
    pub fn want(&mut self, offsets: impl IntoIterator<Item = (TopicPartition, i64)>) {
        for (partition, offset) in offsets {
            match self.partitions.get_mut(&partition) {
                Some(progress) => progress.wanted = progress.wanted.max(Some(offset)),
                None => tracing::debug!(%partition, offset, "not committed: the partition is no longer ours"),
            }
        }
    }

    /// The offset below which everything of the partition is settled, as reported in this epoch.
    pub fn settled_to(&self, partition: &TopicPartition) -> Option<i64> {
        self.partitions.get(partition)?.settled_to()
    }

    /// The group's offset, if known.
    pub fn committed(&self, partition: &TopicPartition) -> Option<i64> {
        self.partitions.get(partition)?.committed.map(|mark| mark.offset)
    }

    /// Whether everything wanted for `partitions` is committed.
    pub fn settled(&self, partitions: &[TopicPartition]) -> bool {
        !partitions.iter().filter_map(|p| self.partitions.get(p)).any(Progress::is_due)
    }

    pub fn all_settled(&self) -> bool {
        !self.partitions.values().any(Progress::is_due)
    }

    /// What to send now, if anything. Call [`Self::sent`] or [`Self::answered`] next.
    pub fn due(&self, now: Instant) -> Option<TopicPartitionList> {
        let busy = self.sent_at.is_some_and(|at| now < at + ANSWER_MAX);
        if busy || self.not_before.is_some_and(|at| now < at) || self.all_settled() {
            return None;
        }
        let due = self.partitions.iter().filter(|(_, progress)| progress.is_due());
        let entries = due.filter_map(|(partition, progress)| {
            let Mark { offset, starts } = progress.target()?;
            Some(OffsetEntry {
                leader_epoch: progress.leader_epoch(offset),
                metadata: Note { topic_id: progress.topic_id.clone(), starts }.to_metadata(),
                ..OffsetEntry::new(partition.clone(), Offset::Offset(offset))
            })
        });
        Some(kafka_client::list(&entries.collect::<Vec<_>>()))
    }

    /// The commit returned by [`Self::due`] was sent.
    pub fn sent(&mut self, now: Instant, offsets: &TopicPartitionList) {
        self.sent_at = Some(now);
        for entry in kafka_client::entries(offsets) {
            if let (Some(progress), Offset::Offset(offset)) = (self.partitions.get_mut(&entry.partition), entry.offset)
            {
                progress.sent = progress.target().filter(|target| target.offset == offset);
            }
        }
    }

    /// Why commits fail, once they have failed for a while.
    pub fn failing(&self, now: Instant) -> Option<&str> {
        self.failing.as_ref().filter(|(since, _)| now >= *since + FAILING_MIN).map(|(_, why)| why.as_str())
    }

    /// The answer to a commit. A failed commit is due again after a short wait.
    pub fn answered(&mut self, now: Instant, result: &KafkaResult<()>, offsets: &TopicPartitionList) {
        self.sent_at = None;
        let mut failure = result.as_ref().err().map(ToString::to_string);
        for entry in kafka_client::entries(offsets) {
            let Some(progress) = self.partitions.get_mut(&entry.partition) else { continue };
            let Offset::Offset(offset) = entry.offset else { continue };
            // From an earlier epoch.
            let Some(sent) = progress.sent.take_if(|sent| sent.offset == offset) else { continue };
            match (result, entry.error) {
                (Ok(()), None) => {
                    progress.committed = Some(sent);
                    // Entries below it are no longer needed, except the last one.
                    while progress.leader_epochs.get(1).is_some_and(|(first, _)| *first < offset) {
                        progress.leader_epochs.pop_front();
                    }
                }
                (Ok(()), Some(error)) => failure = Some(format!("{}: {error}", entry.partition)),
                (Err(_), _) => {}
            }
        }
        match failure {
            Some(error) => {
                self.not_before = Some(now + RETRY_WAIT);
                tracing::debug!(%error, "committing offsets failed; trying again");
                let since = self.failing.as_ref().map_or(now, |(since, _)| *since);
                self.failing = Some((since, error));
            }
            None => {
                self.not_before = None;
                self.failing = None;
            }
        }
    }
}

#[cfg(test)]
#[path = "commits_tests.rs"]
mod tests;
