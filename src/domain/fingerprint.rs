//! The fingerprint of a model. Vectors of models with different fingerprints must not be in one collection.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Precision;

/// What makes two vectors comparable. A collection records the fingerprint of the model that filled it; worker,
/// search and API refuse a collection whose fingerprint differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub variant: String,
    pub checkpoint: String,
    /// Dimension of the shared space.
    pub dimension: usize,
    /// Canonical text of everything that is done to a picture before the image tower, for example
    /// `96x96 shortest bicubic mean=… std=… background=#ffffff orientation=ignore`.
    pub preprocessing: String,
    /// SHA-256 (hex) of `tokenizer.json`.
    pub tokenizer: String,
    /// SHA-256 (hex) over both graphs, image tower first.
    pub graph: String,
    /// The activation that the graphs compute, as found in them: `quick_gelu`, or each tower's if they differ. `None`
    /// if it is not recognised, and in fingerprints that the first versions recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<String>,
    /// `None` in fingerprints that the first versions recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
}

impl Fingerprint {
    /// The parts that differ, each as found (`other`) and expected (`self`); empty when vectors are comparable.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |part: &str, expected: &dyn fmt::Display, actual: &dyn fmt::Display| {
            let (expected, actual) = (expected.to_string(), actual.to_string());
            if expected != actual {
                found.push(format!("{part}: found {actual}, expected {expected}"));
            }
        };
        compare("variant", &self.variant, &other.variant);
        compare("checkpoint", &self.checkpoint, &other.checkpoint);
        compare("dimension", &self.dimension, &other.dimension);
        compare("preprocessing", &self.preprocessing, &other.preprocessing);
        compare("tokenizer", &self.tokenizer, &other.tokenizer);
        // A part that one side does not know cannot differ. The graph's hash differs in any case.
        if let (Some(expected), Some(actual)) = (&self.activation, &other.activation) {
            compare("activation", expected, actual);
        }
        if let (Some(expected), Some(actual)) = (&self.precision, &other.precision) {
            compare("precision", expected, actual);
        }
        compare("graph", &self.graph, &other.graph);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_part_differs() {
        let a = Fingerprint {
            variant: "ViT-B-32".into(),
            checkpoint: "openai".into(),
            dimension: 512,
            preprocessing: "224x224".into(),
            tokenizer: "t".into(),
            graph: "g".into(),
            activation: Some("quick_gelu".into()),
            precision: Some(Precision::Fp32),
        };
        let b = Fingerprint { dimension: 768, ..a.clone() };
        assert!(a.differences(&a).is_empty());
        assert_eq!(a.differences(&b), ["dimension: found 768, expected 512"]);
        let c = Fingerprint {
            activation: Some("gelu".into()),
            precision: Some(Precision::Int8),
            graph: "h".into(),
            ..a.clone()
        };
        let expected = [
            "activation: found gelu, expected quick_gelu",
            "precision: found int8, expected fp32",
            "graph: found h, expected g",
        ];
        assert_eq!(a.differences(&c), expected);
    }

    #[test]
    fn what_earlier_versions_recorded_is_read_and_compared() {
        let earlier = r#"{"variant": "demo", "checkpoint": "v1", "dimension": 256, "preprocessing": "96x96",
            "tokenizer": "t", "graph": "g"}"#;
        let earlier: Fingerprint = serde_json::from_str(earlier).unwrap();
        let now = Fingerprint { activation: Some("gelu".into()), precision: Some(Precision::Fp32), ..earlier.clone() };
        assert!(now.differences(&earlier).is_empty() && earlier.differences(&now).is_empty());
        let written = serde_json::to_string(&now).unwrap();
        assert!(written.contains(r#""precision":"fp32""#), "{written}");
        assert_eq!(serde_json::from_str::<Fingerprint>(&written).unwrap(), now);
        assert!(!serde_json::to_string(&earlier).unwrap().contains("precision"));
    }
}
