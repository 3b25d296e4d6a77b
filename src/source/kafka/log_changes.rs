//! Changes to an assigned partition that come without a rebalance: its topic is recreated, its log is truncated, or the
//! beginning of its log moves past the next offset.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;

use super::poller::{Poller, State};
use super::positions::{Begin, Fetched};
use super::starts::ASK_TIMEOUT;
use crate::domain::{Finding, TopicPartition};
use crate::kafka_client::{self, OffsetEntry};
use crate::source::SourceEvent;

/// How often topic ids are queried to detect recreated topics.
const IDS_INTERVAL: Duration = Duration::from_secs(5);
/// Older ids are queried again before a message of a retry topic is delivered.
const IDS_AGE_BEFORE_RETRIES: Duration = Duration::from_secs(1);
/// Wait before a failed seek is repeated.
const BEGIN_AGAIN: Duration = Duration::from_secs(1);
/// How long librdkafka may take to deliver something from a recreated topic that has messages. It compares leader epochs,
/// which start again with the topic, and treats lower ones as outdated.
pub(super) const FOLLOW_MAX: Duration = Duration::from_secs(30);

impl Poller {
    pub(super) fn identify_now_and_then(&mut self, now: Instant) {
        if self.state.ids_asked_at.is_none_or(|at| now >= at + IDS_INTERVAL) {
            self.identify(now);
        }
    }

    /// Before messages of retry topics are delivered: their source topics may have been recreated while they waited.
    pub(super) fn identify_before_retries(&mut self, now: Instant) {
        let is_old = self.state.ids_asked_at.is_none_or(|at| now >= at + IDS_AGE_BEFORE_RETRIES);
        if is_old && self.state.delays.is_due(now) {
            self.identify(now);
        }
    }

    /// Queries the current ids of our topics. Recreated ones are read from their beginning.
    fn identify(&mut self, now: Instant) {
        self.state.ids_asked_at = Some(now);
        let owned = self.state.owned.topics();
        if owned.is_empty() || self.consumer_health.is_cut_off() {
            return;
        }
        let topics = &owned | &self.state.delays.sources(&owned);
        let found = match kafka_client::topic_ids(self.consumer.client(), &topics, ASK_TIMEOUT) {
            Ok(found) => found,
            Err(error) => return tracing::debug!(%error, "no broker reports the topics' ids; asking again"),
        };
        self.state.known_topics.remember(&found);
        for (topic, id) in found {
            self.state.delays.identify(&topic, id.as_ref());
            if let Some(id) = &id
                && self.state.owned.topic_id(&topic).is_none()
            {
                self.state.commits.identify(&topic, id);
            }
            for partition in self.state.owned.identify(&topic, id) {
                self.recreated(&partition);
            }
        }
    }

    /// The partition's topic was deleted and recreated. librdkafka continues at its old offset or, if there is no such offset
    /// yet, at what it believes to be the beginning of the log.
    pub(super) fn recreated(&mut self, partition: &TopicPartition) {
        let next = self.state.owned.get(partition).and_then(|place| place.next());
        tracing::warn!(
            topic = &*partition.topic,
            partition = partition.partition,
            next,
            "the topic was deleted and recreated: messages of the old topic in flight are dropped, and the new one is read \
            from its beginning"
        );
        self.begin_anew(partition, Begin::Start);
    }

    /// A message came from beyond the next offset. Returns whether to take it.
    pub(super) fn leaps(&mut self, partition: &TopicPartition, expected: i64, offset: i64, now: Instant) -> bool {
        // The beginning when the message was fetched, or later.
        let begin = kafka_client::known_begin(self.consumer.client(), partition);
        let Some(begin) = begin.filter(|begin| *begin > expected) else { return true };
        if self.is_another_topic(partition, now) {
            return false;
        }
        self.skipped.report(partition, expected, begin.min(offset), now);
        true
    }

    /// A message came from before the next offset. Returns whether to take it.
    pub(super) fn goes_back(&mut self, partition: &TopicPartition, expected: i64, offset: i64, now: Instant) -> bool {
        if self.is_another_topic(partition, now) {
            return false;
        }
        // Messages in flight from before the truncation are fenced with the rest, so the epoch begins with them.
        let first = self.state.owned.get(partition).and_then(|place| place.first());
        let settled = self.state.commits.settled_to(partition).or(first);
        let begin = settled.map_or(offset, |settled| settled.min(offset));
        tracing::warn!(
            topic = &*partition.topic,
            partition = partition.partition,
            expected,
            came = offset,
            begin,
            "the log of the partition goes back (it was truncated when another broker became its leader, or the topic was \
            recreated): messages in flight are dropped, and it is read again from here"
        );
        self.begin_anew(partition, Begin::At(begin));
        false
    }

    fn is_another_topic(&mut self, partition: &TopicPartition, now: Instant) -> bool {
        let epoch = |poller: &Self| poller.state.owned.get(partition).map(|place| place.epoch);
        let before = epoch(self);
        self.identify(now);
        epoch(self) != before
    }

    /// Ends the partition's epoch, which fences its messages in flight. It is read from `begin` in a new epoch.
    fn begin_anew(&mut self, partition: &TopicPartition, begin: Begin) {
        self.state.epoch += 1;
        let epoch = self.state.epoch;
        let Some(place) = self.state.owned.get_mut(partition) else { return };
        place.restart(epoch, begin, Instant::now());
        self.state.some_begin = true;
        let partitions = std::slice::from_ref(partition);
        self.state.drop_waiting(partitions);
        let id = self.state.owned.topic_id(&partition.topic).cloned();
        self.state.commits.track(partition.clone(), None, id);
        self.state.crash_loops.begin(partition, 0);
        self.stalls.watch(partitions);
        let event = SourceEvent::Assigned { epoch, partitions: partitions.to_vec() };
        self.handover.withdraw(partitions, event);
        self.let_flow(partition);
    }

    /// Seeks partitions to the beginning of their new epochs.
    pub(super) fn begin(&mut self, now: Instant) {
        if !self.state.some_begin {
            return;
        }
        let due: Vec<_> = self.state.owned.to_begin(now).collect();
        for (partition, begin) in due {
            match self.seek(&partition, begin) {
                Ok(at) => {
                    if let Some(place) = self.state.owned.get_mut(&partition) {
                        place.begins(at);
                    }
                    if begin == Begin::Start {
                        self.state.followed.insert(partition.clone(), (now + FOLLOW_MAX, at));
                    }
                    // Commit the new position at once, even if no message comes for long.
                    self.state.commits.want([(partition, at)]);
                }
                Err(error) => {
                    tracing::debug!(%partition, %error, "seeking failed; trying again");
                    if let Some(place) = self.state.owned.get_mut(&partition) {
                        place.begin_later(Instant::now() + BEGIN_AGAIN);
                    }
                }
            }
        }
        self.state.some_begin = self.state.owned.places_mut().any(|place| place.is_to_begin());
    }

    /// Checks that librdkafka delivers from recreated topics.
    ///
    /// # Errors
    /// It does not. A new consumer does, and knows its start from the group's offsets.
    pub(super) fn follow_up(&mut self, now: Instant) -> Result<(), Finding> {
        // Only time in which messages can come counts: the pipeline has room, and a broker is reachable.
        let can_come = !self.state.paused && self.state.revoking.is_none() && !self.consumer_health.is_cut_off();
        let waits = |partition: &TopicPartition| !can_come || !self.state.flows(partition);
        let later: Vec<_> = self.state.followed.keys().filter(|partition| waits(partition)).cloned().collect();
        for partition in later {
            self.state.followed.entry(partition).and_modify(|(due, _)| *due = now + FOLLOW_MAX);
        }
        let due = self.state.followed.iter().find(|(_, (due, _))| *due <= now);
        let Some((partition, at)) = due.map(|(partition, (_, at))| (partition.clone(), *at)) else { return Ok(()) };
        self.state.followed.remove(&partition);
        let is_there = self.state.owned.get(&partition).is_some_and(|place| place.next() == Some(at));
        if !is_there {
            return Ok(());
        }
        let end = self.consumer.fetch_watermarks(&partition.topic, partition.partition, ASK_TIMEOUT);
        if end.is_ok_and(|(_, end)| end > at) {
            let message = format!("the Kafka client does not follow to the topic of {partition} that was recreated");
            return Err(Finding::new(message).hint("restart the process, which reads it from its beginning"));
        }
        self.state.followed.insert(partition, (now + FOLLOW_MAX, at));
        Ok(())
    }

    fn seek(&self, partition: &TopicPartition, begin: Begin) -> Result<i64, KafkaError> {
        let at = match begin {
            Begin::At(at) => at,
            // Not `Offset::Beginning`: librdkafka would use the remembered beginning of the old topic.
            Begin::Start => self.consumer.fetch_watermarks(&partition.topic, partition.partition, ASK_TIMEOUT)?.0,
        };
        let list = kafka_client::list(&[OffsetEntry::new(partition.clone(), Offset::Offset(at))]);
        let sought = self.consumer.seek_partitions(list, ASK_TIMEOUT)?;
        match kafka_client::entries(&sought).first().and_then(|entry| entry.error) {
            Some(error) => Err(KafkaError::Seek(error.to_string())),
            None => Ok(at),
        }
    }

    /// librdkafka's recent position in a partition; `fetched` is set if no fetched message is pending.
    pub(super) fn look(&mut self, partition: &TopicPartition, fetched: Option<Fetched>, log_begin: i64, now: Instant) {
        let Some(place) = self.state.owned.get_mut(partition) else { return };
        let Some(fetched) = fetched.filter(|fetched| fetched.at >= 0 && !place.is_to_begin()) else {
            return place.stir();
        };
        let is_first = place.next().is_none();
        let Some((from, to)) = place.looked(fetched) else { return };
        if log_begin > from {
            if self.is_another_topic(partition, now) {
                return;
            }
            self.skipped.report(partition, from, log_begin.min(to), now);
        }
        let State { owned, commits, .. } = &mut self.state;
        let settled = commits.settled_to(partition);
        let reach = match (owned.get(partition), settled) {
            (_, None) if is_first => Some(to),
            // All delivered messages may already be committed.
            (Some(place), Some(settled)) => Some(place.reach(settled)),
            _ => None,
        };
        commits.want(reach.map(|offset| (partition.clone(), offset)));
    }
}
