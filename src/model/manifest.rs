//! `clipstream.json`: what our export tool says of a model and of its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ModelError;
use super::directory::{sha256, text_of};
use super::layouts::MANIFEST;
use crate::domain::{Activation, Logits, ModelId, ModelReason, Precision};

/// The form of the file that is read here.
const FORMAT: u32 = 1;

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Manifest {
    format: u32,
    /// `VARIANT/CHECKPOINT`.
    model: String,
    pub(crate) dimension: usize,
    pub(crate) image_size: usize,
    pub(crate) context_length: usize,
    /// Of both towers, in exports of before each tower's was named.
    #[serde(default)]
    activation: Option<Activation>,
    /// Absent where the tower has none of these.
    #[serde(default)]
    image_activation: Option<Activation>,
    #[serde(default)]
    text_activation: Option<Activation>,
    /// What similarities are multiplied by for probabilities; absent in the first exports.
    #[serde(default)]
    logit_scale: Option<f32>,
    /// What is added then, of models that were trained with a sigmoid loss.
    #[serde(default)]
    logit_bias: Option<f32>,
    /// How many of a vector's first values may be kept, of models that were trained for it.
    #[serde(default)]
    pub(crate) matryoshka: Vec<usize>,
    /// Where the weights are from: the checkpoint's name, `random seed N`, or `file SHA256`.
    #[serde(default)]
    pub(crate) weights: String,
    /// Those that both towers have graphs of.
    #[serde(default)]
    pub(crate) precisions: Vec<Precision>,
    /// Every file of the model, relative to the directory.
    #[serde(default)]
    files: BTreeMap<String, FileRecord>,
}

#[derive(Clone, Debug, Deserialize)]
struct FileRecord {
    sha256: String,
    bytes: u64,
}

impl Manifest {
    pub(crate) fn read(path: &Path) -> Result<Self, ModelError> {
        let unusable = |what: String| {
            ModelError::new(ModelReason::Unusable, format!("{} {what}", path.display()))
                .hint("export the model again, or remove the file, and with it what it says of the others")
        };
        let manifest: Self =
            serde_json::from_str(&text_of(path)?).map_err(|e| unusable(format!("is not a model's manifest: {e}")))?;
        if manifest.format != FORMAT {
            return Err(unusable(format!("has format {}, expected {FORMAT}", manifest.format)));
        }
        if let Err(e) = manifest.model.parse::<ModelId>() {
            return Err(unusable(format!("names no model: {e}")));
        }
        Ok(manifest)
    }

    pub(crate) fn model(&self) -> Option<ModelId> {
        self.model.parse().ok()
    }

    /// What the towers were trained with: the image tower's first.
    pub(crate) fn activations(&self) -> [Option<Activation>; 2] {
        [self.image_activation, self.text_activation].map(|own| own.or(self.activation))
    }

    pub(crate) fn logits(&self) -> Option<Logits> {
        Some(Logits { scale: self.logit_scale?, bias: self.logit_bias })
    }

    /// What is wrong with the files of `directory`: each absent, shorter, longer or changed one, with what was found and
    /// expected. Reads all of them.
    pub(crate) fn problems(&self, directory: &Path) -> Vec<String> {
        self.files
            .iter()
            .filter_map(|(name, record)| Some(format!("{name} {}", record.problem(directory, name)?)))
            .collect()
    }

    /// How many files are listed.
    pub(crate) fn file_count(&self) -> usize {
        self.files.len()
    }
}

impl FileRecord {
    fn problem(&self, directory: &Path, name: &str) -> Option<String> {
        let path: PathBuf = directory.join(name);
        let found = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(e) => return Some(format!("cannot be read: {e}")),
        };
        if found != self.bytes {
            return Some(format!("has {found} bytes, expected {}", self.bytes));
        }
        match sha256(&[path]) {
            Err(e) => Some(format!("cannot be read: {e}")),
            Ok(found) if found != self.sha256.to_ascii_lowercase() => {
                Some(format!("has SHA-256 {found}, expected {}", self.sha256))
            }
            Ok(_) => None,
        }
    }
}

/// The id that a directory's `clipstream.json` names.
pub fn model_of(directory: &Path) -> Option<ModelId> {
    manifest_of(directory)?.model()
}

/// The precisions that a directory's `clipstream.json` names.
pub fn precisions_of(directory: &Path) -> Option<Vec<Precision>> {
    Some(manifest_of(directory)?.precisions).filter(|precisions| !precisions.is_empty())
}

fn manifest_of(directory: &Path) -> Option<Manifest> {
    let path = directory.join(MANIFEST);
    if path.is_file() { Manifest::read(&path).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest() -> serde_json::Value {
        json!({
            "format": 1, "model": "ViT-B-32/openai", "dimension": 512, "image_size": 224, "context_length": 77,
            "activation": "quick_gelu", "weights": "random seed 0", "opset": 18, "precisions": ["fp32"],
            "exported_with": {"open_clip_torch": "3.3.0"},
            // SHA-256 of "abc", from FIPS 180-4.
            "files": {
                "a.bin": {"sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "bytes": 3},
            },
        })
    }

    #[test]
    fn every_file_is_compared() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("clipstream.json");
        std::fs::write(&path, manifest().to_string()).unwrap();
        let manifest = Manifest::read(&path).unwrap();
        assert_eq!(manifest.activations(), [Some(Activation::QuickGelu); 2]);
        assert_eq!(manifest.logits(), None);
        let problem = || manifest.problems(root.path()).join("; ");
        assert!(problem().starts_with("a.bin cannot be read: "), "{}", problem());
        std::fs::write(root.path().join("a.bin"), "abc").unwrap();
        assert_eq!(problem(), "");
        std::fs::write(root.path().join("a.bin"), "abd").unwrap();
        assert!(problem().starts_with("a.bin has SHA-256 "), "{}", problem());
        std::fs::write(root.path().join("a.bin"), "ab").unwrap();
        assert_eq!(problem(), "a.bin has 2 bytes, expected 3");
    }

    #[test]
    fn scale_and_bias_are_read() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("clipstream.json");
        for (bias, expected) in [(json!(-12.5), Some(-12.5)), (json!(null), None)] {
            let mut siglip = manifest();
            (siglip["logit_scale"], siglip["logit_bias"]) = (json!(117.0), bias);
            std::fs::write(&path, siglip.to_string()).unwrap();
            assert_eq!(Manifest::read(&path).unwrap().logits(), Some(Logits { scale: 117.0, bias: expected }));
        }
    }

    #[test]
    fn each_tower_may_have_an_activation_of_its_own_or_none() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("clipstream.json");
        let mut siglip2 = manifest();
        siglip2.as_object_mut().unwrap().remove("activation");
        for (image, text, expected) in [
            (json!("gelu"), json!("gelu_tanh"), [Some(Activation::Gelu), Some(Activation::GeluTanh)]),
            (json!(null), json!("quick_gelu"), [None, Some(Activation::QuickGelu)]),
        ] {
            (siglip2["image_activation"], siglip2["text_activation"]) = (image, text);
            std::fs::write(&path, siglip2.to_string()).unwrap();
            assert_eq!(Manifest::read(&path).unwrap().activations(), expected);
        }
    }

    #[test]
    fn what_is_no_manifest_is_named() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("clipstream.json");
        let with = |key: &str, value: serde_json::Value| {
            let mut other = manifest();
            other[key] = value;
            std::fs::write(&path, other.to_string()).unwrap();
            Manifest::read(&path).unwrap_err().to_string()
        };
        assert!(with("format", json!(2)).contains("clipstream.json has format 2, expected 1; export"));
        assert!(with("activation", json!("relu")).contains("is not a model's manifest: unknown variant `relu`"));
        assert!(with("model", json!("ViT")).contains("names no model"));
    }
}
