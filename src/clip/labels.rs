//! From the settings of labels to their vectors.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::load::TextSide;
use super::{Clip, ClipError};
use crate::config::{LabelSetSettings, LabelSettings};
use crate::domain::{
    Embedding, Fault, Finding, InvalidEmbedding, LabelSet, Labelling, Logits, ModelId, ModelReason, registry,
};

impl Clip {
    /// What turns similarities of labels into probabilities: what the model's files say, or else CLIP's scale.
    ///
    /// # Errors
    /// The model was trained with a sigmoid loss, and its files do not have the scale and bias of it: no others would do.
    pub fn label_logits(&self) -> Result<Logits, ClipError> {
        logits_of(self.id(), self.logits())
    }

    /// What this model's pictures are labelled with; none where no set is for it. A text tower that is not open yet is opened for it,
    /// and closed again.
    ///
    /// # Errors
    /// A set cannot be used, the model has no logits for labels, or the text tower fails.
    pub async fn labelling(&self, settings: &LabelSettings) -> Result<Option<Labelling>, ClipError> {
        let sets: Vec<&LabelSetSettings> = settings.of(self.id()).collect();
        if sets.is_empty() {
            return Ok(None);
        }
        let logits = self.label_logits()?;
        let texts = sets.iter().map(|set| LabelSet::texts(&set.labels, &set.templates));
        let texts = texts.collect::<Result<Vec<_>, Finding>>().map_err(|found| unusable(self.id(), found.message))?;
        let all: Vec<&str> = texts.iter().flatten().map(String::as_str).collect();
        let vectors = self.embed_texts_apart(&all).await?;
        let mut vectors = vectors.as_slice();
        let mut made = Vec::with_capacity(sets.len());
        for (set, texts) in sets.iter().zip(&texts) {
            let (own, others) = vectors.split_at(texts.len().min(vectors.len()));
            vectors = others;
            let labels = LabelSet::new(set.labels.clone(), own, logits);
            let labels =
                labels.map_err(|e: InvalidEmbedding| unusable(self.id(), format!("a label has no vector: {e}")))?;
            made.push((labels, set.threshold));
        }
        Ok(Some(Labelling::new(made, digest(&sets, logits))))
    }

    /// The vectors of `texts`, in order. A text tower that is not open is opened for them alone.
    async fn embed_texts_apart(&self, texts: &[&str]) -> Result<Vec<Embedding>, ClipError> {
        if let Some(side) = self.text.opened() {
            return self.embed_on(side, texts).await;
        }
        let side = self.text.open_apart().await?;
        let vectors = self.embed_on(&side, texts).await;
        // Joins its threads.
        tokio::task::spawn_blocking(move || drop(side)).await.map_err(|_| ClipError::stopped())?;
        vectors
    }

    async fn embed_on(&self, side: &TextSide, texts: &[&str]) -> Result<Vec<Embedding>, ClipError> {
        let embed = |text: &&str| side.engine.embed(side.tokenizer.encode(text));
        let vectors = futures::future::try_join_all(texts.iter().map(embed)).await?;
        vectors.into_iter().map(|vector| self.model.cut(vector)).collect()
    }
}

/// `said`: by the model's files. A scale without a bias is none of a sigmoid loss.
fn logits_of(model: &ModelId, said: Option<Logits>) -> Result<Logits, ClipError> {
    let is_sigmoid = registry::find(model).is_some_and(|row| row.sigmoid);
    match said {
        Some(logits) if logits.bias.is_some() || !is_sigmoid => Ok(logits),
        None if !is_sigmoid => Ok(Logits::OF_CLIP),
        _ => {
            let message = format!(
                "{model} was trained with a sigmoid loss, and its files do not have the scale and bias that turn similarities into \
                 probabilities"
            );
            let hint = "export the model with tools/export_openclip.py, which records them in clipstream.json";
            Err(Fault::new(ModelReason::Unusable, message).hint(hint).into())
        }
    }
}

fn unusable(model: &ModelId, message: String) -> ClipError {
    Fault::new(ModelReason::Unusable, format!("labels of {model}: {message}")).hint("correct [labels]").into()
}

/// SHA-256 (hex) of what makes the labels, within one model: where it is the same, so are they. The order of labels, templates and sets
/// changes nothing.
fn digest(sets: &[&LabelSetSettings], logits: Logits) -> String {
    let sorted = |texts: &[String]| {
        let mut texts = texts.to_vec();
        texts.sort_unstable();
        texts
    };
    let one = |set: &&LabelSetSettings| {
        let LabelSetSettings { labels, templates, threshold, models: _ } = set;
        json!({ "labels": sorted(labels), "templates": sorted(templates), "threshold": threshold })
    };
    let mut sets: Vec<Value> = sets.iter().map(one).collect();
    sets.sort_by_key(Value::to_string);
    let all = json!({ "scale": logits.scale, "bias": logits.bias, "sets": sets });
    format!("{:x}", Sha256::digest(all.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(labels: &[&str], templates: &[&str], threshold: f64) -> LabelSetSettings {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        LabelSetSettings { labels: owned(labels), templates: owned(templates), threshold, models: Vec::new() }
    }

    /// Softmax over labels would be wrong for it, whatever the scale.
    #[test]
    fn a_model_of_a_sigmoid_loss_has_labels_only_with_its_bias() {
        let (scale, both) = (Logits { scale: 50.0, bias: None }, Logits { scale: 117.0, bias: Some(-12.9) });
        let of = |id: &str, said| logits_of(&id.parse().unwrap(), said).map_err(|error| error.to_string());
        for id in ["ViT-B-16-SigLIP2/webli", "nllb-clip-base-siglip/mrl@256"] {
            for said in [None, Some(scale)] {
                let error = of(id, said).unwrap_err();
                assert!(error.contains("sigmoid loss") && error.contains("tools/export_openclip.py"), "{error}");
            }
            assert_eq!(of(id, Some(both)), Ok(both));
        }
        for id in ["ViT-B-32/openai", "own/v1"] {
            assert_eq!(of(id, None), Ok(Logits::OF_CLIP));
            assert_eq!(of(id, Some(scale)), Ok(scale));
            assert_eq!(of(id, Some(both)), Ok(both));
        }
    }

    #[test]
    fn the_digest_tells_what_changes_scores() {
        let (first, second) = (set(&["a", "b"], &["{}", "x {}"], 0.5), set(&["c"], &[], 0.5));
        let of = |sets: &[&LabelSetSettings]| digest(sets, Logits::OF_CLIP);
        let own = of(&[&first, &second]);
        assert_eq!(own, of(&[&second, &set(&["b", "a"], &["x {}", "{}"], 0.5)]), "order changes nothing");
        let others = [
            of(&[&first]),
            of(&[&first, &set(&["d"], &[], 0.5)]),
            of(&[&first, &set(&["c"], &["{}!"], 0.5)]),
            of(&[&first, &set(&["c"], &[], 0.6)]),
            // One set of three is not two sets.
            of(&[&set(&["a", "b", "c"], &["{}", "x {}"], 0.5)]),
            digest(&[&first, &second], Logits { bias: Some(-1.0), ..Logits::OF_CLIP }),
        ];
        assert!(others.iter().all(|other| *other != own), "{others:?}");
    }
}
