use serde_json::{Value, json};

use super::*;

const PROCESSOR: &str = r#"{"do_resize": true, "size": 224, "do_center_crop": true, "crop_size": 224, "do_normalize": true,
    "resample": 3, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}"#;

fn find(directory: &Path, precision: Precision) -> Result<ModelFiles, ModelError> {
    super::find(&"ViT-B-32/openai".parse().unwrap(), directory, precision)
}

fn write(root: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let file = root.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }
}

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), files);
    root
}

/// Layout, both graphs relative to the directory, and the key of the preprocessing that tells its source.
fn found(root: &tempfile::TempDir) -> (&'static str, String, String) {
    let files = find(root.path(), Precision::Fp32).unwrap();
    let relative = |file: &Path| file.strip_prefix(root.path()).unwrap().to_str().unwrap().to_owned();
    (files.layout, relative(&files.image_graph), relative(&files.text_graph))
}

#[test]
fn immich_files_are_found() {
    let root = directory(&[
        ("visual/model.onnx", ""),
        ("visual/preprocess_cfg.json", r#"{"size": [96, 96]}"#),
        ("textual/model.onnx", ""),
        ("textual/tokenizer.json", ""),
        ("config.json", r#"{"text_cfg": {"context_length": 64}}"#),
    ]);
    let files = find(root.path(), Precision::Fp32).unwrap();
    assert_eq!((files.layout, files.text_input.context_length), ("Immich", 64));
    assert_eq!(files.text_graph, root.path().join("textual/model.onnx"));
    assert_eq!(files.preprocess.unwrap().json, r#"{"size": [96, 96]}"#);
    assert_eq!((files.golden, files.manifest), (None, None));

    write(root.path(), &[("golden.json", ""), ("clipstream.json", "{}")]);
    let files = find(root.path(), Precision::Fp32).unwrap();
    assert_eq!(files.golden, Some(root.path().join("golden.json")));
    assert_eq!(files.manifest, Some(root.path().join("clipstream.json")));
}

#[test]
fn a_pair_is_found_and_its_preprocessing_translated() {
    let root = directory(&[
        ("clip-ViT-B-32-vision/model.onnx", ""),
        ("clip-ViT-B-32-vision/preprocessor_config.json", PROCESSOR),
        ("clip-ViT-B-32-text/model.onnx", ""),
        ("clip-ViT-B-32-text/tokenizer.json", ""),
        ("clip-ViT-B-32-text/config.json", r#"{"max_position_embeddings": 32}"#),
    ]);
    let files = find(root.path(), Precision::Fp32).unwrap();
    assert_eq!((files.layout, files.text_input.context_length), ("FastEmbed pair", 32));
    let preprocess: Value = serde_json::from_str(&files.preprocess.unwrap().json).unwrap();
    assert_eq!(preprocess["size"], json!([224, 224]));
    assert_eq!(preprocess["resize_mode"], "shortest");
    assert_eq!(preprocess["std"], json!([0.25, 0.25, 0.25]));

    write(root.path(), &[("other-vision/model.onnx", "")]);
    assert_eq!(find(root.path(), Precision::Fp32).unwrap_err().reason, ModelReason::Ambiguous);
}

#[test]
fn optimums_split_graphs_go_before_the_combined_one() {
    let root = directory(&[
        ("onnx/model.onnx", ""),
        ("preprocessor_config.json", PROCESSOR),
        ("tokenizer.json", ""),
        ("config.json", r#"{"text_config": {"max_position_embeddings": 77}}"#),
    ]);
    assert_eq!(found(&root), ("combined Optimum", "onnx/model.onnx".into(), "onnx/model.onnx".into()));
    assert!(find(root.path(), Precision::Fp32).unwrap().is_combined());
    write(root.path(), &[("onnx/vision_model.onnx", ""), ("onnx/text_model.onnx", "")]);
    assert_eq!(found(&root), ("Optimum", "onnx/vision_model.onnx".into(), "onnx/text_model.onnx".into()));
    assert!(!find(root.path(), Precision::Fp32).unwrap().is_combined());

    // Everything in the folder `onnx`, as the hub's export service commits it.
    let service = directory(&[
        ("onnx/model.onnx", ""),
        ("onnx/preprocessor_config.json", PROCESSOR),
        ("onnx/tokenizer.json", ""),
    ]);
    assert_eq!(found(&service).0, "combined Optimum");

    let flat = directory(&[("model.onnx", ""), ("preprocessor_config.json", PROCESSOR), ("tokenizer.json", "")]);
    assert_eq!(found(&flat), ("flat combined Optimum", "model.onnx".into(), "model.onnx".into()));
    write(flat.path(), &[("vision_model.onnx", ""), ("text_model.onnx", "")]);
    assert_eq!(found(&flat).0, "flat Optimum");
}

#[test]
fn flat_layouts_differ_by_the_name_of_the_text_tower() {
    let config = r#"{"model_cfg": {"vision_cfg": {"image_size": 256}, "text_cfg": {"context_length": 64}},
        "preprocess_cfg": {"mean": [0, 0, 0], "std": [1, 1, 1], "resize_mode": "squash"}}"#;
    let root =
        directory(&[("visual.onnx", ""), ("text.onnx", ""), ("open_clip_config.json", config), ("tokenizer.json", "")]);
    let files = find(root.path(), Precision::Fp32).unwrap();
    assert_eq!((files.layout, files.text_input.context_length), ("open_clip_inference", 64));
    let preprocess: Value = serde_json::from_str(&files.preprocess.unwrap().json).unwrap();
    assert_eq!((&preprocess["size"], &preprocess["resize_mode"]), (&json!(256), &json!("squash")));

    let bare = directory(&[("visual.onnx", ""), ("textual.onnx", "")]);
    let files = find(bare.path(), Precision::Fp32).unwrap();
    assert_eq!((files.layout, files.preprocess, files.tokenizer), ("clip-as-service", None, None));
}

#[test]
fn a_precision_is_chosen_or_those_there_are_listed() {
    let root = directory(&[
        ("onnx/vision_model.onnx", ""),
        ("onnx/text_model.onnx", ""),
        ("onnx/vision_model_fp16.onnx", ""),
        ("onnx/vision_model_quantized.onnx", ""),
        ("onnx/text_model_quantized.onnx", ""),
        ("preprocessor_config.json", PROCESSOR),
        ("tokenizer.json", ""),
    ]);
    let files = find(root.path(), Precision::Int8).unwrap();
    assert_eq!(files.text_graph, root.path().join("onnx/text_model_quantized.onnx"));
    assert_eq!(files.precisions, [Precision::Fp32, Precision::Int8]);

    let error = find(root.path(), Precision::Fp16).unwrap_err();
    assert_eq!(error.reason, ModelReason::PrecisionMissing);
    let error = error.to_string();
    assert!(error.contains("(Optimum layout) has no fp16 graphs; there is fp32, int8; set clip.precision"), "{error}");

    write(root.path(), &[("onnx/text_model_int8.onnx", ""), ("onnx/vision_model_int8.onnx", "")]);
    let files = find(root.path(), Precision::Int8).unwrap();
    assert_eq!(files.image_graph, root.path().join("onnx/vision_model_int8.onnx"));
}

#[test]
fn what_is_missing_is_listed_beside_what_is_there() {
    let root = directory(&[("visual/model.onnx", ""), ("textual/model.onnx", ""), ("notes.txt", "")]);
    let error = find(root.path(), Precision::Fp32).unwrap_err().to_string();
    let lacks = "nearest is the Immich layout, without visual/preprocess_cfg.json, textual/tokenizer.json;";
    assert!(error.contains(lacks), "{error}");
    assert!(error.contains("there is notes.txt, textual/, visual/;"), "{error}");
    assert!(!error.contains("FastEmbed"), "{error}");

    let root = directory(&[("onnx/vision_model.onnx", ""), ("tokenizer.json", ""), ("preprocessor_config.json", "{}")]);
    let error = find(root.path(), Precision::Fp32).unwrap_err().to_string();
    assert!(error.contains("nearest is the Optimum layout, without onnx/text_model.onnx;"), "{error}");
}

#[test]
fn a_directory_that_is_none_is_said_in_few_words() {
    let root = directory(&[("notes.txt", ""), ("empty/.keep", "")]);
    let cases = [
        ("nowhere", ": there is no such directory; run clipstream models pull ViT-B-32/openai, or correct clip.models"),
        ("notes.txt", ": it is a file, expected a directory; run "),
        ("", ": no graph of a layout that is known (docs/model-files.md); there is empty/, notes.txt; run "),
    ];
    for (name, part) in cases {
        let error = find(&root.path().join(name), Precision::Fp32).unwrap_err();
        assert_eq!(error.reason, ModelReason::Missing);
        let error = error.to_string();
        assert!(error.contains(part) && error.len() < 300, "{error}");
    }
}

// plhery/mobileclip2-onnx
#[test]
fn sizes_in_folders_share_the_tokenizer_of_the_root() {
    let root = directory(&[
        ("tokenizer.json", ""),
        ("onnx/s0/vision_model.onnx", ""),
        ("onnx/s0/text_model.onnx", ""),
        ("onnx/s0/preprocessor_config.json", PROCESSOR),
        ("other/s0/vision_model.onnx", ""),
        ("other/s0/text_model.onnx", ""),
        ("other/s0/preprocessor_config.json", PROCESSOR),
    ]);
    let files = find(&root.path().join("onnx/s0"), Precision::Fp32).unwrap();
    assert_eq!((files.layout, files.tokenizer), ("flat Optimum", Some(root.path().join("tokenizer.json"))));
    // Only of a folder that hubs call so.
    let error = find(&root.path().join("other/s0"), Precision::Fp32).unwrap_err().to_string();
    assert!(error.contains("nearest is the flat Optimum layout, without tokenizer.json"), "{error}");
}
