//! Detection of messages that crash the process. The number of starts at the group's offset that settled nothing is stored
//! beside that offset. It says when to be careful, but does not blame a message: processes are killed for many reasons.
//!
//! A partition with too many such starts is careful: one of its messages is in flight at a time, and each is first tried in
//! isolation. Every other start skips the trials, so that good messages proceed even if it is the trials that fail on this
//! machine.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot::Receiver;
use tokio::sync::oneshot::error::TryRecvError;

use super::commits::Commits;
use crate::domain::{Message, Suspicion, TopicPartition};
use crate::source::{TrialOutcome, Trials};

/// How long the first message of an assignment waits for its start to be noted. An unavailable coordinator must not block a
/// partition without crashes.
const NOTE_MAX: Duration = Duration::from_secs(2);

/// How much of a partition is held before it is paused. For fewer messages a pause is not worthwhile: a resumed partition is
/// fetched again, after a request that its broker may hold for half a second.
const HELD_MAX: usize = 256;
const HELD_BYTES_MAX: usize = 4 * 1024 * 1024;

/// When to be careful, and how.
#[derive(Clone, Default)]
pub(super) struct CrashLoopSettings {
    /// Without it nothing is counted and no partition is careful.
    pub trials: Option<Arc<dyn Trials>>,
    /// Starts in a row that settled nothing before a partition is careful.
    pub crashes_max: u32,
    /// Number of offsets that may have been in flight.
    pub window: i64,
}

#[derive(Default)]
pub(super) struct CrashLoops {
    care: CrashLoopSettings,
    partitions: BTreeMap<TopicPartition, Standing>,
}

/// One partition in one epoch.
struct Standing {
    /// Starts before this one that settled nothing.
    before: u32,
    phase: Phase,
    /// Messages that may not be delivered yet, in order.
    held: VecDeque<Message>,
    /// Whether it is paused until no message is held.
    is_stopped: bool,
}

enum Phase {
    /// No message has come.
    Idle,
    /// This start is being noted.
    Noting {
        until: Instant,
    },
    Careful(Careful),
    Free,
}

struct Careful {
    /// From this offset on, no message can have been in flight.
    end: i64,
    has_trials: bool,
    /// The trial of the first held message.
    trial: Option<Receiver<TrialOutcome>>,
    /// The message delivered last, while it is in flight.
    out: Weak<()>,
}

impl CrashLoops {
    pub fn new(care: CrashLoopSettings) -> Self {
        Self { care, partitions: BTreeMap::new() }
    }

    /// A new epoch of the partition, after a number of starts that settled nothing.
    pub fn begin(&mut self, partition: &TopicPartition, before: u32) {
        if self.care.trials.is_some() && self.care.crashes_max > 0 {
            let standing = Standing { before, phase: Phase::Idle, held: VecDeque::new(), is_stopped: false };
            self.partitions.insert(partition.clone(), standing);
        }
    }

    /// Returns the message if it may be delivered now, and keeps it otherwise.
    pub fn hold(&mut self, message: Message, commits: &mut Commits, now: Instant) -> Option<Message> {
        let partition = message.position.topic_partition();
        let Some(standing) = self.partitions.get_mut(&partition) else { return Some(message) };
        match standing.phase {
            Phase::Free if standing.held.is_empty() => return Some(message),
            Phase::Idle => {
                commits.count_start(&partition, message.position.offset);
                standing.phase = Phase::Noting { until: now + NOTE_MAX };
            }
            Phase::Free | Phase::Noting { .. } | Phase::Careful(_) => {}
        }
        standing.held.push_back(message);
        let bytes: usize = standing.held.iter().map(Message::memory_bytes).sum();
        standing.is_stopped |= standing.held.len() >= HELD_MAX || bytes >= HELD_BYTES_MAX;
        None
    }

    /// Whether the partition is to be paused for now.
    pub fn stops(&self, partition: &TopicPartition) -> bool {
        self.partitions.get(partition).is_some_and(|standing| standing.is_stopped)
    }

    /// Whether any message is held.
    pub fn hold_some(&self) -> bool {
        self.partitions.values().any(|standing| !standing.held.is_empty())
    }

    /// The messages that may be delivered now, and the partitions that may resume.
    pub fn due(&mut self, commits: &Commits, now: Instant) -> (Vec<Message>, Vec<TopicPartition>) {
        let (mut messages, mut free) = (Vec::new(), Vec::new());
        for (partition, standing) in self.partitions.iter_mut().filter(|(_, standing)| !standing.held.is_empty()) {
            standing.go_on(partition, &self.care, commits, now, &mut messages);
            if standing.held.is_empty() && std::mem::take(&mut standing.is_stopped) {
                free.push(partition.clone());
            }
        }
        (messages, free)
    }

    /// Drops held messages of partitions that are revoked or start a new epoch.
    pub fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.partitions.remove(partition);
        }
    }
}

impl Standing {
    fn go_on(
        &mut self,
        partition: &TopicPartition,
        care: &CrashLoopSettings,
        commits: &Commits,
        now: Instant,
        messages: &mut Vec<Message>,
    ) {
        while let Some(first) = self.held.front() {
            let offset = first.position.offset;
            match &mut self.phase {
                Phase::Idle | Phase::Free => messages.extend(self.held.drain(..)),
                Phase::Noting { until } => {
                    if !commits.settled(std::slice::from_ref(partition)) && now < *until {
                        return;
                    }
                    self.phase = self.decide(partition, offset, care);
                }
                Phase::Careful(careful) if offset >= careful.end => {
                    tracing::info!(%partition, offset, "past the messages that may have been in flight: the partition continues normally");
                    self.phase = Phase::Free;
                }
                Phase::Careful(careful) => {
                    let Some(suspicion) = careful.tried(first, care) else { return };
                    let Some(mut message) = self.held.pop_front() else { return };
                    message.suspicion = Some(suspicion);
                    messages.push(message);
                }
            }
        }
    }

    fn decide(&self, partition: &TopicPartition, offset: i64, care: &CrashLoopSettings) -> Phase {
        let Some(beyond) = self.before.checked_sub(care.crashes_max) else { return Phase::Free };
        let has_trials = beyond % 2 == 0;
        tracing::warn!(
            topic = &*partition.topic,
            partition = partition.partition,
            offset,
            starts = self.before,
            has_trials,
            "processing started repeatedly at this offset and settled nothing, perhaps because of one of the messages in \
            flight: they proceed one at a time, each after a trial in a separate process; every other start skips the trials \
            (limit: pipeline.crashes_max)"
        );
        Phase::Careful(Careful { end: offset.saturating_add(care.window), has_trials, trial: None, out: Weak::new() })
    }
}

impl Careful {
    /// `None`: not yet.
    fn tried(&mut self, message: &Message, care: &CrashLoopSettings) -> Option<Suspicion> {
        if self.out.strong_count() > 0 {
            return None;
        }
        let tried = match care.trials.as_ref().filter(|_| self.has_trials) {
            None => TrialOutcome::Inconclusive,
            Some(trials) => match self.trial.get_or_insert_with(|| trials.begin(message)).try_recv() {
                Ok(tried) => tried,
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Closed) => TrialOutcome::Inconclusive,
            },
        };
        self.trial = None;
        let verdict = match tried {
            TrialOutcome::Poison(failure) => Some(failure),
            TrialOutcome::Passed | TrialOutcome::Inconclusive => None,
        };
        let suspicion = Suspicion { verdict, ..Suspicion::default() };
        self.out = Arc::downgrade(&suspicion.alone);
        Some(suspicion)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::oneshot;

    use super::*;
    use crate::domain::{Fault, PipelineReason, Stage};

    #[derive(Default)]
    struct Asked(Mutex<Vec<(i64, oneshot::Sender<TrialOutcome>)>>);

    impl Trials for Asked {
        fn begin(&self, message: &Message) -> Receiver<TrialOutcome> {
            let (reply, answer) = oneshot::channel();
            self.0.lock().unwrap().push((message.position.offset, reply));
            answer
        }
    }

    impl Asked {
        fn answer(&self, offset: i64, tried: TrialOutcome) {
            let (asked, reply) = self.0.lock().unwrap().pop().expect("a trial");
            assert_eq!(asked, offset);
            reply.send(tried).expect("somebody waits");
        }

        fn count(&self) -> usize {
            self.0.lock().unwrap().len()
        }
    }

    fn partition() -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: 0 }
    }

    struct World {
        crash_loops: CrashLoops,
        commits: Commits,
        asked: Arc<Asked>,
        now: Instant,
    }

    impl World {
        /// After so many starts at offset 100 that settled nothing; a window of 4 offsets, careful after 3.
        fn after(starts: u32) -> Self {
            let asked = Arc::new(Asked::default());
            let care = CrashLoopSettings { trials: Some(asked.clone()), crashes_max: 3, window: 4 };
            let (mut crash_loops, mut commits) = (CrashLoops::new(care), Commits::default());
            commits.track_after(partition(), Some(100), starts, None);
            crash_loops.begin(&partition(), starts);
            Self { crash_loops, commits, asked, now: Instant::now() }
        }

        fn hold(&mut self, offset: i64) -> Option<i64> {
            let held = self.crash_loops.hold(Message::empty("t", 0, offset), &mut self.commits, self.now);
            held.map(|message| message.position.offset)
        }

        fn due(&mut self) -> (Vec<Message>, bool) {
            let (messages, free) = self.crash_loops.due(&self.commits, self.now);
            assert!(!self.crash_loops.stops(&partition()) || self.crash_loops.hold_some());
            (messages, free == [partition()])
        }

        fn offsets(&mut self) -> Vec<i64> {
            self.due().0.iter().map(|message| message.position.offset).collect()
        }

        fn commit(&mut self) -> String {
            let due = self.commits.due(self.now).expect("a commit");
            self.commits.sent(self.now, &due);
            self.commits.answered(self.now, &Ok(()), &due);
            crate::kafka_client::entries(&due)[0].metadata.clone()
        }
    }

    #[test]
    fn the_first_message_waits_until_its_start_is_noted_and_the_others_flow() {
        let mut world = World::after(2);
        assert_eq!((world.hold(100), world.hold(101)), (None, None));
        assert_eq!(world.due().0.len(), 0);
        assert_eq!(world.commit(), r#"{"starts":3}"#);
        let (messages, is_free) = world.due();
        assert_eq!((messages.len(), is_free), (2, false), "it never stopped");
        assert!(messages.iter().all(|message| message.suspicion.is_none()));
        assert_eq!((world.hold(102), world.asked.count()), (Some(102), 0));
    }

    #[test]
    fn a_coordinator_that_is_away_holds_it_up_for_a_moment_only() {
        let mut world = World::after(0);
        world.hold(100);
        world.now += NOTE_MAX - Duration::from_millis(1);
        assert!(world.offsets().is_empty());
        world.now += Duration::from_millis(1);
        assert_eq!(world.offsets(), [100]);
    }

    #[test]
    fn after_too_many_starts_one_message_is_in_flight_at_a_time_each_after_its_trial() {
        let mut world = World::after(3);
        world.hold(100);
        world.commit();
        for offset in [101, 103] {
            assert_eq!(world.hold(offset), None);
        }
        assert!(world.offsets().is_empty());
        world.asked.answer(100, TrialOutcome::Passed);
        let first = world.due().0.pop().expect("it has passed");
        let suspicion = first.suspicion.clone().expect("it is alone");
        assert_eq!(suspicion.verdict, None);
        drop(suspicion.alone);
        assert_eq!((world.offsets(), world.asked.count()), (vec![], 0), "it is in flight");
        drop(first);
        assert!(world.offsets().is_empty());
        let why = Fault::new(PipelineReason::KillsWorker, "it does").at(Stage::Embed);
        world.asked.answer(101, TrialOutcome::Poison(why.clone()));
        let (poison, _) = world.due();
        assert_eq!(poison[0].suspicion.as_ref().and_then(|suspicion| suspicion.verdict.clone()), Some(why));
        drop(poison);
        assert!(world.offsets().is_empty());
        world.asked.answer(103, TrialOutcome::Inconclusive);
        let (last, _) = world.due();
        assert_eq!((last[0].position.offset, world.crash_loops.hold_some()), (103, false));
        // The window ends, whatever is still in flight.
        assert_eq!(world.hold(104), None);
        assert_eq!((world.offsets(), world.hold(105), world.asked.count()), (vec![104], Some(105), 0));
    }

    #[test]
    fn a_partition_of_which_much_is_held_brings_nothing_more_until_none_is() {
        let mut world = World::after(0);
        for offset in 100..100 + HELD_MAX as i64 {
            assert!(!world.crash_loops.stops(&partition()), "{offset}");
            assert_eq!(world.hold(offset), None);
        }
        assert!(world.crash_loops.stops(&partition()));
        world.commit();
        let (messages, is_free) = world.due();
        assert_eq!((messages.len(), is_free, world.crash_loops.stops(&partition())), (HELD_MAX, true, false));
        let mut world = World::after(3);
        let large = Message { value: Some(vec![0; HELD_BYTES_MAX].into()), ..Message::empty("t", 0, 100) };
        assert!(world.crash_loops.hold(large, &mut world.commits, world.now).is_none());
        assert!(world.crash_loops.stops(&partition()));
    }

    #[test]
    fn every_other_start_leaves_the_trials_out() {
        let mut world = World::after(4);
        world.hold(100);
        world.hold(101);
        world.commit();
        let (messages, _) = world.due();
        assert_eq!(messages.iter().map(|message| message.position.offset).collect::<Vec<_>>(), [100]);
        assert!(messages[0].suspicion.as_ref().is_some_and(|suspicion| suspicion.verdict.is_none()));
        drop(messages);
        assert_eq!((world.offsets(), world.asked.count()), (vec![101], 0));
    }

    #[test]
    fn nothing_is_held_or_counted_where_it_is_off_and_what_goes_is_forgotten() {
        for care in [
            CrashLoopSettings { crashes_max: 3, window: 4, trials: None },
            CrashLoopSettings { window: 4, ..World::after(0).crash_loops.care },
        ] {
            let is_off = care.trials.is_none();
            let mut crash_loops =
                CrashLoops::new(CrashLoopSettings { crashes_max: if is_off { 3 } else { 0 }, ..care });
            let mut commits = Commits::default();
            commits.track(partition(), Some(100), None);
            crash_loops.begin(&partition(), 9);
            assert!(crash_loops.hold(Message::empty("t", 0, 100), &mut commits, Instant::now()).is_some());
            assert!(commits.all_settled());
        }
        let mut world = World::after(3);
        world.hold(100);
        world.commit();
        world.offsets();
        world.crash_loops.forget(&[partition()]);
        assert_eq!((world.offsets(), world.crash_loops.hold_some()), (vec![], false));
        let (_, reply) = world.asked.0.lock().unwrap().pop().expect("its trial had begun");
        assert!(reply.is_closed(), "and is given up");
    }
}
