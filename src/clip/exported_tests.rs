//! Tiny models of the families beside CLIP's own, as our export tool writes them (`tests/fixtures/models/ours-*`), with OpenCLIP's vectors.

use std::path::Path;

use super::fixture_tests::{MODELS, copy};
use super::*;
use crate::config::ModelEntry;
use crate::domain::Precision;
use crate::model::{Pooling, find};

/// CoCa has a class token behind the text, RoBERTa a tower of Transformers that makes its mask of the padding, and SigLIP 2 the last
/// position of a tower that sees all tokens: their graphs take the whole context length, and the manifest says with which padding.
#[test]
fn each_family_of_our_exports_gives_openclips_vectors() {
    for (name, context_length, padding_id, activation, bias) in [
        ("ours-coca", 76, 0, "gelu", None),
        ("ours-roberta", 77, 1, "gelu", None),
        ("ours-siglip2", 64, 0, "image gelu, text gelu_tanh", Some(-10.0)),
    ] {
        let directory = Path::new(MODELS).join(name);
        let entry = ModelEntry { id: format!("tiny/{name}").parse().unwrap(), directory: Some(directory.clone()) };
        let settings = ClipSettings::default();
        let verified = verify(&entry, &settings, Precision::Fp32).unwrap();
        assert!(verified.ok && verified.cosine_min.unwrap() >= 0.99999, "{name}: {verified:?}");
        assert!(verified.cases.iter().all(|case| case.tokens_equal != Some(false)), "{name}: {verified:?}");

        let inspected = inspect(&entry, &settings, Precision::Fp32).unwrap();
        assert_eq!(inspected.problems, [""; 0], "{name}");
        assert_eq!(inspected.text.inputs[0].to_string(), format!("text i64[batch, {context_length}]"), "{name}");

        let files = find(&entry.id, &directory, Precision::Fp32).unwrap();
        assert_eq!((files.text_input.padding_id, files.text_input.pooling), (padding_id, Pooling::Padded), "{name}");

        let clip = Clip::load(&entry, &settings, Arc::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(clip.fingerprint().unwrap().activation.as_deref(), Some(activation), "{name}");
        let logits = clip.logits().unwrap();
        assert_eq!((logits.scale, logits.bias), (1.0 / 0.07, bias), "{name}");
    }
}

/// Of a manifest that names another padding, the vectors are of other texts, and the golden ones show it.
#[test]
fn another_padding_shows() {
    let folder = copy("ours-siglip2");
    let path = folder.path().join("clipstream.json");
    let mut manifest: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    manifest["text"]["padding_id"] = 1.into();
    std::fs::write(&path, manifest.to_string()).unwrap();
    let entry = ModelEntry { id: "tiny/test".parse().unwrap(), directory: Some(folder.path().to_owned()) };
    let verified = verify(&entry, &ClipSettings::default(), Precision::Fp32).unwrap();
    assert!(!verified.ok && verified.cosine_min.unwrap() < 0.999, "{verified:?}");
}
