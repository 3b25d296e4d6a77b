//! Retry topics: a real worker, killed while messages wait in them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use clipstream::config::{StoreKind, StoreSettings};
use clipstream::source::Producer;
use clipstream::store::{self, StoredPoint};
use rdkafka::config::ClientConfig;
use rdkafka::message::{Headers, Message as _, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kafka::Kafka;
use crate::worker_process::{Process, clipstream, set};

/// Of a message, each time that it comes.
const ATTEMPTS: usize = 2;

/// How often each path was asked for.
type Asked = Arc<Mutex<HashMap<String, usize>>>;

/// `/NUMBER/…`: a picture, after so many refusals.
async fn serve(State(asked): State<Asked>, uri: Uri) -> Response {
    let refusals = uri.path().split('/').nth(1).and_then(|n| n.parse().ok()).unwrap();
    let mut asked = asked.lock().unwrap();
    let times = asked.entry(uri.path().to_owned()).or_insert(0);
    *times += 1;
    if *times <= refusals {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures/exact.png");
    Bytes::from(std::fs::read(picture).unwrap()).into_response()
}

struct World {
    kafka: Kafka,
    /// And the group's.
    topic: String,
    folder: TempDir,
}

impl World {
    async fn new() -> Self {
        Self::on(Kafka::start("retries")).await
    }

    /// `None` where there is no broker: the mock cluster has no topic ids.
    async fn with_topic_ids() -> Option<Self> {
        Some(Self::on(Kafka::real("retries")?).await)
    }

    async fn on(kafka: Kafka) -> Self {
        let world = Self {
            kafka,
            topic: format!("retries-{}", uuid::Uuid::from_u128(rand::random()).simple()),
            folder: tempfile::tempdir().unwrap(),
        };
        for topic in world.topics() {
            world.kafka.create_topic(&topic, 1).await;
        }
        world
    }

    fn topics(&self) -> [String; 4] {
        ["", ".retry.1", ".retry.2", ".dlq"].map(|suffix| format!("{}{suffix}", self.topic))
    }

    fn worker(&self, delays_s: &str) -> Process {
        let mut command: Command = clipstream("run");
        set(
            &mut command,
            &[
                ("clip.models", "demo-emoji/v1=demo/model"),
                ("store.path", self.folder.path().join("store").to_str().unwrap()),
                ("store.guard", "strict"),
                ("kafka.brokers", &self.kafka.brokers.join(",")),
                ("kafka.topics", &self.topic),
                ("kafka.topic_ops", &format!("{}=patch", self.topic)),
                ("kafka.group_id", &self.topic),
                ("kafka.session_timeout_ms", "6000"),
                ("dead_letter.retry_delays_s", delays_s),
                ("media.allow_hosts", "127.0.0.1"),
                ("pipeline.attempts_max", &ATTEMPTS.to_string()),
                ("pipeline.backoff_base_ms", "1"),
                ("pipeline.backoff_cap_ms", "10"),
                ("pipeline.drain_deadline_ms", "5000"),
                ("telemetry.listen", ""),
            ],
        );
        Process::spawn(&mut command)
    }

    /// To partition 0 of the source topic, with this time.
    async fn send(&self, message: &Value, timestamp_ms: i64) {
        let producer: FutureProducer =
            ClientConfig::new().set("bootstrap.servers", self.kafka.brokers.join(",")).create().unwrap();
        let value = message.to_string();
        let record = FutureRecord::to(&self.topic).key(message["id"].as_str().unwrap()).payload(&value);
        producer.send(record.timestamp(timestamp_ms), Duration::from_secs(60)).await.unwrap();
    }

    /// Whether everything in these topics is settled.
    fn is_done(&self, topics: &[String]) -> bool {
        topics.iter().all(|topic| self.kafka.committed(&self.topic, topic) == self.kafka.ends(topic))
    }

    async fn points(&self) -> BTreeMap<String, StoredPoint> {
        let path = self.folder.path().join("store");
        let settings = StoreSettings { kind: StoreKind::Embedded, path, ..StoreSettings::default() };
        let store = store::open(&settings).await.unwrap();
        let points = store.scroll("catalog__demo-emoji__v1", None, 100).await.unwrap();
        store.close().await.unwrap();
        let asset = |point: &StoredPoint| point.payload["clipstream"]["asset_id"].as_str().unwrap().to_owned();
        points.into_iter().map(|point| (asset(&point), point)).collect()
    }
}

fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let header = message.headers().unwrap().iter().find(|header| header.key == name)?;
    Some(String::from_utf8(header.value?.to_vec()).unwrap())
}

/// Pictures that are refused a few times. Gives where they are.
async fn serve_pictures() -> String {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(serve).with_state(Asked::default());
    tokio::spawn(async move { axum::serve(listener, router).await });
    origin
}

/// Of letters: the offset where the message was, and the reason; in no order.
fn told(letters: &[OwnedMessage]) -> BTreeSet<(String, String)> {
    let told = |letter| {
        let of = |name| header(letter, &format!("__connect.errors.{name}")).unwrap();
        (of("offset"), of("exception.class.name"))
    };
    letters.iter().map(told).collect()
}

/// Two producers whose clocks are a second apart are enough, and so are event times.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_is_as_old_as_its_offset_whatever_the_clocks_say() {
    let Some(world) = World::with_topic_ids().await else { return };
    let now = chrono::Utc::now().timestamp_millis();
    let day = 86_400_000;
    let clocks = [(now, now - 1000), (now, now - 10 * day), (now + 1_800_000, now), (now, now / 1000), (now, now)];
    let mut expected = BTreeSet::new();
    for (n, (first, second)) in clocks.into_iter().enumerate() {
        // A host of its own for each: one that refuses eight pictures in a row is down for everyone, and they are held.
        let origin = serve_pictures().await;
        for later in ["replaced", "patched"] {
            let id = format!("{later}-{n}");
            let image = format!("{origin}/{ATTEMPTS}/{id}.png");
            world.send(&json!({ "id": id, "op": "upsert", "image": image, "payload": { "from": "old" } }), first).await;
            let op = if later == "replaced" { "upsert" } else { "patch" };
            world.send(&json!({ "id": id, "op": op, "text": "newer", "payload": { "from": "new" } }), second).await;
            // What the patch leaves of it cannot be put beneath it any more, and is not lost.
            if later == "patched" {
                expected.insert(((4 * n + 2).to_string(), "overtaken".to_owned()));
            }
        }
    }
    let [source, first, _, dead] = world.topics();
    let mut worker = world.worker("1,3600");
    let all = [source, first];
    let retried = i64::try_from(2 * clocks.len()).unwrap();
    let done = async |_: &Process| {
        (world.kafka.ends(&all[1]) == BTreeMap::from([(0, retried)]) && world.is_done(&all)).then_some(())
    };
    worker.wait_for("the messages of the retry topics to come back", done).await;
    worker.terminate();
    assert_eq!(worker.end().await.0, Some(0));
    for (asset, point) in world.points().await {
        assert_eq!(point.payload["from"], "new", "{asset} was overwritten by what came before it");
        assert!(point.text.is_some() && point.image.is_none(), "{asset}");
        assert!(point.payload["clipstream"]["source"]["topic_id"].is_string(), "{asset}");
    }
    assert_eq!(told(&world.kafka.read(&dead)), expected);
    world.kafka.delete_topics(&world.topics().each_ref().map(String::as_str)).await;
}

/// A message waits in a retry topic while its source topic is deleted and made anew: nothing of the new one is stale for it,
/// however its offset and time compare, and it overwrites nothing there.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_topic_that_was_made_anew_meanwhile_is_old() {
    let Some(world) = World::with_topic_ids().await else { return };
    let origin = serve_pictures().await;
    let now = chrono::Utc::now().timestamp_millis();
    let [source, first, _, dead] = world.topics();
    let assets = ["untouched", "replaced", "patched"];
    for id in assets {
        let image = format!("{origin}/{ATTEMPTS}/{id}.png");
        let message = json!({ "id": id, "op": "upsert", "image": image, "payload": { "from": "old" } });
        world.send(&message, now + 1000).await;
        world.send(&json!({ "id": format!("{id}-other"), "op": "upsert", "text": "old" }), now).await;
    }
    let mut worker = world.worker("3600,3600");
    let all_settled = async |_: &Process| world.is_done(std::slice::from_ref(&source)).then_some(());
    worker.wait_for("everything to be indexed or sent to a retry topic", all_settled).await;
    drop(worker);
    world.kafka.delete_topics(&[&source]).await;
    world.kafka.create_topic(&source, 1).await;
    // Of the new topic: lower offsets and earlier times than what the points have, and than what waits.
    world
        .send(&json!({ "id": "replaced", "op": "upsert", "text": "new", "payload": { "from": "new" } }), now - 1000)
        .await;
    world
        .send(&json!({ "id": "patched", "op": "patch", "text": "new", "payload": { "from": "new" } }), now - 1000)
        .await;
    world.send(&json!({ "id": "patched-other", "op": "upsert", "text": "new", "payload": { "from": "new" } }), 1).await;
    // Two workers, so that the new topic's messages come first: partitions have no order among each other.
    let mut worker = world.worker("3600,3600");
    let (all, waiting) = ([source.clone()], [source.clone(), first]);
    worker.wait_for("the new topic to be indexed", async |_| world.is_done(&all).then_some(())).await;
    worker.terminate();
    assert_eq!(worker.end().await.0, Some(0));
    let mut worker = world.worker("1,3600");
    worker.wait_for("what waited to come back", async |_| world.is_done(&waiting).then_some(())).await;
    worker.terminate();
    assert_eq!(worker.end().await.0, Some(0));
    let points = world.points().await;
    for (asset, from) in [("untouched", "old"), ("replaced", "new"), ("patched", "new"), ("patched-other", "new")] {
        assert_eq!(points[asset].payload["from"], from, "{asset}");
    }
    assert!(points["untouched"].image.is_some());
    let overtaken = BTreeSet::from([("4".to_owned(), "overtaken".to_owned())]);
    assert_eq!(told(&world.kafka.read(&dead)), overtaken);
    world.kafka.delete_topics(&world.topics().each_ref().map(String::as_str)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_transiently_is_tried_again_later_and_overwrites_nothing_newer() {
    let (origin, world) = (serve_pictures().await, World::new().await);
    let picture = |id: &str, op: &str, refusals: usize| {
        let image = format!("{origin}/{refusals}/{id}.png");
        json!({ "id": id, "op": op, "image": image, "payload": { "from": "picture" } })
    };
    let messages: [Value; 9] = [
        picture("fine", "upsert", 0),
        picture("late", "upsert", ATTEMPTS),
        picture("later", "upsert", 2 * ATTEMPTS + 1),
        picture("never", "upsert", 1_000),
        picture("replaced", "upsert", ATTEMPTS),
        json!({ "id": "replaced", "op": "upsert", "text": "the whole asset anew" }),
        picture("patched", "upsert", ATTEMPTS),
        json!({ "id": "patched", "payload": { "from": "patch" } }),
        // Its topic's op, also when it comes from a retry topic.
        json!({ "id": "by_topic", "image": format!("{origin}/{ATTEMPTS}/by_topic.png") }),
    ];
    let producer = Producer::new(&world.kafka.settings()).unwrap();
    for message in &messages {
        let (key, value) = (message["id"].as_str().unwrap(), message.to_string());
        drop(producer.send(&world.topic, Some(key.as_bytes()), Some(value.as_bytes()), &[]).await.unwrap());
    }
    producer.flush(Duration::from_secs(60)).await.unwrap();
    let [source, first, second, dead] = world.topics();

    let mut worker = world.worker("3600,3600");
    let all_settled = async |_: &Process| world.is_done(std::slice::from_ref(&source)).then_some(());
    worker.wait_for("everything to be indexed or sent to a retry topic", all_settled).await;
    // Killed, with what waits in its hands.
    drop(worker);
    assert_eq!(world.kafka.ends(&first), BTreeMap::from([(0, 6)]));
    let points = world.points().await;
    assert_eq!(points.keys().collect::<Vec<_>>(), ["fine", "patched", "replaced"]);

    let mut worker = world.worker("1,1");
    let all = [source, first, second];
    worker.wait_for("the retry topics to be empty", async |_| world.is_done(&all).then_some(())).await;
    worker.terminate();
    let (code, lines) = worker.end().await;
    assert_eq!(code, Some(0), "{lines:?}");

    let points = world.points().await;
    let expected = ["by_topic", "fine", "late", "later", "patched", "replaced"];
    assert_eq!(points.keys().collect::<Vec<_>>(), expected);
    for (asset, offset) in [("late", 1), ("later", 2)] {
        let point = &points[asset];
        let record = &point.payload["clipstream"];
        assert_eq!((&record["source"]["topic"], &record["source"]["offset"]), (&json!(world.topic), &json!(offset)));
        assert!(point.image.is_some() && record["source"]["timestamp_ms"].is_i64(), "{record}");
    }
    assert!(points["by_topic"].image.is_some());
    assert!(points["replaced"].text.is_some() && points["replaced"].image.is_none());
    assert_eq!(points["patched"].payload["from"], "patch");
    assert!(points["patched"].image.is_none());

    let letters = world.kafka.read(&dead);
    let told = |letter: &OwnedMessage| {
        assert_eq!(header(letter, "__connect.errors.topic"), Some(world.topic.clone()));
        let offset: usize = header(letter, "__connect.errors.offset").unwrap().parse().unwrap();
        assert_eq!(letter.payload(), Some(messages[offset].to_string().as_bytes()));
        let reason = header(letter, "__connect.errors.exception.class.name").unwrap();
        (offset, reason, header(letter, "clipstream.errors.attempts").unwrap())
    };
    let mut told: Vec<_> = letters.iter().map(told).collect();
    told.sort();
    let overtaken = (6, "overtaken".to_owned(), (ATTEMPTS + 1).to_string());
    assert_eq!(told, [(3, "http_unavailable".to_owned(), (3 * ATTEMPTS).to_string()), overtaken]);
    world.kafka.delete_topics(&world.topics().each_ref().map(String::as_str)).await;
}
