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
/// Commits that fail for less are not worth a word: a rebalance refuses them for its duration.
const FAILING_MIN: Duration = Duration::from_secs(10);
/// librdkafka answers every commit; should one answer be missing all the same, the next commit is not held up for ever.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// What is to be committed and what is, for the partitions that this member may commit. Offsets are the next to
/// consume, as Kafka counts them. At most one commit is on its way, so that an older one never overtakes a newer one.
#[derive(Debug, Default)]
pub(super) struct Commits {
    partitions: BTreeMap<TopicPartition, Progress>,
    sent_at: Option<Instant>,
    not_before: Option<Instant>,
    /// Since when commits fail, and why.
    failing: Option<(Instant, String)>,
}

/// One partition in one epoch: within it, offsets only grow.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// What the group had when the epoch began.
    start: Option<i64>,
    wanted: Option<i64>,
    /// On its way. An answer to what an earlier epoch has sent counts for nothing.
    sent: Option<Mark>,
    committed: Option<Mark>,
    starts: Starts,
    topic_id: Option<Arc<str>>,
    /// Of the leaders that wrote what came: the offset of the first message of each, in order.
    leader_epochs: VecDeque<(i64, i32)>,
}

/// An offset as it is committed, and the starts that are noted beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    offset: i64,
    starts: u32,
}

/// Starts that settled nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Starts {
    /// Where. Beyond it something is settled, and nothing counts.
    at: Option<i64>,
    before: u32,
    /// With this one, once it has begun its work.
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
    /// A new epoch of the partition. `start`: what the group has.
    pub fn track(&mut self, partition: TopicPartition, start: Option<i64>, topic_id: Option<Arc<str>>) {
        self.track_after(partition, start, 0, topic_id);
    }

    /// The same after so many starts there that settled nothing.
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

    /// The epoch's work begins, with the message at `first`: to be noted beside the group's offset, which is that of the
    /// message where there is none.
    pub fn count_start(&mut self, partition: &TopicPartition, first: i64) {
        let Some(progress) = self.partitions.get_mut(partition) else { return };
        let at = Some(progress.settled_to().unwrap_or(first));
        let before = if progress.starts.at == at { progress.starts.before } else { 0 };
        progress.starts = Starts { at, before, counted: before.saturating_add(1) };
        progress.wanted = at;
    }

    /// These partitions are given up in order, so that this start was no death.
    pub fn end_in_order<'a>(&mut self, partitions: impl IntoIterator<Item = &'a TopicPartition>) {
        for partition in partitions {
            if let Some(progress) = self.partitions.get_mut(partition) {
                progress.starts.counted = progress.starts.before;
            }
        }
    }

    /// The same of all.
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

    /// Which topic it is of is known only now.
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

    /// Offsets of partitions that others may own by now are not taken: the broker would accept them from any member
    /// of the group, and set the new owner back.
    pub fn want(&mut self, offsets: impl IntoIterator<Item = (TopicPartition, i64)>) {
        for (partition, offset) in offsets {
            match self.partitions.get_mut(&partition) {
                Some(progress) => progress.wanted = progress.wanted.max(Some(offset)),
                None => tracing::debug!(%partition, offset, "not committed: the partition is not ours any more"),
            }
        }
    }

    /// Below it everything of the partition is settled, as far as was said in this epoch.
    pub fn settled_to(&self, partition: &TopicPartition) -> Option<i64> {
        self.partitions.get(partition)?.settled_to()
    }

    /// What the group has, as far as is known.
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

    /// What [`Self::due`] gave is on its way.
    pub fn sent(&mut self, now: Instant, offsets: &TopicPartitionList) {
        self.sent_at = Some(now);
        for entry in kafka_client::entries(offsets) {
            if let (Some(progress), Offset::Offset(offset)) = (self.partitions.get_mut(&entry.partition), entry.offset)
            {
                progress.sent = progress.target().filter(|target| target.offset == offset);
            }
        }
    }

    /// Why commits fail, once they have for a while.
    pub fn failing(&self, now: Instant) -> Option<&str> {
        self.failing.as_ref().filter(|(since, _)| now >= *since + FAILING_MIN).map(|(_, why)| why.as_str())
    }

    /// What failed is due again after a moment.
    pub fn answered(&mut self, now: Instant, result: &KafkaResult<()>, offsets: &TopicPartitionList) {
        self.sent_at = None;
        let mut failure = result.as_ref().err().map(ToString::to_string);
        for entry in kafka_client::entries(offsets) {
            let Some(progress) = self.partitions.get_mut(&entry.partition) else { continue };
            let Offset::Offset(offset) = entry.offset else { continue };
            // Of an epoch that is over.
            let Some(sent) = progress.sent.take_if(|sent| sent.offset == offset) else { continue };
            match (result, entry.error) {
                (Ok(()), None) => {
                    progress.committed = Some(sent);
                    // What is below is of no use any more, but for the last before it.
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
                tracing::debug!(%error, "offsets are not committed; trying again until they are");
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
