use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message as _, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::dead_letter::StoredLetter;
use crate::dead_letter::read::{Found, Start, from_topics};
use crate::domain::{Class, Fault, MediaReason, Message, Position, Stage};

fn letter(value: Option<&'static [u8]>, headers: Vec<(String, Option<Bytes>)>) -> DeadLetter {
    DeadLetter {
        message: Message {
            position: Position { topic: "assets".into(), partition: 3, offset: 42 },
            epoch: 1,
            key: Some(Bytes::from_static(b"\xff\x00key")),
            value: value.map(Bytes::from_static),
            headers,
            timestamp_ms: Some(1_700_000_000_123),
            topic_id: None,
            leader_epoch: None,
            retry: None,
            suspicion: None,
        },
        failure: Fault::new(MediaReason::HttpNotFound, "image \"https://x/a.jpg\": 404").at(Stage::Fetch),
        attempts: 2,
        requests: Vec::new(),
    }
}

fn records(brokers: &str, topic: &str, count: usize) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "reader").create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&list).expect("an assignment");
    let (mut out, start) = (Vec::new(), Instant::now());
    while out.len() < count {
        assert!(start.elapsed() < Duration::from_secs(30), "{} of {count} letters arrived", out.len());
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            out.push(message.detach());
        }
    }
    out
}

fn header(message: &OwnedMessage, name: &str) -> Vec<Option<Vec<u8>>> {
    let Some(headers) = message.headers() else { return Vec::new() };
    headers.iter().filter(|h| h.key == name).map(|h| h.value.map(<[u8]>::to_vec)).collect()
}

#[tokio::test]
async fn a_letter_is_the_message_and_the_reason_of_its_last_failure() {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic("assets.dlq", 1, 1).expect("a topic");
    let settings = KafkaSettings {
        brokers: vec![cluster.bootstrap_servers()],
        group_id: "catalog".into(),
        ..KafkaSettings::default()
    };
    let letters = KafkaDeadLetters::new(&settings, &DeadLetterSettings::default()).expect("a producer");
    let text = |s: &'static str| Some(Bytes::from_static(s.as_bytes()));
    let headers = vec![
        ("traceparent".to_owned(), text("00-ab-cd-01")),
        ("empty".to_owned(), None),
        ("__connect.errors.stage".to_owned(), text("decode")),
        ("clipstream.errors.attempts".to_owned(), text("9")),
    ];
    letters.send(&letter(Some(b"{\"id\""), headers)).await.expect("the broker takes it");
    letters.send(&letter(None, Vec::new())).await.expect("the broker takes a tombstone");

    let read = records(&cluster.bootstrap_servers(), "assets.dlq", 2);
    assert_eq!(read[0].key(), Some(&b"\xff\x00key"[..]));
    assert_eq!(read[0].payload(), Some(&b"{\"id\""[..]));
    assert!(read[0].timestamp().to_millis() > Some(1_700_000_000_123), "that of the failure, not the message's own");
    assert_eq!(read[1].payload(), None);
    let expected = [
        ("traceparent", "00-ab-cd-01"),
        ("__connect.errors.topic", "assets"),
        ("__connect.errors.partition", "3"),
        ("__connect.errors.offset", "42"),
        ("__connect.errors.connector.name", "catalog"),
        ("__connect.errors.task.id", "clipstream"),
        ("__connect.errors.stage", "fetch"),
        ("__connect.errors.class.name", "clipstream.fetch"),
        ("__connect.errors.exception.class.name", "http_not_found"),
        ("__connect.errors.exception.message", "image \"https://x/a.jpg\": 404; check that the file is still there"),
        ("clipstream.errors.class", "permanent"),
        ("clipstream.errors.attempts", "2"),
        ("clipstream.errors.message_timestamp", "1700000000123"),
    ];
    for (name, value) in expected {
        assert_eq!(header(&read[0], name), [Some(value.as_bytes().to_vec())], "{name}");
    }
    assert_eq!(header(&read[0], "empty"), [None]);
    assert_eq!(header(&read[0], "clipstream.errors.timestamp").len(), 1);
}

#[tokio::test]
async fn what_failed_transiently_goes_through_its_retry_topics_first() {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    for topic in ["assets.retry.1", "assets.retry.2", "assets.dlq"] {
        cluster.create_topic(topic, 1, 1).expect("a topic");
    }
    let settings = KafkaSettings {
        brokers: vec![cluster.bootstrap_servers()],
        topics: vec!["assets".into()],
        ..KafkaSettings::default()
    };
    let topics = DeadLetterSettings { retry_delays_s: vec![60, 600], ..DeadLetterSettings::default() };
    let letters = KafkaDeadLetters::new(&settings, &topics).expect("a producer");
    let mut letter = letter(Some(b"{}"), vec![("traceparent".to_owned(), Some(Bytes::from_static(b"00-ab")))]);
    assert_eq!(letters.send(&letter).await.expect("taken"), Sent::DeadLetter, "it can never succeed");
    letter.failure.fault.class = Class::Transient;
    let first = letter.message.origin();
    // As the consumer of a retry topic makes a message of what is in it.
    let back = |found: &OwnedMessage| {
        let headers = found.headers().expect("headers").iter();
        let headers: Vec<_> = headers.map(|h| (h.key.to_owned(), h.value.map(Bytes::copy_from_slice))).collect();
        let position = Position { topic: found.topic().into(), partition: 0, offset: found.offset() };
        Message {
            position,
            epoch: 1,
            key: found.key().map(Bytes::copy_from_slice),
            value: found.payload().map(Bytes::copy_from_slice),
            retry: kafka_client::retry("assets", &headers),
            suspicion: None,
            headers,
            timestamp_ms: found.timestamp().to_millis(),
            topic_id: None,
            leader_epoch: None,
        }
    };
    for (topic, attempts) in [("assets.retry.1", 2), ("assets.retry.2", 4)] {
        assert_eq!(letters.send(&letter).await.expect("taken"), Sent::RetryScheduled);
        let found = &records(&cluster.bootstrap_servers(), topic, 1)[0];
        letter.message = back(found);
        let retry = letter.message.retry.as_ref().expect("it says where it was");
        assert_eq!((&retry.origin, retry.attempts), (&first, attempts), "{topic}");
        assert!(letter.message.timestamp_ms > first.timestamp_ms, "{topic}: of the failure");
        assert_eq!((found.key(), found.payload()), (Some(&b"\xff\x00key"[..]), Some(&b"{}"[..])));
        assert_eq!(header(found, "traceparent").len(), 1);
    }
    assert_eq!(letters.send(&letter).await.expect("taken"), Sent::DeadLetter);
    let dead = records(&cluster.bootstrap_servers(), "assets.dlq", 2);
    let expected = [
        ("__connect.errors.topic", "assets"),
        ("__connect.errors.offset", "42"),
        ("clipstream.errors.attempts", "6"),
        ("clipstream.errors.class", "transient"),
        ("clipstream.errors.message_timestamp", "1700000000123"),
    ];
    for (name, value) in expected {
        assert_eq!(header(&dead[1], name), [Some(value.as_bytes().to_vec())], "{name}");
    }
}

/// As `dlq replay` reads them.
async fn stored(settings: &KafkaSettings, topic: &str) -> Vec<StoredLetter> {
    let mut letters = from_topics(settings, &DeadLetterSettings::default(), Some(topic.into()), Start::new());
    let mut out = Vec::new();
    while let Some(found) = letters.recv().await {
        match found.expect("the topic is read") {
            Found::Letter(letter) => out.push(*letter),
            Found::Unreadable(unreadable) => panic!("{unreadable:?}"),
        }
    }
    out
}

fn refuse_produce(cluster: &MockCluster<'_, DefaultProducerContext>, errors: &[RDKafkaRespErr]) {
    cluster.request_errors(RDKafkaApiKey::Produce, errors);
}

fn one_topic(topic: &str) -> (MockCluster<'static, DefaultProducerContext>, KafkaSettings) {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic(topic, 1, 1).expect("a topic");
    let settings = KafkaSettings {
        brokers: vec![cluster.bootstrap_servers()],
        topics: vec!["assets".into()],
        ..KafkaSettings::default()
    };
    (cluster, settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_too_large_is_written_in_parts_and_read_back_whole() {
    let (cluster, settings) = one_topic("assets.dlq");
    let letters = KafkaDeadLetters::new(&settings, &DeadLetterSettings::default()).expect("a producer");
    let value: &'static [u8] = Vec::leak((0..100_000_u32).map(|n| (n % 251) as u8).collect());
    let own = vec![("h".to_owned(), Some(Bytes::from_static(b"1")))];
    // Whole, in two parts, and in four of which the second is refused: then all comes again, smaller.
    let large = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    let fine = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    refuse_produce(&cluster, &[large, large, fine, large]);
    letters.send(&letter(Some(value), own.clone())).await.expect("it is taken in parts");
    let read = stored(&settings, "assets.dlq").await;
    assert_eq!(read.len(), 1);
    assert_eq!((read[0].key.as_deref(), read[0].value.as_deref()), (Some(&b"\xff\x00key"[..]), Some(value)));
    assert_eq!((&read[0].headers, read[0].timestamp_ms), (&own, Some(1_700_000_000_123)));
    assert_eq!(read[0].reason.as_deref(), Some("http_not_found"));

    // One that cannot get smaller says why.
    refuse_produce(&cluster, &[large]);
    let error = letters.send(&letter(Some(b"small"), Vec::new())).await.expect_err("its headers are too large");
    assert!(error.to_string().contains("max.message.bytes"), "{error}");
    letters.send(&letter(Some(b"small"), Vec::new())).await.expect("the next attempt succeeds");
}

/// Compaction keeps the last record of a key, and refuses one without a key (Kafka's `cleanup.policy`).
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_takes_no_record_without_a_key_gets_one_and_the_message_comes_back_as_it_was() {
    let (cluster, settings) = one_topic("assets.dlq");
    let letters = KafkaDeadLetters::new(&settings, &DeadLetterSettings::default()).expect("a producer");
    let mut keyless = letter(Some(b"{}"), Vec::new());
    keyless.message.key = None;
    refuse_produce(&cluster, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_RECORD]);
    letters.send(&keyless).await.expect("it is taken with a key");
    // From now on it is known.
    letters.send(&letter(None, Vec::new())).await.expect("a tombstone");
    let mut read = stored(&settings, "assets.dlq").await;
    read.sort_by_key(|letter| letter.key.is_some());
    let found: Vec<_> = read.iter().map(|letter| (letter.key.as_deref(), letter.value.as_deref())).collect();
    assert_eq!(found, [(None, Some(&b"{}"[..])), (Some(&b"\xff\x00key"[..]), None)]);
    let raw = records(&cluster.bootstrap_servers(), "assets.dlq", 2);
    assert!(raw.iter().all(|record| record.key().is_some_and(|key| key != b"\xff\x00key")), "{raw:?}");
    assert!(raw.iter().all(|record| record.payload().is_some()), "a record without a value would delete: {raw:?}");
}

/// What librdkafka cannot go on after with the same client, and an operator can mend.
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_was_given_up_is_made_anew() {
    let (cluster, settings) = one_topic("assets.dlq");
    let letters = KafkaDeadLetters::new(&settings, &DeadLetterSettings::default()).expect("a producer");
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::InitProducerId, &[denied]);
    let error = letters.send(&letter(Some(b"{}"), Vec::new())).await.expect_err("it may not write yet");
    assert!(error.to_string().contains("uthorization") && error.to_string().contains("grant"), "{error}");
    letters.send(&letter(Some(b"{}"), Vec::new())).await.expect("the right was granted");
    assert_eq!(stored(&settings, "assets.dlq").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_retry_topic_can_hold_becomes_a_dead_letter() {
    let (cluster, settings) = one_topic("assets.dlq");
    cluster.create_topic("assets.retry.1", 1, 1).expect("a topic");
    let topics = DeadLetterSettings { retry_delays_s: vec![60], ..DeadLetterSettings::default() };
    let letters = KafkaDeadLetters::new(&settings, &topics).expect("a producer");
    let mut letter = letter(Some(b"{}"), Vec::new());
    letter.failure.fault.class = Class::Transient;
    refuse_produce(&cluster, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    assert_eq!(letters.send(&letter).await.expect("taken"), Sent::DeadLetter);
    assert_eq!(letters.send(&letter).await.expect("taken"), Sent::RetryScheduled);
}

#[tokio::test]
async fn what_the_broker_refuses_is_an_error_with_the_next_step() {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic("assets.dlq", 1, 1).expect("a topic");
    cluster.request_errors(
        rdkafka::types::RDKafkaApiKey::Produce,
        &[rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE],
    );
    let settings = KafkaSettings { brokers: vec![cluster.bootstrap_servers()], ..KafkaSettings::default() };
    let letters = KafkaDeadLetters::new(&settings, &DeadLetterSettings::default()).expect("a producer");
    let error = letters.send(&letter(Some(b"large"), Vec::new())).await.expect_err("the broker refuses it");
    assert!(error.to_string().contains("max.message.bytes"), "{error}");
    letters.send(&letter(Some(b"large"), Vec::new())).await.expect("the next attempt succeeds");
}
