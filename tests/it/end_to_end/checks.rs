//! What must hold afterwards.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use clipstream::api::Embedder;
use clipstream::config::Settings;
use clipstream::domain::{Embedding, PointId};
use clipstream::store::{Store, StoredPoint};
use rdkafka::message::{Headers, Message as _, OwnedMessage};
use serde_json::{Value, json};

use super::expected::{Expected, Position};
use super::media::Picture;
use super::messages::Message;

const COSINE_MIN: f64 = 0.999_999;
const LENGTH_ERROR_MAX: f64 = 1e-5;

/// All points but tombstones, which have nothing but their record.
pub async fn scroll(store: &dyn Store, collection: &str) -> Vec<StoredPoint> {
    let (mut points, mut after) = (Vec::<StoredPoint>::new(), None);
    loop {
        let page = store.scroll(collection, after, 200).await.unwrap();
        let Some(last) = page.last() else { return points };
        after = Some(last.id);
        let (deleted, alive): (Vec<_>, Vec<_>) =
            page.into_iter().partition(|point| point.payload["clipstream"].get("deleted_at").is_some());
        for point in deleted {
            let bare = point.image.is_none() && point.text.is_none() && point.payload.len() == 1;
            assert!(bare, "a tombstone with more than its record: {point:?}");
        }
        points.extend(alive);
    }
}

/// The library's own vectors of everything that points are made of, by URL and by text.
pub struct Vectors {
    images: BTreeMap<String, Embedding>,
    texts: BTreeMap<String, Embedding>,
}

impl Vectors {
    pub async fn of(expected: &Expected, pictures: &BTreeMap<String, Picture>) -> Self {
        let mut settings = Settings::default();
        let model = format!("demo-emoji/v1={}/demo/model", env!("CARGO_MANIFEST_DIR"));
        settings.clip.models = vec![config_model(&model)];
        let embedder = Embedder::open(&settings, None).await.unwrap();
        let points = expected.points.values();
        let images: Vec<String> = points.clone().filter_map(|point| point.image.clone()).collect();
        let texts: Vec<String> = points.filter_map(|point| point.text.clone()).collect();
        let inputs = images.iter().map(|url| pictures[url].bytes.to_vec().into()).collect();
        let embedded = embedder.embed_images(inputs).await.into_iter().map(Result::unwrap);
        let images = images.iter().cloned().zip(embedded).collect();
        let embedded = embedder.embed_documents(&texts).await.unwrap();
        Self { images, texts: texts.into_iter().zip(embedded).collect() }
    }
}

fn config_model(text: &str) -> clipstream::config::ModelEntry {
    let (id, directory) = text.split_once('=').unwrap();
    clipstream::config::ModelEntry { id: id.parse().unwrap(), directory: Some(directory.into()) }
}

/// `stored` is exactly what is expected, point by point.
pub fn points(
    stored: &[StoredPoint],
    expected: &Expected,
    vectors: &Vectors,
    pictures: &BTreeMap<String, Picture>,
    started: DateTime<Utc>,
) {
    let names = |ids: Vec<&PointId>| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let found: BTreeMap<PointId, &StoredPoint> = stored.iter().map(|point| (point.id, point)).collect();
    let missing: Vec<&str> =
        expected.points.iter().filter(|(id, _)| !found.contains_key(id)).map(|(_, point)| &*point.asset).collect();
    let extra = names(found.keys().filter(|id| !expected.points.contains_key(id)).collect());
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:?}; extra: {extra:?}");
    assert_eq!(found.len(), stored.len(), "a point came twice");
    for (id, point) in &expected.points {
        let (stored, asset) = (found[id], &point.asset);
        vector(
            stored.image.as_deref(),
            point.image.as_ref().map(|url| &vectors.images[url]),
            &format!("image of {asset}"),
        );
        vector(
            stored.text.as_deref(),
            point.text.as_ref().map(|text| &vectors.texts[text]),
            &format!("text of {asset}"),
        );
        let mut payload = stored.payload.clone();
        let Some(Value::Object(mut record)) = payload.remove("clipstream") else { panic!("{asset} has no record") };
        assert_eq!(Value::Object(payload), Value::Object(point.payload.clone()), "payload of {asset}");
        let mut source = record.remove("source").unwrap_or_default();
        let produced_at = source.as_object_mut().and_then(|source| source.remove("timestamp_ms"));
        assert!(produced_at.is_some_and(|at| at.is_i64()), "timestamp_ms of {asset}");
        // Brokers since 2.8 and the mock cluster have ids of 16 bytes.
        let topic_id = source.as_object_mut().and_then(|source| source.remove("topic_id"));
        assert!(topic_id.is_some_and(|id| id.as_str().is_some_and(|id| id.len() == 22)), "topic_id of {asset}");
        // The mock cluster has no leaders' epochs.
        let leader_epoch = source.as_object_mut().and_then(|source| source.remove("leader_epoch"));
        assert!(leader_epoch.is_none_or(|epoch| epoch.is_u64()), "leader_epoch of {asset}");
        let allowed: Vec<Value> = point.sources.iter().map(as_json).collect();
        assert!(allowed.contains(&source), "source of {asset}: {source}, expected one of {allowed:?}");
        let indexed_at = record.remove("indexed_at").unwrap_or_default();
        let at = DateTime::parse_from_rfc3339(indexed_at.as_str().unwrap_or_default());
        let at = at.unwrap_or_else(|e| panic!("indexed_at of {asset}: {indexed_at}: {e}"));
        // In whole seconds.
        assert!(
            (started.timestamp()..=Utc::now().timestamp()).contains(&at.timestamp()),
            "indexed_at of {asset}: {at}"
        );
        assert_eq!(Value::Object(record), Value::Object(point.record(pictures)), "record of {asset}");
    }
}

fn as_json(at: &Position) -> Value {
    json!({"topic": at.topic, "partition": at.partition, "offset": at.offset})
}

fn vector(found: Option<&[f32]>, expected: Option<&Embedding>, what: &str) {
    let (found, expected) = match (found, expected) {
        (None, None) => return,
        (Some(found), Some(expected)) => (found, expected.as_slice()),
        (found, expected) => panic!("{what}: stored {}, expected {}", found.is_some(), expected.is_some()),
    };
    assert_eq!(found.len(), expected.len(), "{what}");
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let length = dot(found, found).sqrt();
    assert!((length - 1.0).abs() < LENGTH_ERROR_MAX, "{what} has length {length}");
    let cosine = dot(found, expected) / length / dot(expected, expected).sqrt();
    assert!(cosine >= COSINE_MIN, "{what} has cosine {cosine} to the library's own");
}

/// The points are the same but for `source`, `indexed_at`, and the last bits of vectors, which depend on the batch that a
/// picture or a text came in.
pub fn same_after_replay(before: &[StoredPoint], after: &[StoredPoint]) {
    assert_eq!(before.len(), after.len());
    let timeless = |point: &StoredPoint| {
        let mut payload = point.payload.clone();
        let record = payload.get_mut("clipstream").and_then(Value::as_object_mut).expect("a record");
        record.retain(|key, _| !["source", "indexed_at"].contains(&key.as_str()));
        payload
    };
    let close = |a: &Option<Vec<f32>>, b: &Option<Vec<f32>>| match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6),
        _ => false,
    };
    for (before, after) in before.iter().zip(after) {
        assert_eq!((before.id, timeless(before)), (after.id, timeless(after)));
        assert!(close(&before.image, &after.image) && close(&before.text, &after.text), "vectors of {}", before.id);
    }
}

/// `letters` are exactly the messages that must die, each once, whole, and with its reason. `originals`: the messages as the
/// broker has them.
pub fn dead_letters(
    letters: &[OwnedMessage],
    produced: &[(Message, Position)],
    originals: &BTreeMap<(String, i32, i64), OwnedMessage>,
    group: &str,
) {
    let doomed: Vec<_> = produced.iter().filter_map(|(message, at)| Some((message.dies?, at))).collect();
    let position = |letter: &OwnedMessage| {
        let header = |name: &str| text(letter, &format!("__connect.errors.{name}"));
        (header("topic"), header("partition").parse::<i32>().unwrap(), header("offset").parse::<i64>().unwrap())
    };
    let mut found = BTreeMap::new();
    for letter in letters {
        let at = position(letter);
        assert!(found.insert(at.clone(), letter).is_none(), "two letters of {at:?}");
    }
    for (dies, at) in &doomed {
        let at = (at.topic.clone(), at.partition, at.offset);
        let letter = found.remove(&at).unwrap_or_else(|| panic!("no letter of {at:?}: {dies:?}"));
        let original = &originals[&at];
        assert_eq!((letter.key(), letter.payload()), (original.key(), original.payload()), "{dies:?}");
        // The letter's time is that of the failure; the message's own is a header.
        assert!(letter.timestamp().to_millis() >= original.timestamp().to_millis(), "{dies:?}");
        let sent_at = original.timestamp().to_millis().map(|ms| ms.to_string());
        assert_eq!(Some(text(letter, "clipstream.errors.message_timestamp")), sent_at, "{dies:?}");
        let own = original.headers().map_or_else(Vec::new, |own| own.iter().map(|h| (h.key, h.value)).collect());
        let kept = letter.headers().unwrap().iter().take(own.len()).map(|h| (h.key, h.value)).collect::<Vec<_>>();
        assert_eq!(kept, own, "{dies:?}");
        let connect = |name: &str| text(letter, &format!("__connect.errors.{name}"));
        let reason = (connect("stage"), connect("exception.class.name"));
        assert_eq!(reason, (dies.stage.to_owned(), dies.reason.to_owned()), "{dies:?}");
        let says = connect("exception.message");
        assert!(says.contains(dies.says), "{dies:?}: {says}");
        assert_eq!(connect("connector.name"), group);
        let own = |name: &str| text(letter, &format!("clipstream.errors.{name}"));
        assert_eq!((own("class").as_str(), own("attempts").as_str()), ("permanent", "1"), "{dies:?}");
    }
    assert!(found.is_empty(), "letters of messages that are fine: {:?}", found.keys());
}

/// The value of the one header of this name.
fn text(letter: &OwnedMessage, name: &str) -> String {
    let headers = letter.headers().expect("a letter has headers");
    let values: Vec<_> = headers.iter().filter(|h| h.key == name).map(|h| h.value.unwrap_or_default()).collect();
    assert_eq!(values.len(), 1, "{name}");
    String::from_utf8(values[0].to_vec()).unwrap()
}
