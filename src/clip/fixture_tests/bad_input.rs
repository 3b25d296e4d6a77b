//! Files that do not belong together, or to the model that they are said to be: each gives one clear line.

use super::*;
use crate::model::test_graph::I64;

/// A directory's files that do not belong together, each with a line of its own.
#[test]
fn each_kind_of_bad_input_is_one_clear_line() {
    let line = |folder: &tempfile::TempDir| {
        let (reason, message) = refused(folder);
        assert!(!message.contains('\n') && message.contains("expected"), "{message}");
        (reason, message)
    };
    let siglip = |file: &str, change: fn(&mut Value)| {
        let folder = copy("ours-siglip");
        std::fs::remove_file(folder.path().join("golden.json")).unwrap();
        edit(&folder, file, change);
        line(&folder)
    };
    // A padding that the text tower has no embedding for.
    let (reason, message) = siglip("config.json", |config| config["text_cfg"]["pad_id"] = json!(100_000));
    assert_eq!(reason, ModelReason::TokenizerMismatch.into());
    assert!(
        message.starts_with("texts are padded with id 100000, the text tower textual/model.onnx knows "),
        "{message}"
    );
    // A normaliser that the tokenizer's code does not have.
    let romanize = |file: &mut Value| file["normalizer"] = json!({"type": "Romanize"});
    let (reason, message) = siglip("textual/tokenizer.json", romanize);
    assert_eq!(reason, ModelReason::TokenizerUnusable.into());
    assert!(
        message.starts_with("textual/tokenizer.json: a normalizer of type Romanize, expected one of "),
        "{message}"
    );
    // A language's code for a tokenizer that has none.
    let french = |config: &mut Value| config["text_cfg"]["tokenizer_kwargs"]["src_lang"] = json!("fra_Latn");
    let (_, message) = siglip("config.json", french);
    assert!(message.contains("no language codes, expected NLLB's tokenizer for language fra_Latn"), "{message}");
    // A cleaning that OpenCLIP does not have.
    let upper = |config: &mut Value| config["text_cfg"]["tokenizer_kwargs"]["clean"] = json!("upper");
    let (_, message) = siglip("config.json", upper);
    assert!(message.starts_with("config.json has tokenizer_kwargs.clean \"upper\", expected "), "{message}");
    // A special token that the vocabulary lacks.
    let (_, message) = siglip("textual/tokenizer_config.json", |config| config["pad_token"] = json!("<none>"));
    assert!(
        message.starts_with("textual/tokenizer.json: no padding token <none> in the vocabulary, expected "),
        "{message}"
    );

    // More tokens than the text tower has embeddings for.
    let larger = copy("ours-siglip");
    edit(&larger, "textual/tokenizer.json", |file| {
        let mut extra = file["added_tokens"][0].clone();
        (extra["id"], extra["content"]) = (json!(100_000), json!("<extra>"));
        file["added_tokens"].as_array_mut().unwrap().push(extra);
    });
    let (reason, message) = line(&larger);
    assert_eq!(reason, ModelReason::TokenizerMismatch.into());
    assert!(
        message.starts_with("textual/tokenizer.json gives ids up to ")
            && message.contains(" tokens; expected ids below "),
        "{message}"
    );

    // A graph that takes a mask, of a tokenizer that has none.
    let unmasked = copy("immich-m-clip");
    edit(&unmasked, "textual/tokenizer_config.json", |config| config["model_input_names"] = json!(["input_ids"]));
    let (reason, message) = line(&unmasked);
    assert_eq!(reason, ModelReason::TokenizerMismatch.into());
    let expected = "textual/model.onnx takes attention_mask, and tokenizer_config.json gives texts no mask \
                    (model_input_names); expected both or none; take both files from the same export";
    assert!(message.ends_with(expected), "{message}");

    // A combined graph whose towers cannot be told apart.
    let mixed = copy("jina-clip-v2");
    TestGraph::default()
        .input("input_ids", I64, &[Err("text"), Err("length")])
        .input("pixel_values", F32, &[Err("image"), Ok(3), Ok(32), Ok(32)])
        .node("GlobalAveragePool", &["pixel_values"], "means", &[])
        .node("Flatten", &["means"], "image_embeddings", &[])
        .node("Cast", &["input_ids"], "x", &[("to", F32)])
        .node("ReduceMean", &["x"], "mean", &[("keepdims", 1)])
        .node("Add", &["image_embeddings", "mean"], "text_embeddings", &[])
        .output("image_embeddings", F32, &[Err("image"), Ok(3)])
        .output("text_embeddings", F32, &[Err("text"), Ok(3)])
        .write(&mixed.path().join("onnx/model.onnx"));
    let (reason, message) = line(&mixed);
    assert_eq!(reason, ModelReason::Unusable.into());
    assert!(message.starts_with("onnx/model.onnx: the text vector needs the input pixel_values f32["), "{message}");
}

/// A SigLIP's text tower that was exported with a mask: padding is a part of what it was trained on, so nothing is masked.
#[test]
fn where_padding_is_a_part_of_the_input_the_mask_covers_it() {
    let folder = copy("ours-siglip");
    for file in ["golden.json", "clipstream.json", "textual/tokenizer_config.json"] {
        std::fs::remove_file(folder.path().join(file)).unwrap();
    }
    let values = |value: f32| (0..16).flat_map(|_| value.to_le_bytes()).collect::<Vec<u8>>();
    // The number of tokens that are not masked, in the first of 16 values; 1 in the others.
    let first: Vec<u8> = (0..16).flat_map(|n| f32::from(u8::from(n == 0)).to_le_bytes()).collect();
    TestGraph::default()
        .constant("axis", &[1])
        .tensor("first", F32, &[1, 16], first)
        .tensor("ones", F32, &[1, 16], values(1.0))
        .input("input_ids", I64, &[Err("batch"), Err("length")])
        .input("attention_mask", I64, &[Err("batch"), Err("length")])
        .node("Cast", &["attention_mask"], "mask", &[("to", F32)])
        .node("ReduceSum", &["mask", "axis"], "count", &[("keepdims", 1)])
        .node("Mul", &["count", "first"], "counted", &[])
        .node("Add", &["counted", "ones"], "text_embedding", &[])
        .output("text_embedding", F32, &[Err("batch"), Ok(16)])
        .write(&folder.path().join("textual/model.onnx"));
    let clip = load(&entry(folder.path())).unwrap();
    let found = tokio::runtime::Runtime::new().unwrap().block_on(clip.embed_text("a red shoe")).unwrap();
    let [first, second, ..] = found.as_slice() else { panic!("16 values") };
    assert!((first / second - 65.0).abs() < 1e-3, "64 tokens and 1: {}", first / second);
}
