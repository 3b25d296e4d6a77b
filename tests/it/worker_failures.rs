//! `clipstream run` where it cannot work: what it says, and its exit code.

use std::process::Command;
use std::time::Duration;

use clipstream::source::Producer;
use clipstream_test_support::qdrant::{Options, QdrantEndpoint};
use rdkafka::message::{Headers, Message as _, OwnedMessage};
use tempfile::TempDir;

use crate::kafka::Kafka;
use crate::worker_process::{Process, clipstream, set};

/// Nobody listens there.
async fn closed_port() -> u16 {
    tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port()
}

/// A worker with the demo model, the embedded store in `folder`, and a log for people that is off.
fn run(folder: &TempDir, settings: &[(&str, &str)]) -> Command {
    let mut command = clipstream("run");
    let store = folder.path().join("store");
    set(
        &mut command,
        &[
            ("clip.models", "demo-emoji/v1=demo/model"),
            ("store.path", store.to_str().unwrap()),
            ("telemetry.listen", ""),
            ("telemetry.log_filter", "off"),
            ("kafka.topics", "assets"),
            ("kafka.brokers", "127.0.0.1:9"),
        ],
    );
    set(&mut command, settings);
    command
}

/// What is not there stops the start with exit code 3, and all that is said is why, and what to do.
async fn refused(command: &mut Command, expected: &str) {
    let (code, lines) = Process::spawn(command).end().await;
    assert_eq!((lines.join("\n").as_str(), code), (expected, Some(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_broker() {
    let (folder, port) = (tempfile::tempdir().unwrap(), closed_port().await);
    let broker = format!("127.0.0.1:{port}");
    let (code, lines) = Process::spawn(&mut run(&folder, &[("kafka.brokers", &broker)])).end().await;
    let [why, hint] = &lines[..] else { panic!("not two lines: {lines:?}") };
    let start = format!("error: no Kafka broker of [{broker}] answered within 15 s: ");
    assert!(why.starts_with(&start) && why.contains("Connection refused"), "{why}");
    assert_eq!(hint, "hint: check kafka.brokers, kafka.security_protocol and that the brokers are running");
    assert_eq!(code, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_qdrant() {
    let (folder, port) = (tempfile::tempdir().unwrap(), closed_port().await);
    let url = format!("http://127.0.0.1:{port}");
    let expected = format!(
        "error: cannot reach Qdrant at {url}/ (health check): Connection refused\nhint: check store.url and that the server runs"
    );
    refused(&mut run(&folder, &[("store.kind", "qdrant"), ("store.url", &url)]), &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_model() {
    let folder = tempfile::tempdir().unwrap();
    let expected = "error: no model in nowhere";
    let (code, lines) = Process::spawn(&mut run(&folder, &[("clip.models", "v/c=nowhere")])).end().await;
    let [why, hint] = &lines[..] else { panic!("not two lines: {lines:?}") };
    assert!(why.starts_with(expected), "{why}");
    assert_eq!(hint, "hint: correct clip.models");
    assert_eq!(code, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_onnx_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = run(&folder, &[]);
    command.env("CLIPSTREAM_ORT_DYLIB", "/nonexistent");
    let expected = "error: CLIPSTREAM_ORT_DYLIB names /nonexistent, which is not a file; expected ONNX Runtime's \
                    library\nhint: correct or unset it, or run scripts/onnxruntime, or set CLIPSTREAM_ORT_DYLIB to the library";
    refused(&mut command, expected).await;
}

const LARGE_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// A topic of one partition with its dead-letter topic, a group of the same name, and messages.
pub struct Topic {
    kafka: Kafka,
    name: String,
}

impl Topic {
    pub async fn with(test: &str, messages: &[&str]) -> Self {
        let kafka = Kafka::start(test);
        let name = format!("{test}-{}", uuid::Uuid::from_u128(rand::random()).simple());
        for topic in [&name, &format!("{name}.dlq")] {
            kafka.create_topic(topic, 1).await;
        }
        let topic = Self { kafka, name };
        topic.produce(messages).await;
        topic
    }

    pub async fn produce(&self, messages: &[&str]) {
        let keys: Vec<String> = (0..messages.len()).map(|n| format!("key-{n}")).collect();
        let pairs = keys.iter().zip(messages).map(|(key, value)| (key.as_str(), value.as_bytes()));
        self.produce_pairs(&pairs.collect::<Vec<_>>()).await;
    }

    /// Keys and values.
    pub async fn produce_pairs(&self, messages: &[(&str, &[u8])]) {
        let mut settings = self.kafka.settings();
        settings.properties.insert("message.max.bytes".to_owned(), LARGE_BYTES_MAX.to_string());
        let producer = Producer::new(&settings).unwrap();
        for (key, value) in messages {
            drop(producer.send(&self.name, Some(key.as_bytes()), Some(value), &[]).await.unwrap());
        }
        producer.flush(Duration::from_secs(60)).await.unwrap();
    }

    /// The topic, and that of its dead letters, take messages of up to [`LARGE_BYTES_MAX`] from now on.
    pub async fn take_large_messages(&self) {
        self.kafka.set_topic_bytes_max(&[&self.name, &format!("{}.dlq", self.name)], LARGE_BYTES_MAX).await;
    }

    /// The mock cluster has limits of its own.
    pub fn takes_large_messages(&self) -> bool {
        !self.kafka.is_mock()
    }

    pub fn letters(&self) -> Vec<OwnedMessage> {
        self.kafka.read(&format!("{}.dlq", self.name))
    }

    pub fn committed(&self) -> i64 {
        self.kafka.committed(&self.name, &self.name).values().sum()
    }

    /// What the group keeps beside its offset.
    pub fn note(&self) -> String {
        self.kafka.committed_note(&self.name, &self.name, 0).0
    }

    pub fn run(&self, folder: &TempDir, settings: &[(&str, &str)]) -> Command {
        let brokers = self.kafka.brokers.join(",");
        let mut command = run(folder, &[("telemetry.log_filter", "info"), ("telemetry.log_format", "json")]);
        set(&mut command, &[("kafka.brokers", &brokers), ("kafka.topics", &self.name), ("kafka.group_id", &self.name)]);
        set(&mut command, settings);
        command
    }

    pub async fn end(self) {
        self.kafka.delete_topics(&[&self.name, &format!("{}.dlq", self.name)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_forces_the_end_while_a_fetch_is_in_flight() {
    // Takes the request, and never answers it.
    let server = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let image = format!(r#"{{"image": "http://{}/slow.jpg"}}"#, server.local_addr().unwrap());
    let topic = Topic::with("forced", &[&image]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut worker = Process::spawn(&mut topic.run(&folder, &[("media.allow_hosts", "127.0.0.1")]));
    let patience = Duration::from_secs(120);
    let _connection = tokio::time::timeout(patience, server.accept()).await.expect("the worker fetches").unwrap();

    worker.terminate();
    // Two signals at once would be one.
    worker.wait_for("the first signal", async |w| (w.logged("asked to stop").len() == 1).then_some(())).await;
    worker.terminate();
    let (code, lines) = worker.end().await;
    let last = lines.last().map(String::as_str);
    assert_eq!(last, Some("error: stopped by a second signal before work in flight was drained"), "{lines:?}");
    assert_eq!(code, Some(4));
    assert_eq!(topic.committed(), 0, "it was not settled");
    topic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_failures_stops_the_worker() {
    let topic = Topic::with("flood", &["broken"; 8]).await;
    let folder = tempfile::tempdir().unwrap();
    let limit = [("pipeline.dead_letters_in_row_max", "5")];
    let (code, lines) = Process::spawn(&mut topic.run(&folder, &limit)).end().await;
    let [.., why, hint] = &lines[..] else { panic!("it says why, and what to do: {lines:?}") };
    let letters = topic.kafka.read(&format!("{}.dlq", topic.name));
    assert!((5..=8).contains(&letters.len()), "{} letters", letters.len());
    let expected = format!(
        "error: {} messages in a row became dead letters, the last one by message_not_json, which looks like a wrong topic, a \
         changed format, or something that all of them need",
        letters.len()
    );
    assert_eq!((why, code), (&expected, Some(5)), "{lines:?}");
    assert_eq!(hint, "hint: see the dead letters, then start again (limit: pipeline.dead_letters_in_row_max)");
    for letter in &letters {
        assert_eq!(letter.payload(), Some(&b"broken"[..]));
        let reason = letter.headers().unwrap().iter().find(|h| h.key == "__connect.errors.exception.class.name");
        assert_eq!(reason.unwrap().value, Some(&b"message_not_json"[..]));
    }
    // What is dead is settled, and nothing beyond.
    let committed = topic.kafka.committed(&topic.name, &topic.name);
    assert_eq!(committed.values().sum::<i64>(), letters.len() as i64);
    topic.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_goes_away_is_held_quietly_and_passes_without_a_restart() {
    const TEXT: &str = r#"{"text": "a cat"}"#;
    let topic = Topic::with("outage", &[TEXT]).await;
    let (folder, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = QdrantEndpoint::start(data.path());
    let url = store.url();
    let settings = [
        ("store.kind", "qdrant"),
        ("store.url", url.as_str()),
        ("pipeline.backoff_cap_ms", "1000"),
        ("telemetry.listen", "127.0.0.1:0"),
    ];
    let mut worker = Process::spawn(&mut topic.run(&folder, &settings));
    worker.wait_for("the first message", async |_| (topic.committed() == 1).then_some(())).await;
    let serving = worker.logged("serving /metrics, /livez and /readyz").remove(0);
    let ready_url = format!("http://{}/readyz", serving["address"].as_str().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ready = async || {
        let answer = client.get(&ready_url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(ready().await.0, 200);

    let port = store.port();
    store.stop().await;
    topic.produce(&[TEXT; 20]).await;
    let answer = worker.wait_for("unready", async |_| Some(ready().await).filter(|(status, _)| *status == 503)).await;
    // The first stage that asks the store.
    assert!(answer.1.contains(r#""component":"recall""#) && answer.1.contains("store.url"), "{answer:?}");
    let store = Options::new(data.path()).port(port).start().unwrap();
    worker.wait_for("all messages", async |_| (topic.committed() == 21).then_some(())).await;
    worker.wait_for("readiness", async |_| (ready().await.0 == 200).then_some(())).await;
    worker.terminate();
    let (code, lines) = worker.end().await;
    assert_eq!(code, Some(0), "{lines:?}");
    let of_outage = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
    let counts = (of_outage("outage, holding messages"), of_outage("outage is over"), of_outage("\"ERROR\""));
    assert_eq!(counts, (1, 1, 1), "{lines:?}");
    assert_eq!(topic.kafka.read(&format!("{}.dlq", topic.name)).len(), 0, "nothing is dead");
    store.stop().await;
    topic.end().await;
}

/// Dead letters that are consumed again die again, for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_leaves_out_the_dead_letters_of_what_it_matches() {
    let topic = Topic::with("pattern", &[r#"{"text": "a cat"}"#]).await;
    let folder = tempfile::tempdir().unwrap();
    let pattern = format!("^{}.*", topic.name);
    let mut worker = Process::spawn(&mut topic.run(&folder, &[("kafka.topics", &pattern)]));
    worker.wait_for("the message", async |_| (topic.committed() == 1).then_some(())).await;
    let assigned = worker.logged("partitions assigned");
    worker.terminate();
    let partitions: Vec<&str> = assigned.iter().filter_map(|line| line["partitions"].as_str()).collect();
    assert_eq!(partitions, [format!("{}[0]", topic.name)]);
    assert_eq!(worker.end().await.0, Some(0));
    topic.end().await;
}
