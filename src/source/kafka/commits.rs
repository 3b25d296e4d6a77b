use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::domain::TopicPartition;

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

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    wanted: Option<i64>,
    committed: Option<i64>,
}

impl Progress {
    fn is_due(&self) -> bool {
        self.wanted.is_some_and(|wanted| self.committed.is_none_or(|committed| committed < wanted))
    }
}

impl Commits {
    pub fn track(&mut self, partition: TopicPartition) {
        self.partitions.insert(partition, Progress::default());
    }

    pub fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.partitions.remove(partition);
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
        let mut list = TopicPartitionList::new();
        for (partition, progress) in self.partitions.iter().filter(|(_, progress)| progress.is_due()) {
            if let Some(wanted) = progress.wanted
                && let Err(error) =
                    list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(wanted))
            {
                tracing::error!(%partition, wanted, %error, "an offset cannot be committed");
            }
        }
        Some(list)
    }

    pub fn sent(&mut self, now: Instant) {
        self.sent_at = Some(now);
    }

    /// Why commits fail, once they have for a while.
    pub fn failing(&self, now: Instant) -> Option<&str> {
        self.failing.as_ref().filter(|(since, _)| now >= *since + FAILING_MIN).map(|(_, why)| why.as_str())
    }

    /// What failed is due again after a moment.
    pub fn answered(&mut self, now: Instant, result: &KafkaResult<()>, offsets: &TopicPartitionList) {
        self.sent_at = None;
        let mut failure = result.as_ref().err().cloned();
        for element in offsets.elements() {
            match (result, element.error()) {
                (Ok(()), Ok(())) => {
                    let partition = TopicPartition { topic: element.topic().into(), partition: element.partition() };
                    if let (Some(progress), Offset::Offset(offset)) =
                        (self.partitions.get_mut(&partition), element.offset())
                    {
                        progress.committed = progress.committed.max(Some(offset));
                    }
                }
                (Ok(()), Err(error)) => failure = Some(error),
                (Err(_), _) => {}
            }
        }
        match failure {
            Some(error) => {
                self.not_before = Some(now + RETRY_WAIT);
                tracing::debug!(%error, "offsets are not committed; trying again until they are");
                let since = self.failing.as_ref().map_or(now, |(since, _)| *since);
                self.failing = Some((since, error.to_string()));
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

    #[test]
    fn the_latest_offset_is_sent_once_and_again_after_a_failure() {
        let now = Instant::now();
        let mut commits = Commits::default();
        commits.track(partition(0));
        commits.want([(partition(0), 5), (partition(9), 1)]);
        commits.want([(partition(0), 3)]);
        let due = commits.due(now).expect("an offset is wanted");
        assert_eq!(list(&due), [(0, Offset::Offset(5))]);
        commits.sent(now);
        commits.want([(partition(0), 7)]);
        assert!(commits.due(now).is_none(), "one at a time");
        let refused = Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::RebalanceInProgress));
        commits.answered(now, &refused, &due);
        assert!(!commits.settled(&[partition(0)]));
        assert!(commits.due(now).is_none(), "not at once");
        let due = commits.due(now + RETRY_WAIT).expect("again after a moment");
        assert_eq!(list(&due), [(0, Offset::Offset(7))]);
        commits.answered(now, &Ok(()), &due);
        assert!(commits.settled(&[partition(0)]) && commits.due(now).is_none());
    }

    #[test]
    fn a_failure_is_told_once_it_lasts_and_forgotten_with_success() {
        let now = Instant::now();
        let mut commits = Commits::default();
        commits.track(partition(0));
        commits.want([(partition(0), 5)]);
        let due = commits.due(now).expect("an offset is wanted");
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
        let mut commits = Commits::default();
        commits.track(partition(0));
        commits.want([(partition(0), 5)]);
        commits.forget(&[partition(0)]);
        commits.want([(partition(0), 6)]);
        assert!(commits.all_settled() && commits.due(Instant::now()).is_none());
    }
}
