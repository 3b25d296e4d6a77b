//! Tiny models of OpenCLIP's architecture in every layout, compared with OpenCLIP's vectors (`tests/fixtures/models`),
//! and what happens when they are broken.

mod bad_input;

use std::path::{Path, PathBuf};

use clipstream_test_support::needs::{self, Need};
use serde_json::{Value, json};

use super::*;
use crate::config::{ActivationMismatch, ModelEntry};
use crate::domain::{Activation, AnyReason, ModelReason, Precision};
use crate::model::test_graph::{self, F32, TestGraph};

pub(super) const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/models");

fn entry(directory: impl Into<PathBuf>) -> ModelEntry {
    ModelEntry { id: "tiny/test".parse().unwrap(), directory: Some(directory.into()) }
}

fn fixture(name: &str) -> ModelEntry {
    entry(Path::new(MODELS).join(name))
}

/// A copy of a fixture that a test may break.
pub(super) fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(MODELS).join(name);
    for file in walkdir::WalkDir::new(&source).into_iter().map(Result::unwrap).filter(|e| e.file_type().is_file()) {
        let to = folder.path().join(file.path().strip_prefix(&source).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(file.path(), to).unwrap();
    }
    folder
}

fn load(entry: &ModelEntry) -> Result<Clip, ClipError> {
    Clip::load(entry, &ClipSettings::default(), Arc::default())
}

/// Why a copy is refused. Paths are relative to its folder.
fn refused(folder: &tempfile::TempDir) -> (AnyReason, String) {
    let error = load(&entry(folder.path())).err().expect("it is refused");
    (error.reason(), error.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

#[test]
fn every_layout_gives_openclips_vectors() {
    for (name, layout) in [
        ("ours-quick-gelu", "Immich"),
        ("ours-gelu", "Immich"),
        ("ours-external-data", "Immich"),
        ("siglip-text", "Immich"),
        ("fp16-io", "Immich"),
        ("immich-traced", "Immich"),
        ("immich-fixed-batch", "Immich"),
        ("immich-attention", "Immich"),
        ("fastembed", "FastEmbed pair"),
        ("xenova-split", "Optimum"),
        ("xenova-combined", "combined Optimum"),
        ("open-clip-inference", "open_clip_inference"),
        ("clip-as-service", "clip-as-service"),
        ("ours-siglip", "Immich"),
        ("immich-siglip2", "Immich"),
        ("immich-xlm-r", "Immich"),
        ("immich-m-clip", "Immich"),
        ("onnx-community-siglip2", "Optimum"),
        ("jina-clip-v1", "Optimum"),
        ("jina-clip-v2", "combined Optimum"),
        ("xenova-mobileclip", "Optimum"),
        ("plhery-mobileclip2", "Optimum"),
        ("plhery-mobileclip2/onnx/s0", "flat Optimum"),
        ("plhery-mobileclip2/onnx/s2", "flat Optimum"),
    ] {
        let clip = load(&fixture(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!((clip.layout(), clip.dimension()), (layout, 16), "{name}");
        let activation = match name {
            "ours-siglip" | "immich-siglip2" | "onnx-community-siglip2" => "gelu_tanh",
            "ours-gelu" | "siglip-text" => "gelu",
            _ if ["immich-xlm", "immich-m-clip", "jina", "xenova-mobile", "plhery"]
                .iter()
                .any(|m| name.starts_with(m)) =>
            {
                "gelu"
            }
            _ => "quick_gelu",
        };
        assert_eq!(clip.fingerprint().unwrap().activation.as_deref(), Some(activation), "{name}");

        let verified = verify(&fixture(name), &ClipSettings::default(), Precision::Fp32).unwrap();
        assert!(verified.ok, "{name}: {:?}", verified.problems);
        // Half precision in the weights or at the ends costs digits; those fixtures have a lower floor.
        let floor = if ["fp16-io", "immich-attention"].contains(&name) { 0.999 } else { 0.99999 };
        assert!(verified.cosine_min.unwrap() >= floor, "{name}: {verified:?}");
        assert_eq!(verified.cases.len(), 6, "{name}");
    }
}

#[test]
fn other_precisions_are_compared_with_fp32_too() {
    for (name, precision) in [
        ("ours-quick-gelu", Precision::Fp16),
        ("ours-quick-gelu", Precision::Int8),
        ("xenova-split", Precision::Int8),
        ("xenova-combined", Precision::Int8),
        ("onnx-community-siglip2", Precision::Fp16),
        ("onnx-community-siglip2", Precision::Int8),
        ("onnx-community-siglip2", Precision::Int4),
        ("jina-clip-v2", Precision::Int8),
    ] {
        let verified = verify(&fixture(name), &ClipSettings::default(), precision).unwrap();
        let to_fp32 = verified.cosine_to_fp32_min.unwrap();
        if precision == Precision::Int8 && !adds_bytes_exactly() {
            needs::go_without(Need::Vnni, &format!("int8 of {name} is not compared"));
            assert_eq!(verified.ok, to_fp32 > 0.98, "{name}: what is off is said: {:?}", verified.problems);
            continue;
        }
        assert!(verified.ok, "{name} {precision}: {:?}", verified.problems);
        assert!(to_fp32 > 0.98 && to_fp32 < 1.0 - 1e-9, "{name} {precision}: {to_fp32}");
        assert!(verified.cases.iter().all(|c| c.cosine_to_fp32.is_some()));
    }
    let error = verify(&fixture("immich-traced"), &ClipSettings::default(), Precision::Int8).unwrap_err().to_string();
    assert!(error.contains("has no int8 graphs; there is fp32; set clip.precision"), "{error}");
}

/// Of Transformers.js's files of 4 bits the one that computes with halves comes last: here there are no others.
#[test]
fn four_bits_with_halves_are_read_too() {
    let folder = copy("onnx-community-siglip2");
    for graph in ["vision_model", "text_model"] {
        for suffix in ["_q4", "_bnb4"] {
            std::fs::remove_file(folder.path().join(format!("onnx/{graph}{suffix}.onnx"))).unwrap();
        }
    }
    let verified = verify(&entry(folder.path()), &ClipSettings::default(), Precision::Int4).unwrap();
    assert!(verified.ok, "{:?}", verified.problems);
    let to_fp32 = verified.cosine_to_fp32_min.unwrap();
    assert!(to_fp32 > 0.9 && to_fp32 < 1.0 - 1e-6, "{to_fp32}");
    let inspected = inspect(&entry(folder.path()), &ClipSettings::default(), Precision::Int4).unwrap();
    assert!(inspected.image.weights.contains_key("f16"), "{:?}", inspected.image.weights);
}

/// Without VNNI on x86, ONNX Runtime adds products of bytes in pairs of 16 bits. They overflow if weights use all eight
/// bits, as in these fixtures (ONNX Runtime's documentation of quantization: "when and why to try U8U8").
fn adds_bytes_exactly() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512vnni") || std::arch::is_x86_feature_detected!("avxvnni");
    #[cfg(not(target_arch = "x86_64"))]
    return true;
}

#[test]
fn a_model_is_inspected_without_being_run() {
    let inspected = inspect(&fixture("xenova-combined"), &ClipSettings::default(), Precision::Fp32).unwrap();
    assert_eq!(inspected.problems, [""; 0]);
    let ports = |ports: &[crate::model::Port]| ports.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(ports(&inspected.image.inputs), ["pixel_values f32[image_batch_size, num_channels, height, width]"]);
    assert_eq!(ports(&inspected.text.outputs), ["text_embeds f32[text_batch_size, 16]"]);
    assert_eq!(inspected.precisions, [Precision::Fp32, Precision::Int8]);
    assert!(inspected.image.normalised && inspected.text.normalised && inspected.golden);
    assert_eq!(inspected.text.vocabulary, Some(600));
    assert_eq!(inspected.image.activations.get(&Activation::QuickGelu), Some(&2));

    // The same fingerprint as the loaded model, even if the graph does not state the dimension.
    for name in ["xenova-combined", "immich-traced", "ours-external-data"] {
        let inspected = inspect(&fixture(name), &ClipSettings::default(), Precision::Fp32).unwrap();
        assert_eq!(
            inspected.fingerprint.as_ref(),
            Some(load(&fixture(name)).unwrap().fingerprint().unwrap()),
            "{name}"
        );
    }
    let split = inspect(&fixture("xenova-split"), &ClipSettings::default(), Precision::Int8).unwrap();
    assert!(split.image.quantised && !split.image.normalised);
    assert_eq!(split.text.vocabulary, Some(600));
}

#[test]
fn the_gelu_trap_is_refused_unless_it_is_accepted() {
    let trap = copy("gelu-trap");
    let (reason, message) = refused(&trap);
    assert_eq!(reason, ModelReason::ActivationMismatch.into());
    assert!(message.contains("graph computes GELU"), "{message}");
    let accepting = ClipSettings { activation_mismatch: ActivationMismatch::Accept, ..ClipSettings::default() };
    // The golden vectors detect it too.
    let error = Clip::load(&entry(trap.path()), &accepting, Arc::default()).err().unwrap();
    assert_eq!(error.reason(), ModelReason::GoldenMismatch.into());
    std::fs::remove_file(trap.path().join("golden.json")).unwrap();
    let accepted = Clip::load(&entry(trap.path()), &accepting, Arc::default()).unwrap();
    assert_eq!(accepted.fingerprint().unwrap().activation.as_deref(), Some("gelu"));

    let verified = verify(&fixture("gelu-trap"), &ClipSettings::default(), Precision::Fp32).unwrap();
    assert!(!verified.ok && verified.cosine_min.unwrap() < 0.99999, "{verified:?}");
    assert!(verified.problems[0].contains("graph computes GELU"), "{:?}", verified.problems);
    let inspected = inspect(&fixture("gelu-trap"), &ClipSettings::default(), Precision::Fp32).unwrap();
    assert!(inspected.problems[0].contains("graph computes GELU"), "{:?}", inspected.problems);
}

/// Changes a JSON file of a copy.
fn edit(folder: &tempfile::TempDir, file: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.path().join(file);
    let mut value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

#[test]
fn a_model_that_misses_its_golden_vectors_does_not_start() {
    let model = copy("ours-quick-gelu");
    edit(&model, "golden.json", |golden| {
        let vector = golden["images"][0]["vector"].as_array_mut().unwrap();
        vector.rotate_left(1);
    });
    let (reason, message) = refused(&model);
    assert_eq!(reason, ModelReason::GoldenMismatch.into());
    // A worker opens towers when they are needed, and finds this out at its start all the same.
    let prepared = Clip::prepare(&entry(model.path()), &ClipSettings::default(), Arc::default()).unwrap();
    assert_eq!(prepared.prove().unwrap_err().reason(), ModelReason::GoldenMismatch.into());
    assert!(
        message.contains("does not give OpenCLIP's vectors (golden.json): image \"landscape.jpg\" has cosine "),
        "{message}"
    );
    assert!(message.contains(", expected at least 0.99999; "), "{message}");

    let tokens = copy("ours-quick-gelu");
    edit(&tokens, "golden.json", |golden| golden["texts"][1]["tokens"][1] = json!(7));
    let (reason, message) = refused(&tokens);
    assert_eq!(reason, ModelReason::GoldenMismatch.into());
    assert!(message.contains("tokens of ") && message.contains(" differ: found [598, "), "{message}");

    for (change, said) in [
        (json!({"format": 2, "texts": [], "images": []}), "has format 2, expected 1"),
        (json!({"format": 1, "texts": [], "images": []}), "has no text or no picture"),
        (json!({"format": 1}), "has no golden vectors: missing field `texts`"),
    ] {
        let broken = copy("ours-quick-gelu");
        edit(&broken, "golden.json", |golden| *golden = change);
        let (reason, message) = refused(&broken);
        assert_eq!(reason, ModelReason::GoldenUnusable.into());
        assert!(message.contains(said), "{message}");
    }
    // The file's own floor counts, if it can tell a right graph from a wrong one.
    let with_floor = |floor: f64| {
        let folder = copy("ours-quick-gelu");
        edit(&folder, "golden.json", |golden| {
            let value = &mut golden["images"][0]["vector"][0];
            *value = json!(value.as_f64().unwrap() + 0.02);
            golden["cosine_min"]["fp32"] = json!(floor);
        });
        folder
    };
    assert_eq!(refused(&with_floor(0.99999)).0, ModelReason::GoldenMismatch.into());
    assert!(load(&entry(with_floor(0.999).path())).is_ok());
    let (reason, message) = refused(&with_floor(-1.0));
    assert_eq!(reason, ModelReason::GoldenUnusable.into());
    assert!(message.contains("has cosine_min -1 for fp32, expected 0.999 to 1"), "{message}");
}

#[test]
fn without_golden_vectors_nothing_is_verified() {
    let model = copy("ours-quick-gelu");
    std::fs::remove_file(model.path().join("golden.json")).unwrap();
    std::fs::remove_file(model.path().join("clipstream.json")).unwrap();
    assert!(load(&entry(model.path())).is_ok());
    let verified = verify(&entry(model.path()), &ClipSettings::default(), Precision::Fp32).unwrap();
    assert!(!verified.ok && verified.cosine_min.is_none());
    assert!(verified.problems[0].starts_with("it cannot be verified: there are no golden vectors"), "{verified:?}");
    assert!(verified.next_step.unwrap().contains("export_openclip.py"));
}

#[test]
fn changed_files_are_seen_by_their_digest() {
    let model = copy("ours-quick-gelu");
    edit(&model, "textual/tokenizer.json", |tokenizer| tokenizer["truncation"] = Value::Null);
    let verified = verify(&entry(model.path()), &ClipSettings::default(), Precision::Fp32).unwrap();
    assert!(!verified.ok, "{verified:?}");
    assert!(verified.problems[0].starts_with("textual/tokenizer.json has "), "{:?}", verified.problems);
    assert_eq!(verified.files_checked, 9);
    assert_eq!(verified.cases.len(), 6, "the vectors are compared all the same");
}

#[test]
fn broken_files_are_named() {
    let cut = copy("ours-quick-gelu");
    let graph = cut.path().join("textual/model.onnx");
    let bytes = std::fs::read(&graph).unwrap();
    std::fs::write(&graph, &bytes[..bytes.len() / 2]).unwrap();
    let (reason, message) = refused(&cut);
    assert_eq!(reason, ModelReason::Unusable.into());
    assert!(message.starts_with("textual/model.onnx is truncated: found "), "{message}");

    let lost = copy("ours-external-data");
    std::fs::remove_file(lost.path().join("visual/model.onnx.data")).unwrap();
    let (_, message) = refused(&lost);
    assert!(message.starts_with("visual/model.onnx.data cannot be read: "), "{message}");

    let small = copy("ours-external-data");
    std::fs::write(small.path().join("textual/model.onnx.data"), [0; 10]).unwrap();
    let (_, message) = refused(&small);
    assert!(
        message.starts_with("textual/model.onnx.data is truncated: found 10 bytes, model.onnx expects at least "),
        "{message}"
    );

    let other = copy("ours-quick-gelu");
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/model/textual/tokenizer.json");
    std::fs::copy(demo, other.path().join("textual/tokenizer.json")).unwrap();
    let (reason, message) = refused(&other);
    assert_eq!(reason, ModelReason::TokenizerMismatch.into());
    assert!(
        message.contains("tokenizer.json gives ids up to 49407, the text tower ")
            && message.contains("knows 600 tokens"),
        "{message}"
    );

    // The fixture without the files that a user adds: no preprocessing, and CLIP's vocabulary does not fit.
    let bare = copy("clip-as-service");
    std::fs::remove_file(bare.path().join("tokenizer.json")).unwrap();
    assert_eq!(refused(&bare).0, ModelReason::TokenizerMismatch.into());
    std::fs::remove_file(bare.path().join("preprocess_cfg.json")).unwrap();
    let (reason, message) = refused(&bare);
    assert_eq!(reason, ModelReason::PreprocessUnsupported.into());
    assert!(message.contains("nothing says how to preprocess for tiny/test"), "{message}");
}

#[test]
fn graphs_newer_than_the_runtime_are_named_with_both_versions() {
    let newer = |opset: i64, ir_version: i64| {
        let model = copy("immich-traced");
        let mut graph = test_graph::channel_means(F32, Err("batch"), Ok(32)).model();
        graph.opset_import[0].version = opset;
        graph.ir_version = ir_version;
        test_graph::write(&graph, &model.path().join("visual/model.onnx"));
        refused(&model)
    };
    let (reason, message) = newer(99, 8);
    assert_eq!(reason, ModelReason::Unusable.into());
    assert!(
        message.starts_with("visual/model.onnx cannot be opened: found operator set 99, expected at most "),
        "{message}"
    );
    assert!(message.contains("export it again with operator set 18, as tools/export_openclip.py does"), "{message}");
    let (_, message) = newer(17, 99);
    assert!(message.contains("cannot be opened: found IR version 99, expected at most "), "{message}");
}

#[test]
fn a_model_that_gives_no_numbers_does_not_start() {
    let model = copy("immich-traced");
    TestGraph::default()
        .input("image", F32, &[Err("batch"), Ok(3), Ok(32), Ok(32)])
        .node("GlobalAveragePool", &["image"], "means", &[])
        .node("Flatten", &["means"], "flat", &[])
        .node("Sub", &["flat", "flat"], "zero", &[])
        .node("Div", &["zero", "zero"], "image_embedding", &[])
        .output("image_embedding", F32, &[Err("batch"), Ok(3)])
        .write(&model.path().join("visual/model.onnx"));
    let (reason, message) = refused(&model);
    assert_eq!(reason, ModelReason::Unusable.into());
    assert!(message.contains("the trial run failed: ") && message.contains("NaN"), "{message}");
}
