//! A dispatcher between a source that the test feeds and a handler that follows the instructions in the messages.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};

use super::*;
use crate::dead_letter::DeadLetter;
use crate::domain::{
    AssetId, DecodeReason, Fault, IngestRequest, MediaReason, Message, Op, Payload, Position, Stage, Tenant,
    TopicPartition,
};
use crate::format::registry::{Registry, with_schema};
use crate::format::{LookUp, Read};
use crate::media::Standing;
use crate::pipeline::attempts::Attempts;
use crate::source::SourceError;

/// The text of a message that has none.
const LIGHT: &str = "light";

/// A source that the test feeds. Its commits can be read.
struct FakeSource {
    pub events: mpsc::UnboundedReceiver<SourceEvent>,
    /// A message that came while only control events were wanted.
    pub held: Option<SourceEvent>,
    pub commits: Arc<Mutex<HashMap<TopicPartition, i64>>>,
    pub held_back: Arc<Mutex<BTreeSet<TopicPartition>>>,
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

/// Values are instructions: `ok` is indexed, `bad` fails for good, `unreadable` does not decode, `panic` panics, `wait`
/// is indexed once the gate opens, `out` once its host is back. A second word is the host: it serves two fetches at
/// once and is doubtful if its name begins with `bad`. The dead letter of the key `held` is safe once the gate opens. A
/// key's tenant stands before a slash. A value may hold several instructions, separated by semicolons, each with its
/// own key before `=`; `broken` does not decode, and `patch` supersedes nothing. A value behind a schema number cannot
/// be decoded before that schema has been looked up in the registry.
pub struct FakeHandler {
    attempts: Attempts,
    pub registry: Arc<Registry>,
    pub gate: Notify,
    pub started: Mutex<Vec<i64>>,
    pub dead_lettered: Mutex<Vec<i64>>,
    pub running: Mutex<Vec<i64>>,
    /// Offset and text of each indexed request.
    pub indexed: Mutex<Vec<(i64, String)>>,
    pub letters: Mutex<Vec<DeadLetter>>,
    pub is_back: AtomicBool,
    pub changed: Notify,
    /// Ticks of the dispatcher: with each it has come round, so that what may start has started.
    ticks: watch::Sender<u64>,
}

impl FakeHandler {
    fn new(attempts: Attempts) -> Self {
        Self {
            attempts,
            registry: Arc::default(),
            gate: Notify::new(),
            started: Mutex::default(),
            dead_lettered: Mutex::default(),
            running: Mutex::default(),
            indexed: Mutex::default(),
            letters: Mutex::default(),
            is_back: AtomicBool::default(),
            changed: Notify::new(),
            ticks: watch::Sender::new(0),
        }
    }

    pub async fn until(&self, condition: impl Fn(&Self) -> bool) {
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
    fn decode(&self, message: &Message) -> Result<Read, Failure> {
        let value = match self.registry.body(message.value.as_deref().unwrap_or_default()) {
            Ok(value) => std::str::from_utf8(value).unwrap(),
            Err(needed) => return Ok(Read::Needs(needed)),
        };
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
                // With nothing to embed it waits.
                text: Some(text.to_owned()).filter(|text| text != LIGHT),
                payload: Payload::new(),
                version: None,
                models: None,
            })
        };
        Ok(Read::Requests(value.split(';').filter(|text| !text.is_empty()).map(request).collect()))
    }

    async fn look_up(&self, needed: &dyn LookUp) -> Result<(), GaveUp> {
        self.attempts.run(Stage::Decode, || needed.run()).await
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

    async fn process(
        &self,
        request: &IngestRequest,
        _: usize,
        message: &Message,
        _: &mut Tried,
    ) -> Result<Outcome, Stop> {
        let offset = message.position.offset;
        self.started.lock().unwrap().push(offset);
        self.changed.notify_waiters();
        match request.text.as_deref().unwrap_or("wait").split(' ').next().unwrap() {
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
        if request.text.as_deref().is_some_and(|text| text.starts_with("embed")) {
            self.gate.notified().await;
        }
        self.running.lock().unwrap().push(offset);
        self.indexed.lock().unwrap().push((offset, request.text.clone().unwrap_or_default()));
        self.changed.notify_waiters();
        Ok(Outcome::Indexed)
    }

    /// Asked with every tick.
    fn broken(&self) -> Option<PipelineError> {
        self.ticks.send_modify(|ticks| *ticks += 1);
        None
    }

    async fn send_dead_letter(&self, letter: &DeadLetter) -> Sent {
        if letter.message.key.as_deref() == Some(b"held") {
            self.started.lock().unwrap().push(letter.message.position.offset);
            self.changed.notify_waiters();
            self.gate.notified().await;
        }
        self.dead_lettered.lock().unwrap().push(letter.message.position.offset);
        self.letters.lock().unwrap().push(letter.clone());
        self.changed.notify_waiters();
        if letter.failure.fault.class == Class::Transient { Sent::RetryScheduled } else { Sent::DeadLetter }
    }
}

pub struct Rig {
    pub events: mpsc::UnboundedSender<SourceEvent>,
    pub commits: Arc<Mutex<HashMap<TopicPartition, i64>>>,
    pub held_back: Arc<Mutex<BTreeSet<TopicPartition>>>,
    pub handler: Arc<FakeHandler>,
    pub health: Health,
    pub metrics: Arc<Metrics>,
    pub shutdown: Shutdown,
    pub run: tokio::task::JoinHandle<Result<Summary, PipelineError>>,
}

pub fn partition() -> TopicPartition {
    TopicPartition { topic: "t".into(), partition: 0 }
}

impl Rig {
    pub fn new(settings: PipelineSettings) -> Self {
        let (events, receiver) = mpsc::unbounded_channel();
        let commits = Arc::new(Mutex::new(HashMap::new()));
        let held_back = Arc::default();
        let source =
            FakeSource { events: receiver, held: None, commits: commits.clone(), held_back: Arc::clone(&held_back) };
        let settings = PipelineSettings { commit_interval_ms: 1, backoff_base_ms: 1, backoff_cap_ms: 4, ..settings };
        let (shutdown, health, metrics) = (Shutdown::new(), Health::new(), Arc::<Metrics>::default());
        let attempts = Attempts::new(&settings, health.clone(), metrics.clone());
        let handler = Arc::new(FakeHandler::new(attempts));
        let dispatcher = Dispatcher::new(
            Box::new(source),
            handler.clone(),
            settings,
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

    pub fn send(&self, event: SourceEvent) {
        self.events.send(event).unwrap();
    }

    pub fn message(&self, offset: i64, key: &str, value: &str) {
        self.message_in(1, offset, key, value);
    }

    pub fn message_in(&self, epoch: u64, offset: i64, key: &str, value: &str) {
        self.message_of(0, epoch, offset, key, value);
    }

    /// A message that cannot be decoded without the schema of this number.
    pub fn message_with_schema(&self, id: u8, offset: i64, key: &str, value: &str) {
        self.bytes_of(0, 1, offset, key, &with_schema(id, value));
    }

    pub fn message_of(&self, partition: i32, epoch: u64, offset: i64, key: &str, value: &str) {
        self.bytes_of(partition, epoch, offset, key, value.as_bytes());
    }

    fn bytes_of(&self, partition: i32, epoch: u64, offset: i64, key: &str, value: &[u8]) {
        self.send(SourceEvent::Message(Message {
            position: Position { topic: "t".into(), partition, offset },
            epoch,
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: Some(Bytes::copy_from_slice(value)),
            headers: Vec::new(),
            timestamp_ms: None,
            topic_id: None,
            leader_epoch: None,
            retry: None,
            suspicion: None,
        }));
    }

    /// The dispatcher has come round so often that whatever does not wait for something else has happened: what has not happened by
    /// then does not happen.
    pub async fn comes_to_rest(&self) {
        const TICKS: u64 = 20;
        let mut ticks = self.handler.ticks.subscribe();
        let last = *ticks.borrow() + TICKS;
        let rest = ticks.wait_for(|ticks| *ticks >= last);
        tokio::time::timeout(Duration::from_secs(60), rest).await.expect("the dispatcher goes on").unwrap();
    }

    pub fn committed(&self) -> Option<i64> {
        self.commits.lock().unwrap().get(&partition()).copied()
    }

    pub async fn end(self) -> Result<Summary, PipelineError> {
        self.send(SourceEvent::End);
        self.run.await.unwrap()
    }
}
