//! Offsets that go back, with the real binary: what is in its hands when it happens, and what a killed one leaves behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use clipstream::source::Producer;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kafka::Kafka;
use crate::worker_process::{Process, clipstream, set};

/// Serves a picture once it may; until then it lets everybody wait.
#[derive(Default)]
struct Gate {
    open: AtomicBool,
    asked: AtomicUsize,
}

async fn picture(State(gate): State<Arc<Gate>>) -> Response {
    gate.asked.fetch_add(1, Ordering::SeqCst);
    while !gate.open.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures/exact.png");
    Bytes::from(std::fs::read(picture).unwrap()).into_response()
}

struct World {
    kafka: Kafka,
    /// And the group's.
    topic: String,
    folder: TempDir,
    gate: Arc<Gate>,
    origin: String,
}

impl World {
    /// `None` where there is no broker.
    async fn new(test: &str) -> Option<Self> {
        let kafka = Kafka::real(test)?;
        let topic = format!("{test}-{}", uuid::Uuid::from_u128(rand::random()).simple());
        kafka.create_topic(&topic, 1).await;
        kafka.create_topic(&format!("{topic}.dlq"), 1).await;
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let gate = Arc::new(Gate::default());
        let router = Router::new().fallback(picture).with_state(gate.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Some(Self { kafka, topic, folder: tempfile::tempdir().unwrap(), gate, origin })
    }

    fn worker(&self, settings: &[(&str, &str)]) -> Process {
        let mut command = clipstream("run");
        set(
            &mut command,
            &[
                ("clip.models", "demo-emoji/v1=demo/model"),
                ("store.path", self.folder.path().join("store").to_str().unwrap()),
                ("kafka.brokers", &self.kafka.brokers.join(",")),
                ("kafka.topics", &self.topic),
                ("kafka.group_id", &self.topic),
                ("kafka.session_timeout_ms", "6000"),
                ("media.allow_hosts", "127.0.0.1"),
                ("media.fetch_timeout_ms", "120000"),
                ("pipeline.drain_deadline_ms", "3000"),
                ("pipeline.commit_interval_ms", "100"),
                ("telemetry.listen", ""),
                ("telemetry.log_format", "json"),
            ],
        );
        set(&mut command, settings);
        Process::spawn(&mut command)
    }

    async fn produce(&self, messages: &[Value]) {
        let producer = Producer::new(&self.kafka.settings()).unwrap();
        for message in messages {
            let (key, value) = (message["id"].as_str().unwrap(), message.to_string());
            drop(producer.send(&self.topic, Some(key.as_bytes()), Some(value.as_bytes()), &[]).await.unwrap());
        }
        producer.flush(Duration::from_secs(60)).await.unwrap();
    }

    fn held(&self, id: &str) -> Value {
        json!({ "id": id, "image": format!("{}/{id}.png", self.origin) })
    }

    fn committed(&self) -> BTreeMap<i32, i64> {
        self.kafka.committed(&self.topic, &self.topic)
    }

    async fn make_anew(&self) {
        self.kafka.delete_topics(&[&self.topic]).await;
        while !self.kafka.try_create_topic(&self.topic, 1).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn until_committed(&self, worker: &mut Process, offset: i64) {
        let all = BTreeMap::from([(0, offset)]);
        worker.wait_for("the commit", async |_| (self.committed() == all).then_some(())).await;
    }

    async fn end(&self) {
        self.kafka.delete_topics(&[&self.topic, &format!("{}.dlq", self.topic)]).await;
    }
}

fn texts(name: &str, count: usize) -> Vec<Value> {
    (0..count).map(|n| json!({ "id": format!("{name}-{n}"), "text": format!("{name} {n}") })).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_anew_while_a_message_is_held_goes_on_and_is_committed() {
    let Some(world) = World::new("worker-anew").await else { return };
    world.produce(&texts("old", 5)).await;
    world.produce(&[world.held("held")]).await;
    let mut worker = world.worker(&[]);
    let asked = async |_: &Process| (world.gate.asked.load(Ordering::SeqCst) > 0).then_some(());
    worker.wait_for("the picture to be asked for", asked).await;
    world.until_committed(&mut worker, 5).await;
    world.make_anew().await;
    world.produce(&texts("new", 24)).await;
    world.until_committed(&mut worker, 24).await;
    let warned = worker.lines().iter().any(|line| line.contains("recreated") && line.contains(&world.topic));
    assert!(warned, "{:?}", worker.lines());
    worker.terminate();
    let (code, lines) = worker.end().await;
    assert_eq!(code, Some(0), "{lines:?}");
    assert_eq!(world.committed(), BTreeMap::from([(0, 24)]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_loses_nothing_of_a_worker_that_is_killed() {
    let Some(world) = World::new("worker-latest").await else { return };
    let latest = [("kafka.auto_offset_reset", "latest")];
    world.produce(&texts("backlog", 3)).await;
    let mut worker = world.worker(&latest);
    let assigned = |process: &Process| (!process.logged("partitions assigned").is_empty()).then_some(());
    worker.wait_for("its partition", async |process| assigned(process)).await;
    world.produce(&[world.held("held")]).await;
    let asked = async |_: &Process| (world.gate.asked.load(Ordering::SeqCst) > 0).then_some(());
    worker.wait_for("the picture to be asked for", asked).await;
    // SIGKILL.
    drop(worker);
    world.gate.open.store(true, Ordering::SeqCst);
    let mut worker = world.worker(&latest);
    world.until_committed(&mut worker, 4).await;
    worker.terminate();
    let (code, lines) = worker.end().await;
    let settled = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let settled: Vec<_> = settled.filter_map(|line| line["settled"].as_u64()).collect();
    assert_eq!((code, settled.last()), (Some(0), Some(&1)), "the held one, and nothing of the backlog: {lines:?}");
    world.end().await;
}
