//! Messages with several requests, and with schemas, from the source to an embedded store.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::*;
use crate::budget::Budget;
use crate::clip::{Clip, PictureLimits, PicturePool};
use crate::config::{ClipSettings, MediaSettings, ModelEntry, PipelineSettings, StoreKind, StoreSettings};
use crate::dead_letter::DeadLetterError;
use crate::domain::{AssetId, Class, TopicPartition};
use crate::format::Format;
use crate::format::registry::{Answer, Registry, with_schema};
use crate::pipeline::{Parts, Summary, run};
use crate::shutdown::Shutdown;
use crate::source::{Demand, Source, SourceError, SourceEvent};
use crate::store::{self, CollectionDefinition, CollectionSpec};
use crate::telemetry::Health;

const COLLECTION: &str = "stages";

/// Delivers its messages, then ends.
struct Given(VecDeque<SourceEvent>);

#[async_trait]
impl Source for Given {
    async fn next(&mut self, demand: Demand) -> Result<SourceEvent, SourceError> {
        if demand == Demand::ControlOnly && matches!(self.0.front(), Some(SourceEvent::Message(_))) {
            return std::future::pending().await;
        }
        Ok(self.0.pop_front().unwrap_or(SourceEvent::End))
    }

    async fn commit(&mut self, _: Vec<(TopicPartition, i64)>) -> Result<(), SourceError> {
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        Ok(())
    }
}

#[derive(Default)]
struct Letters(Mutex<Vec<DeadLetter>>);

#[async_trait]
impl DeadLetters for Letters {
    async fn send(&self, letter: &DeadLetter) -> Result<Sent, DeadLetterError> {
        self.0.lock().unwrap().push(letter.clone());
        Ok(Sent::DeadLetter)
    }
}

/// A store that outlives its workers.
struct World {
    folder: tempfile::TempDir,
    letters: Arc<Letters>,
    health: Health,
}

struct Ran {
    summary: Summary,
    metrics: Arc<Metrics>,
    /// Payload of the point of the asset `a`.
    payload: Value,
}

impl Ran {
    /// Sum over the series whose names begin with `series`.
    fn count(&self, series: &str) -> u64 {
        let shown = self.metrics.encode();
        let values = shown.lines().filter(|line| line.starts_with(series));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    }

    fn texts_embedded(&self) -> u64 {
        self.count("clipstream_batch_items_sum{kind=\"embed_text\"")
    }

    /// The user's part of the payload.
    fn own(&self) -> Value {
        let mut payload = self.payload.clone();
        payload.as_object_mut().unwrap().remove("clipstream");
        payload
    }

    fn source(&self) -> &Value {
        &self.payload["clipstream"]["source"]
    }
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), letters: Arc::default(), health: Health::new() }
    }

    /// Indexes all messages under `strict`, with a new worker.
    async fn run(&self, format: Format, messages: &[Message]) -> Ran {
        let metrics = Arc::new(Metrics::default());
        let directory = Some(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model").into());
        let entry = ModelEntry { id: "demo/emoji".parse().unwrap(), directory };
        let clip = Clip::load(&entry, &ClipSettings::default(), metrics.clone()).unwrap();
        let store_settings = StoreSettings {
            kind: StoreKind::Embedded,
            path: self.folder.path().join("store"),
            guard: Guard::Strict,
            ..StoreSettings::default()
        };
        let store = store::open(&store_settings).await.unwrap();
        let (fingerprint, definition) = (clip.fingerprint().unwrap().clone(), CollectionDefinition::built_in());
        store.ensure(&CollectionSpec { name: COLLECTION.into(), fingerprint, definition }).await.unwrap();
        let media = MediaClient::new(&MediaSettings::default(), Budget::new(1 << 20), metrics.clone()).await.unwrap();
        let pictures = PictureLimits { threads: 1, pixels_max: 1 << 20, decode_bytes_max: 1 << 26 };
        let parts = Parts {
            settings: PipelineSettings { backoff_base_ms: 1, backoff_cap_ms: 4, ..PipelineSettings::default() },
            store_settings,
            reader: Reader { format, ..Reader::default() },
            retries: true,
            pictures: Arc::new(PicturePool::new(pictures).unwrap()),
            models: vec![(Arc::new(clip), COLLECTION.to_owned())],
            labels: std::collections::BTreeMap::new(),
            media,
            store: store.clone(),
            dead_letters: self.letters.clone(),
            shutdown: Shutdown::new(),
            health: self.health.clone(),
            metrics: metrics.clone(),
            progress: Arc::default(),
        };
        let partitions = vec![TopicPartition { topic: "t".into(), partition: 0 }];
        let assigned = SourceEvent::Assigned { epoch: 1, partitions };
        let events = std::iter::once(assigned).chain(messages.iter().cloned().map(SourceEvent::Message));
        let summary = run(Box::new(Given(events.collect())), parts).await.unwrap();
        let id = PointId::of(None, &AssetId::new("a").unwrap());
        let found = store.scroll(COLLECTION, None, 100).await.unwrap();
        let point = found.into_iter().find(|point| point.id == id);
        let payload = point.map_or(Value::Null, |point| point.payload.into());
        store.close().await.unwrap();
        Ran { summary, metrics, payload }
    }
}

fn message(offset: i64, value: impl Into<bytes::Bytes>) -> Message {
    Message { value: Some(value.into()), topic_id: Some("id".into()), ..Message::empty("t", 0, offset) }
}

/// One request per line.
fn lines(offset: i64, requests: &[Value]) -> Message {
    let lines: Vec<String> = requests.iter().map(Value::to_string).collect();
    message(offset, lines.join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_message_for_one_asset_are_written_in_order_and_delivered_again_change_nothing() {
    let world = World::new();
    let several = lines(
        7,
        &[
            json!({ "id": "a", "text": "one", "payload": { "v": 0 } }),
            json!({ "id": "a", "op": "patch", "payload": { "v": 1, "one": true } }),
            json!({ "id": "a", "op": "patch", "text": "two", "payload": { "v": 2 } }),
        ],
    );
    let first = world.run(Format::Lines, std::slice::from_ref(&several)).await;
    assert_eq!(first.own(), json!({ "v": 2, "one": true }));
    assert_eq!((first.texts_embedded(), &first.source()["request"]), (2, &json!(2)));
    assert_eq!(first.payload["clipstream"]["base"]["source"].get("request"), None, "of the first one");

    let again = world.run(Format::Lines, std::slice::from_ref(&several)).await;
    assert_eq!(again.summary, Summary { settled: 1, dead_lettered: 0, abandoned: 0 });
    assert_eq!((again.own(), again.source(), again.texts_embedded()), (first.own(), first.source(), 0));

    // A later message, then the earlier one again.
    let later = lines(8, &[json!({ "id": "a", "text": "three", "payload": { "v": 8 } })]);
    let third = world.run(Format::Lines, &[later, several]).await;
    assert_eq!((third.own(), third.texts_embedded()), (json!({ "v": 8 }), 1));
    assert_eq!(*third.source(), json!({ "topic": "t", "partition": 0, "offset": 8, "topic_id": "id" }));
    assert!(world.letters.0.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_between_requests_for_one_asset_has_its_letter_before_the_rest_is_written() {
    let world = World::new();
    let several = lines(
        7,
        &[
            json!({ "id": "a", "text": "one", "payload": { "v": 0 } }),
            json!({ "id": "a", "op": "patch", "image": "ftp://host/a.jpg", "payload": { "lost": true } }),
            json!({ "id": "a", "op": "patch", "payload": { "v": 2 } }),
        ],
    );
    // On redelivery the second request is stale: its letter was safe before the stored point was written.
    for dead_lettered in [1, 0] {
        let ran = world.run(Format::Lines, std::slice::from_ref(&several)).await;
        assert_eq!(ran.summary, Summary { settled: 1, dead_lettered, abandoned: 0 });
        assert_eq!((ran.own(), &ran.source()["request"]), (json!({ "v": 2 }), &json!(2)));
        let letters = world.letters.0.lock().unwrap();
        assert_eq!(letters.iter().map(|letter| letter.requests.clone()).collect::<Vec<_>>(), [[1]]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_waits_for_its_schema_through_an_outage_of_the_registry() {
    let world = World::new();
    let registry = Arc::new(Registry::default());
    registry.answer(7, Answer::Fails(Class::Outage));
    let of_schema = |offset, id, v: u32| {
        let request = json!({ "id": "a", "op": "patch", "payload": { "v": v } });
        message(offset, with_schema(id, &request.to_string()))
    };
    let messages = [of_schema(0, 7, 0), of_schema(1, 8, 1), of_schema(2, 7, 2)];
    let format = Format::WithSchema(registry.clone());
    let until_out = async {
        registry.until_asked(3).await;
        assert_eq!(world.health.reasons(), [(Stage::Decode.into(), "schema 7: outage".to_owned())]);
        registry.answer(8, Answer::Fails(Class::Permanent));
        registry.answer(7, Answer::Found);
    };
    let both = futures::future::join(world.run(format, &messages), until_out);
    let (ran, ()) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("it goes on");
    assert_eq!(ran.summary, Summary { settled: 3, dead_lettered: 1, abandoned: 0 });
    assert_eq!((ran.own(), &ran.source()["offset"]), (json!({ "v": 2 }), &json!(2)));
    let letters = world.letters.0.lock().unwrap();
    assert_eq!(letters.iter().map(|letter| letter.message.position.offset).collect::<Vec<_>>(), [1]);
}
