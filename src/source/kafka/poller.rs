use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::Utc;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::commits::Commits;
use super::context::{self, ClientEvent, Context, Rebalance, apply};
use super::delays::Delays;
use super::handover::Handover;
use super::revoking::{Revoking, Verdict};
use super::silence::{self, Silence};
use super::trouble::Trouble;
use crate::config::LAST_COMMIT_MAX_MS;
use crate::domain::{Message, Position, TopicPartition};
use crate::redact;
use crate::source::{Revocation, SourceEvent};
use crate::telemetry::Metrics;

/// Longest wait in one poll: a commit that is handed over waits as long at most.
const POLL_MAX: Duration = Duration::from_millis(50);
/// The same while a message is in hand and room for it may come at any moment.
const POLL_WITH_MESSAGE_IN_HAND: Duration = Duration::from_millis(5);
/// How long the last commit of partitions that go may take.
pub(super) const LAST_COMMIT_MAX: Duration = Duration::from_millis(LAST_COMMIT_MAX_MS);

/// The consumer and everything that only its thread touches. `run` polls and never blocks for longer than
/// [`POLL_MAX`] (half a second where it probes a broken connection or a silent partition), so that rebalances, commits and
/// the poll-interval check of librdkafka go on whatever the pipeline does.
pub(super) struct Poller {
    pub consumer: BaseConsumer<Context>,
    pub events: Receiver<ClientEvent>,
    pub leaving: Arc<AtomicBool>,
    pub handover: Arc<Handover>,
    pub metrics: Arc<Metrics>,
    pub topics: Vec<String>,
    pub drain_deadline: Duration,
    pub trouble: Trouble,
    pub silence: Silence,
    pub state: State,
}

#[derive(Default)]
pub(super) struct State {
    /// Partitions whose messages are handed out, with the epoch of their assignment.
    owned: HashMap<Arc<str>, BTreeMap<i32, u64>>,
    /// Counts assignments, from 1.
    epoch: u64,
    /// Polled, but there was no room: one message, or a few that were on their way when the partitions were paused.
    in_hand: VecDeque<Message>,
    paused: bool,
    delays: Delays,
    /// Steps of rebalances that wait for the revocation before them: librdkafka wants its answers in order.
    rebalances: VecDeque<Rebalance>,
    revoking: Option<Revoking>,
    commits: Commits,
}

impl Poller {
    /// Until the handover is closed.
    ///
    /// # Errors
    /// What librdkafka calls fatal for this consumer.
    pub fn run(&mut self) -> Result<(), String> {
        while !self.handover.is_closing() {
            let wait = if self.state.in_hand.is_empty() { POLL_MAX } else { POLL_WITH_MESSAGE_IN_HAND };
            let polled = match self.consumer.poll(wait) {
                Some(Ok(message)) => Some(Ok(self.state.receive(&message))),
                Some(Err(error)) => Some(Err(error)),
                None => None,
            };
            match polled {
                Some(Ok(Some(message))) => self.take(message),
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    return Err(format!("the Kafka consumer cannot go on: {code}; see the log, then restart"));
                }
                // Others also come as `ClientEvent::Error`, with a reason.
                Some(Ok(None) | Err(_)) | None => {}
            }
            let now = Instant::now();
            self.client_events(now)?;
            self.rebalance(now)?;
            self.wake(now);
            self.hand_out();
            self.commit(now);
            self.trouble.commits(self.state.commits.failing(now).map(str::to_owned));
            self.trouble.probe(&self.consumer, &self.topics, now);
            self.listen(now);
        }
        Ok(())
    }

    fn take(&mut self, message: Message) {
        let partition = message.position.topic_partition();
        // It may have been read ahead long ago, so that it says nothing about a connection.
        self.silence.heard(&partition);
        match self.state.delays.put_off(message, Instant::now(), Utc::now().timestamp_millis()) {
            Some(message) => self.state.in_hand.push_back(message),
            None => {
                let partitions = [partition];
                self.silence.forget(&partitions);
                self.set_paused(&listing(&partitions), true);
            }
        }
    }

    /// Lets go on what has waited in a retry topic.
    fn wake(&mut self, now: Instant) {
        let (messages, free) = self.state.delays.due(now);
        self.state.in_hand.extend(messages);
        self.silence.watch(&free);
        if !self.state.paused {
            self.set_paused(&listing(&free), false);
        }
    }

    /// Asks about partitions that bring nothing.
    fn listen(&mut self, now: Instant) {
        self.silence.tick(!self.state.paused && self.state.revoking.is_none(), now);
        if !self.silence.is_due(now) {
            return;
        }
        if let Some(partition) = self.silence.to_ask() {
            let end = self.consumer.fetch_watermarks(&partition.topic, partition.partition, silence::ASK_TIMEOUT);
            self.silence.end(&partition, end.map_err(|error| error.to_string()), self.trouble.is_cut_off());
        }
        self.trouble.silence(self.silence.told());
    }

    /// Commits what was taken over and leaves the group.
    ///
    /// # Errors
    /// When the last commit did not succeed in time; its messages will be delivered again.
    pub fn leave(mut self) -> Result<(), String> {
        // From here on the context carries rebalances out by itself, also while the consumer is dropped below.
        self.leaving.store(true, Ordering::Release);
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
                result = Err(format!(
                    "the last offsets were not committed within {} s; their messages will be delivered again",
                    LAST_COMMIT_MAX.as_secs()
                ));
                break;
            }
            // What is polled now is nobody's: not handed out, not committed, delivered again to the next owner.
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

    fn client_events(&mut self, now: Instant) -> Result<(), String> {
        while let Ok(event) = self.events.try_recv() {
            match event {
                ClientEvent::Rebalance(step) => self.state.rebalances.push_back(step),
                ClientEvent::Committed { result, offsets } => {
                    if result.is_ok() {
                        self.trouble.heard();
                    }
                    self.state.commits.answered(now, &result, &offsets);
                }
                ClientEvent::Statistics(statistics) => self.record(&statistics),
                ClientEvent::Error { code, reason } => self.trouble.report(code, &reason),
            }
        }
        Ok(())
    }

    fn rebalance(&mut self, now: Instant) -> Result<(), String> {
        loop {
            if let Some(revoking) = &mut self.state.revoking {
                // A further step while we owe the answer to this one: the group has moved on without us.
                let overtaken = !self.state.rebalances.is_empty();
                let lost = overtaken || self.consumer.assignment_lost();
                match revoking.verdict(&mut self.state.commits, lost, now) {
                    Verdict::Wait => return Ok(()),
                    Verdict::Release => {}
                    Verdict::Lost => {
                        let partitions = revoking.partitions.clone();
                        self.handover.control(SourceEvent::Lost { partitions });
                    }
                }
                if let Some(revoking) = self.state.revoking.take() {
                    self.state.commits.forget(&revoking.partitions);
                    self.carry_out(&Rebalance::Revoke(revoking.list))?;
                }
            }
            match self.state.rebalances.pop_front() {
                None => return Ok(()),
                Some(Rebalance::Assign(list)) => self.assign(list)?,
                Some(Rebalance::Revoke(list)) => self.revoke(list, now)?,
            }
        }
    }

    fn assign(&mut self, list: TopicPartitionList) -> Result<(), String> {
        let partitions = self.state.own(&list);
        if !partitions.is_empty() {
            tracing::info!(epoch = self.state.epoch, partitions = %listed(&partitions), "partitions assigned");
            self.silence.watch(&partitions);
            self.handover.control(SourceEvent::Assigned { epoch: self.state.epoch, partitions });
        }
        self.trouble.assigned();
        let step = Rebalance::Assign(list);
        self.carry_out(&step)?;
        let Rebalance::Assign(list) = step else { return Ok(()) };
        // Whether a partition that was ours before is still paused from then is librdkafka's secret: say it.
        self.set_paused(&list, self.state.paused);
        Ok(())
    }

    fn revoke(&mut self, list: TopicPartitionList, now: Instant) -> Result<(), String> {
        let partitions = self.state.disown(&list);
        self.silence.forget(&partitions);
        for partition in &partitions {
            self.metrics.lag(partition, 0);
        }
        if partitions.is_empty() {
            return self.carry_out(&Rebalance::Revoke(list));
        }
        if self.consumer.assignment_lost() {
            let listed = listed(&partitions);
            // Where no broker can be reached that is part of an outage, which is logged as such.
            if self.trouble.is_cut_off() {
                tracing::debug!(partitions = %listed, "partitions lost: the session has ended meanwhile");
            } else {
                tracing::warn!(partitions = %listed, "partitions lost: others have them already");
            }
            self.state.commits.forget(&partitions);
            self.handover.withdraw(&partitions, SourceEvent::Lost { partitions: partitions.clone() });
            return self.carry_out(&Rebalance::Revoke(list));
        }
        tracing::info!(partitions = %listed(&partitions), "partitions revoked: draining");
        self.set_paused(&list, true);
        let (revocation, completed) = Revocation::new(partitions.clone());
        self.handover.withdraw(&partitions, SourceEvent::Revoking(revocation));
        self.state.revoking = Some(Revoking::new(list, partitions, completed, now + self.drain_deadline));
        Ok(())
    }

    fn carry_out(&self, step: &Rebalance) -> Result<(), String> {
        apply(&self.consumer, step).map_err(|error| {
            format!("librdkafka refuses a step of a rebalance: {error}; restart the process to join the group anew")
        })
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

    /// Pausing makes librdkafka drop what it has fetched ahead; resuming fetches it again, from the message after the
    /// last one polled. Nothing is lost or doubled.
    fn set_paused(&self, list: &TopicPartitionList, paused: bool) {
        if list.count() == 0 {
            return;
        }
        let result = if paused { self.consumer.pause(list) } else { self.consumer.resume(list) };
        if let Err(error) = result {
            tracing::warn!(%error, paused, "partitions could not be paused or resumed");
        }
    }

    fn commit(&mut self, now: Instant) {
        self.state.commits.want(self.handover.take_commits());
        if let Some(list) = self.state.commits.due(now) {
            match context::commit(&self.consumer, &list) {
                Ok(()) => self.state.commits.sent(now),
                Err(error) => self.state.commits.answered(now, &Err(error), &list),
            }
        }
    }

    fn record(&mut self, statistics: &Statistics) {
        self.metrics.queue_depth("source", self.handover.waiting());
        for topic in statistics.topics.values() {
            let Some((name, owned)) = self.state.owned.get_key_value(topic.topic.as_str()) else { continue };
            for (number, partition) in &topic.partitions {
                if !owned.contains_key(number) {
                    continue;
                }
                let of = TopicPartition { topic: name.clone(), partition: *number };
                self.silence.position(&of, partition.next_offset, partition.fetchq_cnt);
                // -1: not known yet.
                if partition.consumer_lag >= 0 {
                    self.metrics.lag(&of, partition.consumer_lag);
                    self.handover.set_lag(of, partition.consumer_lag);
                }
            }
        }
    }
}

impl State {
    pub fn new(delays: Delays) -> Self {
        Self { delays, ..Self::default() }
    }

    /// Copies the message out of librdkafka's memory; `None` when its partition is not ours (any more).
    fn receive(&self, message: &BorrowedMessage<'_>) -> Option<Message> {
        let (topic, partitions) = self.owned.get_key_value(message.topic())?;
        let epoch = *partitions.get(&message.partition())?;
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            let copy = |value: &[u8]| Bytes::copy_from_slice(value);
            headers.iter().map(|header| (header.key.to_owned(), header.value.map(copy))).collect()
        });
        Some(Message {
            position: Position { topic: topic.clone(), partition: message.partition(), offset: message.offset() },
            epoch,
            key: message.key().map(Bytes::copy_from_slice),
            value: message.payload().map(Bytes::copy_from_slice),
            retry: self.delays.retry(topic, &headers),
            headers,
            timestamp_ms: message.timestamp().to_millis(),
            topic_id: None,
        })
    }

    /// A new epoch for the partitions of `list`.
    fn own(&mut self, list: &TopicPartitionList) -> Vec<TopicPartition> {
        let partitions = partitions(list);
        if !partitions.is_empty() {
            self.epoch += 1;
        }
        for partition in &partitions {
            self.owned.entry(partition.topic.clone()).or_default().insert(partition.partition, self.epoch);
            self.commits.track(partition.clone());
        }
        partitions
    }

    /// Takes no more messages of the partitions of `list`; may still commit for them.
    fn disown(&mut self, list: &TopicPartitionList) -> Vec<TopicPartition> {
        let mut partitions = partitions(list);
        partitions.retain(|p| self.owned.get_mut(&p.topic).is_some_and(|of| of.remove(&p.partition).is_some()));
        let gone: BTreeSet<_> = partitions.iter().cloned().collect();
        self.in_hand.retain(|message| !gone.contains(&message.position.topic_partition()));
        self.delays.forget(&partitions);
        partitions
    }

    /// The partitions that bring messages unless there is no room for them.
    fn flowing(&self) -> TopicPartitionList {
        let owned = self.owned.iter().flat_map(|(topic, partitions)| {
            partitions.keys().map(|partition| TopicPartition { topic: topic.clone(), partition: *partition })
        });
        listing(&owned.filter(|partition| !self.delays.holds(partition)).collect::<Vec<_>>())
    }
}

fn listing(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for TopicPartition { topic, partition } in partitions {
        list.add_partition(topic, *partition);
    }
    list
}

fn partitions(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(|e| TopicPartition { topic: e.topic().into(), partition: e.partition() }).collect()
}

fn listed(partitions: &[TopicPartition]) -> String {
    redact::cut(&partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), 1000)
}
