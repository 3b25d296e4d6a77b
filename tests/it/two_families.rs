//! Two families in one worker: a CLIP (the demo's) and a SigLIP-like model with a `tokenizer.json` of its own. Messages go through
//! Kafka, pictures over HTTP, and each model has its own collection, which is searched by text with the binary's own verb.
//!
//! What vectors must be, ONNX Runtime in Python said, with the ids of OpenCLIP's tokenizers and the pixels of its transform
//! (`tools/make_fixtures.py`, `tools/make_hub_fixtures.py`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Uri;
use clipstream::domain::ModelId;
use clipstream::source::Producer;
use clipstream::store::{self, Store};
use clipstream_test_support::qdrant::server::Server;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::end_to_end::checks::scroll;
use crate::kafka::Kafka;
use crate::store_conformance::fixture::settings_of;
use crate::worker_process::{Endpoints, Process, clipstream, set};

const COSINE_MIN: f64 = 0.99999;

/// How far a score may be from the one that the expected vectors have: what `COSINE_MIN` allows two vectors.
const SCORE_ERROR_MAX: f64 = 0.01;

/// A model of each family, with what it gives for the same pictures and texts.
const MODELS: [(&str, &str, &str); 2] = [
    ("demo-emoji/v1", "demo/model", "tests/fixtures/demo_vectors.json"),
    ("tiny/siglip", "tests/fixtures/models/ours-siglip", "tests/fixtures/siglip_vectors.json"),
];

/// Vectors of one model by picture and by text, and the pairs of both in the order of the file.
struct Expected {
    vectors: BTreeMap<String, Vec<f64>>,
    pairs: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Line {
    image: Option<String>,
    text: Option<String>,
    embedding: Vec<f64>,
}

fn project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

impl Expected {
    fn read(file: &str) -> Self {
        let lines: Vec<Line> = serde_json::from_str(&std::fs::read_to_string(project(file)).unwrap()).unwrap();
        let (mut vectors, mut pairs) = (BTreeMap::new(), Vec::new());
        for pair in lines.chunks_exact(2) {
            let (image, text) = (pair[0].image.clone().unwrap(), pair[1].text.clone().unwrap());
            vectors.insert(image.clone(), pair[0].embedding.clone());
            vectors.insert(text.clone(), pair[1].embedding.clone());
            pairs.push((image, text));
        }
        Self { vectors, pairs }
    }
}

fn cosine(one: &[f64], other: &[f64]) -> f64 {
    assert_eq!(one.len(), other.len());
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

/// `clipstream search TEXT` in one model's collection: the hits' ids and scores.
async fn search(server: &Server, model: &str, among: &str, text: &str) -> Vec<(String, f64)> {
    let mut command = clipstream("search");
    configure(server, &mut command);
    command.args(["--json", "--model", model, "--in", among, "--limit", "20", text]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("the binary starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // What is said of the tiny model, whose weights are nobody's.
    let others: Vec<_> = stderr.lines().filter(|line| !line.contains("the model's weights are random")).collect();
    assert_eq!((output.status.code(), others), (Some(0), Vec::new()));
    let hit = |line: &str| {
        let hit: Value = serde_json::from_str(line).unwrap();
        (hit["id"].as_str().unwrap().to_owned(), hit["score"].as_f64().unwrap())
    };
    stdout.lines().map(hit).collect()
}

fn configure(server: &Server, command: &mut std::process::Command) {
    let models: Vec<String> = MODELS.iter().map(|(id, directory, _)| format!("{id}={directory}")).collect();
    set(command, &[("clip.models", &models.join(","))]);
    server.configure(command);
}

/// The catalog's pictures, over HTTP.
async fn pictures() -> String {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let serve =
        async |uri: Uri| std::fs::read(project("demo/catalog").join(uri.path().trim_start_matches('/'))).unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(serve)).await });
    origin
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clip_and_a_siglip_index_the_same_messages_each_into_its_own_collection() {
    let expected = MODELS.map(|(_, _, file)| Expected::read(file));
    assert_eq!(expected[0].pairs, expected[1].pairs, "both are of the same pictures and texts");
    let pairs = &expected[0].pairs;
    let kafka = Kafka::start("two_families");
    let topic = format!("families-{}", uuid::Uuid::from_u128(rand::random()).simple());
    kafka.create_topic(&topic, 2).await;
    kafka.create_topic(&format!("{topic}.dlq"), 1).await;
    let server = Server::start();
    let settings = settings_of(server.address());
    let store: Arc<dyn Store> = store::open(&settings).await.unwrap();
    let origin = pictures().await;

    // Every third only for the SigLIP.
    let named = |n: usize| n % 3 == 2;
    let producer = Producer::new(&kafka.settings()).unwrap();
    let mut sent = Vec::new();
    for (n, (image, text)) in pairs.iter().enumerate() {
        let mut message = json!({"image": format!("{origin}/{image}"), "text": text});
        if named(n) {
            message["models"] = json!([MODELS[1].0]);
        }
        let value = message.to_string().into_bytes();
        sent.push(producer.send(&topic, Some(image.as_bytes()), Some(value.as_slice()), &[]).await.unwrap());
    }
    producer.flush(Duration::from_secs(60)).await.unwrap();
    for delivery in sent {
        delivery.await.unwrap();
    }

    let mut command = clipstream("run");
    configure(&server, &mut command);
    let (group, brokers) = (format!("{topic}-worker"), kafka.brokers.join(","));
    let own = [
        ("kafka.brokers", brokers.as_str()),
        ("kafka.topics", topic.as_str()),
        ("kafka.group_id", group.as_str()),
        ("media.allow_hosts", "127.0.0.1"),
        ("pipeline.commit_interval_ms", "200"),
        ("telemetry.listen", "127.0.0.1:0"),
        ("telemetry.log_format", "json"),
    ];
    set(&mut command, &own);
    let mut worker = Process::spawn(&mut command);
    let endpoints = Endpoints::of(&mut worker).await;
    worker
        .wait_for("the end of every partition is committed", async |_| {
            (kafka.committed(&group, &topic) == kafka.ends(&topic)).then_some(())
        })
        .await;
    let (status, ready) = endpoints.get("/readyz").await;
    let lines = "ready\nmodel demo-emoji/v1: fp32 on cpu\nmodel tiny/siglip: fp32 on cpu\n";
    assert_eq!((status, ready.as_str()), (200, lines));
    worker.terminate();
    let (code, log) = worker.end().await;
    assert_eq!(code, Some(0), "{}", log.join("\n"));

    for ((id, _, _), expected) in MODELS.iter().zip(&expected) {
        let model: ModelId = id.parse().unwrap();
        let collection = model.collection(&settings.collection_template, &server.prefix);
        let points = scroll(&*store, &collection).await;
        let own: Vec<_> = pairs.iter().enumerate().filter(|(n, _)| *id == MODELS[1].0 || !named(*n)).collect();
        assert_eq!(points.len(), own.len(), "{id}");
        for (_, (image, text)) in &own {
            let point = points.iter().find(|p| p.payload["clipstream"]["asset_id"] == json!(image));
            let point = point.unwrap_or_else(|| panic!("{id} has no {image}"));
            for (found, of) in [(&point.image, image), (&point.text, text)] {
                let found: Vec<f64> = found.as_ref().expect("both vectors").iter().map(|v| f64::from(*v)).collect();
                let cosine = cosine(&found, &expected.vectors[of]);
                assert!(cosine >= COSINE_MIN, "{id}: {of} has cosine {cosine}");
            }
        }
        // Scores are what the expected vectors say, so that a text through the wrong tokenizer would show.
        for (_, (_, text)) in own.iter().step_by(3) {
            for among in ["text", "image"] {
                let hits = search(&server, id, among, text).await;
                assert_eq!(hits.len(), own.len(), "{id} {among} {text:?}");
                for (_, (image, caption)) in &own {
                    let other = if among == "text" { caption } else { image };
                    let score = hits.iter().find(|(hit, _)| hit == image).expect("every asset is a hit").1;
                    let wanted = cosine(&expected.vectors[text], &expected.vectors[other]);
                    assert!((score - wanted).abs() < SCORE_ERROR_MAX, "{id}: {text:?} to {other}: {score}, {wanted}");
                }
            }
        }
    }
    store.close().await.unwrap();
    kafka.delete_topics(&[&topic, &format!("{topic}.dlq")]).await;
    server.stop().await;
}
