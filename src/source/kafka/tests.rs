//! On librdkafka's in-process mock cluster. What only a real broker shows is in `tests/it/kafka_source.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaRespErr;

use super::*;
use crate::domain::Message;
use crate::source::Producer;
use crate::telemetry::Component;

const PARTITIONS: i32 = 3;
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn waits(drain: Duration) -> Waits {
    Waits { drain, stalled: Duration::from_secs(600), connect: PATIENCE }
}

pub(super) struct Bench {
    cluster: MockCluster<'static, DefaultProducerContext>,
    pub settings: KafkaSettings,
    pub health: Health,
}

impl Bench {
    pub fn new() -> Self {
        Self::of(1)
    }

    fn of(brokers: i32) -> Self {
        let cluster = MockCluster::new(brokers).expect("a mock cluster");
        cluster.create_topic("assets", PARTITIONS, 1).expect("a topic");
        let settings = KafkaSettings {
            brokers: vec![cluster.bootstrap_servers()],
            topics: vec!["assets".into()],
            session_timeout_ms: 6_000,
            properties: [("heartbeat.interval.ms", "200"), ("reconnect.backoff.max.ms", "500")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..KafkaSettings::default()
        };
        Self { cluster, settings, health: Health::new() }
    }

    async fn produce(&self, range: std::ops::Range<usize>) {
        let producer = Producer::new(&self.settings).expect("a producer");
        let mut deliveries = Vec::new();
        for n in range {
            let (key, value) = (format!("key-{n}"), format!("value-{n}"));
            let headers: [(&str, Option<&[u8]>); 2] = [("n", Some(value.as_bytes())), ("none", None)];
            let sent = producer.send("assets", Some(key.as_bytes()), Some(value.as_bytes()), &headers).await;
            deliveries.push(sent.expect("the producer takes it"));
        }
        producer.flush(PATIENCE).await.expect("everything is delivered");
        for delivery in deliveries {
            delivery.await.expect("the broker takes it");
        }
    }

    /// Messages of one partition.
    pub async fn fill(&self, partition: i32, count: usize) {
        let producer = Producer::new(&self.settings).expect("a producer");
        for n in 0..count {
            let value = format!("value-{n}");
            let sent = producer.send_to("assets", Some(partition), None, Some(value.as_bytes()), &[]).await;
            drop(sent.expect("the producer takes it"));
        }
        producer.flush(PATIENCE).await.expect("everything is delivered");
    }

    async fn source_within(&self, limits: Limits, drain: Duration) -> Box<KafkaSource> {
        let metrics = Arc::new(Metrics::default());
        let source = KafkaSource::start(&self.settings, Vec::new(), waits(drain), self.health.clone(), metrics, limits);
        Box::new(source.await.expect("the mock cluster is there"))
    }

    async fn source(&self) -> Box<KafkaSource> {
        self.source_within(Limits::default(), Duration::from_secs(1)).await
    }
}

/// Offsets seen, by partition, as a pipeline would keep them.
#[derive(Default)]
pub(super) struct Seen {
    pub values: BTreeMap<i32, Vec<(i64, String)>>,
    pub epochs: BTreeMap<i32, u64>,
}

impl Seen {
    pub fn count(&self) -> usize {
        self.values.values().map(Vec::len).sum()
    }

    fn take(&mut self, message: Message) {
        let partition = message.position.partition;
        assert_eq!(self.epochs.get(&partition), Some(&message.epoch), "a message outside of its assignment");
        let value = String::from_utf8(message.value.expect("a value").to_vec()).expect("text");
        self.values.entry(partition).or_default().push((message.position.offset, value));
    }

    fn values(&self) -> impl Iterator<Item = &String> {
        self.values.values().flatten().map(|(_, value)| value)
    }

    fn next_offsets(&self, partitions: &[TopicPartition]) -> Vec<(TopicPartition, i64)> {
        let last = |p: &TopicPartition| Some(self.values.get(&p.partition)?.last()?.0 + 1);
        partitions.iter().filter_map(|p| Some((p.clone(), last(p)?))).collect()
    }

    fn partitions(&self) -> Vec<TopicPartition> {
        self.epochs.keys().map(|p| TopicPartition { topic: "assets".into(), partition: *p }).collect()
    }

    /// Answers one event like a pipeline that is never behind.
    pub fn handle(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Assigned { epoch, partitions } => {
                self.epochs.extend(partitions.iter().map(|p| (p.partition, epoch)));
            }
            SourceEvent::Message(message) => self.take(message),
            SourceEvent::Revoking(revocation) => {
                self.epochs.retain(|number, _| revocation.partitions.iter().all(|p| p.partition != *number));
                let offsets = self.next_offsets(&revocation.partitions);
                revocation.complete(offsets);
            }
            SourceEvent::Lost { partitions } => panic!("lost {partitions:?}"),
            SourceEvent::End => panic!("a topic has no end"),
        }
    }

    async fn read(&mut self, source: &mut KafkaSource, until: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !until(self) {
            assert!(Instant::now() < deadline, "still waiting after {} messages", self.count());
            if let Ok(event) = tokio::time::timeout(Duration::from_millis(20), source.next(Demand::Messages)).await {
                self.handle(event.expect("the source goes on"));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn consumes_everything_and_a_second_consumer_resumes_from_the_commit() {
    let bench = Bench::new();
    bench.produce(0..300).await;
    let mut source = bench.source().await;
    let mut first = Seen::default();
    first.read(&mut source, |seen| seen.count() == 120).await;
    let offsets = first.next_offsets(&first.partitions());
    source.commit(offsets).await.expect("the source takes it over");
    source.close().await.expect("commits and leaves");

    let mut source = bench.source().await;
    let mut second = Seen::default();
    second.read(&mut source, |seen| seen.count() == 180).await;
    for (partition, mut values) in first.values {
        values.extend(second.values.remove(&partition).unwrap_or_default());
        assert!(values.iter().enumerate().all(|(n, (offset, _))| n as i64 == *offset), "partition {partition}");
    }
    source.close().await.expect("leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_keeps_key_headers_and_timestamp() {
    let bench = Bench::new();
    bench.produce(7..8).await;
    let mut source = bench.source().await;
    let message = loop {
        if let SourceEvent::Message(message) = source.next(Demand::Messages).await.expect("the source goes on") {
            break message;
        }
    };
    assert_eq!(message.key.as_deref(), Some(&b"key-7"[..]));
    assert_eq!(message.headers[0], ("n".to_owned(), Some(bytes::Bytes::from_static(b"value-7"))));
    assert_eq!(message.headers[1], ("none".to_owned(), None));
    assert!(message.timestamp_ms.is_some_and(|ms| ms > 1_600_000_000_000));
    source.close().await.expect("leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_handover_pauses_resumes_and_loses_nothing() {
    let bench = Bench::new();
    bench.produce(0..500).await;
    let limits = Limits { messages_max: 4, bytes_max: 1 << 20 };
    let mut source = bench.source_within(limits, Duration::from_secs(1)).await;
    let mut seen = Seen::default();
    for round in 1..=10 {
        // The pipeline takes nothing: the thread polls on, the handover stays within its bound.
        let full = Instant::now() + PATIENCE;
        // It is filled again once it is half empty: with one less than it takes it may stay as it is.
        while source.handover.waiting() < 3 && Instant::now() < full {
            let _ = tokio::time::timeout(Duration::from_millis(5), source.next(Demand::ControlOnly))
                .await
                .map(|event| seen.handle(event.expect("the source goes on")));
        }
        assert!((3..=4).contains(&source.handover.waiting()), "{}", source.handover.waiting());
        seen.read(&mut source, |seen| seen.count() >= round * 50).await;
    }
    for (partition, values) in &seen.values {
        assert!(values.iter().enumerate().all(|(n, (offset, _))| n as i64 == *offset), "partition {partition}");
    }
    source.close().await.expect("leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_held_back_brings_nothing_while_others_go_on_and_loses_nothing() {
    let bench = Bench::new();
    bench.produce(0..300).await;
    let mut source = bench.source().await;
    let mut seen = Seen::default();
    seen.read(&mut source, |seen| seen.count() == 300).await;
    let held = TopicPartition { topic: "assets".into(), partition: 0 };
    let before = seen.values.get(&0).map_or(0, Vec::len);
    source.hold_back(&BTreeSet::from([held.clone()]));
    // The thread carries it out between two polls, so at the latest between these two messages.
    for count in 301..=302 {
        bench.fill(1, 1).await;
        seen.read(&mut source, |seen| seen.count() == count).await;
    }
    for partition in 0..PARTITIONS {
        bench.fill(partition, 50).await;
    }
    seen.read(&mut source, |seen| seen.count() == 402).await;
    // What is appended later comes, too, over several fetches: those before would have come with them.
    for count in 403..=407 {
        bench.fill(2, 1).await;
        seen.read(&mut source, |seen| seen.count() == count).await;
    }
    assert_eq!(seen.values.get(&0).map_or(0, Vec::len), before);
    source.hold_back(&BTreeSet::new());
    seen.read(&mut source, |seen| seen.count() == 457).await;
    for (partition, values) in &seen.values {
        assert!(values.iter().enumerate().all(|(n, (offset, _))| n as i64 == *offset), "partition {partition}");
    }
    assert_eq!(bench.health.reasons(), [], "it is no silent partition");
    source.close().await.expect("leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_share_the_partitions_and_miss_nothing() {
    for strategy in ["cooperative-sticky", "range"] {
        let mut bench = Bench::new();
        bench.settings.properties.insert("partition.assignment.strategy".into(), strategy.into());
        bench.produce(0..300).await;
        let mut one = bench.source().await;
        let (mut by_one, mut by_two) = (Seen::default(), Seen::default());
        by_one.read(&mut one, |seen| seen.count() >= 150).await;
        let mut two = bench.source().await;
        let deadline = Instant::now() + PATIENCE;
        let mut late = false;
        loop {
            for (source, seen) in [(&mut one, &mut by_one), (&mut two, &mut by_two)] {
                if let Ok(event) = tokio::time::timeout(Duration::from_millis(5), source.next(Demand::Messages)).await {
                    seen.handle(event.expect("the source goes on"));
                }
            }
            let balanced = !by_one.epochs.is_empty()
                && !by_two.epochs.is_empty()
                && by_one.epochs.len() + by_two.epochs.len() == PARTITIONS as usize;
            let count = by_one.values().chain(by_two.values()).collect::<BTreeSet<_>>().len();
            if balanced && !late && count == 300 {
                late = true;
                bench.produce(300..400).await;
            }
            if late && count == 400 {
                break;
            }
            assert!(Instant::now() < deadline, "{strategy}: {count} messages, {:?} {:?}", by_one.epochs, by_two.epochs);
        }
        // Some may have come twice: the mock cluster refuses commits from the moment that a rebalance starts. A real
        // broker takes them (`tests/it/kafka_source.rs`).
        one.close().await.expect("leaves");
        two.close().await.expect("leaves");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_in_a_retry_topic_holds_up_nothing_else_and_comes_in_time() {
    let bench = Bench::new();
    bench.cluster.create_topic("assets.retry.1", 1, 1).expect("a topic");
    let producer = Producer::new(&bench.settings).expect("a producer");
    let headers: [(&str, Option<&[u8]>); 3] = [
        ("__connect.errors.topic", Some(b"assets")),
        ("__connect.errors.partition", Some(b"2")),
        ("__connect.errors.offset", Some(b"77")),
    ];
    let hold = Instant::now();
    for value in ["one", "two"] {
        drop(producer.send("assets.retry.1", None, Some(value.as_bytes()), &headers).await.expect("taken"));
    }
    bench.produce(0..20).await;
    let source = async |delay| {
        let (name, after) = ("assets.retry.1".to_owned(), "assets".to_owned());
        let retries = vec![RetryTopic { name, after: after.clone(), source: after, delay }];
        // So little room that the partitions are paused and resumed meanwhile.
        let limits = Limits { messages_max: 4, ..Limits::default() };
        let (waits, health) = (waits(Duration::from_secs(1)), bench.health.clone());
        let source = KafkaSource::start(&bench.settings, retries, waits, health, Arc::default(), limits);
        source.await.expect("the mock cluster is there")
    };
    let next = async |source: &mut KafkaSource| loop {
        let event = tokio::time::timeout(PATIENCE, source.next(Demand::Messages)).await.expect("it goes on");
        if let SourceEvent::Message(message) = event.expect("the source goes on") {
            return message;
        }
    };

    let mut waiting = source(Duration::from_secs(3600)).await;
    for _ in 0..20 {
        let message = next(&mut waiting).await;
        assert_eq!((&*message.position.topic, &message.retry), ("assets", &None));
    }
    Box::new(waiting).close().await.expect("leaves");

    let delay = Duration::from_secs(1);
    let mut source = source(delay).await;
    let mut late = Vec::new();
    while late.len() < 2 {
        let message = next(&mut source).await;
        late.extend(message.retry.clone().map(|retry| (retry.origin.position.to_string(), message)));
    }
    // A broker's timestamps are in milliseconds.
    assert!(hold.elapsed() + Duration::from_millis(2) >= delay, "{:?}", hold.elapsed());
    let found = late.iter().map(|(origin, message)| (origin.as_str(), message.position.to_string()));
    let expected = ["assets.retry.1[0]@0", "assets.retry.1[0]@1"].map(|position| ("assets[2]@77", position.to_owned()));
    assert_eq!(found.collect::<Vec<_>>(), expected);
    assert!(bench.health.reasons().is_empty());
    Box::new(source).close().await.expect("leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_absence_shows_in_health_and_passes() {
    let bench = Bench::new();
    bench.produce(0..10).await;
    let mut source = bench.source().await;
    let mut seen = Seen::default();
    seen.read(&mut source, |seen| seen.count() == 10).await;
    bench.cluster.broker_down(-1).expect("the mock broker stops");
    let health = bench.health.clone();
    seen.read(&mut source, |_| health.reasons().iter().any(|(component, _)| *component == Component::Kafka)).await;
    bench.cluster.broker_up(-1).expect("the mock broker starts");
    seen.read(&mut source, |_| health.reasons().is_empty()).await;
    bench.produce(10..20).await;
    seen.read(&mut source, |seen| seen.count() == 20).await;
    source.close().await.expect("leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_brings_nothing_is_named_until_it_does() {
    let bench = Bench::of(2);
    for partition in 0..PARTITIONS {
        bench.cluster.partition_leader("assets", partition, Some(1 + i32::from(partition == 0))).expect("a leader");
    }
    bench.cluster.coordinator(MockCoordinator::Group(bench.settings.group_id.clone()), 1).expect("a coordinator");
    let waits = Waits { stalled: Duration::from_secs(1), ..waits(Duration::from_secs(1)) };
    let source =
        KafkaSource::start(&bench.settings, Vec::new(), waits, bench.health.clone(), Arc::default(), Limits::default());
    let mut source = source.await.expect("the mock cluster is there");
    bench.produce(0..20).await;
    let mut seen = Seen::default();
    seen.read(&mut source, |seen| seen.count() == 20).await;
    // The leader of partition 0 alone: the brokers as a whole are there, and the group goes on.
    bench.cluster.broker_down(2).expect("the mock broker stops");
    let health = bench.health.clone();
    let named = |_: &Seen| {
        health
            .reasons()
            .iter()
            .any(|(component, why)| *component == Component::Kafka && why.contains("assets[0] delivered nothing"))
    };
    seen.read(&mut source, named).await;
    let why = health.reasons().remove(0).1;
    assert!(!why.contains("assets[1]"), "the others are idle, and at their ends: {why}");
    bench.cluster.broker_up(2).expect("the mock broker starts");
    seen.read(&mut source, |_| health.reasons().is_empty()).await;
    Box::new(source).close().await.expect("leaves");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_said_at_connect_with_the_next_step() {
    let fatal = async |settings: &KafkaSettings, drain: Duration| {
        let metrics = Arc::new(Metrics::default());
        let waits = Waits { connect: Duration::from_millis(1500), ..waits(drain) };
        match KafkaSource::start(settings, Vec::new(), waits, Health::new(), metrics, Limits::default()).await {
            Err(error) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let bench = Bench::new();
    let second = Duration::from_secs(1);
    bench.cluster.topic_error("gone", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).expect("an error");
    let text = fatal(&KafkaSettings { topics: vec!["gone".into()], ..bench.settings.clone() }, second).await;
    assert!(text.contains("\"gone\"") && text.contains("create the topic"), "{text}");

    bench
        .cluster
        .topic_error("closed", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        .expect("an error");
    let text = fatal(&KafkaSettings { topics: vec!["closed".into()], ..bench.settings.clone() }, second).await;
    assert!(text.contains("\"closed\"") && text.contains("READ"), "{text}");

    // Port 1 of the loopback address: nobody listens there.
    let text = fatal(&KafkaSettings { brokers: vec!["127.0.0.1:1".into()], ..bench.settings.clone() }, second).await;
    assert!(text.contains("127.0.0.1:1") && text.contains("kafka.brokers"), "{text}");
    // The broker's own error came early, and requests that timed out since then do not hide it.
    assert!(text.contains("Connection refused"), "{text}");

    let text = fatal(&KafkaSettings { session_timeout_ms: 45_000, ..bench.settings.clone() }, 45 * second).await;
    assert!(
        text.contains("drain_deadline_ms is 45000") && text.contains("session_timeout_ms, which is 45000"),
        "{text}"
    );
    assert!(text.contains("max.poll.interval.ms, which is 300000"), "{text}");
    let text = fatal(&KafkaSettings { topics: Vec::new(), ..bench.settings.clone() }, second).await;
    assert!(text.contains("kafka.topics"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_counted_by_the_pipeline_alone() {
    let (bench, metrics) = (Bench::new(), Arc::new(Metrics::default()));
    let drain = Duration::from_secs(1);
    let source = KafkaSource::start(
        &bench.settings,
        Vec::new(),
        waits(drain),
        Health::new(),
        metrics.clone(),
        Limits::default(),
    );
    let mut source = Box::new(source.await.expect("the mock cluster is there"));
    source.commit(Vec::new()).await.expect("the source takes it over");
    assert!(metrics.encode().contains("clipstream_commits_total 0"), "{}", metrics.encode());
    source.close().await.expect("leaves");
}

#[tokio::test]
async fn a_panic_in_the_thread_ends_the_source() {
    let handover = Handover::new(Limits::default());
    assert!(guarded(&handover, || panic!("out of {}", "luck")).is_err());
    let why = handover.next(Demand::Messages).await.expect_err("the source is broken");
    assert!(why.message.contains("out of luck"), "{why}");
}
