//! Everything around the worker: Kafka with the messages, the pictures, Qdrant; and the worker's own process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clipstream::domain::ModelId;
use clipstream::source::Producer;
use clipstream::store::{self, Store};
use clipstream_test_support::qdrant::server::Server;
use rdkafka::message::{Message as _, OwnedMessage};

use super::expected::Position;
use super::media::Media;
use super::messages::{Message, To};
use crate::kafka::Kafka;
use crate::store_conformance::fixture::settings_of;
use crate::worker_process::{Process, clipstream, set};

const PARTITIONS: [(To, i32); 2] = [(To::Assets, 4), (To::Captions, 2)];

pub struct World {
    /// Part of every name, so that runs do not meet.
    run: String,
    pub kafka: Kafka,
    pub media: Media,
    pub store: Arc<dyn Store>,
    pub collection: String,
    server: Server,
}

impl World {
    pub async fn start() -> Self {
        let run = uuid::Uuid::from_u128(rand::random()).simple().to_string();
        let kafka = Kafka::start("end_to_end");
        let server = Server::start();
        let settings = settings_of(server.address());
        let store = store::open(&settings).await.unwrap();
        let model: ModelId = "demo-emoji/v1".parse().unwrap();
        let collection = model.collection(&settings.collection_template, &server.prefix);
        let media = Media::start(&run).await;
        let world = Self { run, kafka, media, store, collection, server };
        for (to, partitions) in PARTITIONS {
            world.kafka.create_topic(&world.topic(to), partitions).await;
            world.kafka.create_topic(&world.dead_letter_topic(to), 1).await;
        }
        world
    }

    pub fn topic(&self, to: To) -> String {
        match to {
            To::Assets => format!("assets-{}", self.run),
            To::Captions => format!("captions-{}", self.run),
        }
    }

    fn dead_letter_topic(&self, to: To) -> String {
        format!("{}.dlq", self.topic(to))
    }

    pub fn group(&self, name: &str) -> String {
        format!("{name}-{}", self.run)
    }

    pub async fn produce(&self, messages: Vec<Message>) -> Vec<(Message, Position)> {
        let producer = Producer::new(&self.kafka.settings()).unwrap();
        let mut sent = Vec::with_capacity(messages.len());
        for message in messages {
            let topic = self.topic(message.to);
            let (key, value) = (message.key.as_deref().map(str::as_bytes), message.value.as_deref());
            let headers: Vec<_> =
                message.headers.iter().map(|(name, value)| (*name, value.map(str::as_bytes))).collect();
            let delivery = producer.send(&topic, key, value, &headers).await.unwrap();
            sent.push((message, topic, delivery));
        }
        producer.flush(Duration::from_secs(60)).await.unwrap();
        let mut produced = Vec::with_capacity(sent.len());
        for (message, topic, delivery) in sent {
            let (partition, offset) = delivery.await.unwrap();
            produced.push((message, Position { topic, partition, offset }));
        }
        produced
    }

    /// The topics' messages by position, as the broker has them.
    pub fn originals(&self) -> BTreeMap<(String, i32, i64), OwnedMessage> {
        let all = PARTITIONS.into_iter().flat_map(|(to, _)| self.kafka.read(&self.topic(to)));
        all.map(|message| ((message.topic().to_owned(), message.partition(), message.offset()), message)).collect()
    }

    /// Every dead letter so far, in the order in which they came per topic.
    pub fn dead_letters(&self) -> Vec<OwnedMessage> {
        PARTITIONS.into_iter().flat_map(|(to, _)| self.kafka.read(&self.dead_letter_topic(to))).collect()
    }

    /// Whether the group has committed the end of every partition.
    pub fn all_committed(&self, group: &str) -> bool {
        PARTITIONS.iter().all(|(to, _)| {
            let topic = self.topic(*to);
            self.kafka.committed(group, &topic) == self.kafka.ends(&topic)
        })
    }

    /// Starts `clipstream run`.
    pub fn worker(&self, group: &str) -> Process {
        let mut command = clipstream("run");
        self.configure(&mut command);
        set(
            &mut command,
            &[
                ("kafka.brokers", &self.kafka.brokers.join(",")),
                ("kafka.topics", &format!("{},{}", self.topic(To::Assets), self.topic(To::Captions))),
                ("kafka.group_id", group),
                ("media.allow_hosts", "127.0.0.1"),
                ("pipeline.commit_interval_ms", "200"),
                ("pipeline.backoff_base_ms", "20"),
                ("telemetry.listen", "127.0.0.1:0"),
                ("telemetry.log_format", "json"),
            ],
        );
        command.env("CLIPSTREAM__KAFKA__TOPIC_OPS", format!("{}=patch", self.topic(To::Captions)));
        if let Some(bucket) = &self.media.bucket {
            let endpoint = [("media.s3_endpoint", &*bucket.endpoint), ("media.s3_path_style", "true")];
            set(&mut command, &endpoint);
            command.env("AWS_ACCESS_KEY_ID", &bucket.access_key).env("AWS_SECRET_ACCESS_KEY", &bucket.secret_key);
        }
        Process::spawn(&mut command)
    }

    /// `clipstream search TEXT` among the captions: the hits' ids and scores.
    pub async fn search(&self, text: &str) -> Vec<(String, f64)> {
        let mut command = clipstream("search");
        self.configure(&mut command);
        command.args(["--json", "--in", "text", "--limit", "3", text]);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("the binary starts");
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!((output.status.code(), &*stderr), (Some(0), ""));
        let hit = |line: &str| {
            let hit: serde_json::Value = serde_json::from_str(line).unwrap();
            (hit["id"].as_str().unwrap().to_owned(), hit["score"].as_f64().unwrap())
        };
        stdout.lines().map(hit).collect()
    }

    fn configure(&self, command: &mut std::process::Command) {
        set(command, &[("clip.models", "demo-emoji/v1=demo/model")]);
        self.server.configure(command);
    }

    /// Removes what servers keep that outlive the run.
    pub async fn end(self) {
        self.store.close().await.unwrap();
        let topics: Vec<String> =
            PARTITIONS.iter().flat_map(|(to, _)| [self.topic(*to), self.dead_letter_topic(*to)]).collect();
        self.kafka.delete_topics(&topics.iter().map(String::as_str).collect::<Vec<_>>()).await;
        self.media.end().await;
        self.server.stop().await;
    }
}

/// What the worker serves beside its work.
pub struct Served {
    address: SocketAddr,
}

impl Served {
    /// From the log line that names the address.
    pub async fn by(worker: &mut Process) -> Self {
        let event = worker
            .wait_for("the address is logged", async |w| {
                w.logged("serving /metrics, /livez and /readyz").into_iter().next()
            })
            .await;
        Self { address: event["address"].as_str().expect("the address is text").parse().expect("an address") }
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let response = client.get(format!("http://{}{path}", self.address)).send().await.expect("the worker answers");
        (response.status().as_u16(), response.text().await.expect("an answer"))
    }

    /// Sum over all series of one metric whose labels contain `labels`.
    pub async fn metric(&self, name: &str, labels: &str) -> Option<f64> {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        let series = text.lines().filter(|l| l.split(['{', ' ']).next() == Some(name) && l.contains(labels));
        let values: Vec<f64> = series.filter_map(|l| l.rsplit(' ').next()?.parse().ok()).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }
}
