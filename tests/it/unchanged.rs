//! What the point has already is not fetched, decoded and embedded again: replays, price changes, new models.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use clipstream::clip::{PictureLimits, PicturePool};
use clipstream::config::{ModelEntry, Settings, StoreKind};
use clipstream::dead_letter::FileDeadLetters;
use clipstream::domain::{AssetId, Deletion, Fingerprint, Guard, Payload, PointId, Record, Write};
use clipstream::format::Reader;
use clipstream::pipeline::{self, Parts};
use clipstream::shutdown::Shutdown;
use clipstream::source::LinesSource;
use clipstream::store::{CollectionSpec, Hit, Query, Store, StoreError, StoredPoint, Written};
use clipstream::telemetry::{Health, Metrics};
use clipstream::worker::Worker;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::several_models::{project, squashed};

const MODEL: &str = "demo-emoji/v1";
const SECOND: &str = "demo-emoji/squashed";

/// A server of pictures, and an embedded store that outlives its workers.
struct World {
    folder: TempDir,
    settings: Settings,
    origin: String,
    served: Served,
}

#[derive(Clone, Default)]
struct Served {
    files: Arc<Mutex<BTreeMap<String, Bytes>>>,
    /// Status of each answer, in order.
    answers: Arc<Mutex<Vec<u16>>>,
}

/// `/deaf/…` ignores conditions, everything else has an ETag.
async fn serve(State(served): State<Served>, uri: Uri, asked: HeaderMap) -> Response {
    let bytes = served.files.lock().unwrap().get(uri.path().rsplit('/').next().unwrap()).cloned();
    let response = match bytes {
        None => StatusCode::NOT_FOUND.into_response(),
        Some(bytes) if uri.path().starts_with("/deaf/") => bytes.into_response(),
        Some(bytes) => {
            let etag = format!("\"{}-{}\"", bytes.len(), bytes.iter().map(|b| u64::from(*b)).sum::<u64>());
            match asked.get(header::IF_NONE_MATCH) {
                Some(known) if known.as_bytes() == etag.as_bytes() => StatusCode::NOT_MODIFIED.into_response(),
                _ => ([(header::ETAG, etag)], bytes).into_response(),
            }
        }
    };
    served.answers.lock().unwrap().push(response.status().as_u16());
    response
}

/// What one run of a worker has done.
struct Ran {
    metrics: String,
    /// Status of each answer of the server of pictures.
    answers: Vec<u16>,
    /// Points of each model by asset.
    points: Vec<BTreeMap<String, StoredPoint>>,
}

impl Ran {
    /// Sum over the series of `name` whose labels contain `labels`.
    fn count(&self, name: &str, labels: &str) -> u64 {
        let series = self.metrics.lines().filter(|l| l.split(['{', ' ']).next() == Some(name) && l.contains(labels));
        series.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    }

    /// Pictures and texts that were embedded.
    fn embedded(&self) -> (u64, u64) {
        let items = |kind| self.count("clipstream_batch_items_sum", kind);
        (items("\"embed_image\""), items("\"embed_text\""))
    }

    fn unchanged(&self, by: &str) -> u64 {
        self.count("clipstream_unchanged_total", &format!("\"{by}\""))
    }

    fn all_unchanged(&self) -> u64 {
        self.count("clipstream_unchanged_total", "")
    }

    fn settled(&self, outcome: &str) -> u64 {
        self.count("clipstream_messages_total", &format!("\"{outcome}\""))
    }
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let served = Served::default();
        let router = Router::new().fallback(serve).with_state(served.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut settings = Settings::default();
        settings.store.kind = StoreKind::Embedded;
        settings.store.path = folder.path().join("store");
        settings.media.allow_hosts = vec!["127.0.0.1".to_owned()];
        settings.pipeline.backoff_base_ms = 20;
        let mut world = Self { folder, settings, origin, served };
        world.models(&[(MODEL, project("demo/model"))]);
        world
    }

    fn models(&mut self, models: &[(&str, PathBuf)]) {
        let entry =
            |(id, folder): &(&str, PathBuf)| ModelEntry { id: id.parse().unwrap(), directory: Some(folder.clone()) };
        self.settings.clip.models = models.iter().map(entry).collect();
    }

    /// From now on `name` is the `n`th picture of the catalog.
    fn put(&self, name: &str, n: usize) {
        let mut names: Vec<PathBuf> = std::fs::read_dir(project("demo/catalog/images"))
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension() == Some("webp".as_ref()))
            .collect();
        names.sort();
        self.served.files.lock().unwrap().insert(name.to_owned(), std::fs::read(&names[n]).unwrap().into());
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.origin)
    }

    async fn run(&self, messages: &[Value]) -> Ran {
        self.run_on(messages, |store| store).await
    }

    /// Indexes the messages to their end with a worker of their own, through what `wrap` makes of the store.
    async fn run_on(&self, messages: &[Value], wrap: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>) -> Ran {
        let (health, metrics) = (Health::new(), Arc::new(Metrics::default()));
        let worker = Worker::assemble(&self.settings, health.clone(), metrics.clone()).await.unwrap();
        let lines: String = messages.iter().map(|message| format!("{message}\n")).collect();
        let source = LinesSource::new("messages", std::io::Cursor::new(lines.into_bytes()));
        let pixels_max = self.settings.media.pixels_max;
        let pictures = PictureLimits { threads: 1, pixels_max, decode_bytes_max: 1 << 30 };
        let parts = Parts {
            settings: self.settings.pipeline.clone(),
            store_settings: self.settings.store.clone(),
            reader: Reader::default(),
            retries: false,
            pictures: Arc::new(PicturePool::new(pictures).unwrap()),
            models: worker.models().to_vec(),
            labels: worker.labels().clone(),
            media: worker.media().clone(),
            store: wrap(worker.store().clone()),
            dead_letters: Arc::new(FileDeadLetters::new(None).unwrap()),
            shutdown: Shutdown::new(),
            health,
            metrics: metrics.clone(),
            progress: Arc::default(),
        };
        let summary = pipeline::run(Box::new(source), parts).await.unwrap();
        assert_eq!((summary.settled, summary.dead_lettered), (messages.len() as u64, 0));
        let mut points = Vec::new();
        for (_, collection) in worker.models() {
            // Tombstones too.
            let found = worker.store().scroll(collection, None, 100).await.unwrap();
            points.push(found.into_iter().map(|p| (text(&p, "asset_id").expect("a record"), p)).collect());
        }
        worker.store().close().await.unwrap();
        let answers = std::mem::take(&mut *self.served.answers.lock().unwrap());
        Ran { metrics: metrics.encode(), answers, points }
    }
}

/// A text of a point's record.
fn text(point: &StoredPoint, path: &str) -> Option<String> {
    let keys = path.split('.');
    keys.fold(point.payload.get("clipstream"), |value, key| value?.get(key))?.as_str().map(str::to_owned)
}

/// The user's own payload.
fn own(point: &StoredPoint) -> Value {
    let mut payload = point.payload.clone();
    payload.remove("clipstream");
    payload.into()
}

fn one(ran: &Ran) -> &StoredPoint {
    &ran.points[0]["a"]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_embeds_nothing_and_a_price_change_replaces_the_payload_alone() {
    let world = World::start().await;
    let message = |n: usize, price: Option<u32>| {
        let picture = world.url(&format!("images/{n}?X-Amz-Signature={}", price.unwrap_or_default()));
        let payload = price.map_or(json!({"lang": "en", "old": true}), |price| json!({"lang": "en", "price": price}));
        json!({"id": format!("asset-{n}"), "image": picture, "text": format!("picture {n}"), "payload": payload})
    };
    (0..5).for_each(|n| world.put(&n.to_string(), n));
    let all = |price| (0..5).map(|n| message(n, price)).collect::<Vec<_>>();
    let first = world.run(&all(None)).await;
    assert_eq!((first.embedded(), &first.answers[..]), ((5, 5), &[200; 5][..]));
    assert_eq!(first.all_unchanged(), 0);

    let replay = world.run(&all(None)).await;
    assert_eq!((replay.embedded(), &replay.answers[..]), ((0, 0), &[304; 5][..]), "{}", replay.metrics);
    assert_eq!((replay.unchanged("etag"), replay.unchanged("text"), replay.settled("indexed")), (5, 5, 5));
    assert_eq!(replay.count("clipstream_media_bytes_total", ""), 0);

    let dearer = world.run(&all(Some(60))).await;
    assert_eq!((dearer.embedded(), &dearer.answers[..]), ((0, 0), &[304; 5][..]), "signed anew is the same picture");
    for (asset, point) in &first.points[0] {
        for later in [&replay.points[0][asset], &dearer.points[0][asset]] {
            assert_eq!((&later.image, &later.text), (&point.image, &point.text), "{asset}");
            assert!(later.image.is_some() && later.text.is_some());
            for kept in ["media.sha256", "media.etag", "media.mime", "text_sha256"] {
                assert!(text(point, kept).is_some(), "{kept} of {asset}");
                assert_eq!(text(later, kept), text(point, kept), "{kept} of {asset}");
            }
        }
        assert_eq!(own(&replay.points[0][asset]), own(point));
        assert_eq!(own(&dearer.points[0][asset]), json!({"lang": "en", "price": 60}), "the whole payload is replaced");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_validators_the_content_tells() {
    let mut world = World::start().await;
    world.put("one", 1);
    let inline = {
        use base64::Engine as _;
        let bytes = world.served.files.lock().unwrap()["one"].clone();
        format!("data:image/webp;base64,{}", base64::prelude::BASE64_STANDARD.encode(bytes))
    };
    let message = |image: &str| [json!({"id": "a", "image": image, "text": "one"})];
    let deaf = message(&world.url("deaf/one"));
    assert_eq!(world.run(&deaf).await.embedded(), (1, 1));
    let again = world.run(&deaf).await;
    assert_eq!((again.embedded(), again.unchanged("content"), &again.answers[..]), ((0, 0), 1, &[200][..]));
    // The same bytes from elsewhere: what is recorded is where they were found last.
    let elsewhere = world.run(&message(&inline)).await;
    assert_eq!((elsewhere.embedded(), elsewhere.unchanged("content")), ((0, 0), 1));
    assert!(text(one(&elsewhere), "media.url").unwrap().starts_with("data:image/webp,"));
    assert_eq!(text(one(&elsewhere), "media.mime").as_deref(), Some("image/webp"));
    assert_eq!(one(&elsewhere).image, one(&again).image);

    world.settings.pipeline.skip_unchanged = false;
    let all = world.run(&deaf).await;
    assert_eq!((all.embedded(), all.all_unchanged()), ((1, 1), 0), "asked to embed everything");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_changed_is_embedded_and_the_rest_kept() {
    let world = World::start().await;
    world.put("it", 1);
    let image = world.url("images/it");
    let message = |text: &str| [json!({"id": "a", "image": image, "text": text})];
    let first = world.run(&message("one")).await;
    world.put("it", 2);
    let picture = world.run(&message("one")).await;
    assert_eq!((picture.embedded(), &picture.answers[..]), ((1, 0), &[200][..]), "another picture, the same URL");
    assert_ne!(one(&picture).image, one(&first).image);
    assert_eq!(one(&picture).text, one(&first).text);
    assert_ne!(text(one(&picture), "media.sha256"), text(one(&first), "media.sha256"));

    let caption = world.run(&message("two")).await;
    assert_eq!((caption.embedded(), &caption.answers[..]), ((0, 1), &[304][..]));
    assert_eq!(one(&caption).image, one(&picture).image);
    assert_ne!(one(&caption).text, one(&picture).text);

    let patch = |body: Value| {
        let mut patch = json!({"id": "a", "op": "patch"});
        patch.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        [patch]
    };
    let same = world.run(&patch(json!({"image": image, "payload": {"n": 1}}))).await;
    assert_eq!((same.embedded(), same.unchanged("etag")), ((0, 0), 1));
    assert_eq!((own(one(&same)), &one(&same).text), (json!({"n": 1}), &one(&caption).text));
    let other = world.run(&patch(json!({"text": "three"}))).await;
    assert_eq!((other.embedded(), own(one(&other))), ((0, 1), json!({"n": 1})));
    assert_eq!(text(one(&other), "media.sha256"), text(one(&picture), "media.sha256"));

    // A full message without the text drops its vector and keeps the picture's.
    let without = world.run(&[json!({"id": "a", "image": image})]).await;
    assert_eq!((without.embedded(), without.unchanged("etag")), ((0, 0), 1));
    assert_eq!((&one(&without).image, &one(&without).text), (&one(&picture).image, &None));
    assert_eq!((text(one(&without), "text_sha256"), own(one(&without))), (None, json!({})));
    let back = world.run(&message("three")).await;
    assert_eq!(back.embedded(), (0, 1), "its vector is gone, so it is made again");
    assert_eq!(one(&back).text, one(&other).text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_came_later_embeds_alone() {
    let mut world = World::start().await;
    world.put("one", 1);
    let message = [json!({"id": "a", "image": world.url("images/one"), "text": "one"})];
    world.run(&message).await;
    let squashed = squashed(&world.folder.path().join("squashed"));
    world.models(&[(MODEL, project("demo/model")), (SECOND, squashed)]);
    let both = world.run(&message).await;
    assert_eq!((both.embedded(), &both.answers[..]), ((1, 1), &[200][..]), "{}", both.metrics);
    assert_eq!(both.count("clipstream_batch_items_sum", MODEL), 0);
    assert_eq!((both.unchanged("content"), both.unchanged("text")), (1, 1));
    assert!(both.points.iter().all(|points| points["a"].image.is_some() && points["a"].text.is_some()));
    let again = world.run(&message).await;
    assert_eq!((again.embedded(), &again.answers[..], again.unchanged("etag")), ((0, 0), &[304][..], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_assets_are_embedded_again() {
    let world = World::start().await;
    world.put("one", 1);
    let message =
        |version: u64| json!({"id": "a", "image": world.url("images/one"), "text": "one", "version": version});
    let first = world.run(&[message(1)]).await;
    // With a version it leaves a tombstone.
    let deleted = world.run(&[json!({"id": "a", "op": "delete", "version": 2})]).await;
    assert_eq!((deleted.settled("deleted"), text(one(&deleted), "deleted_at").is_some()), (1, true));
    let stale = world.run(&[message(1)]).await;
    assert_eq!((stale.settled("stale"), stale.embedded(), stale.answers.len()), (1, (0, 0), 0), "not even fetched");
    let again = world.run(&[message(3)]).await;
    assert_eq!((again.embedded(), &again.answers[..], again.settled("indexed")), ((1, 1), &[200][..], 1));
    assert_eq!((&one(&again).image, text(one(&again), "deleted_at")), (&one(&first).image, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_goes_after_it_was_recalled_is_embedded() {
    let world = World::start().await;
    world.put("one", 1);
    let message = [json!({"id": "a", "image": world.url("images/one"), "text": "one", "payload": {"n": 1}})];
    let first = world.run(&message).await;
    let ran = world.run_on(&message, |inner| Arc::new(Vanishing { inner, gone: AtomicBool::new(false) })).await;
    assert_eq!((&ran.answers[..], ran.embedded()), (&[304, 200][..], (1, 1)), "first by memory, then without");
    assert_eq!((ran.all_unchanged(), ran.settled("indexed")), (0, 1));
    assert_eq!((own(one(&ran)), &one(&ran).image), (json!({"n": 1}), &one(&first).image));
    assert!(one(&ran).text.is_some());
}

/// A store in which somebody else deletes the asset right after it was looked at for the first time.
struct Vanishing {
    inner: Arc<dyn Store>,
    gone: AtomicBool,
}

#[async_trait]
impl Store for Vanishing {
    async fn ensure(&self, spec: &CollectionSpec) -> Result<(), StoreError> {
        self.inner.ensure(spec).await
    }

    async fn fingerprint(&self, collection: &str) -> Result<Option<Fingerprint>, StoreError> {
        self.inner.fingerprint(collection).await
    }

    async fn ensure_alias(&self, alias: &str, collection: &str) -> Result<String, StoreError> {
        self.inner.ensure_alias(alias, collection).await
    }

    async fn write(&self, collection: &str, writes: &[Write], guard: Guard) -> Result<Vec<Written>, StoreError> {
        self.inner.write(collection, writes, guard).await
    }

    async fn records(&self, collection: &str, ids: &[PointId]) -> Result<Vec<(PointId, Payload)>, StoreError> {
        let records = self.inner.records(collection, ids).await?;
        if !self.gone.swap(true, Ordering::SeqCst) {
            let record = Record {
                asset: AssetId::new("a").unwrap(),
                tenant: None,
                source: None,
                version: None,
                media: None,
                text_sha256: None,
                labels: None,
                deleted_at: None,
                base: None,
                indexed_at: "2026-11-25T00:00:00Z".to_owned(),
            };
            let deletions: Vec<Write> =
                ids.iter().map(|id| Write::Delete(Deletion { id: *id, record: record.clone() })).collect();
            self.inner.write(collection, &deletions, Guard::Off).await?;
        }
        Ok(records)
    }

    async fn search(&self, collection: &str, query: &Query) -> Result<Vec<Hit>, StoreError> {
        self.inner.search(collection, query).await
    }

    async fn scroll(
        &self,
        collection: &str,
        after: Option<PointId>,
        limit: usize,
    ) -> Result<Vec<StoredPoint>, StoreError> {
        self.inner.scroll(collection, after, limit).await
    }

    async fn count(&self, collection: &str) -> Result<u64, StoreError> {
        self.inner.count(collection).await
    }

    async fn count_of_tenants(&self, collection: &str, asset: &AssetId) -> Result<u64, StoreError> {
        self.inner.count_of_tenants(collection, asset).await
    }

    async fn purge_tombstones(&self, collection: &str, before: DateTime<Utc>) -> Result<u64, StoreError> {
        self.inner.purge_tombstones(collection, before).await
    }

    async fn check(&self) -> Result<String, StoreError> {
        self.inner.check().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.inner.close().await
    }
}
