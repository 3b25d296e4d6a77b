//! A source on a topic and in a group of the test's own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clipstream::config::{KafkaSettings, PipelineSettings};
use clipstream::domain::{Message, TopicPartition};
use clipstream::source::{Demand, KafkaSource, Producer, Source, SourceError, SourceEvent};
use clipstream::telemetry::{Health, Metrics};

use crate::kafka::Kafka;

const PATIENCE: Duration = Duration::from_secs(120);

/// A topic and a group of their own.
pub struct World {
    pub kafka: Kafka,
    pub settings: KafkaSettings,
    pub topic: String,
}

impl World {
    /// `None` where there is no broker.
    pub async fn new(test: &str, partitions: i32) -> Option<Self> {
        Some(Self::on(Kafka::real(test)?, test, partitions).await)
    }

    pub async fn on(kafka: Kafka, test: &str, partitions: i32) -> Self {
        let topic = format!("{test}-{}", uuid::Uuid::from_u128(rand::random()).simple());
        kafka.create_topic(&topic, partitions).await;
        let mut settings = KafkaSettings { topics: vec![topic.clone()], group_id: topic.clone(), ..kafka.settings() };
        for (key, value) in [("heartbeat.interval.ms", "300"), ("topic.metadata.refresh.interval.ms", "1000")] {
            settings.properties.insert(key.into(), value.into());
        }
        settings.session_timeout_ms = 6_000;
        Self { kafka, settings, topic }
    }

    /// Values `{name}-0`, …
    pub async fn produce(&self, name: &str, count: usize) {
        self.produce_to(&self.topic, name, count).await;
    }

    pub async fn produce_to(&self, topic: &str, name: &str, count: usize) {
        let producer = Producer::new(&self.settings).expect("a producer");
        for n in 0..count {
            let value = format!("{name}-{n}");
            drop(producer.send(topic, Some(value.as_bytes()), Some(value.as_bytes()), &[]).await.expect("taken"));
        }
        producer.flush(PATIENCE).await.expect("everything is delivered");
    }

    pub async fn reader(&self) -> Reader {
        Reader::connect(&self.settings).await
    }

    /// A member of the group whose place among its members is told by its name: the first of them gets a single partition.
    pub async fn member(&self, name: &str) -> Reader {
        let mut settings = KafkaSettings { client_id: name.to_owned(), ..self.settings.clone() };
        settings.properties.insert("partition.assignment.strategy".into(), "range".into());
        Reader::connect(&settings).await
    }

    pub fn committed(&self) -> BTreeMap<i32, i64> {
        self.kafka.committed(&self.settings.group_id, &self.topic)
    }

    pub async fn make_anew(&self, partitions: i32) {
        self.kafka.delete_topics(&[&self.topic]).await;
        let deadline = Instant::now() + PATIENCE;
        // The broker deletes in the background, and refuses the name until then.
        while !self.kafka.try_create_topic(&self.topic, partitions).await {
            assert!(Instant::now() < deadline, "the topic is not made anew");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn end(self, reader: Reader) {
        reader.source.close().await.expect("leaves");
        self.kafka.delete_topics(&[&self.topic]).await;
    }
}

/// A source, and a pipeline that settles what it takes at once, or never.
pub struct Reader {
    pub source: Box<KafkaSource>,
    pub health: Health,
    metrics: Arc<Metrics>,
    pub epochs: BTreeMap<TopicPartition, u64>,
    pub messages: Vec<Message>,
    pub settles: bool,
}

impl Reader {
    async fn connect(settings: &KafkaSettings) -> Self {
        let (health, metrics) = (Health::new(), Arc::new(Metrics::default()));
        let pipeline = PipelineSettings { drain_deadline_ms: 5_000, ..PipelineSettings::default() };
        let source = KafkaSource::connect(settings, Vec::new(), &pipeline, health.clone(), metrics.clone());
        let source = Box::new(source.await.expect("the broker is there"));
        Self { source, health, metrics, epochs: BTreeMap::new(), messages: Vec::new(), settles: true }
    }

    pub async fn step(&mut self, demand: Demand) {
        self.try_step(demand).await.expect("the source goes on");
    }

    /// # Errors
    /// What the source ends with.
    async fn try_step(&mut self, demand: Demand) -> Result<(), SourceError> {
        let event = tokio::time::timeout(Duration::from_millis(20), self.source.next(demand)).await;
        let Ok(event) = event else { return Ok(()) };
        match event? {
            SourceEvent::Assigned { epoch, partitions } => {
                self.epochs.extend(partitions.into_iter().map(|partition| (partition, epoch)));
            }
            SourceEvent::Message(message) => {
                let partition = message.position.topic_partition();
                match self.epochs.get(&partition).expect("it was assigned") {
                    epoch if *epoch == message.epoch => {}
                    epoch => {
                        assert!(message.epoch < *epoch, "an epoch that was not announced");
                        return Ok(());
                    }
                }
                let next = message.position.offset + 1;
                self.messages.push(message);
                if self.settles {
                    self.source.commit(vec![(partition, next)]).await.expect("the source takes it over");
                }
            }
            SourceEvent::Revoking(revocation) => revocation.complete(Vec::new()),
            SourceEvent::Lost { .. } => {}
            SourceEvent::End => panic!("a topic has no end"),
        }
        Ok(())
    }

    /// What the source ends with.
    pub async fn end_of_it(&mut self) -> SourceError {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "it goes on: {} messages, {:?}", self.messages.len(), self.health);
            if let Err(error) = self.try_step(Demand::Messages).await {
                return error;
            }
        }
    }

    pub async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        self.until_with(Demand::Messages, what, done).await;
    }

    pub async fn until_with(&mut self, demand: Demand, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "{what}: {} messages, {:?}", self.messages.len(), self.health);
            self.step(demand).await;
        }
    }

    pub fn values(&self) -> BTreeSet<String> {
        self.messages.iter().filter_map(|m| Some(String::from_utf8_lossy(m.value.as_ref()?).into_owned())).collect()
    }

    /// Whether all of these came.
    pub fn has(&self, name: &str, numbers: std::ops::Range<usize>) -> bool {
        let values = self.values();
        numbers.into_iter().all(|n| values.contains(&format!("{name}-{n}")))
    }

    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics.encode();
        text.lines().find(|line| line.starts_with(name))?.rsplit(' ').next()?.parse().ok()
    }

    pub fn lag(&self) -> Option<i64> {
        let lag = self.source.lag();
        (!lag.is_empty()).then(|| lag.iter().map(|(_, messages)| messages).sum())
    }

    pub fn skipped(&self) -> f64 {
        self.metric("clipstream_messages_skipped_total").unwrap_or(0.0)
    }
}
