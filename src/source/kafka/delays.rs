//! Delays of messages in retry topics.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::RetryTopic;
use crate::domain::{Message, Retry, TopicPartition};
use crate::kafka_client;

/// Messages of retry topics that are not due yet. One per partition is enough, because later ones wait as long: the
/// partition is paused meanwhile.
#[derive(Debug, Default)]
pub(super) struct Delays {
    topics: HashMap<String, RetryTopic>,
    /// The current ids of the source topics.
    source_ids: HashMap<String, Arc<str>>,
    waiting: BTreeMap<TopicPartition, VecDeque<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    message: Message,
    due: Instant,
}

impl Delays {
    pub fn new(topics: Vec<RetryTopic>) -> Self {
        let topics = topics.into_iter().map(|topic| (topic.name.clone(), topic)).collect();
        Self { topics, ..Self::default() }
    }

    /// The retry information in the headers of a message of this topic.
    pub fn retry(&self, topic: &str, headers: &[(String, Option<Bytes>)]) -> Option<Retry> {
        kafka_client::retry(&self.topics.get(topic)?.source, headers)
    }

    /// The source topics of these retry topics.
    pub fn sources(&self, topics: &BTreeSet<&str>) -> BTreeSet<&str> {
        topics.iter().filter_map(|topic| Some(self.topics.get(*topic)?.source.as_str())).collect()
    }

    /// Sets the current id of a source topic; `None` if unknown.
    pub fn identify(&mut self, source: &str, id: Option<&Arc<str>>) {
        if let Some(id) = id {
            self.source_ids.insert(source.to_owned(), id.clone());
        }
    }

    /// Whether any message is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.waiting.values().filter_map(VecDeque::front).any(|first| first.due <= now)
    }

    /// Adds the current topic id to a message that becomes due.
    fn of_now(&self, mut message: Message) -> Message {
        let source = self.topics.get(&*message.position.topic).map(|topic| &topic.source);
        let id = source.and_then(|source| self.source_ids.get(source));
        message.retry = message.retry.map(|retry| retry.in_topic(id));
        message
    }

    /// Returns the message if it is due, and keeps it otherwise: then its partition must be paused.
    ///
    /// The clock (`unix_ms`) is read only here, so later changes of the clock have no effect; and no clock makes a message wait
    /// longer than its topic's delay.
    pub fn hold(&mut self, message: Message, now: Instant, unix_ms: i64) -> Option<Message> {
        let Some(topic) = self.topics.get(&*message.position.topic) else { return Some(message) };
        let passed = message.timestamp_ms.map_or(0, |at| unix_ms.saturating_sub(at));
        let wait = topic.delay.saturating_sub(Duration::from_millis(passed.try_into().unwrap_or(0)));
        let partition = message.position.topic_partition();
        // Messages that librdkafka had already fetched may follow the first.
        let behind = self.waiting.contains_key(&partition);
        if wait.is_zero() && !behind {
            return Some(self.of_now(message));
        }
        self.waiting.entry(partition).or_default().push_back(Waiting { message, due: now + wait });
        None
    }

    /// Whether the partition is to be paused for now.
    pub fn holds(&self, partition: &TopicPartition) -> bool {
        self.waiting.contains_key(partition)
    }

    /// The messages that are due, and the partitions that have none left.
    pub fn due(&mut self, now: Instant) -> (Vec<Message>, Vec<TopicPartition>) {
        let (mut messages, mut free) = (Vec::new(), Vec::new());
        self.waiting.retain(|partition, waiting| {
            while let Some(first) = waiting.pop_front_if(|first| first.due <= now) {
                messages.push(first.message);
            }
            if waiting.is_empty() {
                free.push(partition.clone());
            }
            !waiting.is_empty()
        });
        (messages.into_iter().map(|message| self.of_now(message)).collect(), free)
    }

    /// Drops messages of revoked partitions.
    pub fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.waiting.remove(partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn delays() -> Delays {
        let delay = Duration::from_secs(60);
        Delays::new(vec![RetryTopic { name: "t.retry.1".into(), after: "t".into(), source: "t".into(), delay }])
    }

    fn message(topic: &str, offset: i64, age_s: i64) -> Message {
        Message { timestamp_ms: Some(NOW_MS - 1000 * age_s), ..Message::empty(topic, 0, offset) }
    }

    fn offsets(messages: &[Message]) -> Vec<i64> {
        messages.iter().map(|message| message.position.offset).collect()
    }

    #[test]
    fn only_retry_topics_wait_and_only_for_what_is_left() {
        let (mut delays, now) = (delays(), Instant::now());
        assert!(delays.hold(message("t", 0, 0), now, NOW_MS).is_some());
        assert!(delays.hold(message("t.retry.1", 0, 60), now, NOW_MS).is_some(), "it has waited");
        assert!(delays.hold(message("t.retry.1", 1, 40), now, NOW_MS).is_none());
        let partition = TopicPartition { topic: "t.retry.1".into(), partition: 0 };
        assert!(delays.holds(&partition));
        assert_eq!(delays.due(now + Duration::from_secs(19)).0.len(), 0);
        let (messages, free) = delays.due(now + Duration::from_secs(20));
        assert_eq!((offsets(&messages), free), (vec![1], vec![partition.clone()]));
        assert!(!delays.holds(&partition));
    }

    #[test]
    fn what_came_behind_one_that_waits_stays_behind_it() {
        let (mut delays, now) = (delays(), Instant::now());
        for (offset, age_s) in [(1, 10), (2, 60), (3, 0)] {
            assert!(delays.hold(message("t.retry.1", offset, age_s), now, NOW_MS).is_none());
        }
        let (messages, free) = delays.due(now + Duration::from_secs(50));
        assert_eq!((offsets(&messages), free.len()), (vec![1, 2], 0));
        delays.forget(&[message("t.retry.1", 3, 0).position.topic_partition()]);
        assert_eq!(delays.due(now + Duration::from_secs(60)).0.len(), 0);
    }

    #[test]
    fn a_topic_that_is_made_anew_meanwhile_is_known_when_a_message_goes_on() {
        let (mut delays, now) = (delays(), Instant::now());
        let id = |id: &str| -> Arc<str> { id.into() };
        let hold = |offset, age_s| {
            let mut message = message("t.retry.1", offset, age_s);
            let origin = crate::domain::Origin { topic_id: Some(id("old")), ..Message::empty("t", 0, 7).origin() };
            message.retry = Some(Retry { origin, attempts: 1, requests: Vec::new() });
            message
        };
        let successor = |message: &Message| message.retry.as_ref().and_then(|retry| retry.origin.successor.clone());
        assert_eq!(delays.sources(&["t", "t.retry.1", "u"].into()), ["t"].into());
        delays.identify("t", Some(&id("old")));
        assert_eq!(successor(&delays.hold(hold(0, 60), now, NOW_MS).unwrap()), None);
        assert!(delays.hold(hold(1, 0), now, NOW_MS).is_none());
        delays.identify("t", Some(&id("new")));
        delays.identify("t", None);
        assert!(!delays.is_due(now) && delays.is_due(now + Duration::from_secs(60)));
        assert_eq!(successor(&delays.due(now + Duration::from_secs(60)).0[0]), Some(id("new")));
        assert_eq!(successor(&delays.hold(hold(2, 60), now, NOW_MS).unwrap()), Some(id("new")));
    }

    #[test]
    fn a_wrong_clock_makes_nothing_wait_beyond_the_delay() {
        let (mut delays, now) = (delays(), Instant::now());
        assert!(delays.hold(message("t.retry.1", 1, -3600), now, NOW_MS).is_none(), "from the future");
        let mut timeless = message("t.retry.1", 2, 0);
        timeless.timestamp_ms = None;
        assert!(delays.hold(timeless, now, NOW_MS).is_none());
        assert_eq!(offsets(&delays.due(now + Duration::from_secs(60)).0), [1, 2]);
    }
}
