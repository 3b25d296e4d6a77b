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
    sent: Option<i64>,
    committed: Option<i64>,
    note: Note,
    /// Of the leaders that wrote what came: the offset of the first message of each, in order.
    leader_epochs: VecDeque<(i64, i32)>,
}

impl Progress {
    fn is_due(&self) -> bool {
        self.wanted.is_some() && self.wanted != self.committed
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
        let progress = Progress { start, committed: start, note: Note { topic_id }, ..Progress::default() };
        self.partitions.insert(partition, progress);
    }

    pub fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.partitions.remove(partition);
        }
    }

    /// Which topic it is of is known only now.
    pub fn identify(&mut self, topic: &str, id: &Arc<str>) {
        for (_, progress) in self.partitions.iter_mut().filter(|(partition, _)| &*partition.topic == topic) {
            progress.note.topic_id = Some(id.clone());
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
        let progress = self.partitions.get(partition)?;
        progress.wanted.max(progress.start)
    }

    /// What the group has, as far as is known.
    pub fn committed(&self, partition: &TopicPartition) -> Option<i64> {
        self.partitions.get(partition)?.committed
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
            let wanted = progress.wanted?;
            Some(OffsetEntry {
                leader_epoch: progress.leader_epoch(wanted),
                metadata: progress.note.to_metadata(),
                ..OffsetEntry::new(partition.clone(), Offset::Offset(wanted))
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
                progress.sent = Some(offset);
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
            let Some(sent) = progress.sent.take_if(|sent| *sent == offset) else { continue };
            match (result, entry.error) {
                (Ok(()), None) => {
                    progress.committed = Some(sent);
                    // What is below is of no use any more, but for the last before it.
                    while progress.leader_epochs.get(1).is_some_and(|(first, _)| *first < sent) {
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
mod tests {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};

    use super::*;

    fn partition(partition: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition }
    }

    fn list(of: &TopicPartitionList) -> Vec<(i32, Offset)> {
        of.elements().iter().map(|e| (e.partition(), e.offset())).collect()
    }

    fn tracked() -> Commits {
        let mut commits = Commits::default();
        commits.track(partition(0), None, None);
        commits
    }

    fn send(commits: &mut Commits, now: Instant) -> TopicPartitionList {
        let due = commits.due(now).expect("an offset is wanted");
        commits.sent(now, &due);
        due
    }

    #[test]
    fn the_latest_offset_is_sent_once_and_again_after_a_failure() {
        let now = Instant::now();
        let mut commits = tracked();
        commits.want([(partition(0), 5), (partition(9), 1)]);
        commits.want([(partition(0), 3)]);
        let due = send(&mut commits, now);
        assert_eq!(list(&due), [(0, Offset::Offset(5))]);
        commits.want([(partition(0), 7)]);
        assert!(commits.due(now).is_none(), "one at a time");
        let refused = Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::RebalanceInProgress));
        commits.answered(now, &refused, &due);
        assert!(!commits.settled(&[partition(0)]));
        assert!(commits.due(now).is_none(), "not at once");
        let due = send(&mut commits, now + RETRY_WAIT);
        assert_eq!(list(&due), [(0, Offset::Offset(7))]);
        commits.answered(now, &Ok(()), &due);
        assert!(commits.settled(&[partition(0)]) && commits.due(now).is_none());
    }

    #[test]
    fn an_epoch_that_begins_lower_is_committed_and_a_late_answer_to_the_one_before_it_counts_for_nothing() {
        let now = Instant::now();
        let mut commits = tracked();
        commits.want([(partition(0), 500)]);
        let old = send(&mut commits, now);
        commits.track(partition(0), None, Some("another".into()));
        assert_eq!((commits.settled_to(&partition(0)), commits.committed(&partition(0))), (None, None));
        commits.want([(partition(0), 0)]);
        assert!(commits.due(now).is_none(), "the old one is on its way, and must not come last");
        commits.answered(now, &Ok(()), &old);
        assert!(!commits.settled(&[partition(0)]), "{commits:?}");
        let due = send(&mut commits, now);
        assert_eq!(list(&due), [(0, Offset::Offset(0))]);
        assert_eq!(kafka_client::entries(&due)[0].metadata, r#"{"topic_id":"another"}"#);
        commits.answered(now, &Ok(()), &due);
        assert_eq!((commits.settled(&[partition(0)]), commits.committed(&partition(0))), (true, Some(0)));
        // The same offset of two epochs.
        commits.want([(partition(0), 7)]);
        let old = send(&mut commits, now);
        commits.track(partition(0), None, None);
        commits.want([(partition(0), 7)]);
        commits.answered(now, &Ok(()), &old);
        assert!(!commits.settled(&[partition(0)]));
    }

    #[test]
    fn what_the_group_has_is_not_committed_again() {
        let mut commits = Commits::default();
        commits.track(partition(0), Some(12), None);
        commits.want([(partition(0), 12)]);
        assert!(commits.all_settled());
        assert_eq!(commits.settled_to(&partition(0)), Some(12));
    }

    #[test]
    fn an_offset_is_committed_with_the_epoch_of_the_leader_that_wrote_the_message_before_it() {
        let now = Instant::now();
        let mut commits = tracked();
        for (offset, epoch) in [(10, 3), (11, 3), (12, 4), (20, 6)] {
            commits.written_by(&partition(0), offset, epoch);
        }
        let mut epochs = Vec::new();
        for wanted in [10, 11, 12, 13, 20, 21, 30] {
            commits.want([(partition(0), wanted)]);
            let due = send(&mut commits, now);
            epochs.push(kafka_client::entries(&due)[0].leader_epoch);
            commits.answered(now, &Ok(()), &due);
        }
        assert_eq!(epochs, [None, Some(3), Some(3), Some(4), Some(4), Some(6), Some(6)]);
        assert_eq!(commits.partitions[&partition(0)].leader_epochs.len(), 1, "it does not grow for ever");
    }

    #[test]
    fn a_failure_is_told_once_it_lasts_and_forgotten_with_success() {
        let now = Instant::now();
        let mut commits = tracked();
        commits.want([(partition(0), 5)]);
        let due = send(&mut commits, now);
        let refused = Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NotCoordinator));
        commits.answered(now, &refused, &due);
        let late = now + FAILING_MIN;
        commits.answered(late - RETRY_WAIT, &refused, &due);
        assert_eq!(commits.failing(late - RETRY_WAIT), None);
        assert!(commits.failing(late).is_some_and(|why| why.contains("oordinator")), "{:?}", commits.failing(late));
        commits.answered(late, &Ok(()), &due);
        assert_eq!(commits.failing(late), None);
    }

    #[test]
    fn what_is_forgotten_is_never_committed() {
        let mut commits = tracked();
        commits.want([(partition(0), 5)]);
        commits.forget(&[partition(0)]);
        commits.want([(partition(0), 6)]);
        assert!(commits.all_settled() && commits.due(Instant::now()).is_none());
    }
}
