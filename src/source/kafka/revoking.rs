//! The state machine of a revocation: drain, last commit, release.

use std::time::{Duration, Instant};

use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::oneshot::Receiver;
use tokio::sync::oneshot::error::TryRecvError;

use super::commits::Commits;
use crate::config::LAST_COMMIT_MAX_MS;
use crate::domain::TopicPartition;

/// Deadline of the last commit of revoked partitions.
pub(super) const LAST_COMMIT_MAX: Duration = Duration::from_millis(LAST_COMMIT_MAX_MS);

/// A revocation that librdkafka waits for us to carry out: first the pipeline drains, then the last offsets are
/// committed, each with its own deadline.
#[derive(Debug)]
pub(super) struct Revoking {
    pub list: TopicPartitionList,
    pub partitions: Vec<TopicPartition>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Draining { completed: Receiver<Vec<(TopicPartition, i64)>>, deadline: Instant },
    Committing { deadline: Instant },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Wait,
    /// Give the partitions up now.
    Release,
    /// The same, but other members own them already, so nothing was committed.
    Lost,
}

impl Revoking {
    pub fn new(
        list: TopicPartitionList,
        partitions: Vec<TopicPartition>,
        completed: Receiver<Vec<(TopicPartition, i64)>>,
        deadline: Instant,
    ) -> Self {
        Self { list, partitions, phase: Phase::Draining { completed, deadline } }
    }

    /// What to do now. Passes the offsets of a completed drain to `commits`.
    pub fn verdict(&mut self, commits: &mut Commits, lost: bool, now: Instant) -> Verdict {
        if lost {
            tracing::warn!("partitions were lost while they were drained; their last messages will be delivered again");
            return Verdict::Lost;
        }
        if let Phase::Draining { completed, deadline } = &mut self.phase {
            match completed.try_recv() {
                Ok(offsets) => commits.want(offsets),
                // Dropped: the pipeline has no further offsets to commit.
                Err(TryRecvError::Closed) => {}
                Err(TryRecvError::Empty) if now < *deadline => return Verdict::Wait,
                Err(TryRecvError::Empty) => {
                    tracing::warn!(
                        partitions = self.partitions.len(),
                        "revoked partitions were not drained in time; messages in flight will be delivered again"
                    );
                }
            }
            commits.end_in_order(&self.partitions);
            self.phase = Phase::Committing { deadline: now + LAST_COMMIT_MAX };
        }
        match self.phase {
            _ if commits.settled(&self.partitions) => Verdict::Release,
            Phase::Committing { deadline } if now >= deadline => {
                tracing::warn!(
                    partitions = self.partitions.len(),
                    "the last offsets of revoked partitions were not committed in time; messages will be delivered again"
                );
                Verdict::Release
            }
            _ => Verdict::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::source::Revocation;

    fn partition() -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: 0 }
    }

    fn start(now: Instant) -> (Revocation, Revoking, Commits) {
        let (revocation, completed) = Revocation::new(vec![partition()]);
        let mut commits = Commits::default();
        commits.track(partition(), None, None);
        let deadline = now + Duration::from_secs(30);
        (revocation, Revoking::new(TopicPartitionList::new(), vec![partition()], completed, deadline), commits)
    }

    #[test]
    fn drains_then_commits_then_releases() {
        let now = Instant::now();
        let (revocation, mut revoking, mut commits) = start(now);
        assert_eq!(revoking.verdict(&mut commits, false, now), Verdict::Wait);
        revocation.complete(vec![(partition(), 4)]);
        assert_eq!(revoking.verdict(&mut commits, false, now), Verdict::Wait);
        let due = commits.due(now).expect("the last offset is to be committed");
        commits.sent(now, &due);
        commits.answered(now, &Ok(()), &due);
        assert_eq!(revoking.verdict(&mut commits, false, now), Verdict::Release);
    }

    #[test]
    fn a_dropped_revocation_releases_at_once_and_a_silent_one_at_the_deadline() {
        let now = Instant::now();
        let (revocation, mut revoking, mut commits) = start(now);
        drop(revocation);
        assert_eq!(revoking.verdict(&mut commits, false, now), Verdict::Release);
        let (_revocation, mut revoking, mut commits) = start(now);
        assert_eq!(revoking.verdict(&mut commits, false, now + Duration::from_secs(29)), Verdict::Wait);
        assert_eq!(revoking.verdict(&mut commits, false, now + Duration::from_secs(30)), Verdict::Release);
    }

    #[test]
    fn the_last_commit_has_a_deadline_and_a_lost_partition_none() {
        let now = Instant::now();
        let (revocation, mut revoking, mut commits) = start(now);
        revocation.complete(vec![(partition(), 4)]);
        assert_eq!(revoking.verdict(&mut commits, false, now), Verdict::Wait);
        assert_eq!(revoking.verdict(&mut commits, false, now + LAST_COMMIT_MAX), Verdict::Release);
        let (_revocation, mut revoking, mut commits) = start(now);
        assert_eq!(revoking.verdict(&mut commits, true, now), Verdict::Lost);
    }
}
