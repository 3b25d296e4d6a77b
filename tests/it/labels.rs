//! `[labels]`: the labels of pictures in their points. Expected scores are made here, by the textbook's formulas in double precision,
//! of vectors that were read back from the store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clipstream::config::{LabelSetSettings, ModelEntry, Settings, StoreKind};
use clipstream::dead_letter::FileDeadLetters;
use clipstream::domain::{Embedding, Guard, Modality};
use clipstream::shutdown::Shutdown;
use clipstream::source::LinesSource;
use clipstream::store::{Query, StoredPoint};
use clipstream::telemetry::{Health, Metrics};
use clipstream::worker::Worker;
use clipstream_test_support::qdrant::QdrantEndpoint;
use qdrant_client::Qdrant;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::several_models::project;

const HEART: &str = "2764.webp";
const KEYCAP: &str = "0023-20e3.webp";
const LABELS: [&str; 3] = ["red heart", "dog face", "keycap: #"];
const TEMPLATES: [&str; 2] = ["{}", "a drawing of a {}"];
/// CLIP's own, since the demo model's files have none.
const SCALE: f64 = 100.0;

struct World {
    settings: Settings,
    folder: TempDir,
    version: u64,
}

/// What one worker has done, and left.
struct Ran {
    images_embedded: f64,
    points: BTreeMap<String, StoredPoint>,
}

impl Ran {
    fn record(&self, asset: &str) -> &Value {
        &self.points[asset].payload["clipstream"]
    }

    fn labels(&self, asset: &str) -> Vec<(String, f64)> {
        let items = self.record(asset)["labels"].as_array().unwrap_or_else(|| panic!("{:?}", self.points[asset]));
        let one = |item: &Value| (item["label"].as_str().unwrap().to_owned(), item["score"].as_f64().unwrap());
        items.iter().map(one).collect()
    }
}

fn set(labels: &[&str], threshold: f64) -> LabelSetSettings {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    LabelSetSettings { labels: owned(labels), templates: owned(&TEMPLATES), threshold, models: Vec::new() }
}

fn picture(name: &str) -> String {
    format!("file://{}", project("demo/catalog/images").join(name).display())
}

impl World {
    fn new(guard: Guard) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        let directory: Option<PathBuf> = Some(project("demo/model"));
        settings.clip.models = vec![ModelEntry { id: "demo-emoji/v1".parse().unwrap(), directory }];
        settings.store.kind = StoreKind::Embedded;
        settings.store.path = folder.path().join("store");
        settings.store.guard = guard;
        settings.media.allow_file_roots = vec![project("demo/catalog").display().to_string()];
        settings.labels.sets.insert("content".to_owned(), set(&LABELS, 0.2));
        Self { settings, folder, version: 0 }
    }

    /// Indexes the messages with a worker of its own. Each gets a version above all before it.
    async fn run(&mut self, messages: &[Value]) -> Ran {
        let metrics = Arc::new(Metrics::default());
        let worker = Worker::assemble(&self.settings, Health::new(), metrics.clone()).await.unwrap();
        let mut lines = String::new();
        for message in messages {
            self.version += 1;
            let mut message = message.clone();
            message["version"] = self.version.into();
            lines += &format!("{message}\n");
        }
        // A place of its own: what comes from the same place is the same message.
        let name = format!("messages up to {}", self.version);
        let source = LinesSource::new(&name, std::io::Cursor::new(lines.into_bytes()));
        let letters = Arc::new(FileDeadLetters::new(None).unwrap());
        let summary = worker.ingest(Box::new(source), letters, Shutdown::new(), Arc::default()).await.unwrap();
        assert_eq!((summary.settled, summary.dead_lettered), (messages.len() as u64, 0));
        let found = worker.store().scroll(&worker.models()[0].1, None, 100).await.unwrap();
        let asset = |point: &StoredPoint| point.payload["clipstream"]["asset_id"].as_str().unwrap().to_owned();
        let points = found.into_iter().map(|point| (asset(&point), point)).collect();
        worker.close().await.unwrap();
        let shown = metrics.encode();
        let series = shown.lines().filter(|line| line.starts_with("clipstream_batch_items_sum{kind=\"embed_image\""));
        let images_embedded = series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        Ran { images_embedded, points }
    }
}

/// Points of a text alone, one per label and template: what the labels' vectors are made of.
fn texts() -> Vec<Value> {
    let one = |label: &str, n: usize| json!({"id": format!("{label} {n}"), "text": TEMPLATES[n].replace("{}", label)});
    LABELS.iter().flat_map(|label| [one(label, 0), one(label, 1)]).collect()
}

fn doubles(vector: &Option<Vec<f32>>) -> Vec<f64> {
    vector.as_ref().unwrap().iter().map(|value| f64::from(*value)).collect()
}

fn unit(vector: Vec<f64>) -> Vec<f64> {
    let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    vector.into_iter().map(|value| value / length).collect()
}

/// `softmax(SCALE · cosines)` of all labels with a point's picture, as `(label, probability)`, the most probable first.
fn softmax(points: &BTreeMap<String, StoredPoint>, asset: &str) -> Vec<(String, f64)> {
    let image = unit(doubles(&points[asset].image));
    let power = |label: &&str| {
        let [one, other] = [0, 1].map(|n| unit(doubles(&points[&format!("{label} {n}")].text)));
        let mean = unit(one.iter().zip(&other).map(|(a, b)| (a + b) / 2.0).collect());
        (SCALE * mean.iter().zip(&image).map(|(a, b)| a * b).sum::<f64>()).exp()
    };
    let powers: Vec<f64> = LABELS.iter().map(power).collect();
    let sum: f64 = powers.iter().sum();
    let mut all: Vec<_> = LABELS.iter().zip(powers).map(|(label, power)| ((*label).to_owned(), power / sum)).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all
}

#[track_caller]
fn assert_near(found: &[(String, f64)], expected: &[(String, f64)]) {
    let near = |((label, score), (other, expected)): (&(String, f64), &(String, f64))| {
        label == other && (score - expected).abs() < 1e-4
    };
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(near),
        "found {found:?}, expected {expected:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_has_the_labels_above_the_threshold_and_keeps_them() {
    for guard in [Guard::Check, Guard::Strict] {
        let mut world = World::new(guard);
        let pictures = [
            json!({"id": "heart", "image": picture(HEART), "text": "red heart"}),
            json!({"id": "keycap", "image": picture(KEYCAP)}),
        ];
        let first = world.run(&[&pictures[..], &texts()].concat()).await;
        for asset in ["heart", "keycap"] {
            let expected: Vec<_> = softmax(&first.points, asset).into_iter().filter(|(_, p)| *p >= 0.2).collect();
            assert!(!expected.is_empty() && expected.len() < LABELS.len(), "{expected:?} tests no threshold");
            assert_near(&first.labels(asset), &expected);
        }
        assert_eq!(first.record("red heart 0").get("labels"), None, "no picture, no labels");

        // Neither a patch of something else nor a replay loses them.
        let patches = [
            json!({"id": "heart", "op": "patch", "payload": {"price": 1}}),
            json!({"id": "heart", "op": "patch", "text": "a heart"}),
            pictures[1].clone(),
        ];
        let again = world.run(&patches).await;
        assert_eq!(again.images_embedded, 0.0);
        for asset in ["heart", "keycap"] {
            for key in ["labels", "labels_sha256"] {
                assert_eq!(again.record(asset)[key], first.record(asset)[key], "{asset} {key}");
            }
        }

        // Another picture has other labels, also by a patch.
        let other = world.run(&[json!({"id": "heart", "op": "patch", "image": picture(KEYCAP)})]).await;
        assert_eq!(other.labels("heart"), first.labels("keycap"));
        // A text instead of the picture has none.
        let text = world.run(&[json!({"id": "heart", "text": "red heart"})]).await;
        assert_eq!(text.record("heart").get("labels"), None);
        let gone = world.run(&[json!({"id": "keycap", "op": "delete"})]).await;
        assert!(gone.points["keycap"].payload["clipstream"].get("labels").is_none(), "{:?}", gone.points["keycap"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sets_label_unchanged_pictures_anew_without_embedding_them() {
    for guard in [Guard::Check, Guard::Strict] {
        let mut world = World::new(guard);
        let pictures = [
            json!({"id": "heart", "image": picture(HEART)}),
            json!({"id": "keycap", "op": "patch", "image": picture(KEYCAP), "payload": {"own": true}}),
        ];
        let first = world.run(&[&pictures[..], &texts()].concat()).await;
        assert_eq!(first.images_embedded, 2.0);

        // All labels from now on, in another order, which changes no score.
        world.settings.labels.sets =
            BTreeMap::from([("all".to_owned(), set(&["keycap: #", "red heart", "dog face"], 0.0))]);
        let all = world.run(&pictures).await;
        assert_eq!(all.images_embedded, 0.0, "the stored vector is enough");
        for asset in ["heart", "keycap"] {
            assert_near(&all.labels(asset), &softmax(&first.points, asset));
            assert_ne!(all.record(asset)["labels_sha256"], first.record(asset)["labels_sha256"]);
            assert_eq!(all.points[asset].image, first.points[asset].image);
        }
        assert_eq!(all.points["keycap"].payload["own"], true);

        // Without sets, what is written of a picture has none: those that are there may be of another one.
        world.settings.labels.sets.clear();
        let none = world.run(&[json!({"id": "keycap", "op": "patch", "image": picture(HEART)})]).await;
        assert_eq!((none.record("keycap").get("labels"), none.record("keycap").get("labels_sha256")), (None, None));
        assert_near(&none.labels("heart"), &softmax(&first.points, "heart"));
        let none = world.run(&pictures).await;
        assert_eq!(none.record("heart").get("labels"), None);

        // Points from before there were labels get them by a replay.
        world.settings.labels.sets.insert("content".to_owned(), set(&LABELS, 0.2));
        let back = world.run(&pictures).await;
        assert_eq!(back.images_embedded, 0.0);
        assert_near(&back.labels("heart"), &first.labels("heart"));
        assert_eq!(back.record("heart")["labels_sha256"], first.record("heart")["labels_sha256"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_filters_by_label_and_score() {
    let mut world = World::new(Guard::Strict);
    let endpoint = QdrantEndpoint::start(&world.folder.path().join("server"));
    world.settings.store.kind = StoreKind::Qdrant;
    world.settings.store.url = endpoint.url();
    let pictures = [
        json!({"id": "heart", "image": picture(HEART)}),
        json!({"id": "keycap", "op": "patch", "image": picture(KEYCAP)}),
    ];
    // Labels are added to points that exist, with their index.
    let sets = std::mem::take(&mut world.settings.labels.sets);
    let bare = world.run(&pictures).await;
    assert_eq!(bare.record("heart").get("labels"), None);
    world.settings.labels.sets = sets;
    let ran = world.run(&[&pictures[..], &texts()].concat()).await;
    assert_eq!(ran.images_embedded, 0.0);
    assert_near(&ran.labels("heart")[..1], &softmax(&ran.points, "heart")[..1]);

    let client = Qdrant::from_url(&endpoint.url()).skip_compatibility_check().build().unwrap();
    let info = client.collection_info("catalog__demo-emoji__v1").await.unwrap().result.unwrap();
    assert!(info.payload_schema.contains_key("clipstream.labels[].label"), "{:?}", info.payload_schema.keys());
    let store = clipstream::store::open(&world.settings.store).await.unwrap();
    let search = async |filter: Value| {
        let vector = Embedding::normalised(ran.points["heart"].image.clone().unwrap()).unwrap();
        let query = Query { vector, modality: Modality::Image, limit: 10, filter: Some(filter) };
        let hits = store.search("catalog__demo-emoji__v1", &query).await.unwrap();
        let mut found: Vec<_> = hits.iter().map(|hit| hit.asset_id().unwrap().to_owned()).collect();
        found.sort();
        found
    };
    let named = |label: &str| json!({"must": {"key": "clipstream.labels[].label", "match": {"value": label}}});
    assert_eq!(search(named("red heart")).await, ["heart"]);
    assert_eq!(search(named("keycap: #")).await, ["keycap"]);
    assert!(search(named("cat")).await.is_empty());
    let score = ran.labels("heart")[0].1;
    let scored = |label: &str, from: f64| {
        let item = json!({"must": [
            {"key": "label", "match": {"value": label}}, {"key": "score", "range": {"gte": from}},
        ]});
        json!({"must": {"nested": {"key": "clipstream.labels", "filter": item}}})
    };
    assert_eq!(search(scored("red heart", score - 1e-3)).await, ["heart"]);
    assert!(search(scored("red heart", score + 1e-3)).await.is_empty());
    assert!(search(scored("dog face", 0.0)).await.is_empty(), "not above the threshold");
    let patched = world.run(&[json!({"id": "keycap", "op": "patch", "payload": {"price": 2}})]).await;
    assert_eq!(patched.record("keycap")["labels"], ran.record("keycap")["labels"]);
    store.close().await.unwrap();
    endpoint.stop().await;
}
