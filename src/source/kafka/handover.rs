//! The bounded queue between the consumer's thread and the pipeline.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::{Finding, Message, TopicPartition};
use crate::source::{Demand, SourceEvent};

/// How much may wait between the consumer's thread and the pipeline. One message always fits, whatever its size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub messages_max: usize,
    pub bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { messages_max: 1024, bytes_max: 16 * 1024 * 1024 }
    }
}

/// Exchange between the consumer's thread and the async side. A revocation and the removal of its messages are one step under
/// one lock, so no message of a revoked partition can be delivered after it.
#[derive(Debug)]
pub(super) struct Handover {
    limits: Limits,
    state: Mutex<State>,
    /// Wakes the async side.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    control: VecDeque<SourceEvent>,
    messages: VecDeque<Message>,
    bytes: usize,
    commits: BTreeMap<TopicPartition, i64>,
    lag: BTreeMap<TopicPartition, i64>,
    held_back: Arc<BTreeSet<TopicPartition>>,
    close: bool,
    /// The pipeline ends because of the messages that it was given.
    failed: bool,
    /// Why the thread ended unexpectedly.
    broken: Option<Finding>,
}

impl Handover {
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default(), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete before anything could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever uses it waits until this is dropped.
    #[cfg(test)]
    pub fn blocked(&self) -> impl Sized + '_ {
        self.lock()
    }

    // The thread's side.

    pub fn control(&self, event: SourceEvent) {
        self.lock().control.push_back(event);
        self.changed.notify_one();
    }

    /// Announces that `partitions` are revoked or start a new epoch, and removes their waiting messages in the same step.
    pub fn withdraw(&self, partitions: &[TopicPartition], event: SourceEvent) {
        {
            let mut state = self.lock();
            if ends_epoch(&event) {
                state.commits.retain(|partition, _| !partitions.contains(partition));
            }
            state.messages.retain(|m| !partitions.contains(&m.position.topic_partition()));
            state.bytes = state.messages.iter().map(Message::memory_bytes).sum();
            state.lag.retain(|partition, _| !partitions.contains(partition));
            state.control.push_back(event);
        }
        self.changed.notify_one();
    }

    /// Returns the message if there is no room.
    pub fn offer(&self, message: Message) -> Option<Message> {
        {
            let mut state = self.lock();
            let weight = message.memory_bytes();
            let full = state.messages.len() >= self.limits.messages_max || state.bytes + weight > self.limits.bytes_max;
            if full && !state.messages.is_empty() {
                return Some(message);
            }
            state.bytes += weight;
            state.messages.push_back(message);
        }
        self.changed.notify_one();
        None
    }

    /// Whether it is at most half full. Fetching resumes only then: a resumed partition is fetched again from the broker, which
    /// is not worthwhile for one message.
    pub fn has_room(&self) -> bool {
        let state = self.lock();
        state.messages.len() <= self.limits.messages_max / 2 && state.bytes <= self.limits.bytes_max / 2
    }

    pub fn waiting(&self) -> usize {
        self.lock().messages.len()
    }

    pub fn take_commits(&self) -> BTreeMap<TopicPartition, i64> {
        std::mem::take(&mut self.lock().commits)
    }

    /// Partitions that are to be paused for now.
    pub fn held_back(&self) -> Arc<BTreeSet<TopicPartition>> {
        self.lock().held_back.clone()
    }

    pub fn set_lag(&self, partition: TopicPartition, messages: i64) {
        self.lock().lag.insert(partition, messages);
    }

    pub fn is_closing(&self) -> bool {
        self.lock().close
    }

    pub fn has_failed(&self) -> bool {
        self.lock().failed
    }

    pub fn break_off(&self, why: Finding) {
        self.lock().broken.get_or_insert(why);
        self.changed.notify_one();
    }

    // The async side: one caller at a time.

    /// The next event, control events first; `Err` says why the thread ended.
    pub async fn next(&self, demand: Demand) -> Result<SourceEvent, Finding> {
        loop {
            {
                let mut state = self.lock();
                if let Some(why) = &state.broken {
                    return Err(why.clone());
                }
                if let Some(event) = state.control.pop_front() {
                    return Ok(event);
                }
                if demand == Demand::Messages
                    && let Some(message) = state.messages.pop_front()
                {
                    state.bytes -= message.memory_bytes();
                    return Ok(SourceEvent::Message(message));
                }
            }
            // A permit stored since the check makes this return at once, and is not lost with a dropped future.
            self.changed.notified().await;
        }
    }

    /// Keeps the latest offset per partition until the thread takes it. If a new epoch, or the loss of the partition, has not
    /// been read yet, the offset belongs to the earlier epoch and is dropped.
    pub fn commit(&self, offsets: Vec<(TopicPartition, i64)>) -> Result<(), Finding> {
        let mut state = self.lock();
        if let Some(why) = &state.broken {
            return Err(why.clone());
        }
        let State { control, commits, .. } = &mut *state;
        let is_over = |partition: &TopicPartition| control.iter().any(|event| of(event).contains(partition));
        commits.extend(offsets.into_iter().filter(|(partition, _)| !is_over(partition)));
        Ok(())
    }

    pub fn hold_back(&self, partitions: &BTreeSet<TopicPartition>) {
        self.lock().held_back = Arc::new(partitions.clone());
    }

    pub fn lag(&self) -> Vec<(TopicPartition, i64)> {
        self.lock().lag.iter().map(|(partition, lag)| (partition.clone(), *lag)).collect()
    }

    pub fn fail(&self) {
        self.lock().failed = true;
    }

    pub fn close(&self) {
        self.lock().close = true;
    }
}

/// The partitions whose earlier epoch ends with this event.
fn of(event: &SourceEvent) -> &[TopicPartition] {
    match event {
        SourceEvent::Assigned { partitions, .. } | SourceEvent::Lost { partitions } => partitions,
        SourceEvent::Message(_) | SourceEvent::Revoking(_) | SourceEvent::End => &[],
    }
}

fn ends_epoch(event: &SourceEvent) -> bool {
    !of(event).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(partition: i32, offset: i64, bytes: usize) -> Message {
        Message { value: Some(vec![0; bytes].into()), ..Message::empty("t", partition, offset) }
    }

    fn lost(partition: i32) -> (Vec<TopicPartition>, SourceEvent) {
        let partitions = vec![TopicPartition { topic: "t".into(), partition }];
        (partitions.clone(), SourceEvent::Lost { partitions })
    }

    #[tokio::test]
    async fn control_comes_first_and_takes_the_messages_of_its_partitions_along() {
        let handover = Handover::new(Limits::default());
        for (partition, offset) in [(0, 0), (1, 0), (0, 1)] {
            assert!(handover.offer(message(partition, offset, 10)).is_none());
        }
        let (partitions, event) = lost(0);
        handover.withdraw(&partitions, event);
        assert!(matches!(handover.next(Demand::Messages).await, Ok(SourceEvent::Lost { .. })));
        match handover.next(Demand::Messages).await {
            Ok(SourceEvent::Message(m)) => assert_eq!(m.position.partition, 1),
            other => panic!("{other:?}"),
        }
        assert_eq!(handover.waiting(), 0);
        assert_eq!(handover.lock().bytes, 0);
    }

    #[tokio::test]
    async fn messages_wait_while_only_control_is_wanted() {
        let handover = Handover::new(Limits::default());
        assert!(handover.offer(message(0, 0, 1)).is_none());
        assert!(futures::poll!(Box::pin(handover.next(Demand::ControlOnly))).is_pending());
        assert!(matches!(handover.next(Demand::Messages).await, Ok(SourceEvent::Message(_))));
    }

    #[tokio::test]
    async fn offsets_of_an_epoch_that_is_over_are_not_taken() {
        let handover = Handover::new(Limits::default());
        let partition = |partition| TopicPartition { topic: "t".into(), partition };
        let offsets = |offset| vec![(partition(0), offset), (partition(1), offset)];
        handover.commit(offsets(500)).unwrap();
        let anew = vec![partition(0)];
        handover.withdraw(&anew, SourceEvent::Assigned { epoch: 2, partitions: anew.clone() });
        // The pipeline has not read it yet.
        handover.commit(offsets(501)).unwrap();
        assert_eq!(handover.take_commits(), BTreeMap::from([(partition(1), 501)]));
        assert!(matches!(handover.next(Demand::ControlOnly).await, Ok(SourceEvent::Assigned { epoch: 2, .. })));
        handover.commit(offsets(3)).unwrap();
        assert_eq!(handover.take_commits(), offsets(3).into_iter().collect());
    }

    #[test]
    fn is_bounded_by_count_and_bytes_but_takes_one_message_of_any_size() {
        let handover = Handover::new(Limits { messages_max: 2, bytes_max: 100 });
        assert!(handover.offer(message(0, 0, 1000)).is_none());
        assert!(handover.offer(message(0, 1, 1)).is_some());
        let handover = Handover::new(Limits { messages_max: 2, bytes_max: 100 });
        assert!(handover.offer(message(0, 0, 1)).is_none());
        assert!(handover.has_room());
        assert!(handover.offer(message(0, 1, 1)).is_none());
        assert!(!handover.has_room());
        assert!(handover.offer(message(0, 2, 1)).is_some());
    }

    #[tokio::test]
    async fn a_broken_thread_ends_the_source() {
        let handover = Handover::new(Limits::default());
        handover.break_off(Finding::new("the thread panicked"));
        assert!(handover.next(Demand::ControlOnly).await.is_err());
        assert!(handover.commit(Vec::new()).is_err());
    }
}
