//! Zero-shot labels: how well each of some texts fits a picture, told by the vectors of both.

use serde_json::{Value, json};

use super::payload::text;
use super::{Embedding, Finding, InvalidEmbedding, Logits, Payload};

/// Where a label goes in a template.
const PLACE: &str = "{}";

/// What is recorded of a score: six decimals. The vectors' own rounding is of that order.
const SCORE_STEPS: f64 = 1e6;

/// Keys of a record.
const FOUND: &str = "labels";
const SHA256: &str = "labels_sha256";

/// Labels with the vectors of their texts, in one model's space.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelSet {
    names: Vec<String>,
    vectors: Vec<Embedding>,
    logits: Logits,
}

impl LabelSet {
    /// The texts to embed: each label within each of `templates`, which have `{}` where it goes. Without any, the labels stand alone.
    ///
    /// # Errors
    /// There is no label, one is there twice, or a template has no `{}`.
    pub fn texts(names: &[String], templates: &[String]) -> Result<Vec<String>, Finding> {
        if let Some(template) = templates.iter().find(|template| !template.contains(PLACE)) {
            return Err(Finding::new(format!("the template {template:?} has no {PLACE}, where the label goes")));
        }
        let mut sorted: Vec<_> = names.iter().collect();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Finding::new(format!("the label {:?} is there twice; expected each once", twice[0])));
        }
        if names.is_empty() {
            return Err(Finding::new("no labels; expected at least one"));
        }
        Ok(match templates {
            [] => names.to_vec(),
            templates => {
                let all = |name: &String| templates.iter().map(|t| t.replace(PLACE, name)).collect::<Vec<_>>();
                names.iter().flat_map(all).collect()
            }
        })
    }

    /// `embedded`: the vectors of [`Self::texts`]. A label's vector is their mean of unit length, as in OpenCLIP's
    /// `build_zero_shot_classifier`.
    ///
    /// # Errors
    /// The vectors of a label add up to nothing.
    pub fn new(names: Vec<String>, embedded: &[Embedding], logits: Logits) -> Result<Self, InvalidEmbedding> {
        let templates = embedded.len() / names.len().max(1);
        let vectors = embedded.chunks(templates.max(1)).map(mean).collect::<Result<_, _>>()?;
        Ok(Self { names, vectors, logits })
    }

    /// Each label with its probability for a picture's vector of the same model, the most probable first.
    pub fn of(&self, picture: &Embedding) -> Vec<(&str, f32)> {
        let cosines: Vec<f32> = self.vectors.iter().map(|vector| vector.cosine(picture)).collect();
        let probabilities = self.logits.probabilities(&cosines);
        let mut labels: Vec<_> = self.names.iter().map(String::as_str).zip(probabilities).collect();
        labels.sort_by(|a, b| b.1.total_cmp(&a.1));
        labels
    }
}

/// Of unit length, of one vector that vector itself.
fn mean(vectors: &[Embedding]) -> Result<Embedding, InvalidEmbedding> {
    if let [only] = vectors {
        return Ok(only.clone());
    }
    let mut sum = vec![0.0; vectors.first().map_or(0, Embedding::dimension)];
    for vector in vectors {
        sum.iter_mut().zip(vector.as_slice()).for_each(|(sum, value)| *sum += value);
    }
    Embedding::normalised(sum)
}

/// What a worker labels the pictures of one model with: sets of labels, each with the score from which on a label is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelling {
    sets: Vec<(LabelSet, f64)>,
    sha256: String,
}

impl Labelling {
    /// `sha256` (hex) names what makes the labels: the same for the same sets, thresholds and logits.
    pub fn new(sets: Vec<(LabelSet, f64)>, sha256: String) -> Self {
        Self { sets, sha256 }
    }

    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Of a picture's vector of the same model.
    pub fn of(&self, picture: &Embedding) -> LabelRecord {
        let rounded = |score: f32| (f64::from(score) * SCORE_STEPS).round() / SCORE_STEPS;
        let mut found: Vec<(String, f64)> = Vec::new();
        for (set, threshold) in &self.sets {
            let scored = set.of(picture).into_iter().map(|(label, score)| (label.to_owned(), rounded(score)));
            found.extend(scored.filter(|(_, score)| score >= threshold));
        }
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        LabelRecord { found, sha256: self.sha256.clone() }
    }
}

/// The labels that a point records of its picture.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelRecord {
    /// With their scores, the highest first.
    pub found: Vec<(String, f64)>,
    /// [`Labelling::sha256`] of what found them.
    pub sha256: String,
}

impl LabelRecord {
    /// Keys of a record.
    pub(super) fn to_payload(&self) -> Payload {
        let found = self.found.iter().map(|(label, score)| json!({ "label": label, "score": score }));
        Payload::from_iter([
            (FOUND.to_owned(), Value::Array(found.collect())),
            (SHA256.to_owned(), self.sha256.as_str().into()),
        ])
    }

    /// To be merged into a record: no labels.
    pub fn removed() -> Payload {
        Payload::from_iter([FOUND, SHA256].map(|key| (key.to_owned(), Value::Null)))
    }

    /// None where they are not as we write them.
    pub(super) fn read(record: &Payload) -> Option<Self> {
        let one = |item: &Value| Some((text(item.get("label"))?, item.get("score")?.as_f64()?));
        let found = record.get(FOUND)?.as_array()?.iter().map(one).collect::<Option<_>>()?;
        Some(Self { found, sha256: text(record.get(SHA256))? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(values: &[f32]) -> Embedding {
        Embedding::normalised(values.to_vec()).unwrap()
    }

    fn names(of: &[&str]) -> Vec<String> {
        of.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn every_label_goes_into_every_template() {
        let texts = LabelSet::texts(&names(&["cat", "dog"]), &names(&["a {}", "{} or {}"])).unwrap();
        assert_eq!(texts, ["a cat", "cat or cat", "a dog", "dog or dog"]);
        assert_eq!(LabelSet::texts(&names(&["cat"]), &[]).unwrap(), ["cat"]);
        let error = |labels: &[&str], templates: &[&str]| {
            LabelSet::texts(&names(labels), &names(templates)).unwrap_err().to_string()
        };
        assert_eq!(error(&["a", "b", "a"], &[]), "the label \"a\" is there twice; expected each once");
        assert_eq!(error(&["a"], &["a photo"]), "the template \"a photo\" has no {}, where the label goes");
        assert_eq!(error(&[], &[]), "no labels; expected at least one");
    }

    /// Expected scores by NumPy in float64: `softmax(100 * cosines)` of the means, and `sigmoid(10 * cosine - 5)`.
    #[test]
    fn what_is_above_its_sets_threshold_is_recorded_and_read_again() {
        let picture = unit(&[3.0, 4.0, 0.0]);
        let embedded =
            [unit(&[3.0, 4.0, 0.1]), unit(&[3.0, 4.0, -0.1]), unit(&[3.0, 4.0, 1.0]), unit(&[3.0, 4.0, 0.8])];
        let clip = LabelSet::new(names(&["shoe", "boot"]), &embedded, Logits::OF_CLIP).unwrap();
        let siglip = Logits { scale: 10.0, bias: Some(-5.0) };
        let facts = [unit(&[0.0, 1.0, 0.0]), unit(&[1.0, 0.0, 0.0])];
        let siglip = LabelSet::new(names(&["red", "wet"]), &facts, siglip).unwrap();
        let labelling = Labelling::new(vec![(clip, 0.5), (siglip, 0.5)], "id".to_owned());
        let found = labelling.of(&picture);
        // Cosines with the means: shoe 1, boot 0.984195; with the facts: red 0.8, wet 0.6.
        let expected = [("red", 0.952_574), ("shoe", 0.829_271), ("wet", 0.731_059)];
        assert_eq!(found.found.len(), expected.len(), "{found:?}");
        for ((label, score), (expected_label, expected_score)) in found.found.iter().zip(expected) {
            assert!(label == expected_label && (score - expected_score).abs() < 5e-6, "{found:?}");
        }
        let payload = found.to_payload();
        assert_eq!(payload["labels"][0], json!({ "label": "red", "score": found.found[0].1 }));
        assert_eq!(LabelRecord::read(&payload), Some(found));
        assert_eq!(LabelRecord::read(&LabelRecord::removed()), None);
        let nothing = Labelling::new(Vec::new(), "none".to_owned()).of(&picture);
        assert_eq!(Value::from(nothing.to_payload()), json!({ "labels": [], "labels_sha256": "none" }));
    }
}
