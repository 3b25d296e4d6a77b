use std::time::Duration;

use bytes::Bytes;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use super::*;
use crate::dead_letter::{DeadLetter, DeadLetters, FileDeadLetters, KafkaDeadLetters};
use crate::domain::{Fault, MediaReason, Message, Stage};

const PATIENCE: Duration = Duration::from_secs(60);

fn letter(topic: &str, offset: i64) -> DeadLetter {
    DeadLetter {
        message: Message {
            position: Position { topic: topic.into(), partition: 0, offset },
            epoch: 1,
            key: Some(format!("key-{offset}").into()),
            value: (offset % 2 == 0).then(|| Bytes::from_static(b"{}")),
            headers: vec![("clipstream.replays".into(), Some(Bytes::from_static(b"1")))],
            timestamp_ms: Some(1_700_000_000_000 + offset),
            topic_id: None,
            leader_epoch: None,
            retry: None,
            suspicion: None,
        },
        failure: Fault::new(MediaReason::HttpNotFound, "404").at(Stage::Fetch),
        attempts: 2,
        requests: Vec::new(),
    }
}

async fn all(mut letters: Letters) -> Result<Vec<StoredLetter>, String> {
    let mut out = Vec::new();
    let reading = async {
        while let Some(found) = letters.recv().await {
            match found.map_err(|error| error.to_string())? {
                Found::Letter(letter) => out.push(*letter),
                Found::Unreadable(unreadable) => panic!("{unreadable:?}"),
            }
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("reading ends").map(|()| out)
}

async fn cluster(topics: &[&str], letters: i64) -> (MockCluster<'static, DefaultProducerContext>, KafkaSettings) {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    let settings = KafkaSettings {
        brokers: vec![cluster.bootstrap_servers()],
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        ..KafkaSettings::default()
    };
    let dead_letters = KafkaDeadLetters::new(&settings, &DeadLetterSettings::default()).expect("a producer");
    for topic in topics {
        cluster.create_topic(&format!("{topic}.dlq"), 2, 1).expect("a topic");
        for offset in 0..letters {
            dead_letters.send(&letter(topic, offset)).await.expect("the broker takes it");
        }
    }
    (cluster, settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_topic_is_read_to_its_end_and_from_where_it_is_asked() {
    let (_cluster, mut settings) = cluster(&["a", "b"], 20).await;
    settings.topics.push("never-failed".into());
    let dead_letters = DeadLetterSettings::default();
    let read = all(from_topics(&settings, &dead_letters, None, Start::new())).await.unwrap();
    assert_eq!(read.len(), 40);
    for topic in ["a", "b"] {
        let source = |letter: &StoredLetter| letter.source.as_ref().map(|s| (s.topic.to_string(), s.offset));
        let mut offsets: Vec<_> = read.iter().filter_map(source).filter(|(t, _)| t == topic).map(|(_, n)| n).collect();
        offsets.sort_unstable();
        assert_eq!(offsets, (0..20).collect::<Vec<_>>());
    }
    let one = &read[0];
    let n = one.source.as_ref().unwrap().offset;
    assert_eq!(one.key.as_deref(), Some(format!("key-{n}").as_bytes()));
    assert_eq!(one.value.is_none(), n % 2 == 1);
    assert_eq!((one.replays(), one.timestamp_ms), (1, Some(1_700_000_000_000 + n)));
    let texts = [&one.class, &one.stage, &one.reason, &one.message].map(|text| text.as_deref().unwrap());
    assert_eq!(texts, ["permanent", "fetch", "http_not_found", "404; check that the file is still there"]);
    assert!(one.attempts == Some(2) && one.failed_at.is_some());

    // From the last letter of one partition, and past the end of the other.
    let partition = |n: i32| read.iter().filter(|l| &*l.position.topic == "b.dlq" && l.position.partition == n).count();
    let counts = [0, 1].map(|n| i64::try_from(partition(n)).unwrap());
    let start = [(("b.dlq".to_owned(), 0), counts[0] - 1), (("b.dlq".to_owned(), 1), counts[1] + 5)].into();
    let read = all(from_topics(&settings, &dead_letters, Some("b.dlq".into()), start)).await.unwrap();
    let positions: Vec<_> = read.iter().map(|letter| (letter.position.partition, letter.position.offset)).collect();
    assert_eq!(positions, [(0, counts[0] - 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_names_the_topics_of_those_that_it_matches() {
    let (cluster, settings) = cluster(&["shop-a", "other"], 3).await;
    cluster.create_topic("shop-a", 1, 1).expect("a topic");
    cluster.create_topic("other", 1, 1).expect("a topic");
    let settings = KafkaSettings { topics: vec!["^shop-.*".into()], ..settings };
    let read = all(from_topics(&settings, &DeadLetterSettings::default(), None, Start::new())).await.unwrap();
    assert_eq!(read.len(), 3);
    assert!(read.iter().all(|letter| &*letter.position.topic == "shop-a.dlq"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_named() {
    let (cluster, settings) = cluster(&["a"], 1).await;
    let gone = rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    cluster.topic_error("gone", gone).expect("an error");
    let dead_letters = DeadLetterSettings::default();
    let error = all(from_topics(&settings, &dead_letters, Some("gone".into()), Start::new())).await.unwrap_err();
    assert!(error.contains("\"gone\"") && error.contains("--topic"), "{error}");
    // Port 1 of the loopback address: nobody listens there.
    let settings = KafkaSettings { brokers: vec!["127.0.0.1:1".into()], ..settings };
    let error = all(from_topics(&settings, &dead_letters, None, Start::new())).await.unwrap_err();
    assert!(error.contains("127.0.0.1:1") && error.contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn a_file_is_read_by_its_lines() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("dead.jsonl");
    let letters = FileDeadLetters::new(Some(&path)).expect("the file opens");
    for offset in 0..3 {
        letters.send(&letter("lines.jsonl", offset)).await.expect("the letter is written");
    }
    let read = all(from_file(&path, Start::new())).await.unwrap();
    let lines: Vec<_> =
        read.iter().map(|letter| (letter.position.offset, letter.source.as_ref().unwrap().offset)).collect();
    assert_eq!(lines, [(0, 0), (1, 1), (2, 2)]);
    assert_eq!((read[1].value.as_deref(), read[2].value.as_deref()), (None, Some(&b"{}"[..])));
    let start: Start = [((path.to_string_lossy().into_owned(), 0), 2)].into();
    assert_eq!(all(from_file(&path, start)).await.unwrap().len(), 1);

    std::fs::write(&path, "\n{\"id\": \"a\"}\n").expect("the file is written");
    let error = all(from_file(&path, Start::new())).await.unwrap_err();
    assert!(error.contains("line 2: not a dead letter") && error.contains("dead.jsonl"), "{error}");
    let error = all(from_file(Path::new("/no/such/dead.jsonl"), Start::new())).await.unwrap_err();
    assert!(error.contains("/no/such/dead.jsonl"), "{error}");
}

/// By where the messages were; `None`: something that cannot be read.
async fn offsets(mut letters: Letters) -> Vec<Option<i64>> {
    let mut out = Vec::new();
    while let Some(found) = letters.recv().await {
        out.push(match found.expect("reading goes on") {
            Found::Letter(letter) => letter.source.map(|source| source.offset),
            Found::Unreadable(_) => None,
        });
    }
    out
}

#[tokio::test]
async fn a_torn_line_is_passed_over_and_a_letter_behind_it_on_the_same_line_is_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("dead.jsonl");
    let letters = FileDeadLetters::new(Some(&path)).expect("the file opens");
    for offset in 0..2 {
        letters.send(&letter("lines.jsonl", offset)).await.expect("the letter is written");
    }
    let text = std::fs::read_to_string(&path).expect("the file is there");
    let (first, second) = text.trim_end().split_once('\n').expect("two lines");
    let torn = &first[..first.len() / 2];
    let cases = [
        (format!("{torn}\n{second}\n"), vec![None, Some(1)]),
        (format!("{second}\n{torn}"), vec![Some(1), None]),
        (format!("{torn}{second}\n{first}\n"), vec![None, Some(1), Some(0)]),
    ];
    for (text, expected) in cases {
        std::fs::write(&path, &text).expect("the file is written");
        assert_eq!(offsets(from_file(&path, Start::new())).await, expected, "{text}");
    }
    std::fs::write(&path, "id,caption\n1,a dog\n").expect("the file is written");
    let mut letters = from_file(&path, Start::new());
    let mut last = None;
    while let Some(found) = letters.recv().await {
        last = Some(found);
    }
    let error = last.and_then(Result::err).expect("not one letter is in it").to_string();
    assert!(error.contains("line 1: not a dead letter") && error.contains("id,caption"), "{error}");
}
