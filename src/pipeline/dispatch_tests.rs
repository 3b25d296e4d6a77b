use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::*;
use crate::domain::{
    AssetId, Class, DecodeReason, Fault, MediaReason, Op, Payload, Position, Stage, Tenant, TopicPartition,
};
use crate::pipeline::FloodOf;
use crate::source::SourceError;
use crate::telemetry::Component;

#[path = "neighbours_tests.rs"]
mod neighbours;
#[path = "requests_tests.rs"]
mod requests;

/// A source that the test feeds by hand and whose commits it reads.
struct FakeSource {
    events: mpsc::UnboundedReceiver<SourceEvent>,
    /// A message that came while only control events were asked for.
    held: Option<SourceEvent>,
    commits: Arc<Mutex<HashMap<TopicPartition, i64>>>,
    held_back: Arc<Mutex<BTreeSet<TopicPartition>>>,
}

#[async_trait]
impl Source for FakeSource {
    async fn next(&mut self, demand: Demand) -> Result<SourceEvent, SourceError> {
        if demand == Demand::Messages
            && let Some(held) = self.held.take()
        {
            return Ok(held);
        }
        loop {
            if self.held.is_some() {
                std::future::pending::<()>().await;
            }
            match self.events.recv().await {
                Some(SourceEvent::Message(m)) if demand == Demand::ControlOnly => {
                    self.held = Some(SourceEvent::Message(m));
                }
                Some(event) => return Ok(event),
                None => std::future::pending().await,
            }
        }
    }

    async fn commit(&mut self, offsets: Vec<(TopicPartition, i64)>) -> Result<(), SourceError> {
        self.commits.lock().unwrap().extend(offsets);
        Ok(())
    }

    fn hold_back(&mut self, partitions: &BTreeSet<TopicPartition>) {
        *self.held_back.lock().unwrap() = partitions.clone();
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        Ok(())
    }
}

/// Values are instructions: `ok` is indexed, `bad` fails for good, `unreadable` does not decode, `panic` panics,
/// `wait` is indexed once the gate opens, `out` once its host is back. A second word is the host, of which nothing bad is known
/// unless its name begins with `bad`; it takes two fetches at once. The dead letter of the key `held` is safe once the gate opens.
/// What a key has before a slash is its tenant. A value may hold several of them, apart by semicolons, each with a key of its own
/// before `=`; `broken` does not decode, and `patch` supersedes nothing.
#[derive(Default)]
struct FakeHandler {
    gate: Notify,
    started: Mutex<Vec<i64>>,
    buried: Mutex<Vec<i64>>,
    running: Mutex<Vec<i64>>,
    /// Offset and text of what was indexed.
    indexed: Mutex<Vec<(i64, String)>>,
    letters: Mutex<Vec<DeadLetter>>,
    is_back: AtomicBool,
    changed: Notify,
}

impl FakeHandler {
    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            if condition(self) {
                return;
            }
            changed.await;
        }
    }
}

impl Handler for FakeHandler {
    fn decode(&self, message: &Message) -> Result<Requests, Failure> {
        let value = std::str::from_utf8(message.value.as_deref().unwrap_or_default()).unwrap();
        let unreadable = || Fault::new(DecodeReason::MessageInvalid, "unreadable").at(Stage::Decode);
        if value == "unreadable" {
            return Err(unreadable());
        }
        let key = String::from_utf8(message.key.clone().unwrap().to_vec()).unwrap();
        let request = |text: &str| {
            let (key, text) = text.split_once('=').unwrap_or((&*key, text));
            let (tenant, asset) = key.split_once('/').map_or((None, key), |(tenant, asset)| (Some(tenant), asset));
            if text == "broken" {
                return Err(unreadable());
            }
            Ok(IngestRequest {
                asset: AssetId::new(asset).unwrap(),
                tenant: tenant.map(|tenant| Tenant::new(tenant).unwrap()),
                op: if text.starts_with("patch") { Op::Patch } else { Op::Upsert },
                image: None,
                text: Some(text.to_owned()),
                payload: Payload::new(),
                version: None,
                models: None,
            })
        };
        Ok(value.split(';').filter(|text| !text.is_empty()).map(request).collect())
    }

    fn memory_bytes(&self, request: &IngestRequest) -> usize {
        request.memory_bytes()
    }

    fn host(&self, request: &IngestRequest) -> Option<String> {
        Some(request.text.as_deref()?.split_once(' ')?.1.to_owned())
    }

    fn standing(&self, host: &str) -> Standing {
        Standing { fetches_max: 2, is_doubtful: host.starts_with("bad"), paused_until: None }
    }

    async fn process(&self, request: &IngestRequest, message: &Message, _: &mut Tried) -> Result<Outcome, Stop> {
        let offset = message.position.offset;
        self.started.lock().unwrap().push(offset);
        self.changed.notify_waiters();
        match request.text.as_deref().unwrap().split(' ').next().unwrap() {
            "out" if !self.is_back.load(Ordering::Acquire) => {
                let wait = Duration::from_millis(1);
                return Err(Stop::Aside(Aside { wait, retry_after: None, is_out: true }));
            }
            "bad" => {
                let failure = Fault::new(MediaReason::HttpNotFound, "bad").at(Stage::Fetch);
                return Err(GaveUp { failure, attempts: 1 }.into());
            }
            "late" => {
                let failure = Fault::new(MediaReason::FetchTimeout, "late").at(Stage::Fetch);
                return Err(GaveUp { failure, attempts: 5 }.into());
            }
            "panic" => panic!("as asked"),
            "wait" => self.gate.notified().await,
            _ => {}
        }
        crate::pipeline::flight::enter(Stage::Embed);
        if request.text.as_deref().unwrap().starts_with("embed") {
            self.gate.notified().await;
        }
        self.running.lock().unwrap().push(offset);
        self.indexed.lock().unwrap().push((offset, request.text.clone().unwrap()));
        self.changed.notify_waiters();
        Ok(Outcome::Indexed)
    }

    fn broken(&self) -> Option<PipelineError> {
        None
    }

    async fn send_dead_letter(&self, letter: &DeadLetter) -> Sent {
        if letter.message.key.as_deref() == Some(b"held") {
            self.started.lock().unwrap().push(letter.message.position.offset);
            self.changed.notify_waiters();
            self.gate.notified().await;
        }
        self.buried.lock().unwrap().push(letter.message.position.offset);
        self.letters.lock().unwrap().push(letter.clone());
        self.changed.notify_waiters();
        if letter.failure.fault.class == Class::Transient { Sent::RetryScheduled } else { Sent::DeadLetter }
    }
}

struct Rig {
    events: mpsc::UnboundedSender<SourceEvent>,
    commits: Arc<Mutex<HashMap<TopicPartition, i64>>>,
    held_back: Arc<Mutex<BTreeSet<TopicPartition>>>,
    handler: Arc<FakeHandler>,
    health: Health,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    run: tokio::task::JoinHandle<Result<Summary, PipelineError>>,
}

fn partition() -> TopicPartition {
    TopicPartition { topic: "t".into(), partition: 0 }
}

impl Rig {
    fn new(settings: PipelineSettings) -> Self {
        let (events, receiver) = mpsc::unbounded_channel();
        let commits = Arc::new(Mutex::new(HashMap::new()));
        let held_back = Arc::default();
        let source =
            FakeSource { events: receiver, held: None, commits: commits.clone(), held_back: Arc::clone(&held_back) };
        let handler = Arc::new(FakeHandler::default());
        let (shutdown, health, metrics) = (Shutdown::new(), Health::new(), Arc::<Metrics>::default());
        let dispatcher = Dispatcher::new(
            Box::new(source),
            handler.clone(),
            PipelineSettings { commit_interval_ms: 1, backoff_base_ms: 1, backoff_cap_ms: 4, ..settings },
            shutdown.clone(),
            health.clone(),
            metrics.clone(),
            Arc::default(),
        );
        let rig = Self {
            events,
            commits,
            held_back,
            handler,
            health,
            metrics,
            shutdown,
            run: tokio::spawn(dispatcher.run()),
        };
        rig.send(SourceEvent::Assigned { epoch: 1, partitions: vec![partition()] });
        rig
    }

    fn send(&self, event: SourceEvent) {
        self.events.send(event).unwrap();
    }

    fn message(&self, offset: i64, key: &str, value: &str) {
        self.message_in(1, offset, key, value);
    }

    fn message_in(&self, epoch: u64, offset: i64, key: &str, value: &str) {
        self.message_of(0, epoch, offset, key, value);
    }

    fn message_of(&self, partition: i32, epoch: u64, offset: i64, key: &str, value: &str) {
        self.send(SourceEvent::Message(Message {
            position: Position { topic: "t".into(), partition, offset },
            epoch,
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: Vec::new(),
            timestamp_ms: None,
            topic_id: None,
            leader_epoch: None,
            retry: None,
            suspicion: None,
        }));
    }

    fn committed(&self) -> Option<i64> {
        self.commits.lock().unwrap().get(&partition()).copied()
    }

    async fn end(self) -> Result<Summary, PipelineError> {
        self.send(SourceEvent::End);
        self.run.await.unwrap()
    }
}

#[tokio::test]
async fn everything_settles_and_is_committed() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "ok");
    rig.message(1, "b", "bad");
    rig.message(2, "c", "unreadable");
    rig.message(7, "d", "ok");
    let (commits, handler) = (rig.commits.clone(), rig.handler.clone());
    let summary = rig.end().await.unwrap();
    assert_eq!(summary, Summary { settled: 4, dead_lettered: 2, abandoned: 0 });
    assert_eq!(commits.lock().unwrap()[&partition()], 8);
    let mut buried = handler.buried.lock().unwrap().clone();
    buried.sort_unstable();
    assert_eq!(buried, [1, 2]);
}

#[tokio::test]
async fn nothing_is_committed_past_a_message_whose_dead_letter_is_not_safe() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "ok");
    rig.message(1, "held", "unreadable");
    rig.message(2, "b", "ok");
    rig.handler.until(|h| h.started.lock().unwrap().contains(&1) && h.running.lock().unwrap().contains(&2)).await;
    while rig.committed() != Some(1) {
        tokio::task::yield_now().await;
    }
    // Many commits later it is the same.
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(rig.committed(), Some(1));
    }
    rig.handler.gate.notify_one();
    let commits = rig.commits.clone();
    assert_eq!(rig.end().await.unwrap().dead_lettered, 1);
    assert_eq!(commits.lock().unwrap()[&partition()], 3);
}

#[tokio::test]
async fn one_message_of_a_key_at_a_time_and_superseded_ones_count_again_when_the_last_is_broken() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "wait");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 1).await;
    rig.message(1, "a", "ok");
    rig.message(2, "a", "bad");
    rig.message(3, "b", "ok");
    rig.handler.until(|h| h.started.lock().unwrap().contains(&3)).await;
    assert_eq!(*rig.handler.started.lock().unwrap(), [0, 3]);
    rig.handler.gate.notify_one();
    let handler = rig.handler.clone();
    assert_eq!(rig.end().await.unwrap().settled, 4);
    assert_eq!(*handler.started.lock().unwrap(), [0, 3, 2, 1], "2 superseded 1, failed, and 1 was written after all");
}

#[tokio::test]
async fn what_is_put_off_is_settled_and_no_dead_letter() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "wait");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 1).await;
    rig.message(1, "a", "ok");
    rig.message(2, "a", "late");
    rig.handler.gate.notify_one();
    let (commits, handler) = (rig.commits.clone(), rig.handler.clone());
    let summary = rig.end().await.unwrap();
    assert_eq!(summary, Summary { settled: 3, dead_lettered: 0, abandoned: 0 });
    assert_eq!(commits.lock().unwrap()[&partition()], 3);
    assert_eq!(*handler.started.lock().unwrap(), [0, 2, 1], "what 2 had superseded was written after all");
}

#[tokio::test]
async fn no_more_is_taken_than_there_is_room_for() {
    let rig = Rig::new(PipelineSettings { in_flight_max: 2, ..Default::default() });
    for offset in 0..4 {
        rig.message(offset, ["a", "b", "c", "d"][offset as usize], "wait");
    }
    rig.handler.until(|h| h.started.lock().unwrap().len() == 2).await;
    rig.handler.gate.notify_one();
    rig.handler.until(|h| h.started.lock().unwrap().len() == 3).await;
    for _ in 0..3 {
        rig.handler.gate.notify_one();
        tokio::task::yield_now().await;
    }
    let handler = rig.handler.clone();
    let run = tokio::spawn(rig.end());
    while !run.is_finished() {
        handler.gate.notify_waiters();
        tokio::task::yield_now().await;
    }
    assert_eq!(run.await.unwrap().unwrap().settled, 4);
}

#[tokio::test]
async fn a_revocation_is_completed_when_its_work_is_drained() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "wait");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 1).await;
    let (revocation, mut completed) = Revocation::new(vec![partition()]);
    rig.send(SourceEvent::Revoking(revocation));
    tokio::task::yield_now().await;
    assert!(completed.try_recv().is_err(), "work is still in flight");
    rig.handler.gate.notify_one();
    assert_eq!(completed.await.unwrap(), [(partition(), 1)]);
    rig.end().await.unwrap();
}

#[tokio::test]
async fn work_of_lost_partitions_is_fenced_and_not_committed() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "wait");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 1).await;
    rig.send(SourceEvent::Lost { partitions: vec![partition()] });
    let (commits, handler) = (rig.commits.clone(), rig.handler.clone());
    assert_eq!(rig.end().await.unwrap().settled, 0);
    assert!(commits.lock().unwrap().is_empty());
    assert!(handler.running.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_partition_that_comes_back_before_its_revocation_is_answered_goes_on() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "wait");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 1).await;
    let (revocation, completed) = Revocation::new(vec![partition()]);
    rig.send(SourceEvent::Revoking(revocation));
    rig.send(SourceEvent::Assigned { epoch: 2, partitions: vec![partition()] });
    rig.message_in(2, 0, "b", "ok");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 2).await;
    // The source has given up waiting.
    drop(completed);
    rig.message_in(2, 1, "c", "ok");
    while rig.committed() != Some(2) {
        tokio::task::yield_now().await;
    }
    assert_eq!(*rig.handler.running.lock().unwrap(), [0, 1], "the earlier assignment's work is fenced");
    assert_eq!(rig.end().await.unwrap().settled, 2);
}

#[tokio::test]
async fn a_message_of_an_unannounced_assignment_is_not_dropped_in_silence() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message_in(7, 0, "a", "ok");
    match rig.run.await.unwrap() {
        Err(PipelineError::Broken(why)) => assert!(why.contains("t[0]@0 came in epoch 7"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_message_that_does_not_move_makes_the_worker_unready_until_it_does() {
    let rig = Rig::new(PipelineSettings { stalled_after_ms: 1, ..Default::default() });
    rig.message(0, "a", "wait");
    while !rig
        .health
        .reasons()
        .iter()
        .any(|(component, why)| *component == Component::InFlight && why.contains("t[0]@0"))
    {
        tokio::task::yield_now().await;
    }
    rig.handler.gate.notify_one();
    while !rig.health.reasons().is_empty() {
        tokio::task::yield_now().await;
    }
    rig.end().await.unwrap();
}

#[tokio::test]
async fn a_stop_drains_and_takes_no_more() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "wait");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 1).await;
    rig.shutdown.request();
    rig.message(1, "b", "ok");
    rig.handler.gate.notify_one();
    let (commits, run) = (rig.commits.clone(), rig.run);
    assert_eq!(run.await.unwrap().unwrap().settled, 1);
    assert_eq!(commits.lock().unwrap()[&partition()], 1);
}

#[tokio::test]
async fn the_drain_deadline_leaves_work_for_redelivery() {
    let rig = Rig::new(PipelineSettings { drain_deadline_ms: 1, ..Default::default() });
    rig.message(0, "a", "ok");
    rig.message(1, "b", "wait");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 2).await;
    rig.shutdown.request();
    let (commits, run) = (rig.commits.clone(), rig.run);
    assert_eq!(run.await.unwrap().unwrap().abandoned, 1);
    assert_eq!(commits.lock().unwrap()[&partition()], 1);
}

#[tokio::test]
async fn a_second_request_forces() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "wait");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 1).await;
    rig.shutdown.request();
    rig.shutdown.request();
    assert!(matches!(rig.run.await.unwrap(), Err(PipelineError::Forced)));
}

#[tokio::test]
async fn a_panic_stops_the_pipeline() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "panic");
    assert!(matches!(rig.run.await.unwrap(), Err(PipelineError::Broken(_))));
}

#[tokio::test]
async fn a_flood_of_broken_messages_stops_the_pipeline_after_the_letters_are_safe() {
    let rig = Rig::new(PipelineSettings { dead_letters_in_row_max: 3, ..Default::default() });
    for offset in 0..3 {
        rig.message(offset, "a", "unreadable");
    }
    rig.handler.until(|h| h.buried.lock().unwrap().len() == 3).await;
    let (commits, run) = (rig.commits.clone(), rig.run);
    assert!(matches!(run.await.unwrap(), Err(PipelineError::Flood(Flood { of: FloodOf::InRow(3), .. }))));
    assert_eq!(commits.lock().unwrap()[&partition()], 3);
}

#[tokio::test]
async fn a_large_share_of_broken_messages_stops_the_pipeline_too() {
    let settings = PipelineSettings { dead_letters_percent_max: 60, in_flight_max: 1, ..Default::default() };
    let rig = Rig::new(settings);
    for offset in 0..1_200 {
        rig.message(offset, "a", if offset % 3 == 0 { "ok" } else { "bad" });
    }
    let (commits, run) = (rig.commits.clone(), rig.run);
    let ended = run.await.unwrap();
    assert!(
        matches!(ended, Err(PipelineError::Flood(Flood { of: FloodOf::Share { dead: 666, of: 1_000 }, .. }))),
        "{ended:?}"
    );
    assert_eq!(commits.lock().unwrap()[&partition()], 1_000);
}

#[tokio::test]
async fn the_watermark_is_committed_while_running() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "ok");
    while rig.committed() != Some(1) {
        tokio::task::yield_now().await;
    }
    rig.end().await.unwrap();
}
