//! Which offsets may be committed: only the contiguous prefix of settled ones, per partition and assignment.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::flight::Flight;
use crate::domain::{Message, TopicPartition};

/// All partitions assigned to this process.
#[derive(Default)]
pub struct Watermarks {
    partitions: HashMap<TopicPartition, Watermark>,
}

/// One assignment of a partition. The same partition may be assigned again before its earlier revocation is answered;
/// the epoch distinguishes the two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Assignment {
    pub partition: TopicPartition,
    pub epoch: u64,
}

impl Assignment {
    /// The assignment that the message belongs to.
    pub fn of(message: &Message) -> Self {
        Self { partition: message.position.topic_partition(), epoch: message.epoch }
    }

    pub fn has(&self, message: &Message) -> bool {
        let TopicPartition { topic, partition } = &self.partition;
        let Message { position, epoch, .. } = message;
        self.epoch == *epoch && *partition == position.partition && *topic == position.topic
    }
}

/// What happens to a message that the source delivers.
pub enum Taken {
    InFlight(Flight),
    /// Its assignment has ended: the message belongs to the new owner.
    Over,
    /// Its assignment was never announced. Dropping it would silence its partition.
    Unannounced,
}

/// The message that holds a partition's watermark.
#[derive(Clone, Debug)]
pub struct Oldest {
    pub partition: TopicPartition,
    pub offset: i64,
    pub taken_at: Instant,
    pub flight: Flight,
}

/// How far a partition's watermark is behind the last message taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distance {
    pub messages: u64,
    /// Requests of those messages that are not settled.
    pub requests: usize,
}

/// One partition in one assignment. Settled messages after an unsettled one take no memory.
struct Watermark {
    epoch: u64,
    /// Messages taken and not settled, by offset.
    open: BTreeMap<i64, Entry>,
    /// Their requests, as far as known.
    requests: usize,
    /// The offset after the last message taken. Compaction and transaction markers leave gaps between offsets.
    end: Option<i64>,
    taken: u64,
    /// Those of `open` that will not be settled here: they are left to the next owner.
    left: usize,
    /// The offset last offered for a commit.
    offered: Option<i64>,
    fence: CancellationToken,
}

struct Entry {
    /// The offset after the previous message taken: the commit position while this is the first unsettled message.
    /// `None`: it is the first message.
    behind: Option<i64>,
    /// How many messages were taken before it.
    before: u64,
    taken_at: Instant,
    flight: Flight,
    requests: usize,
}

impl Watermark {
    /// The offset after the contiguous settled prefix; `None` before the first message.
    fn next(&self) -> Option<i64> {
        self.open.first_key_value().map_or(self.end, |(_, first)| first.behind)
    }

    /// Messages from the watermark to the last one taken.
    fn distance(&self) -> u64 {
        self.open.first_key_value().map_or(0, |(_, first)| self.taken - first.before)
    }
}

impl Watermarks {
    /// A new assignment replaces an older one of the same partition. Its late acknowledgements are ignored.
    pub fn assign(&mut self, partition: TopicPartition, epoch: u64) {
        let fresh = Watermark {
            epoch,
            open: BTreeMap::new(),
            requests: 0,
            end: None,
            taken: 0,
            left: 0,
            offered: None,
            fence: CancellationToken::new(),
        };
        if let Some(old) = self.partitions.insert(partition, fresh) {
            old.fence.cancel();
        }
    }

    /// Records that `message` is in flight.
    pub fn take(&mut self, message: &Message) -> Taken {
        let Some(watermark) = self.partitions.get_mut(&message.position.topic_partition()) else {
            return Taken::Unannounced;
        };
        if watermark.epoch != message.epoch {
            return if message.epoch < watermark.epoch { Taken::Over } else { Taken::Unannounced };
        }
        let flight = Flight::new(watermark.fence.clone());
        let offset = message.position.offset;
        let behind = watermark.end.replace(offset + 1);
        let (before, taken_at) = (watermark.taken, Instant::now());
        let entry = Entry { behind, before, taken_at, flight: flight.clone(), requests: 1 };
        let again = watermark.open.insert(offset, entry);
        watermark.taken += 1;
        watermark.requests += 1;
        watermark.requests -= again.map_or(0, |before| before.requests);
        Taken::InFlight(flight)
    }

    /// Records how many requests a message brings; until then it counts as one.
    pub fn bring(&mut self, message: &Message, requests: usize) {
        let watermark = self.partitions.get_mut(&message.position.topic_partition());
        if let Some(watermark) = watermark.filter(|watermark| watermark.epoch == message.epoch)
            && let Some(entry) = watermark.open.get_mut(&message.position.offset)
        {
            watermark.requests = watermark.requests - entry.requests + requests;
            entry.requests = requests;
        }
    }

    /// The oldest message in flight of each partition that has one.
    pub fn oldest(&self) -> impl Iterator<Item = Oldest> {
        self.partitions.iter().filter_map(|(partition, watermark)| {
            let (offset, Entry { taken_at, flight, .. }) = watermark.open.first_key_value()?;
            let (offset, taken_at, flight) = (*offset, *taken_at, flight.clone());
            Some(Oldest { partition: partition.clone(), offset, taken_at, flight })
        })
    }

    /// Marks `message` as settled. Returns whether it counted: messages of older assignments do not.
    pub fn settle(&mut self, message: &Message) -> bool {
        let watermark = self.partitions.get_mut(&message.position.topic_partition());
        let Some(watermark) = watermark.filter(|watermark| watermark.epoch == message.epoch) else { return false };
        let settled = watermark.open.remove(&message.position.offset);
        watermark.requests -= settled.as_ref().map_or(0, |entry| entry.requests);
        settled.is_some()
    }

    /// Drops `message` unsettled: it is not waited for, and the watermark does not pass it.
    pub fn leave(&mut self, message: &Message) {
        let watermark = self.partitions.get_mut(&message.position.topic_partition());
        if let Some(watermark) = watermark.filter(|watermark| watermark.epoch == message.epoch)
            && watermark.open.contains_key(&message.position.offset)
        {
            watermark.left += 1;
        }
    }

    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Per partition: the messages taken from the watermark on, and the requests of those that are not settled.
    pub fn distances(&self) -> impl Iterator<Item = (&TopicPartition, Distance)> {
        self.partitions.iter().map(|(partition, watermark)| {
            (partition, Distance { messages: watermark.distance(), requests: watermark.requests })
        })
    }

    pub fn distance(&self, partition: &TopicPartition) -> u64 {
        self.partitions.get(partition).map_or(0, Watermark::distance)
    }

    /// Offsets to commit now: partitions whose watermark moved since the last call.
    pub fn committable(&mut self) -> Vec<(TopicPartition, i64)> {
        let mut moved = Vec::new();
        for (partition, watermark) in &mut self.partitions {
            let next = watermark.next();
            if next != watermark.offered
                && let Some(offset) = next
            {
                watermark.offered = next;
                moved.push((partition.clone(), offset));
            }
        }
        moved
    }

    /// A commit failed: its offsets are offered again.
    pub fn not_committed(&mut self, offsets: &[(TopicPartition, i64)]) {
        for (partition, _) in offsets {
            if let Some(watermark) = self.partitions.get_mut(partition) {
                watermark.offered = None;
            }
        }
    }

    /// The current assignments of `partitions`.
    pub fn current(&self, partitions: &[TopicPartition]) -> Vec<Assignment> {
        let epoch = |partition| self.partitions.get(partition).map(|watermark| watermark.epoch);
        partitions.iter().filter_map(|p| Some(Assignment { partition: p.clone(), epoch: epoch(p)? })).collect()
    }

    /// Whether the assignment is current.
    pub fn has(&self, assignment: &Assignment) -> bool {
        self.partitions.get(&assignment.partition).is_some_and(|watermark| watermark.epoch == assignment.epoch)
    }

    /// Whether nothing of these assignments is in flight. Replaced assignments have nothing left to wait for.
    pub fn drained(&self, assignments: &[Assignment]) -> bool {
        let is_drained = |watermark: &Watermark| watermark.open.len() <= watermark.left;
        assignments
            .iter()
            .all(|a| self.partitions.get(&a.partition).is_none_or(|w| w.epoch != a.epoch || is_drained(w)))
    }

    /// Ends the assignments: fences what is in flight and returns the last offsets to commit. Keeps a later assignment
    /// of the same partition.
    pub fn release(&mut self, assignments: &[Assignment]) -> Vec<(TopicPartition, i64)> {
        let mut last = Vec::new();
        for Assignment { partition, epoch } in assignments {
            if self.partitions.get(partition).is_none_or(|watermark| watermark.epoch != *epoch) {
                continue;
            }
            if let Some(watermark) = self.partitions.remove(partition) {
                watermark.fence.cancel();
                last.extend(watermark.next().map(|next| (partition.clone(), next)));
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: 0 }
    }

    fn message(offset: i64, epoch: u64) -> Message {
        Message { epoch, ..Message::empty("t", 0, offset) }
    }

    fn take(w: &mut Watermarks, message: &Message) -> Option<Flight> {
        match w.take(message) {
            Taken::InFlight(flight) => Some(flight),
            Taken::Over | Taken::Unannounced => None,
        }
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
            assert!(take(&mut w, &message(offset, 1)).is_some());
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
        let flight = take(&mut w, &message(10, 1)).unwrap();
        w.assign(partition(), 2);
        assert!(flight.fence.is_cancelled());
        assert!(!w.settle(&message(10, 1)));
        assert!(matches!(w.take(&message(11, 1)), Taken::Over));
        assert!(take(&mut w, &message(10, 2)).is_some());
        assert_eq!(w.committable(), []);
    }

    #[test]
    fn release_gives_the_last_offsets_and_fences() {
        let mut w = assigned();
        let flight = take(&mut w, &message(10, 1)).unwrap();
        w.take(&message(11, 1));
        w.settle(&message(10, 1));
        let current = w.current(&[partition()]);
        assert!(!w.drained(&current));
        assert_eq!(w.oldest().map(|o| o.offset).collect::<Vec<_>>(), [11]);
        assert_eq!(w.release(&current), [(partition(), 11)]);
        assert!(flight.fence.is_cancelled());
        assert!(!w.settle(&message(11, 1)));
    }

    #[test]
    fn the_late_release_of_an_assignment_leaves_the_next_one_of_its_partition_alone() {
        let mut w = assigned();
        w.take(&message(10, 1));
        let first = w.current(&[partition()]);
        w.assign(partition(), 2);
        let flight = take(&mut w, &message(10, 2)).unwrap();
        assert!(w.drained(&first), "nothing of it is in flight any more");
        assert_eq!(w.release(&first), []);
        assert!(!flight.fence.is_cancelled());
        assert!(take(&mut w, &message(11, 2)).is_some(), "the partition goes on");
    }

    #[test]
    fn unannounced_messages_are_distinguished_from_late_ones() {
        let mut w = assigned();
        assert!(matches!(w.take(&message(0, 2)), Taken::Unannounced));
        assert!(matches!(w.take(&message(0, 0)), Taken::Over));
        w.release(&w.current(&[partition()]));
        assert!(matches!(w.take(&message(0, 1)), Taken::Unannounced));
    }

    #[test]
    fn any_order_of_settling_commits_everything_in_the_end() {
        let mut order: Vec<i64> = (0..200).collect();
        let mut w = assigned();
        order.iter().for_each(|o| assert!(take(&mut w, &message(*o, 1)).is_some()));
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
        let current = w.current(&[partition()]);
        assert!(w.drained(&current));
        assert_eq!(w.release(&current), [(partition(), 200)]);
    }

    #[test]
    fn what_is_settled_behind_a_held_message_counts_and_takes_no_memory() {
        let mut w = assigned();
        for offset in 0..100_000 {
            assert!(take(&mut w, &message(2 * offset, 1)).is_some());
        }
        assert_eq!(w.distance(&partition()), 100_000);
        for offset in (0..100_000).filter(|offset| *offset != 5) {
            assert!(w.settle(&message(2 * offset, 1)));
        }
        assert!(!w.settle(&message(0, 1)), "once");
        let distances: Vec<_> = w.distances().map(|(_, distance)| distance).collect();
        assert_eq!(distances, [Distance { messages: 99_995, requests: 1 }]);
        assert_eq!(w.committable(), [(partition(), 9)], "behind the one before it");
        w.settle(&message(10, 1));
        assert_eq!((w.distance(&partition()), w.committable()), (0, vec![(partition(), 199_999)]));
    }

    #[test]
    fn what_is_left_to_the_next_owner_is_not_waited_for_and_not_passed() {
        let mut w = assigned();
        for offset in 0..4 {
            w.take(&message(offset, 1));
        }
        w.settle(&message(0, 1));
        w.settle(&message(3, 1));
        let current = w.current(&[partition()]);
        w.leave(&message(1, 1));
        w.leave(&message(3, 1));
        assert!(!w.drained(&current), "2 is in flight, and 3 was settled");
        w.settle(&message(2, 1));
        assert!(w.drained(&current));
        assert_eq!(w.release(&current), [(partition(), 1)]);
    }
}
