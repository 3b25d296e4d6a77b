//! Kafka and S3 of the campaign's own (`scripts/services` with a folder of its own), so that the broker may crash.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::util::Timeout;

use crate::Error;
use crate::plan::{DIES, Planned, RETRY_PARTITIONS, Topic, WRONG_CLOCK};

const ANSWER: Duration = Duration::from_secs(10);
const READ: Duration = Duration::from_secs(300);
const FLUSH: Duration = Duration::from_secs(120);

/// The servers. Dropping it stops them.
pub struct Services {
    folder: PathBuf,
    proxy_port: u16,
    pub kafka: String,
    /// The listener that is advertised as the proxy's address.
    pub kafka_proxied: String,
    pub s3: String,
    pub s3_access_key: String,
    pub s3_secret_key: String,
}

impl Services {
    /// `None`: this machine cannot have them; what is missing is on standard error.
    pub fn up(folder: &Path, proxy_port: u16) -> Result<Option<Self>, Error> {
        let mut services = Self {
            folder: folder.to_owned(),
            proxy_port,
            kafka: String::new(),
            kafka_proxied: String::new(),
            s3: String::new(),
            s3_access_key: String::new(),
            s3_secret_key: String::new(),
        };
        services.script(&["up"])?;
        let exports = services.script(&["env"])?;
        let variables: BTreeMap<&str, &str> =
            exports.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('=')).collect();
        let get = |name: &str| variables.get(format!("CLIPSTREAM_TEST_{name}").as_str()).map(|v| (*v).to_owned());
        let found =
            (get("KAFKA"), get("KAFKA_PROXIED"), get("S3_ENDPOINT"), get("S3_ACCESS_KEY"), get("S3_SECRET_KEY"));
        let (Some(kafka), Some(kafka_proxied), Some(s3), Some(s3_access_key), Some(s3_secret_key)) = found else {
            return Ok(None);
        };
        let s3 = s3.trim_start_matches("http://").to_owned();
        (services.kafka, services.kafka_proxied, services.s3) = (kafka, kafka_proxied, s3);
        (services.s3_access_key, services.s3_secret_key) = (s3_access_key, s3_secret_key);
        Ok(Some(services))
    }

    /// kill -9 of the broker.
    pub fn crash_kafka(&self) -> Result<(), Error> {
        self.script(&["crash", "kafka"]).map(drop)
    }

    /// Starts it again with its data and returns when it serves.
    pub fn revive_kafka(&self) -> Result<(), Error> {
        self.script(&["revive", "kafka"]).map(drop)
    }

    /// Another account of the S3 server that may read every bucket.
    pub fn add_s3_user(&self, key: &str, secret: &str) -> Result<(), Error> {
        self.script(&["s3-user", "add", key, secret]).map(drop)
    }

    pub fn remove_s3_user(&self, key: &str) -> Result<(), Error> {
        self.script(&["s3-user", "remove", key]).map(drop)
    }

    fn script(&self, arguments: &[&str]) -> Result<String, Error> {
        let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services"))
            .args(arguments)
            .env("CLIPSTREAM_SERVICES_DIR", &self.folder)
            .env("CLIPSTREAM_SERVICES_KAFKA_PROXY", self.proxy_port.to_string())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("***") {
            eprintln!("{said}");
        }
        if !output.status.success() {
            return Err(format!("scripts/services {} failed: {}", arguments.join(" "), said.trim()).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        if let Err(error) = self.script(&["down"]) {
            eprintln!("chaos: {error}");
        }
    }
}

/// The campaign's own way to the broker, past the proxy.
#[derive(Clone)]
pub struct Broker {
    address: String,
    producer: FutureProducer,
}

impl Broker {
    pub fn connect(address: &str) -> Result<Self, Error> {
        let producer = client(address)
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            // The broker is away for half a minute at a time.
            .set("message.timeout.ms", "600000")
            .create()?;
        Ok(Self { address: address.to_owned(), producer })
    }

    /// Each with its dead-letter topic.
    pub async fn create_topics(&self, topics: &[Topic]) -> Result<(), Error> {
        let names =
            topics.iter().flat_map(|topic| [(topic.name().to_owned(), topic.partitions()), (topic.dead_letters(), 1)]);
        self.create(&names.collect::<Vec<_>>()).await
    }

    pub async fn create_retry_topics(&self, topics: &[Topic]) -> Result<(), Error> {
        let names = topics.iter().flat_map(|topic| topic.retries()).map(|name| (name, RETRY_PARTITIONS));
        self.create(&names.collect::<Vec<_>>()).await
    }

    async fn create(&self, names: &[(String, i32)]) -> Result<(), Error> {
        let admin: AdminClient<DefaultClientContext> = client(&self.address).create()?;
        let new = names.iter().map(|(name, partitions)| NewTopic::new(name, *partitions, TopicReplication::Fixed(1)));
        let new: Vec<_> = new.collect();
        for created in admin.create_topics(&new, &AdminOptions::new()).await? {
            created.map_err(|(topic, code)| format!("topic {topic} is not created: {code}"))?;
        }
        Ok(())
    }

    pub async fn create_topic(&self, name: &str, partitions: i32) -> Result<(), Error> {
        self.create(&[(name.to_owned(), partitions)]).await
    }

    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let admin: AdminClient<DefaultClientContext> = client(&self.address).create()?;
        for deleted in admin.delete_topics(&[name], &AdminOptions::new()).await? {
            deleted.map_err(|(topic, code)| format!("topic {topic} is not deleted: {code}"))?;
        }
        Ok(())
    }

    /// Queues a message; it is delivered once, whatever the broker goes through, or the flush fails.
    pub async fn send(&self, planned: &Planned) -> Result<(), Error> {
        let mut record = FutureRecord::<[u8], [u8]>::to(planned.topic.name()).key(planned.key.as_bytes());
        let mut headers = OwnedHeaders::new();
        if let Some(timestamp_ms) = planned.timestamp_ms {
            record = record.timestamp(timestamp_ms);
            headers = headers.insert(Header { key: WRONG_CLOCK, value: Some("") });
        }
        if let Some(value) = &planned.value {
            record = record.payload(value);
        }
        if let Some(dies) = &planned.dies {
            headers = headers.insert(Header { key: DIES, value: Some(&dies.to_header()) });
        }
        record = record.headers(headers);
        loop {
            match self.producer.send_result(record) {
                // The log is read back in the end: nobody needs the position now.
                Ok(_) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    pub async fn flush(&self) -> Result<(), Error> {
        let producer = self.producer.clone();
        Ok(tokio::task::spawn_blocking(move || producer.flush(FLUSH)).await??)
    }

    /// `retries`: with the topics' retry topics.
    pub fn lag(&self, group: &str, topics: &[Topic], retries: bool) -> Result<Lag, Error> {
        let consumer: BaseConsumer = client(&self.address).set("group.id", group).create()?;
        let mut all: Vec<_> = topics.iter().map(|topic| (topic.name().to_owned(), topic.partitions())).collect();
        if retries {
            all.extend(topics.iter().flat_map(|topic| topic.retries()).map(|name| (name, RETRY_PARTITIONS)));
        }
        Ok(Lag { consumer: Arc::new(consumer), topics: all })
    }

    /// Every message of a topic.
    pub async fn read(&self, topic: &str, partitions: i32) -> Result<Vec<OwnedMessage>, Error> {
        let (address, topic) = (self.address.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || read(&address, &topic, partitions)).await?
    }
}

fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address).set("log_level", "0");
    config
}

/// What a group has still to do.
#[derive(Clone)]
pub struct Lag {
    consumer: Arc<BaseConsumer>,
    topics: Vec<(String, i32)>,
}

impl Lag {
    /// Messages that are not committed, by partition, zeros left out. Fails while the broker is away.
    pub async fn now(&self) -> Result<BTreeMap<(String, i32), i64>, Error> {
        let lag = self.clone();
        tokio::task::spawn_blocking(move || lag.ask()).await?
    }

    fn ask(&self) -> Result<BTreeMap<(String, i32), i64>, Error> {
        let all = |(topic, count): &(String, i32)| (0..*count).map(|n| (topic.clone(), n)).collect::<Vec<_>>();
        let partitions: Vec<(String, i32)> = self.topics.iter().flat_map(all).collect();
        let mut list = TopicPartitionList::new();
        for (topic, partition) in &partitions {
            list.add_partition(topic, *partition);
        }
        let committed = self.consumer.committed_offsets(list, ANSWER)?;
        let mut lag = BTreeMap::new();
        for (topic, partition) in partitions {
            let (low, high) = self.consumer.fetch_watermarks(&topic, partition, ANSWER)?;
            let at = match committed.find_partition(&topic, partition).map(|found| found.offset()) {
                Some(Offset::Offset(offset)) => offset,
                _ => low,
            };
            if high != at {
                lag.insert((topic, partition), high - at);
            }
        }
        Ok(lag)
    }
}

fn read(address: &str, topic: &str, partitions: i32) -> Result<Vec<OwnedMessage>, Error> {
    let consumer: BaseConsumer =
        client(address).set("group.id", "reader").set("queued.min.messages", "10000").create()?;
    let (mut list, mut expected) = (TopicPartitionList::new(), 0);
    for partition in 0..partitions {
        let (_, high) = consumer.fetch_watermarks(topic, partition, ANSWER)?;
        expected += usize::try_from(high)?;
        list.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    let (mut messages, deadline) = (Vec::with_capacity(expected), Instant::now() + READ);
    while messages.len() < expected {
        if Instant::now() > deadline {
            return Err(format!("{} of {expected} messages of {topic} were read in {READ:?}", messages.len()).into());
        }
        if let Some(message) = consumer.poll(Timeout::After(Duration::from_millis(200))) {
            messages.push(message?.detach());
        }
    }
    Ok(messages)
}

/// The text of a message's header.
pub fn header<'a>(message: &'a OwnedMessage, name: &str) -> Option<&'a str> {
    use rdkafka::message::Headers;
    let found = message.headers()?.iter().find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}
