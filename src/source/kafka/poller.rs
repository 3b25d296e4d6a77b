//! The consumer's thread: polls librdkafka and runs all Kafka work that is due.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::Utc;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::statistics::{self, Statistics};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::commits::Commits;
use super::consumer_health::ConsumerHealth;
use super::context::{self, ClientEvent, Context, Rebalance};
use super::crash_loops::{CrashLoopSettings, CrashLoops};
use super::delays::Delays;
use super::handover::Handover;
use super::known_topics::KnownTopics;
use super::positions::{Fetched, Owned, Place, Step};
use super::revoking::{LAST_COMMIT_MAX, Revoking};
use super::skipped::Skipped;
use super::stall::{self, StallWatch};
use super::starts::{self, Reset};
use crate::domain::{Finding, Message, Position, TopicPartition};
use crate::kafka_client;
use crate::telemetry::labels::Queue;
use crate::telemetry::{Metrics, Pulse};

/// Longest wait in one poll, and therefore the longest wait of a commit.
const POLL_MAX: Duration = Duration::from_millis(50);
/// The same while a kept message may be delivered at any moment.
const POLL_WITH_MESSAGE_IN_HAND: Duration = Duration::from_millis(5);

/// The consumer and everything that only its thread uses. `run` polls and never blocks longer than [`POLL_MAX`] (half a second
/// for each query to the brokers: about a broken connection, a stalled partition, topic ids, start offsets). So rebalances,
/// commits and librdkafka's poll-interval check continue whatever the pipeline does.
pub(super) struct Poller {
    pub consumer: BaseConsumer<Context>,
    pub events: Receiver<ClientEvent>,
    pub leaving: Arc<AtomicBool>,
    pub handover: Arc<Handover>,
    pub metrics: Arc<Metrics>,
    pub topics: Vec<String>,
    pub drain_deadline: Duration,
    pub reset: Reset,
    pub consumer_health: ConsumerHealth,
    pub pulse: Pulse,
    pub stalls: StallWatch,
    pub skipped: Skipped,
    pub state: State,
}

#[derive(Default)]
pub(super) struct State {
    pub owned: Owned,
    /// Partitions that were ours at any time.
    pub read_before: BTreeSet<TopicPartition>,
    pub ids_asked_at: Option<Instant>,
    /// Whether any seek is pending.
    pub some_begin: bool,
    /// Partitions of recreated topics: the deadline for a first message, and where they begin.
    pub followed: BTreeMap<TopicPartition, (Instant, i64)>,
    pub known_topics: KnownTopics,
    /// Counts assignments and other new epochs of partitions, from 1.
    pub epoch: u64,
    /// Messages that were polled when there was no room: one, or a few that were already fetched when the partitions were paused.
    pub in_hand: VecDeque<Message>,
    pub paused: bool,
    /// Partitions that are paused because the pipeline holds them back.
    pub held_back: BTreeSet<TopicPartition>,
    pub delays: Delays,
    pub crash_loops: CrashLoops,
    /// Rebalance steps that wait for an earlier revocation or for an answer; librdkafka needs them in order.
    pub rebalances: VecDeque<Rebalance>,
    /// Since when the first of them has waited for an answer, and when to ask again.
    pub waiting: Option<Waiting>,
    pub revoking: Option<Revoking>,
    pub commits: Commits,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub since: Instant,
    pub not_before: Instant,
}

/// A message with librdkafka's metadata.
struct Received {
    message: Message,
    step: Step,
}

impl Poller {
    /// Runs until the handover is closed.
    ///
    /// # Errors
    /// An error that librdkafka calls fatal, or a partition whose start offset is not defined.
    pub fn run(&mut self) -> Result<(), Finding> {
        while !self.handover.is_closing() {
            self.pulse.beat();
            self.turn()?;
        }
        Ok(())
    }

    /// One poll, and all work that is due.
    pub fn turn(&mut self) -> Result<(), Finding> {
        let none_waits = self.state.in_hand.is_empty() && !self.state.crash_loops.hold_some();
        let wait = if none_waits { POLL_MAX } else { POLL_WITH_MESSAGE_IN_HAND };
        let polled = match self.consumer.poll(wait) {
            Some(Ok(message)) => Some(Ok(self.state.receive(&message))),
            Some(Err(error)) => Some(Err(error)),
            None => None,
        };
        let now = Instant::now();
        match polled {
            Some(Ok(Some(received))) => self.receive(received, now),
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                return Err(Finding::new(format!("the Kafka consumer cannot continue: {code}"))
                    .hint("see the log, then restart the process"));
            }
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => {
                return Err(starts::refused());
            }
            // Others also come as `ClientEvent::Error`, with a reason.
            Some(Ok(None) | Err(_)) | None => {}
        }
        self.client_events(now)?;
        self.rebalance(now)?;
        self.identify_now_and_then(now);
        self.begin(now);
        self.follow_up(now)?;
        self.wake(now);
        self.hold_back();
        self.hand_out();
        self.commit(now);
        self.consumer_health.commits(self.state.commits.failing(now).map(str::to_owned));
        self.consumer_health.probe(&self.consumer, &self.topics, now);
        self.listen(now);
        self.skipped.forget(now);
        Ok(())
    }

    fn receive(&mut self, received: Received, now: Instant) {
        let Received { message, step } = received;
        let (partition, offset) = (message.position.topic_partition(), message.position.offset);
        let follows = match step {
            Step::Next => true,
            Step::Over { expected } => self.leaps(&partition, expected, offset, now),
            Step::Back { expected } => self.goes_back(&partition, expected, offset, now),
        };
        // From the earlier epoch, or to be read again in order.
        if !follows {
            return;
        }
        let Some(place) = self.state.owned.get_mut(&partition) else { return };
        place.came(offset);
        let message = Message { epoch: place.epoch, ..message };
        if let Some(epoch) = message.leader_epoch {
            self.state.commits.written_by(&partition, offset, epoch);
        }
        self.take(message);
    }

    fn take(&mut self, message: Message) {
        let partition = message.position.topic_partition();
        // It may have been prefetched long ago, so it does not prove a connection.
        self.stalls.heard(&partition);
        let now = Instant::now();
        let message = self.state.delays.hold(message, now, Utc::now().timestamp_millis());
        let flows = message.is_some_and(|message| self.state.hand(message, now));
        if !flows {
            let partitions = [partition];
            self.stalls.forget(&partitions);
            self.set_paused(&listing(&partitions), true);
        }
    }

    /// Delivers messages that have waited in a retry topic or for a trial.
    fn wake(&mut self, now: Instant) {
        self.identify_before_retries(now);
        let (messages, mut free) = self.state.delays.due(now);
        for message in messages {
            self.state.hand(message, now);
        }
        let State { crash_loops, commits, in_hand, .. } = &mut self.state;
        let (messages, tried) = crash_loops.due(commits, now);
        in_hand.extend(messages);
        free.extend(tried);
        free.retain(|partition| self.state.flows(partition));
        self.stalls.watch(&free);
        if !self.state.paused {
            self.set_paused(&listing(&free), false);
        }
    }

    /// Checks partitions that deliver nothing.
    fn listen(&mut self, now: Instant) {
        self.stalls.tick(!self.state.paused && self.state.revoking.is_none(), now);
        if !self.stalls.is_due(now) {
            return;
        }
        if let Some(partition) = self.stalls.to_ask() {
            let end = self.consumer.fetch_watermarks(&partition.topic, partition.partition, stall::ASK_TIMEOUT);
            self.stalls.end(&partition, end.map_err(|error| error.to_string()), self.consumer_health.is_cut_off());
        }
        self.consumer_health.stalled(self.stalls.summary());
    }

    /// Commits the accepted offsets and leaves the group.
    ///
    /// # Errors
    /// When the last commit did not succeed in time; its messages will be delivered again.
    pub fn leave(mut self) -> Result<(), Finding> {
        // From here on the context carries out rebalances itself, also while the consumer is dropped below.
        self.leaving.store(true, Ordering::Release);
        if !self.handover.has_failed() {
            self.state.commits.end_all_in_order();
        }
        // The waiting caller has its own deadline.
        self.pulse.rest();
        let deadline = Instant::now() + LAST_COMMIT_MAX;
        let mut result = Ok(());
        loop {
            let now = Instant::now();
            if let Err(error) = self.client_events(now) {
                result = Err(error);
                break;
            }
            self.commit(now);
            if self.state.commits.all_settled() {
                break;
            }
            if now >= deadline {
                result = Err(Finding::new(format!(
                    "the last offsets were not committed within {} s; their messages will be delivered again",
                    LAST_COMMIT_MAX.as_secs()
                )));
                break;
            }
            // Messages polled now are neither delivered nor committed; the next owner gets them.
            let _ = self.consumer.poll(Duration::from_millis(10));
        }
        if let Some(revoking) = self.state.revoking.take() {
            self.carry_out(&Rebalance::Revoke(revoking.list))?;
        }
        while let Some(step) = self.state.rebalances.pop_front() {
            self.carry_out(&step)?;
        }
        self.consumer.unsubscribe();
        result
    }

    fn client_events(&mut self, now: Instant) -> Result<(), Finding> {
        while let Ok(event) = self.events.try_recv() {
            match event {
                ClientEvent::Rebalance(step) => self.state.rebalances.push_back(step),
                ClientEvent::Committed { result, offsets } => {
                    if result.is_ok() {
                        self.consumer_health.heard();
                    }
                    self.state.commits.answered(now, &result, &offsets);
                }
                ClientEvent::Statistics(statistics) => self.record(&statistics, now),
                ClientEvent::Error { code, reason } => self.consumer_health.report(code, &reason),
            }
        }
        Ok(())
    }

    fn hand_out(&mut self) {
        while let Some(message) = self.state.in_hand.pop_front() {
            if let Some(message) = self.handover.offer(message) {
                self.state.in_hand.push_front(message);
                break;
            }
        }
        let full = !self.state.in_hand.is_empty();
        if full != self.state.paused && (full || self.handover.has_room()) {
            self.state.paused = full;
            self.set_paused(&self.state.flowing(), full);
        }
    }

    /// Pausing makes librdkafka drop its prefetched messages; resuming fetches them again, from the message after the last one
    /// polled. Nothing is lost or duplicated.
    pub fn set_paused(&mut self, list: &TopicPartitionList, paused: bool) {
        if list.count() == 0 {
            return;
        }
        // Any change affects librdkafka's own positions.
        for partition in partitions(list) {
            self.state.owned.get_mut(&partition).into_iter().for_each(Place::stir);
        }
        let result = if paused { self.consumer.pause(list) } else { self.consumer.resume(list) };
        if let Err(error) = result {
            tracing::warn!(%error, paused, "partitions could not be paused or resumed");
        }
    }

    fn commit(&mut self, now: Instant) {
        let State { owned, commits, .. } = &mut self.state;
        let offsets = self.handover.take_commits().into_iter().map(|(partition, offset)| {
            let reach = owned.get(&partition).map_or(offset, |place| place.reach(offset));
            (partition, reach)
        });
        commits.want(offsets);
        if let Some(list) = commits.due(now) {
            match context::commit(&self.consumer, &list) {
                Ok(()) => commits.sent(now, &list),
                Err(error) => commits.answered(now, &Err(error), &list),
            }
        }
    }

    fn record(&mut self, statistics: &Statistics, now: Instant) {
        self.metrics.queue_depth(Queue::Source, self.handover.waiting());
        // All polled messages are counted, including those that are kept here.
        let flows = !self.state.paused && self.state.revoking.is_none();
        for topic in statistics.topics.values() {
            for (number, partition) in &topic.partitions {
                let Some((name, ..)) = self.state.owned.find(&topic.topic, *number) else { continue };
                let of = TopicPartition { topic: name.clone(), partition: *number };
                self.stalls.position(&of, partition.next_offset, partition.fetchq_cnt);
                let flows = flows && !self.state.held_back.contains(&of);
                let is_idle = flows && partition.fetch_state == "active" && partition.fetchq_cnt == 0;
                let fetched = fetched(statistics, partition).filter(|_| is_idle);
                self.look(&of, fetched, partition.lo_offset, now);
                // Below zero: not known yet. With open transactions, the lag counts up to the last stable offset.
                let Some(at) = self.state.commits.committed(&of).or(Some(partition.lo_offset)) else { continue };
                if partition.ls_offset >= 0 && at >= 0 {
                    let lag = partition.ls_offset.saturating_sub(at).max(0);
                    self.metrics.lag(&of, lag);
                    self.handover.set_lag(of, lag);
                }
            }
        }
    }
}

impl State {
    pub fn new(delays: Delays, care: CrashLoopSettings) -> Self {
        Self { delays, crash_loops: CrashLoops::new(care), ..Self::default() }
    }

    /// Keeps the message for delivery, unless it has to wait. Returns whether its partition may deliver more.
    fn hand(&mut self, message: Message, now: Instant) -> bool {
        let partition = message.position.topic_partition();
        self.in_hand.extend(self.crash_loops.hold(message, &mut self.commits, now));
        !self.crash_loops.stops(&partition)
    }

    /// Copies the message out of librdkafka's memory; `None` if its partition is not assigned (any more), or a seek is pending.
    fn receive(&self, message: &BorrowedMessage<'_>) -> Option<Received> {
        let (topic, id, place) = self.owned.find(message.topic(), message.partition())?;
        if place.is_to_begin() {
            return None;
        }
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            let copy = |value: &[u8]| Bytes::copy_from_slice(value);
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(copy))).collect()
        });
        let step = place.step(message.offset());
        let message = Message {
            position: Position { topic: topic.clone(), partition: message.partition(), offset: message.offset() },
            epoch: place.epoch,
            key: message.key().map(Bytes::copy_from_slice),
            value: message.payload().map(Bytes::copy_from_slice),
            retry: self.delays.retry(message.topic(), &headers),
            suspicion: None,
            headers,
            timestamp_ms: message.timestamp().to_millis(),
            topic_id: id.cloned(),
            leader_epoch: kafka_client::leader_epoch(message),
        };
        Some(Received { message, step })
    }

    /// Stops taking messages of the partitions in `list`; commits are still possible.
    pub fn disown(&mut self, list: &TopicPartitionList) -> Vec<TopicPartition> {
        let mut partitions = partitions(list);
        partitions.retain(|partition| self.owned.remove(partition));
        self.drop_waiting(&partitions);
        self.held_back.retain(|partition| !partitions.contains(partition));
        partitions
    }

    /// Drops messages of these partitions that were not delivered.
    pub fn drop_waiting(&mut self, partitions: &[TopicPartition]) {
        self.in_hand.retain(|message| !partitions.contains(&message.position.topic_partition()));
        self.delays.forget(partitions);
        self.crash_loops.forget(partitions);
    }
}

/// librdkafka's position in a partition that has a broker to fetch from.
fn fetched(statistics: &Statistics, partition: &statistics::Partition) -> Option<Fetched> {
    let broker =
        statistics.brokers.values().find(|broker| broker.nodeid == partition.broker && broker.state == "UP")?;
    let requests = *broker.req.get("Fetch")?;
    Some(Fetched { at: partition.next_offset, broker: partition.broker, requests })
}

pub(super) fn listing(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for TopicPartition { topic, partition } in partitions {
        list.add_partition(topic, *partition);
    }
    list
}

pub(super) fn partitions(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(|e| TopicPartition { topic: e.topic().into(), partition: e.partition() }).collect()
}
