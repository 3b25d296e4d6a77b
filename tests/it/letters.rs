//! Dead letters in topics whose own settings would refuse them, or let them vanish.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clipstream::config::{DeadLetterSettings, KafkaSettings};
use clipstream::dead_letter::read::{Found, Start, from_topics};
use clipstream::dead_letter::{self, DeadLetter, DeadLetters, KafkaDeadLetters, Sent, StoredLetter, TopicFacts};
use clipstream::domain::{DecodeReason, Fault, Message, Position, Stage};
use rand::RngCore;
use rdkafka::message::Message as _;

use crate::kafka::Kafka;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

struct World {
    kafka: Kafka,
    settings: KafkaSettings,
    source: String,
    dead: String,
}

impl World {
    /// `None` where there is no broker: the mock cluster's topics have no settings.
    async fn new(settings: &[(&str, &str)]) -> Option<Self> {
        let kafka = Kafka::real("letters")?;
        let source = format!("letters-{}", uuid::Uuid::from_u128(rand::random()).simple());
        let dead = format!("{source}.dlq");
        kafka.create_topic(&source, 1).await;
        kafka.create_topic(&dead, 3).await;
        kafka.set_topics(&[&dead], settings).await;
        let settings = KafkaSettings { topics: vec![source.clone()], ..kafka.settings() };
        Some(Self { kafka, settings, source, dead })
    }

    fn letter(&self, offset: i64, key: Option<&'static str>, value: Option<Bytes>) -> DeadLetter {
        DeadLetter {
            message: Message {
                position: Position { topic: self.source.as_str().into(), partition: 0, offset },
                epoch: 1,
                key: key.map(|key| Bytes::from_static(key.as_bytes())),
                value,
                headers: Vec::new(),
                timestamp_ms: Some(now_ms() - 10 * DAY_MS),
                topic_id: None,
                leader_epoch: None,
                retry: None,
                suspicion: None,
            },
            failure: Fault::new(DecodeReason::MessageNotJson, "expected an object").at(Stage::Decode),
            attempts: 1,
            requests: Vec::new(),
        }
    }

    async fn send(&self, letters: &[DeadLetter]) {
        let dead_letters = KafkaDeadLetters::new(&self.settings, &DeadLetterSettings::default()).unwrap();
        for letter in letters {
            assert_eq!(dead_letters.send(letter).await.unwrap(), Sent::DeadLetter);
        }
    }

    /// By where their messages were.
    async fn stored(&self) -> Vec<StoredLetter> {
        let mut letters = from_topics(&self.settings, &DeadLetterSettings::default(), None, Start::new());
        let mut out = Vec::new();
        while let Some(found) = letters.recv().await {
            match found.unwrap() {
                Found::Letter(letter) => out.push(*letter),
                Found::Unreadable(unreadable) => panic!("{unreadable:?}"),
            }
        }
        out.sort_by_key(|letter| letter.source.as_ref().map(|source| source.offset));
        out
    }

    async fn end(self) {
        self.kafka.delete_topics(&[&self.source, &self.dead]).await;
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// Ten days old, in a topic that keeps a week: with the message's own time, the broker would delete the letter at its next
/// look, or, with this setting, refuse it.
#[tokio::test(flavor = "multi_thread")]
async fn a_letter_of_an_old_message_has_the_time_of_its_failure() {
    let before = now_ms();
    let Some(world) = World::new(&[("message.timestamp.before.max.ms", &DAY_MS.to_string())]).await else { return };
    let letter = world.letter(0, Some("a"), Some(Bytes::from_static(b"{")));
    world.send(std::slice::from_ref(&letter)).await;
    let records = world.kafka.read(&world.dead);
    assert!(records[0].timestamp().to_millis() >= Some(before), "{:?}", records[0].timestamp());
    assert_eq!(world.stored().await[0].timestamp_ms, letter.message.timestamp_ms, "the message's own is kept");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_keeps_every_letter_and_gives_them_back_as_they_were() {
    let Some(world) = World::new(&[("cleanup.policy", "compact")]).await else { return };
    let value = || Some(Bytes::from_static(b"{"));
    let letters = [
        world.letter(0, None, value()),
        world.letter(1, Some("same"), value()),
        world.letter(2, Some("same"), value()),
        world.letter(3, Some("same"), None),
    ];
    world.send(&letters).await;
    let records = world.kafka.read(&world.dead);
    let keys: HashSet<_> = records.iter().map(|record| record.key().expect("compaction asks for a key")).collect();
    assert_eq!(keys.len(), letters.len(), "of two records with one key, one would go");
    assert!(records.iter().all(|record| record.payload().is_some()), "a record without a value goes in the end");
    let stored = world.stored().await;
    let stored: Vec<_> = stored.iter().map(|letter| (letter.key.clone(), letter.value.clone())).collect();
    let sent: Vec<_> =
        letters.iter().map(|letter| (letter.message.key.clone(), letter.message.value.clone())).collect();
    assert_eq!(stored, sent);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_beyond_the_topics_limit_is_there_whole() {
    for settings in
        [&[("max.message.bytes", "100000")][..], &[("max.message.bytes", "100000"), ("cleanup.policy", "compact")]]
    {
        let Some(world) = World::new(settings).await else { return };
        let facts = dead_letter::describe(&world.settings, &world.dead).await.unwrap();
        assert_eq!(facts, TopicFacts { is_compacted: settings.len() > 1, message_bytes_max: Some(100_000) });
        let mut value = vec![0; 1_000_000];
        rand::rng().fill_bytes(&mut value);
        let letters =
            [world.letter(0, Some("a"), Some(value.into())), world.letter(1, None, Some(Bytes::from_static(b"{")))];
        world.send(&letters).await;
        let stored = world.stored().await;
        assert_eq!(stored.len(), 2);
        for (stored, sent) in stored.iter().zip(&letters) {
            assert!(stored.value == sent.message.value && stored.key == sent.message.key, "{:?}", stored.source);
        }
        world.end().await;
    }
}
