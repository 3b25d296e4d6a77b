//! The process that dies: the worker of the library, with a source and dead letters that abort at a named point.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use clipstream::config::{ModelEntry, Settings, StoreKind};
use clipstream::dead_letter::{DeadLetter, DeadLetterError, DeadLetters, KafkaDeadLetters, Sent};
use clipstream::domain::TopicPartition;
use clipstream::pipeline::Progress;
use clipstream::shutdown::Shutdown;
use clipstream::source::{Demand, KafkaSource, Revocation, Source, SourceError, SourceEvent};
use clipstream::telemetry::{Health, Metrics};
use clipstream::worker::Worker;
use serde::{Deserialize, Serialize};

/// Where a worker finds its [`Orders`].
pub const ORDERS: &str = "CLIPSTREAM_TEST_CRASH_ORDERS";

/// What one worker is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    pub brokers: Vec<String>,
    pub topic: String,
    pub store_url: String,
    /// The point to die at, and at which time that it is passed, from 1.
    pub die_at: Option<(String, u64)>,
    /// One line `partition offset` per message that was taken.
    pub journal: PathBuf,
}

/// What this process is to do as a worker; `None` in the process that runs the tests.
pub fn orders() -> Option<Orders> {
    let orders = std::env::var(ORDERS).ok()?;
    Some(serde_json::from_str(&orders).expect("orders are JSON"))
}

pub async fn work(orders: Orders) {
    let mut settings = Settings::default();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model");
    settings.clip.models =
        vec![ModelEntry { id: "demo-emoji/v1".parse().expect("an id"), directory: Some(model.into()) }];
    settings.store.kind = StoreKind::Qdrant;
    settings.store.url = orders.store_url.clone();
    settings.media.allow_hosts = vec!["127.0.0.1".to_owned()];
    settings.pipeline.commit_interval_ms = 20;
    settings.kafka.brokers = orders.brokers.clone();
    settings.kafka.topics = vec![orders.topic.clone()];
    settings.kafka.group_id = orders.topic.clone();
    // The sooner the coordinator gives up on the dead one, the sooner the next one has its partitions.
    settings.kafka.session_timeout_ms = 3_000;
    settings.pipeline.drain_deadline_ms = 2_000;
    settings.kafka.properties.insert("heartbeat.interval.ms".into(), "300".into());

    let shutdown = Shutdown::new();
    shutdown.listen(None, |_| {}).expect("signals");
    let (health, metrics) = (Health::new(), Arc::new(Metrics::default()));
    let worker = Worker::assemble(&settings, health.clone(), metrics.clone()).await.expect("everything is there");
    let source =
        KafkaSource::connect(&settings.kafka, Vec::new(), &settings.pipeline, health, metrics).await.expect("a source");
    let letters = KafkaDeadLetters::new(&settings.kafka, &settings.dead_letter).expect("a producer");
    let journal = File::options().create(true).append(true).open(&orders.journal).expect("a journal");
    let fate = Arc::new(Fate { die_at: orders.die_at, passed: AtomicU64::new(0) });
    let source = MortalSource { inner: Box::new(source), fate: fate.clone(), journal };
    let letters = MortalLetters { inner: letters, fate };
    let ended = worker.ingest(Box::new(source), Arc::new(letters), shutdown, Arc::new(Progress::default())).await;
    ended.expect("the worker stops in order");
}

struct Fate {
    die_at: Option<(String, u64)>,
    passed: AtomicU64,
}

impl Fate {
    /// No destructor runs, nothing is flushed: as close to a crash as a process can do to itself.
    fn pass(&self, point: &str) {
        if let Some((_, at)) = self.die_at.as_ref().filter(|(name, _)| name == point)
            && self.passed.fetch_add(1, Ordering::AcqRel) + 1 == *at
        {
            std::process::abort();
        }
    }
}

struct MortalSource {
    inner: Box<dyn Source>,
    fate: Arc<Fate>,
    journal: File,
}

#[async_trait]
impl Source for MortalSource {
    async fn next(&mut self, demand: Demand) -> Result<SourceEvent, SourceError> {
        let event = self.inner.next(demand).await?;
        Ok(match event {
            SourceEvent::Message(message) => {
                // One write call to a file that is appended to: whole, and there for the parent, whatever comes next.
                let line = format!("{} {}\n", message.position.partition, message.position.offset);
                self.journal.write_all(line.as_bytes()).expect("the journal is written");
                self.fate.pass("taken");
                SourceEvent::Message(message)
            }
            SourceEvent::Revoking(revocation) => {
                self.fate.pass("revoking");
                SourceEvent::Revoking(watched(revocation, self.fate.clone()))
            }
            other => other,
        })
    }

    async fn commit(&mut self, offsets: Vec<(TopicPartition, i64)>) -> Result<(), SourceError> {
        self.fate.pass("commit");
        let result = self.inner.commit(offsets).await;
        self.fate.pass("committing");
        result
    }

    fn hold_back(&mut self, partitions: &BTreeSet<TopicPartition>) {
        self.inner.hold_back(partitions);
    }

    fn lag(&self) -> Vec<(TopicPartition, i64)> {
        self.inner.lag()
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        self.fate.pass("close");
        self.inner.close().await
    }
}

/// Stands between the pipeline, which completes what is returned, and the source, which waits for `outer`.
fn watched(outer: Revocation, fate: Arc<Fate>) -> Revocation {
    let (inner, completed) = Revocation::new(outer.partitions.clone());
    tokio::spawn(async move {
        // Dropped by a pipeline that has stopped; then `outer` is dropped as well.
        if let Ok(offsets) = completed.await {
            fate.pass("drained");
            outer.complete(offsets);
            fate.pass("released");
        }
    });
    inner
}

struct MortalLetters {
    inner: KafkaDeadLetters,
    fate: Arc<Fate>,
}

#[async_trait]
impl DeadLetters for MortalLetters {
    async fn send(&self, letter: &DeadLetter) -> Result<Sent, DeadLetterError> {
        self.fate.pass("letter");
        let result = self.inner.send(letter).await;
        self.fate.pass("dead_lettered");
        result
    }
}
