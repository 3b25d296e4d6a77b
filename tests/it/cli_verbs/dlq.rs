//! `dlq list` and `dlq replay`, with letters that a broker or a file keeps.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use clipstream::config::DeadLetterSettings;
use clipstream::dead_letter::{DeadLetter, DeadLetters, FileDeadLetters, KafkaDeadLetters};
use clipstream::domain::{Failure, Fault, MediaReason, Message, Position, Stage};
use clipstream::source::Producer;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message as _, OwnedMessage};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use super::{Broker, Home, run, run_with_input};

const PATIENCE: Duration = Duration::from_secs(60);

fn letter(topic: &str, offset: i64, failure: Failure) -> DeadLetter {
    let message = Message {
        position: Position { topic: topic.into(), partition: 0, offset },
        epoch: 1,
        key: Some(format!("key-{offset}").into()),
        value: Some(format!("value-{offset}").into()),
        headers: vec![("traceparent".into(), Some(Bytes::from_static(b"00-ab-cd-01")))],
        timestamp_ms: Some(1_700_000_000_000),
        topic_id: None,
        leader_epoch: None,
        retry: None,
        suspicion: None,
    };
    DeadLetter { message, failure, attempts: 1, requests: Vec::new() }
}

/// What a letter says of [`not_found`]: with the next step.
const NOT_FOUND: &str = "image \"https://x/a.jpg\": 404; check that the file is still there";

fn not_found() -> Failure {
    Fault::new(MediaReason::HttpNotFound, "image \"https://x/a.jpg\": 404").at(Stage::Fetch)
}

fn slow() -> Failure {
    Fault::new(MediaReason::FetchTimeout, "slow").at(Stage::Fetch)
}

/// A topic with a dead-letter topic of its own.
struct Topics {
    broker: Broker,
    source: String,
    dead: String,
}

impl Topics {
    async fn new(name: &str) -> Self {
        let broker = Broker::new();
        let (source, dead) = (broker.topic(name).await, broker.topic(&format!("{name}.dlq")).await);
        Self { broker, source, dead }
    }

    async fn send_letters(&self, letters: &[DeadLetter]) {
        let settings = DeadLetterSettings { topic: self.dead.clone(), ..DeadLetterSettings::default() };
        let dead_letters = KafkaDeadLetters::new(&self.broker.settings(), &settings).unwrap();
        for letter in letters {
            dead_letters.send(letter).await.unwrap();
        }
    }

    fn run(&self, arguments: &[&str]) -> super::Ran {
        let set = [
            format!("kafka.brokers={}", self.broker.address),
            format!("kafka.topics={}", self.source),
            format!("dead_letter.topic={}", self.dead),
        ];
        let set = set.iter().flat_map(|set| ["--set", set]);
        run(&["dlq"].into_iter().chain(arguments.iter().copied()).chain(set).collect::<Vec<_>>())
    }

    fn replay(&self, arguments: &[&str]) -> Value {
        let all: Vec<&str> = ["replay", "--json"].iter().chain(arguments).copied().collect();
        self.run(&all).ended(0).lines().pop().expect("it reports")
    }

    /// Every message of the source topic.
    fn messages(&self) -> Vec<OwnedMessage> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.broker.address).set("group.id", &self.source);
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let (_, end) = consumer.fetch_watermarks(&self.source, 0, PATIENCE).expect("the broker answers");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.source, 0, Offset::Beginning).expect("an offset");
        consumer.assign(&list).expect("an assignment");
        let (mut out, started) = (Vec::new(), std::time::Instant::now());
        while (out.len() as i64) < end {
            assert!(started.elapsed() < PATIENCE, "{} of {end} messages", out.len());
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                out.push(message.detach());
            }
        }
        out
    }
}

fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let headers = message.headers()?;
    let value = headers.iter().find(|h| h.key == name)?.value?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    run(&["dlq", "list"]).ended(2).says("kafka.brokers is not set");
    run(&["dlq", "replay"]).ended(2).says("kafka.brokers is not set");
    run(&["dlq", "list", "--set", "kafka.brokers=127.0.0.1:1"]).ended(2).says("no topic to read");
    run(&["dlq", "list", "--since", "yesterday"]).ended(2).says("or an age");
    run(&["dlq", "list", "--file", "dead.jsonl", "--values"]).ended(2).says("--values needs --json");
    run(&["dlq", "list", "--class", "outage"]).ended(2).says("permanent");
    run(&["dlq", "list", "--from", "catalog.dlq"]).ended(2).says("TOPIC:PARTITION:OFFSET");
    run(&["dlq", "replay", "--file", "dead.jsonl"]).ended(2).says("expected --to TOPIC");
    run(&["dlq", "list", "--file", "no-such.jsonl"]).ended(3).says("no-such.jsonl");
    let nobody = ["dlq", "list", "--topic", "t.dlq", "--set", "kafka.brokers=127.0.0.1:1"];
    run(&nobody).ended(3).says("no Kafka broker of [127.0.0.1:1] answered within 15 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_and_filtered() {
    let topics = Topics::new("list").await;
    assert_eq!(topics.run(&["list", "--json"]).ended(0).stdout, "", "nothing failed yet");
    let mut binary = letter(&topics.source, 2, not_found());
    binary.message.value = Some(Bytes::from_static(b"\xff"));
    let letters = [letter(&topics.source, 0, not_found()), letter(&topics.source, 1, slow()), binary];
    topics.send_letters(&letters).await;

    let listed = topics.run(&["list", "--json"]).ended(0).lines();
    assert_eq!(listed.len(), 3);
    let first = &listed[0];
    assert_eq!(first["letter"], json!({ "topic": topics.dead, "partition": 0, "offset": 0 }));
    assert_eq!(first["source"], json!({ "topic": topics.source, "partition": 0, "offset": 0 }));
    let said = ["key", "class", "stage", "reason", "message"].map(|name| first[name].as_str().unwrap());
    assert_eq!(said, ["key-0", "permanent", "fetch", "http_not_found", NOT_FOUND]);
    assert_eq!((&first["attempts"], &first["replays"]), (&1.into(), &0.into()));
    assert_eq!((&first["timestamp_ms"], first.get("value")), (&1_700_000_000_000_i64.into(), None));

    let offsets = |arguments: &[&str]| -> Vec<i64> {
        let all: Vec<&str> = ["list", "--json"].iter().chain(arguments).copied().collect();
        let lines = topics.run(&all).ended(0).lines();
        lines.iter().map(|line| line["letter"]["offset"].as_i64().unwrap()).collect()
    };
    assert_eq!(offsets(&["--class", "transient"]), [1]);
    assert_eq!(offsets(&["--reason", "http_not_found,http_gone", "--stage", "fetch"]), [0, 2]);
    assert_eq!(offsets(&["--stage", "decode,embed"]), [0; 0]);
    assert_eq!(offsets(&["--source-topic", &topics.source, "--limit", "2"]), [0, 1]);
    assert_eq!(offsets(&["--source-topic", "elsewhere"]), [0; 0]);
    assert_eq!(offsets(&["--since", "1h"]), [0, 1, 2], "the time is that of the failure");
    assert_eq!(offsets(&["--until", "1h"]), [0; 0]);
    assert_eq!(offsets(&["--from", &format!("{}:0:2", topics.dead)]), [2]);
    let whole = topics.run(&["list", "--json", "--values", "--topic", &topics.dead]).ended(0).lines();
    assert_eq!((&whole[1]["value"], &whole[2]["value"]), (&"value-1".into(), &json!({"base64": "/w=="})));
    assert_eq!(whole[0]["headers"], json!([["traceparent", "00-ab-cd-01"]]));

    let table = topics.run(&["list", "--class", "transient"]).ended(0).stdout;
    assert!(table.contains("fetch_timeout") && !table.contains("http_not_found"), "{table}");
    assert!(
        table.contains(&format!("1 of 3 dead letters matched; continue with --from {}:0:3", topics.dead)),
        "{table}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_go_back_as_new_messages_until_the_loop_guard() {
    let topics = Topics::new("replay").await;
    let mut tombstone = letter(&topics.source, 1, slow());
    tombstone.message.value = None;
    topics.send_letters(&[letter(&topics.source, 0, not_found()), tombstone]).await;

    let counted = topics.replay(&["--dry-run"]);
    assert_eq!((&counted["replayed"], &counted["dry_run"]), (&2.into(), &true.into()));
    assert_eq!(topics.messages().len(), 0, "a dry run sends nothing");

    let report = topics.replay(&["--class", "transient"]);
    let next = format!("{}:0:2", topics.dead);
    let expected = json!({
        "read": 2, "unreadable": 0, "matched": 1, "replayed": 1, "skipped_loop_guard": 0, "failed": 0, "topics": { &topics.source: 1 },
        "dry_run": false, "next": next,
    });
    assert_eq!(report, expected);
    assert_eq!(topics.replay(&[])["replayed"], 2);
    let nothing_new = topics.replay(&["--from", &next]);
    assert_eq!((&nothing_new["read"], &nothing_new["next"]), (&0.into(), &next.as_str().into()));

    let messages = topics.messages();
    assert_eq!(messages.len(), 3);
    assert_eq!((messages[0].key(), messages[0].payload()), (Some(&b"key-1"[..]), None), "a tombstone stays one");
    assert_eq!((messages[1].key(), messages[1].payload()), (Some(&b"key-0"[..]), Some(&b"value-0"[..])));
    let names: Vec<_> = messages[1].headers().unwrap().iter().map(|header| header.key.to_owned()).collect();
    assert_eq!(names, ["traceparent", "clipstream.replays"], "what tells of the failure is gone");
    assert!(messages[1].timestamp().to_millis().unwrap() > 1_700_000_000_000, "it is a new message");
    assert_eq!(header(&messages[1], "clipstream.replays").as_deref(), Some("1"));

    // It fails again, and again: the count goes with it.
    let mut again = letter(&topics.source, 2, slow());
    again.message.headers = vec![("clipstream.replays".into(), Some(Bytes::from_static(b"2")))];
    let mut last = again.clone();
    last.message.headers = vec![("clipstream.replays".into(), Some(Bytes::from_static(b"3")))];
    topics.send_letters(&[again, last]).await;
    let report = topics.replay(&["--from", &next]);
    assert_eq!((&report["replayed"], &report["skipped_loop_guard"]), (&1.into(), &1.into()));
    assert_eq!(header(&topics.messages()[3], "clipstream.replays").as_deref(), Some("3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_letter_cannot_go_is_said_and_it_is_offered_again() {
    let topics = Topics::new("nowhere").await;
    // Others' messages in the same topic do not say where they came from.
    let producer = Producer::new(&topics.broker.settings()).unwrap();
    drop(producer.send(&topics.dead, Some(b"key"), Some(b"{}"), &[]).await.unwrap());
    producer.flush(PATIENCE).await.unwrap();
    let ran = topics.run(&["replay", "--json"]).ended(1);
    assert_eq!((&ran.lines()[0]["failed"], &ran.lines()[0]["replayed"]), (&1.into(), &0.into()));
    ran.says("1 letter could not be replayed");
    ran.says("hint: send letters to another topic, by their keys, with --to TOPIC");
    topics.run(&["replay", "--to", &topics.dead]).ended(1).says("is the dead-letter topic itself");
    assert_eq!(topics.replay(&["--to", &topics.source])["replayed"], 1);
    assert_eq!(topics.messages()[0].key(), Some(&b"key"[..]));

    // A partition that is no more: not delivered, and the next run begins with it.
    let mut moved = letter(&topics.source, 0, slow());
    moved.message.position.partition = 7;
    topics.send_letters(&[moved, letter(&topics.source, 1, slow())]).await;
    let ran = topics.run(&["replay", "--json", "--from", &format!("{}:0:1", topics.dead)]).ended(3);
    assert_eq!(ran.lines()[0]["next"], format!("{}:0:1", topics.dead));
    ran.says("partition");
}

#[test]
fn a_stage_without_letters_is_refused_with_those_that_have_some() {
    let stages = "[possible values: decode, fetch, embed, upsert]";
    run(&["dlq", "list", "--file", "-", "--stage", "fetch,recall"]).ended(2).says(stages);
}

#[test]
fn a_misspelt_reason_is_an_error_with_the_nearest_one() {
    run(&["dlq", "list", "--file", "-", "--reason", "fetch_timeout,http_notfound"])
        .ended(2)
        .says("did you mean http_not_found?");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_listed_and_replayed_to_a_topic() {
    let (topics, home) = (Topics::new("file").await, Home::new());
    let file = home.text("dead.jsonl");
    let letters = FileDeadLetters::new(Some(Path::new(&file))).unwrap();
    for n in 0..3 {
        let failure = if n == 1 { slow() } else { not_found() };
        letters.send(&letter("catalog.jsonl", n, failure)).await.unwrap();
    }
    let listed = run(&["dlq", "list", "--file", &file, "--json", "--reason", "fetch_timeout"]).ended(0).lines();
    assert_eq!((listed.len(), &listed[0]["source"]["offset"]), (1, &1.into()));
    assert_eq!(listed[0]["letter"], json!({ "topic": file, "partition": 0, "offset": 1 }));
    let text = std::fs::read(&file).unwrap();
    assert_eq!(run_with_input(&["dlq", "list", "--file", "-", "--json"], &text).ended(0).lines().len(), 3);
    let report = topics.replay(&["--file", &file, "--to", &topics.source]);
    assert_eq!((&report["replayed"], &report["next"]), (&3.into(), &format!("{file}:0:3").as_str().into()));
    let keys: Vec<_> = topics.messages().iter().map(|m| m.key().unwrap().to_vec()).collect();
    assert_eq!(keys, [b"key-0", b"key-1", b"key-2"]);
}
