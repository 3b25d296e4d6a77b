//! The tiny models of `tests/fixtures/models` through the library, as its users call it: whatever exporter made a
//! directory, the vectors are those that OpenCLIP in PyTorch gave for the same inputs (`golden.json`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clipstream::api::{Embedder, ImageInput};
use clipstream::config::{ModelEntry, Settings};
use clipstream::domain::{Embedding, Precision};
use clipstream_test_support::needs::{self, Need};
use serde::Deserialize;

/// All but `gelu-trap`, which must be refused.
const MODELS: [&str; 25] = [
    "clip-as-service",
    "fastembed",
    "fp16-io",
    "immich-attention",
    "immich-fixed-batch",
    "immich-m-clip",
    "immich-siglip2",
    "immich-traced",
    "immich-xlm-r",
    "jina-clip-v1",
    "jina-clip-v2",
    "onnx-community-siglip2",
    "open-clip-inference",
    "ours-coca",
    "ours-external-data",
    "ours-gelu",
    "ours-quick-gelu",
    "ours-siglip",
    "plhery-mobileclip2",
    "ours-roberta",
    "ours-siglip2",
    "siglip-text",
    "xenova-combined",
    "xenova-mobileclip",
    "xenova-split",
];

/// Sizes of `plhery-mobileclip2`, each a model of its own.
const SIZES: [&str; 2] = ["plhery-mobileclip2/onnx/s0", "plhery-mobileclip2/onnx/s2"];

#[derive(Deserialize)]
struct Golden {
    cosine_min: BTreeMap<String, f64>,
    texts: Vec<Text>,
    images: Vec<Image>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    vector: Vec<f64>,
}

#[derive(Deserialize)]
struct Image {
    name: String,
    data: String,
    vector: Vec<f64>,
}

fn models() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/models"))
}

fn golden(model: &str) -> Golden {
    let file = models().join(model).join("golden.json");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

async fn open(model: &str, precision: Precision) -> Embedder {
    let mut settings = Settings::default();
    settings.clip.precision = precision;
    let id = format!("tiny/{}", model.replace('/', "-")).parse().unwrap();
    settings.clip.models = vec![ModelEntry { id, directory: Some(models().join(model)) }];
    Embedder::open(&settings, None).await.unwrap_or_else(|e| panic!("{model} {precision}: {e}"))
}

/// In f64: the last digits of `1 - cosine` are what is asked for.
fn cosine(found: &Embedding, expected: &[f64]) -> f64 {
    assert_eq!(found.dimension(), expected.len());
    let length = expected.iter().map(|v| v * v).sum::<f64>().sqrt();
    found.as_slice().iter().zip(expected).map(|(a, b)| f64::from(*a) * b).sum::<f64>() / length
}

#[tokio::test(flavor = "multi_thread")]
async fn every_layout_gives_the_vectors_of_openclip() {
    for model in MODELS.into_iter().chain(SIZES) {
        let golden = golden(model);
        for (precision, least) in &golden.cosine_min {
            if precision == "int8" && !adds_bytes_exactly() {
                needs::go_without(Need::Vnni, &format!("int8 of {model} is not tried"));
                continue;
            }
            let embedder = open(model, precision.parse().unwrap()).await;
            check(&golden, &embedder, &format!("{model} {precision}"), *least).await;
        }
    }
}

/// On x86 without VNNI, ONNX Runtime adds products of bytes in pairs of 16 bits, which overflow where weights use all eight
/// bits, as those of these fixtures do (ONNX Runtime's documentation of quantization: "when and why to try U8U8").
pub fn adds_bytes_exactly() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512vnni") || std::arch::is_x86_feature_detected!("avxvnni");
    #[cfg(not(target_arch = "x86_64"))]
    return true;
}

async fn check(golden: &Golden, embedder: &Embedder, model: &str, least: f64) {
    // All at once, so that texts of different lengths share a batch, and a fixed batch takes several runs.
    let texts: Vec<&str> = golden.texts.iter().map(|t| t.text.as_str()).collect();
    let found = embedder.embed_documents(&texts).await.unwrap_or_else(|e| panic!("{model}: {e}"));
    for (line, found) in golden.texts.iter().zip(&found) {
        let cosine = cosine(found, &line.vector);
        assert!(cosine >= least, "{model}: {:?}: cosine {cosine}, expected at least {least}", line.text);
    }
    let pictures = golden.images.iter().map(|i| ImageInput::from(STANDARD.decode(&i.data).unwrap())).collect();
    for (line, found) in golden.images.iter().zip(embedder.embed_images(pictures).await) {
        let cosine = cosine(&found.unwrap_or_else(|e| panic!("{model}: {}: {e}", line.name)), &line.vector);
        assert!(cosine >= least, "{model}: {}: cosine {cosine}, expected at least {least}", line.name);
    }
}

/// The expectations above mean something only where other inputs, and the other activation, miss them.
#[test]
fn golden_vectors_tell_inputs_and_activations_apart() {
    let unit = |vector: &[f64]| Embedding::normalised(vector.iter().map(|v| *v as f32).collect()).unwrap();
    let (quick, exact) = (golden("ours-quick-gelu"), golden("ours-gelu"));
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        assert!(cosine(&unit(&quick.texts[a].vector), &quick.texts[b].vector) < 0.99);
        assert!(cosine(&unit(&quick.images[a].vector), &quick.images[b].vector) < 0.99);
    }
    for at in 0..3 {
        assert!(cosine(&unit(&quick.texts[at].vector), &exact.texts[at].vector) < 0.9999);
        assert!(cosine(&unit(&quick.images[at].vector), &exact.images[at].vector) < 0.9999);
    }
}

#[test]
fn no_model_is_left_out() {
    let entries = std::fs::read_dir(models()).unwrap().map(|e| e.unwrap());
    let found: BTreeSet<_> = entries
        .filter(|e| e.path().is_dir())
        .map(|e| e.file_name().into_string().unwrap())
        .filter(|name| name != "gelu-trap")
        .collect();
    assert_eq!(found, BTreeSet::from(MODELS.map(str::to_owned)));
}
