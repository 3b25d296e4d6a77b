use std::fmt;

use serde::{Deserialize, Serialize};

/// What makes two vectors comparable. A collection records the fingerprint of the model that filled it; worker,
/// search and API refuse a collection whose fingerprint differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub variant: String,
    pub checkpoint: String,
    /// Dimension of the shared space.
    pub dimension: usize,
    /// Canonical text of all that happens to a picture before the image tower, for example
    /// `96x96 shortest bicubic mean=… std=… background=#ffffff orientation=ignore`.
    pub preprocessing: String,
    /// SHA-256 (hex) of `tokenizer.json`.
    pub tokenizer: String,
    /// SHA-256 (hex) over both graphs, image tower first.
    pub graph: String,
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
        };
        let b = Fingerprint { dimension: 768, ..a.clone() };
        assert!(a.differences(&a).is_empty());
        assert_eq!(a.differences(&b), ["dimension: found 768, expected 512"]);
    }
}
