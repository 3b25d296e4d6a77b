//! Which offsets may be committed: only the contiguous prefix of settled ones, per partition and assignment.

use std::collections::{HashMap, VecDeque};

use tokio_util::sync::CancellationToken;

use crate::domain::{Message, TopicPartition};

/// All partitions that this process has.
#[derive(Default)]
pub struct Watermarks {
    partitions: HashMap<TopicPartition, Watermark>,
}

/// One partition in one assignment. Invariant: `taken` is in order of offset, and its front is not settled.
struct Watermark {
    epoch: u64,
    /// Offsets that were taken and not yet passed by the watermark, with whether they are settled. Gaps between
    /// offsets are normal: compaction and transaction markers leave them.
    taken: VecDeque<(i64, bool)>,
    /// The next offset to consume after all that is settled without a gap; `None` before the first.
    next: Option<i64>,
    /// Whether `next` moved since it was last offered for a commit.
    dirty: bool,
    /// Cancelled when others own the partition: what is still in flight must not write any more.
    fence: CancellationToken,
}

impl Watermarks {
    /// A new assignment replaces an older one of the same partition, whose late acknowledgements are then ignored.
    pub fn assign(&mut self, partition: TopicPartition, epoch: u64) {
        let fresh =
            Watermark { epoch, taken: VecDeque::new(), next: None, dirty: false, fence: CancellationToken::new() };
        if let Some(old) = self.partitions.insert(partition, fresh) {
            old.fence.cancel();
        }
    }

    /// Notes that `message` is in flight and returns the fence of its assignment; `None` when the message belongs to
    /// no current assignment and must be dropped.
    pub fn take(&mut self, message: &Message) -> Option<CancellationToken> {
        let watermark = self.partitions.get_mut(&message.position.topic_partition())?;
        if watermark.epoch != message.epoch {
            return None;
        }
        watermark.taken.push_back((message.position.offset, false));
        Some(watermark.fence.clone())
    }

    /// Marks `message` as settled. Returns whether it counted: messages of older assignments do not.
    pub fn settle(&mut self, message: &Message) -> bool {
        let Some(watermark) = self.partitions.get_mut(&message.position.topic_partition()) else { return false };
        if watermark.epoch != message.epoch {
            return false;
        }
        let Ok(index) = watermark.taken.binary_search_by_key(&message.position.offset, |(offset, _)| *offset) else {
            return false;
        };
        watermark.taken[index].1 = true;
        while let Some((offset, true)) = watermark.taken.front() {
            watermark.next = Some(offset + 1);
            watermark.dirty = true;
            watermark.taken.pop_front();
        }
        true
    }

    /// Offsets to commit now: partitions whose watermark moved since the last call.
    pub fn committable(&mut self) -> Vec<(TopicPartition, i64)> {
        let moved = self.partitions.iter_mut().filter(|(_, w)| w.dirty);
        moved
            .filter_map(|(partition, w)| {
                w.dirty = false;
                Some((partition.clone(), w.next?))
            })
            .collect()
    }

    /// Says that a commit failed: the same offsets are offered again.
    pub fn not_committed(&mut self, offsets: &[(TopicPartition, i64)]) {
        for (partition, _) in offsets {
            if let Some(watermark) = self.partitions.get_mut(partition) {
                watermark.dirty = true;
            }
        }
    }

    /// Whether nothing of these partitions is in flight.
    pub fn drained(&self, partitions: &[TopicPartition]) -> bool {
        partitions.iter().filter_map(|p| self.partitions.get(p)).all(|w| w.taken.is_empty())
    }

    /// Ends the assignment of `partitions`: fences what is in flight and returns their last offsets to commit.
    pub fn release(&mut self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, i64)> {
        let released = partitions.iter().filter_map(|p| self.partitions.remove_entry(p));
        released
            .filter_map(|(partition, w)| {
                w.fence.cancel();
                Some((partition, w.next?))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Position;

    fn partition() -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: 0 }
    }

    fn message(offset: i64, epoch: u64) -> Message {
        let position = Position { topic: "t".into(), partition: 0, offset };
        Message { position, epoch, key: None, value: None, headers: Vec::new(), timestamp_ms: None }
    }

    fn assigned() -> Watermarks {
        let mut watermarks = Watermarks::default();
        watermarks.assign(partition(), 1);
        watermarks
    }

    #[test]
    fn a_gap_holds_the_watermark() {
        let mut w = assigned();
        for offset in [10, 11, 15] {
            assert!(w.take(&message(offset, 1)).is_some());
        }
        assert!(w.settle(&message(15, 1)) && w.settle(&message(11, 1)));
        assert_eq!(w.committable(), []);
        w.settle(&message(10, 1));
        assert_eq!(w.committable(), [(partition(), 16)]);
        assert_eq!(w.committable(), [], "offered once");
        w.not_committed(&[(partition(), 16)]);
        assert_eq!(w.committable(), [(partition(), 16)], "and again when the commit failed");
    }

    #[test]
    fn acknowledgements_of_an_older_assignment_are_ignored() {
        let mut w = assigned();
        let fence = w.take(&message(10, 1)).unwrap();
        w.assign(partition(), 2);
        assert!(fence.is_cancelled());
        assert!(!w.settle(&message(10, 1)));
        assert!(w.take(&message(11, 1)).is_none());
        assert!(w.take(&message(10, 2)).is_some());
        assert_eq!(w.committable(), []);
    }

    #[test]
    fn release_gives_the_last_offsets_and_fences() {
        let mut w = assigned();
        let fence = w.take(&message(10, 1)).unwrap();
        w.take(&message(11, 1));
        w.settle(&message(10, 1));
        assert!(!w.drained(&[partition()]));
        assert_eq!(w.release(&[partition()]), [(partition(), 11)]);
        assert!(fence.is_cancelled());
        assert!(!w.settle(&message(11, 1)));
    }

    #[test]
    fn any_order_of_settling_commits_everything_in_the_end() {
        let mut order: Vec<i64> = (0..200).collect();
        let mut w = assigned();
        order.iter().for_each(|o| assert!(w.take(&message(*o, 1)).is_some()));
        // A fixed shuffle: multiplication by a unit modulo a prime visits every residue once.
        order.sort_by_key(|o| (o * 97) % 211);
        let mut settled = std::collections::HashSet::new();
        for offset in order {
            w.settle(&message(offset, 1));
            settled.insert(offset);
            for (_, next) in w.committable() {
                assert!((0..next).all(|o| settled.contains(&o)), "{next} passed something unsettled");
            }
        }
        assert!(w.drained(&[partition()]));
        assert_eq!(w.release(&[partition()]), [(partition(), 200)]);
    }
}
