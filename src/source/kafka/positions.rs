//! Positions in the assigned partitions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use crate::domain::TopicPartition;

/// The assigned partitions and their positions.
#[derive(Debug, Default)]
pub(super) struct Owned {
    topics: HashMap<Arc<str>, Topic>,
}

#[derive(Debug, Default)]
struct Topic {
    /// The topic's id; `None` if the broker does not report it.
    id: Option<Arc<str>>,
    partitions: BTreeMap<i32, Place>,
}

/// Position of a partition in its epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub epoch: u64,
    /// Start of the epoch: its first message, or before it.
    first: Option<i64>,
    /// One past the last message that came, or the start of the epoch. Unknown before the first message of a partition that
    /// starts at the beginning of its log.
    come: Option<i64>,
    /// The same, but also past offsets without messages that follow (transaction markers, compaction).
    next: Option<i64>,
    /// librdkafka's position when it was last checked and no fetched message was pending.
    quiet: Option<Fetched>,
    /// A pending seek, and when it is due. Until then nothing is taken from the partition.
    begin: Option<(Begin, Instant)>,
}

/// librdkafka's position in a partition without pending fetched messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fetched {
    /// The next offset to fetch.
    pub at: i64,
    pub broker: i32,
    /// Fetch requests sent to that broker so far, for any partition.
    pub requests: i64,
}

/// After this many requests a position reported by librdkafka is current: before each request it updates the positions of all
/// partitions of a broker (`rd_kafka_broker_consumer_serve` of librdkafka 2.12), and one request may have been pending.
const REQUESTS_MIN: i64 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// At the beginning of its log.
    Start,
    At(i64),
}

/// How a message's offset follows the previous one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Next,
    /// Offsets are missing. Usually they were never messages, or compaction removed them.
    Over {
        expected: i64,
    },
    /// The offset goes back, which happens only if the log was truncated or the topic recreated.
    Back {
        expected: i64,
    },
}

impl Place {
    pub fn new(epoch: u64, at: Option<i64>) -> Self {
        Self { epoch, first: at, come: at, next: at, quiet: None, begin: None }
    }

    pub fn step(&self, offset: i64) -> Step {
        match self.next {
            Some(expected) if offset < expected => Step::Back { expected },
            Some(expected) if offset > expected => Step::Over { expected },
            _ => Step::Next,
        }
    }

    pub fn came(&mut self, offset: i64) {
        self.first.get_or_insert(offset);
        (self.come, self.next, self.quiet) = (Some(offset + 1), Some(offset + 1), None);
    }

    /// Starts a new epoch, with a seek that is still pending.
    pub fn restart(&mut self, epoch: u64, begin: Begin, due: Instant) {
        *self = Self { begin: Some((begin, due)), ..Self::new(epoch, None) };
    }

    pub fn is_to_begin(&self) -> bool {
        self.begin.is_some()
    }

    /// librdkafka continues at this offset.
    pub fn begins(&mut self, at: i64) {
        *self = Self::new(self.epoch, Some(at));
    }

    /// The seek failed and is due again at that time.
    pub fn begin_later(&mut self, due: Instant) {
        self.begin = self.begin.map(|(begin, _)| (begin, due));
    }

    /// Discards what was observed of librdkafka, because the partition was paused, resumed or sought.
    pub fn stir(&mut self) {
        self.quiet = None;
    }

    pub fn first(&self) -> Option<i64> {
        self.first
    }

    pub fn next(&self) -> Option<i64> {
        self.next
    }

    /// Records an observation of librdkafka's position. Returns the gap between the last message and that position, once it has
    /// been stable for a while without a message. A single observation may be outdated, because the partition was paused or
    /// sought, or its broker is unavailable.
    pub fn looked(&mut self, fetched: Fetched) -> Option<(i64, i64)> {
        if self.next.is_some_and(|next| next >= fetched.at) {
            self.quiet = None;
            return None;
        }
        match self.quiet {
            Some(Fetched { at, broker, requests }) if (at, broker) == (fetched.at, fetched.broker) => {
                if fetched.requests < requests + REQUESTS_MIN {
                    return None;
                }
            }
            _ => {
                self.quiet = Some(fetched);
                return None;
            }
        }
        self.quiet = None;
        let from = self.next.replace(fetched.at);
        self.come = self.come.or(Some(fetched.at));
        Some((from.unwrap_or(fetched.at), fetched.at))
    }

    /// What may be committed when everything below `offset` is settled. If that is all that came, this includes offsets without
    /// messages that follow.
    pub fn reach(&self, offset: i64) -> i64 {
        match (self.come, self.next) {
            (Some(come), Some(next)) if offset == come => next.max(offset),
            _ => offset,
        }
    }
}

/// A topic's name and id, and one of its partitions.
type Found<'a> = (&'a Arc<str>, Option<&'a Arc<str>>, &'a Place);

impl Owned {
    pub fn insert(&mut self, partition: &TopicPartition, place: Place) {
        self.topics.entry(partition.topic.clone()).or_default().partitions.insert(partition.partition, place);
    }

    pub fn remove(&mut self, partition: &TopicPartition) -> bool {
        let Some(topic) = self.topics.get_mut(&partition.topic) else { return false };
        let was = topic.partitions.remove(&partition.partition).is_some();
        if topic.partitions.is_empty() {
            self.topics.remove(&partition.topic);
        }
        was
    }

    pub fn get(&self, partition: &TopicPartition) -> Option<&Place> {
        self.topics.get(&partition.topic)?.partitions.get(&partition.partition)
    }

    pub fn get_mut(&mut self, partition: &TopicPartition) -> Option<&mut Place> {
        self.topics.get_mut(&partition.topic)?.partitions.get_mut(&partition.partition)
    }

    /// Finds a partition by topic name; returns our shared copy of the name, and the topic's id.
    pub fn find(&self, topic: &str, partition: i32) -> Option<Found<'_>> {
        let (name, topic) = self.topics.get_key_value(topic)?;
        Some((name, topic.id.as_ref(), topic.partitions.get(&partition)?))
    }

    pub fn topic_id(&self, topic: &str) -> Option<&Arc<str>> {
        self.topics.get(topic)?.id.as_ref()
    }

    pub fn topics(&self) -> BTreeSet<&str> {
        self.topics.keys().map(|topic| &**topic).collect()
    }

    pub fn partitions(&self) -> impl Iterator<Item = TopicPartition> {
        self.topics.iter().flat_map(|(topic, of)| {
            of.partitions.keys().map(|partition| TopicPartition { topic: topic.clone(), partition: *partition })
        })
    }

    pub fn places_mut(&mut self) -> impl Iterator<Item = &mut Place> {
        self.topics.values_mut().flat_map(|topic| topic.partitions.values_mut())
    }

    /// The partitions whose seek is due now.
    pub fn to_begin(&self, now: Instant) -> impl Iterator<Item = (TopicPartition, Begin)> {
        self.topics.iter().flat_map(move |(topic, of)| {
            let due = of.partitions.iter().filter_map(move |(number, place)| Some((*number, place.begin?)));
            let due = due.filter(move |(_, (_, due))| *due <= now);
            due.map(|(partition, (begin, _))| (TopicPartition { topic: topic.clone(), partition }, begin))
        })
    }

    /// Sets the current id of a topic. Returns our partitions that belong to another topic of that name.
    pub fn identify(&mut self, name: &str, id: Option<Arc<str>>) -> Vec<TopicPartition> {
        let Some((name, _)) = self.topics.get_key_value(name) else { return Vec::new() };
        let name = name.clone();
        let Some(topic) = self.topics.get_mut(&name) else { return Vec::new() };
        let is_another = matches!((&topic.id, &id), (Some(then), Some(now)) if then != now);
        topic.id = id.or(topic.id.take());
        let partitions = topic.partitions.keys().filter(|_| is_another);
        partitions.map(|partition| TopicPartition { topic: name.clone(), partition: *partition }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(partition: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition }
    }

    #[test]
    fn missing_and_repeated_offsets_are_reported() {
        let mut place = Place::new(1, Some(5));
        assert_eq!(place.step(5), Step::Next);
        assert_eq!(place.step(9), Step::Over { expected: 5 });
        place.came(9);
        assert_eq!(place.step(9), Step::Back { expected: 10 });
        assert_eq!(place.step(10), Step::Next);
        let mut place = Place::new(1, None);
        assert_eq!(place.step(70), Step::Next, "it began wherever its log does");
        place.came(70);
        place.came(71);
        assert_eq!((place.first(), Place::new(1, Some(5)).first()), (Some(70), Some(5)));
    }

    fn fetched(at: i64, requests: i64) -> Fetched {
        Fetched { at, broker: 1, requests }
    }

    #[test]
    fn what_follows_the_last_message_and_is_none_counts_once_it_stays_so() {
        let mut place = Place::new(1, None);
        place.came(4);
        assert_eq!(place.looked(fetched(5, 10)), None, "it is there already");
        assert_eq!(place.looked(fetched(7, 20)), None);
        place.came(5);
        assert_eq!(place.looked(fetched(7, 30)), None, "a message came in between");
        place.stir();
        assert_eq!(place.looked(fetched(7, 40)), None, "librdkafka was told to go elsewhere in between");
        assert_eq!(place.looked(fetched(8, 50)), None, "it moves");
        assert_eq!(place.looked(fetched(8, 51)), None, "its broker was asked for nothing since");
        assert_eq!(place.looked(Fetched { broker: 2, ..fetched(8, 60) }), None, "another broker has it");
        assert_eq!(place.looked(Fetched { broker: 2, ..fetched(8, 62) }), Some((6, 8)));
        assert_eq!((place.looked(fetched(8, 70)), place.next()), (None, Some(8)));
        assert_eq!((place.reach(6), place.reach(5)), (8, 5), "only behind everything that came");
        assert_eq!(place.step(8), Step::Next);
    }

    #[test]
    fn a_partition_without_any_message_has_a_place_too() {
        let mut place = Place::new(1, None);
        assert_eq!((place.looked(fetched(3, 1)), place.looked(fetched(3, 3))), (None, Some((3, 3))));
        assert_eq!((place.next(), place.reach(3)), (Some(3), 3));
    }

    #[test]
    fn a_topic_of_the_same_name_is_recognised_by_its_id() {
        let mut owned = Owned::default();
        for number in 0..2 {
            owned.insert(&partition(number), Place::new(1, None));
        }
        assert_eq!(owned.identify("t", Some("one".into())), [], "it was not known before");
        assert_eq!(owned.identify("t", None), [], "nor is it forgotten");
        assert_eq!(owned.identify("t", Some("one".into())), []);
        assert_eq!(owned.identify("t", Some("two".into())), [partition(0), partition(1)]);
        assert_eq!(owned.identify("other", Some("one".into())), []);
        assert!(owned.remove(&partition(0)) && !owned.remove(&partition(0)));
        assert!(owned.remove(&partition(1)) && owned.topics().is_empty());
    }
}
