//! Kafka for tests: Apache Kafka (`CLIPSTREAM_TEST_KAFKA=host:port`), or librdkafka's mock cluster where there is none.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clipstream::config::KafkaSettings;
use clipstream::source::ensure_topics;
use clipstream_test_support::needs;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedMessage;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{DefaultProducerContext, FutureProducer, FutureRecord, Producer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster, with topics of the test's own.
pub struct Kafka {
    pub brokers: Vec<String>,
    mock: Option<MockCluster<'static, DefaultProducerContext>>,
}

impl Kafka {
    /// `test`: who is named when there is no broker.
    pub fn start(test: &str) -> Self {
        if let Some(brokers) = needs::kafka(&format!("{test} runs on librdkafka's MOCK CLUSTER")) {
            return Self::at(&brokers);
        }
        let mock = MockCluster::new(1).expect("a mock cluster");
        Self { brokers: vec![mock.bootstrap_servers()], mock: Some(mock) }
    }

    /// `None` where there is no broker, for tests that a mock cluster cannot have.
    pub fn real(test: &str) -> Option<Self> {
        needs::kafka(&format!("{test} is left out")).map(|brokers| Self::at(&brokers))
    }

    pub fn at(brokers: &str) -> Self {
        Self { brokers: brokers.split(',').map(str::to_owned).collect(), mock: None }
    }

    pub fn is_mock(&self) -> bool {
        self.mock.is_some()
    }

    pub fn settings(&self) -> KafkaSettings {
        KafkaSettings { brokers: self.brokers.clone(), ..KafkaSettings::default() }
    }

    pub async fn create_topic(&self, topic: &str, partitions: i32) {
        match &self.mock {
            Some(mock) => mock.create_topic(topic, partitions, 1).expect("the mock cluster creates the topic"),
            None => ensure_topics(&self.settings(), &[topic], partitions).await.expect("the broker creates the topic"),
        }
    }

    /// The mock cluster ends with the test anyway.
    pub async fn delete_topics(&self, topics: &[&str]) {
        if self.mock.is_none() {
            let admin: AdminClient<DefaultClientContext> = self.client().create().expect("an admin client");
            let deleted = admin.delete_topics(topics, &AdminOptions::new()).await.expect("the broker answers");
            assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
        }
    }

    /// Whether the topic is there now; not while the broker still deletes one of that name.
    pub async fn try_create_topic(&self, topic: &str, partitions: i32) -> bool {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("an admin client");
        let wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let made = admin.create_topics([&wanted], &AdminOptions::new()).await.expect("the broker answers");
        made.iter().all(Result::is_ok)
    }

    pub async fn add_partitions(&self, topic: &str, total: usize) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("an admin client");
        let wanted = NewPartitions::new(topic, total);
        let made = admin.create_partitions([&wanted], &AdminOptions::new()).await.expect("the broker answers");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    /// Removes what lies before this offset, as retention does.
    pub async fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("an admin client");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).expect("an offset");
        let removed = admin.delete_records(&list, &AdminOptions::new()).await.expect("the broker answers");
        assert!(removed.elements().iter().all(|element| element.error().is_ok()), "{removed:?}");
    }

    /// One message each, `{name}-0`, in a transaction of its own that is committed or aborted.
    pub async fn transactions(&self, topic: &str, transactions: &[(&str, bool)]) {
        let producer: FutureProducer =
            self.client().set("transactional.id", format!("{topic}-tx")).create().expect("a producer");
        let (topic, transactions) = (topic.to_owned(), transactions.iter().map(|(n, c)| (format!("{n}-0"), *c)));
        let transactions: Vec<_> = transactions.collect();
        let run = move || {
            producer.init_transactions(PATIENCE).expect("a producer's id");
            for (value, commits) in transactions {
                producer.begin_transaction().expect("a transaction");
                let record: FutureRecord<'_, str, str> = FutureRecord::to(&topic).payload(&value);
                let sent = producer.send_result(record).map_err(|(error, _)| error).expect("room for it");
                // An aborted one must be in the log, too.
                producer.flush(PATIENCE).expect("everything is delivered");
                drop(sent);
                match commits {
                    true => producer.commit_transaction(PATIENCE).expect("it is committed"),
                    false => producer.abort_transaction(PATIENCE).expect("it is aborted"),
                }
            }
        };
        tokio::task::spawn_blocking(run).await.expect("no panic");
    }

    /// Commits for a group that has no members.
    pub fn commit_with(&self, group: &str, topic: &str, partition: i32, offset: i64, metadata: &str) {
        let consumer: BaseConsumer = self.client().set("group.id", group).create().expect("a consumer");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut list = TopicPartitionList::new();
            let mut element = list.add_partition(topic, partition);
            element.set_offset(Offset::Offset(offset)).expect("an offset");
            element.set_metadata(metadata);
            match consumer.commit(&list, CommitMode::Sync) {
                Ok(()) => return,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            consumer.poll(Duration::from_millis(50));
        }
    }

    /// What the group keeps beside its offset: metadata, and the leader's epoch (-1: none).
    pub fn committed_note(&self, group: &str, topic: &str, partition: i32) -> (String, i32) {
        let consumer: BaseConsumer = self.client().set("group.id", group).create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let list = consumer.committed_offsets(list, PATIENCE).expect("the coordinator answers");
        // SAFETY: the list is alive, and has the one entry.
        let epoch = unsafe { rdkafka::bindings::rd_kafka_topic_partition_get_leader_epoch((*list.ptr()).elems) };
        (list.elements()[0].metadata().to_owned(), epoch)
    }

    /// The largest batch that these topics take. The mock cluster takes any.
    pub async fn set_topic_bytes_max(&self, topics: &[&str], bytes: u32) {
        if !self.is_mock() {
            self.set_topics(topics, &[("max.message.bytes", &bytes.to_string())]).await;
        }
    }

    /// Settings of topics, in the place of those that they had. The mock cluster has none.
    pub async fn set_topics(&self, topics: &[&str], settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("an admin client");
        let change = |topic| {
            let change = AlterConfig::new(ResourceSpecifier::Topic(topic));
            settings.iter().fold(change, |change, (key, value)| change.set(key, value))
        };
        let changes: Vec<_> = topics.iter().map(|topic| change(topic)).collect();
        let changed = admin.alter_configs(&changes, &AdminOptions::new()).await.expect("the broker answers");
        assert!(changed.iter().all(Result::is_ok), "{changed:?}");
    }

    /// What the group has committed, by partition; partitions without a commit are left out.
    pub fn committed(&self, group: &str, topic: &str) -> BTreeMap<i32, i64> {
        let consumer: BaseConsumer = self.client().set("group.id", group).create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions(&consumer, topic) - 1);
        let deadline = Instant::now() + PATIENCE;
        let list = loop {
            let answer = consumer.committed_offsets(list.clone(), PATIENCE);
            let code = answer.as_ref().err().and_then(KafkaError::rdkafka_error_code);
            // A broker that has just started makes the topic of the groups' offsets first.
            let is_new = matches!(
                code,
                Some(
                    RDKafkaErrorCode::NotCoordinator
                        | RDKafkaErrorCode::CoordinatorNotAvailable
                        | RDKafkaErrorCode::CoordinatorLoadInProgress
                )
            );
            if !is_new || Instant::now() > deadline {
                break answer.expect("the coordinator answers");
            }
            consumer.poll(Duration::from_millis(50));
        };
        let offset = |o: Offset| if let Offset::Offset(n) = o { Some(n) } else { None };
        list.elements().iter().filter_map(|e| Some((e.partition(), offset(e.offset())?))).collect()
    }

    /// One past the last message, by partition; empty partitions are left out.
    pub fn ends(&self, topic: &str) -> BTreeMap<i32, i64> {
        let consumer: BaseConsumer = self.client().create().expect("a consumer");
        ends(&consumer, topic)
    }

    /// Every message of the topic.
    pub fn read(&self, topic: &str) -> Vec<OwnedMessage> {
        let consumer: BaseConsumer =
            self.client().set("group.id", format!("{topic}-reader")).create().expect("a consumer");
        let ends = ends(&consumer, topic);
        let mut list = TopicPartitionList::new();
        for partition in ends.keys() {
            list.add_partition_offset(topic, *partition, Offset::Beginning).expect("an offset");
        }
        let count = usize::try_from(ends.values().sum::<i64>()).expect("counts are not negative");
        consumer.assign(&list).expect("an assignment");
        let (mut out, deadline) = (Vec::with_capacity(count), Instant::now() + PATIENCE);
        while out.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} messages of {topic} were read", out.len());
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                out.push(message.expect("the broker serves it").detach());
            }
        }
        out
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers.join(","));
        config
    }
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> i32 {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("the broker answers");
    i32::try_from(metadata.topics()[0].partitions().len()).expect("few partitions")
}

fn ends(consumer: &BaseConsumer, topic: &str) -> BTreeMap<i32, i64> {
    let all = 0..partitions(consumer, topic);
    let end = |p| (p, consumer.fetch_watermarks(topic, p, PATIENCE).expect("the broker answers").1);
    all.map(end).filter(|(_, end)| *end > 0).collect()
}
