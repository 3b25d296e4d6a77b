//! Several models in one worker: a message goes to all of them or to those it names, its picture is fetched once, and it
//! is settled when every collection has it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use clipstream::api::Embedder;
use clipstream::config::{ModelEntry, Settings, StoreKind};
use clipstream::dead_letter::FileDeadLetters;
use clipstream::domain::Stage;
use clipstream::pipeline::{Progress, Summary};
use clipstream::shutdown::Shutdown;
use clipstream::source::LinesSource;
use clipstream::store::{CollectionDefinition, CollectionSpec, StoredPoint};
use clipstream::telemetry::{Component, Health, Metrics};
use clipstream::worker::Worker;
use clipstream_test_support::qdrant::QdrantEndpoint;
use qdrant_client::Qdrant;
use serde_json::json;
use tempfile::TempDir;

use crate::end_to_end::checks::scroll;

const BOTH: [&str; 2] = ["demo-emoji/v1", "demo-emoji/squashed"];
const PATIENCE: Duration = Duration::from_secs(120);

/// A store, a server of pictures that counts, and two models that differ in how they preprocess.
struct World {
    endpoint: QdrantEndpoint,
    settings: Settings,
    origin: String,
    fetches: Arc<Mutex<BTreeMap<String, usize>>>,
    health: Health,
    metrics: Arc<Metrics>,
    _folder: TempDir,
}

pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The demo model, whose pictures are squashed instead of cropped, and normalised otherwise.
pub fn squashed(folder: &Path) -> PathBuf {
    for part in ["visual", "textual"] {
        std::fs::create_dir_all(folder.join(part)).unwrap();
        for file in std::fs::read_dir(project("demo/model").join(part)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.join(part).join(file.file_name())).unwrap();
        }
    }
    for file in std::fs::read_dir(project("demo/model")).unwrap().map(Result::unwrap) {
        if file.file_type().unwrap().is_file() {
            std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
        }
    }
    // What its exporter wrote of the whole no longer holds.
    for file in ["golden.json", "clipstream.json"] {
        let _ = std::fs::remove_file(folder.join(file));
    }
    let path = folder.join("visual/preprocess_cfg.json");
    let mut config: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    config["resize_mode"] = json!("squash");
    config["mean"] = json!([0.5, 0.5, 0.5]);
    std::fs::write(&path, config.to_string()).unwrap();
    folder.to_owned()
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = QdrantEndpoint::start(&folder.path().join("store"));
        let fetches = Arc::<Mutex<BTreeMap<String, usize>>>::default();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let serve = async |State(fetches): State<Arc<Mutex<BTreeMap<String, usize>>>>, uri: Uri| {
            *fetches.lock().unwrap().entry(uri.path().to_owned()).or_default() += 1;
            std::fs::read(project("demo/catalog/images").join(uri.path().trim_start_matches('/'))).unwrap()
        };
        let router = Router::new().fallback(serve).with_state(fetches.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });

        let mut settings = Settings::default();
        let directories = [project("demo/model"), squashed(&folder.path().join("squashed"))];
        settings.clip.models = BOTH
            .into_iter()
            .zip(directories)
            .map(|(id, directory)| ModelEntry { id: id.parse().unwrap(), directory: Some(directory) })
            .collect();
        settings.store.kind = StoreKind::Qdrant;
        settings.store.url = endpoint.url();
        settings.media.allow_hosts = vec!["127.0.0.1".to_owned()];
        settings.pipeline.backoff_base_ms = 20;
        Self { endpoint, settings, origin, fetches, health: Health::new(), metrics: Arc::default(), _folder: folder }
    }

    async fn worker(&self) -> Worker {
        Worker::assemble(&self.settings, self.health.clone(), self.metrics.clone()).await.unwrap()
    }

    /// Indexes the messages to their end.
    async fn index(&self, worker: &Worker, messages: &[serde_json::Value], progress: Arc<Progress>) -> Summary {
        let lines: String = messages.iter().map(|message| format!("{message}\n")).collect();
        let source = LinesSource::new("messages", std::io::Cursor::new(lines.into_bytes()));
        let letters = Arc::new(FileDeadLetters::new(None).unwrap());
        worker.ingest(Box::new(source), letters, Shutdown::new(), progress).await.unwrap()
    }

    async fn end(self) {
        self.endpoint.stop().await;
    }
}

/// Points by asset.
async fn points(worker: &Worker, model: usize) -> BTreeMap<String, StoredPoint> {
    let points = scroll(&**worker.store(), &worker.models()[model].1).await;
    let asset = |point: &StoredPoint| {
        let own = serde_json::to_value(&point.payload).unwrap();
        own["clipstream"]["asset_id"].as_str().expect("a point records its asset").to_owned()
    };
    points.into_iter().map(|point| (asset(&point), point)).collect()
}

fn close(found: &Option<Vec<f32>>, expected: &clipstream::domain::Embedding) -> bool {
    let expected = expected.as_slice();
    found.as_ref().is_some_and(|found| {
        found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_to_every_model_and_its_picture_is_fetched_once() {
    let world = World::start().await;
    let worker = world.worker().await;
    let mut pictures: Vec<String> = std::fs::read_dir(project("demo/catalog/images"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    pictures.sort();
    // Every third for both models, for the first, for the second.
    let models = [json!(null), json!([BOTH[0]]), json!([BOTH[1]])];
    let mut messages = Vec::new();
    for (n, picture) in pictures.iter().take(9).enumerate() {
        let mut message = json!({
            "id": format!("asset-{n}"), "image": format!("{}/{picture}", world.origin), "text": format!("picture {n}"),
        });
        if n % 3 > 0 {
            message["models"] = models[n % 3].clone();
        }
        messages.push(message);
    }
    let summary = world.index(&worker, &messages, Arc::default()).await;
    assert_eq!((summary.settled, summary.dead_lettered), (9, 0));
    // Once per message, whatever the number of models.
    assert_eq!(world.fetches.lock().unwrap().values().copied().collect::<Vec<_>>(), [1; 9]);
    let metrics = world.metrics.encode();
    for (line, count) in [
        (r#"clipstream_stage_duration_seconds_count{stage="fetch"}"#.to_owned(), 9),
        (r#"clipstream_stage_duration_seconds_count{stage="embed"}"#.to_owned(), 9),
        (format!(r#"clipstream_batch_items_sum{{kind="embed_image",target="{}"}}"#, BOTH[0]), 6),
        (format!(r#"clipstream_batch_items_sum{{kind="embed_image",target="{}"}}"#, BOTH[1]), 6),
    ] {
        let found = metrics.lines().find_map(|l| l.strip_prefix(&line)?.trim().parse::<f64>().ok());
        assert_eq!(found, Some(f64::from(count)), "{line}\n{metrics}");
    }

    for (model, others) in [(0, 2), (1, 1)] {
        let found = points(&worker, model).await;
        let expected: BTreeSet<String> = (0..9).filter(|n| n % 3 != others).map(|n| format!("asset-{n}")).collect();
        assert_eq!(found.keys().cloned().collect::<BTreeSet<_>>(), expected, "{}", BOTH[model]);
        let embedder = Embedder::open(&world.settings, Some(&BOTH[model].parse().unwrap())).await.unwrap();
        for (n, picture) in pictures.iter().take(9).enumerate().filter(|(n, _)| n % 3 != others) {
            let point = &found[&format!("asset-{n}")];
            let image = project("demo/catalog/images").join(picture);
            let image = embedder.embed_image(image.as_path().into()).await.unwrap();
            assert!(close(&point.image, &image), "picture {n} of {}", BOTH[model]);
            let text = embedder.embed_query(&format!("picture {n}")).await.unwrap();
            assert!(close(&point.text, &text), "text {n} of {}", BOTH[model]);
        }
    }
    // The two models see different pixels.
    let (first, second) = (points(&worker, 0).await, points(&worker, 1).await);
    assert_ne!(first["asset-0"].image, second["asset-0"].image);
    assert_eq!(first["asset-0"].text, second["asset-0"].text);
    worker.store().close().await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_for_one_model_holds_the_message() {
    let mut world = World::start().await;
    // The point would be looked for in both collections first, and the first one not written to.
    world.settings.pipeline.skip_unchanged = false;
    let worker = world.worker().await;
    let [(_, first), (clip, second)] = worker.models() else { panic!("two models") };
    let client = Qdrant::from_url(&world.endpoint.url()).skip_compatibility_check().build().unwrap();
    client.delete_collection(second).await.unwrap();

    let progress = Arc::new(Progress::default());
    let messages = [json!({"id": "held", "text": "for both"})];
    let indexing = world.index(&worker, &messages, progress.clone());
    let seen = async {
        let deadline = Instant::now() + PATIENCE;
        // The first model's collection has it, and still it is not settled: the stage says that it is held.
        while world.health.reasons().iter().all(|(component, _)| *component != Component::Stage(Stage::Upsert))
            || worker.store().count(first).await.unwrap() == 0
        {
            assert!(Instant::now() < deadline, "no outage: {:?}", world.health.reasons());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(progress.settled(), 0);
        let spec = CollectionSpec {
            name: second.clone(),
            fingerprint: clip.fingerprint().unwrap().clone(),
            definition: CollectionDefinition::built_in(),
        };
        worker.store().ensure(&spec).await.unwrap();
    };
    let (summary, ()) = tokio::join!(indexing, seen);
    assert_eq!((summary.settled, summary.dead_lettered), (1, 0));
    for model in [0, 1] {
        assert_eq!(points(&worker, model).await.into_keys().collect::<Vec<_>>(), ["held"]);
    }
    worker.store().close().await.unwrap();
    world.end().await;
}
