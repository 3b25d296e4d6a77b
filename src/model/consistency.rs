//! Checks that the files of a directory match each other and the checkpoint that they are said to be.
//!
//! Graphs of one model with another's activation or constants run without an error and give vectors that look
//! right. So everything that is known beforehand is compared: OpenCLIP's own table (`domain::registry`), what our export
//! tool wrote (`clipstream.json`), and what `config.json` says. A model of which nothing is known is taken as it is.

use serde_json::{Value, json};

use super::ModelError;
use super::directory::{ModelFiles, json_of};
use super::facts::ModelFacts;
use super::manifest::Manifest;
use crate::config::ActivationMismatch;
use crate::domain::registry::{self, Checkpoint, TokenizerKind};
use crate::domain::{Activation, Logits, Modality, ModelId, ModelReason};
use crate::picture::Preprocess;

/// What is known beforehand.
pub(crate) struct Known {
    id: ModelId,
    checkpoint: Option<&'static Checkpoint>,
    claims: Vec<Claim>,
    logits: Option<Logits>,
    /// How many of a vector's first values may be kept, as `clipstream.json` says; empty: it says nothing.
    matryoshka: Vec<usize>,
}

/// What a tower turned out to be.
pub(crate) struct Sizes {
    /// Values of a vector.
    pub(crate) dimension: usize,
    /// `[height, width]` of a picture, of an image tower.
    pub(crate) image: Option<[usize; 2]>,
    /// Tokens, of a text tower.
    pub(crate) context_length: Option<usize>,
}

/// What somebody says of the model.
struct Claim {
    /// Who says so, as a clause of an error.
    by: String,
    activations: Activations,
    dimension: Option<usize>,
    image_size: Option<usize>,
    context_length: Option<usize>,
}

/// Of each tower, where it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Activations {
    image: Option<Activation>,
    text: Option<Activation>,
}

impl Activations {
    fn of(self, modality: Modality) -> Option<Activation> {
        match modality {
            Modality::Image => self.image,
            Modality::Text => self.text,
        }
    }
}

impl Known {
    /// # Errors
    /// `clipstream.json` cannot be read, or names another model of OpenCLIP's table.
    pub(crate) fn of(id: &ModelId, files: &ModelFiles) -> Result<Self, ModelError> {
        let checkpoint = registry::find(id);
        let (mut claims, mut logits, mut matryoshka) = (Vec::new(), None, Vec::new());
        if let Some(row) = checkpoint {
            claims.push(Claim {
                by: format!("OpenCLIP's {id}"),
                activations: Activations { image: row.image_activation, text: row.text_activation },
                dimension: Some(row.dimension),
                image_size: Some(row.image_size),
                context_length: Some(row.context_length),
            });
        }
        if let Some(path) = &files.manifest {
            let manifest = Manifest::read(path)?;
            if let Some(other) = manifest.model().filter(|other| checkpoint.is_some() && *other != id.whole()) {
                let message = format!("{} is of {other}, expected {id}", path.display());
                return Err(ModelError::new(ModelReason::Mismatch, message).hint("correct clip.models"));
            }
            if manifest.weights.starts_with("random") {
                tracing::warn!(model = %id, weights = manifest.weights, "the model's weights are random: its vectors are meaningless");
            }
            logits = manifest.logits();
            matryoshka.clone_from(&manifest.matryoshka);
            let [image, text] = manifest.activations();
            claims.push(Claim {
                by: path.display().to_string(),
                activations: Activations { image, text },
                dimension: Some(manifest.dimension),
                image_size: Some(manifest.image_size),
                context_length: Some(manifest.context_length),
            });
        }
        if let Some(path) = &files.config {
            let (by, activations) = (path.display().to_string(), declared(&json_of(path)?));
            let (dimension, image_size, context_length) = (None, None, None);
            claims.push(Claim { by, activations, dimension, image_size, context_length });
        }
        Ok(Self { id: id.clone(), checkpoint, claims, logits, matryoshka })
    }

    /// What turns similarities into probabilities, where `clipstream.json` says it.
    pub(crate) fn logits(&self) -> Option<Logits> {
        self.logits
    }

    /// Checks that as many of a vector's values may be kept as the id says.
    ///
    /// # Errors
    /// The checkpoint was not trained for it, as far as is known, or not for so many; or the vectors have no more.
    pub(crate) fn check_dimension(&self, facts: &ModelFacts) -> Result<(), ModelError> {
        let Some(kept) = self.id.dimension else { return Ok(()) };
        let untrained = |message: String| ModelError::new(ModelReason::DimensionUntrained, message);
        let whole = self.id.whole();
        let of_table = self.checkpoint.is_some_and(|row| row.matryoshka);
        if self.matryoshka.is_empty() && !of_table {
            let message = format!(
                "{}: vectors can be cut only where the checkpoint was trained for it (Matryoshka representation learning), and \
                 nothing says so of {whole}",
                self.id
            );
            let hint = format!("use {whole}; for a model of yours that was, set \"matryoshka\" in its clipstream.json");
            return Err(untrained(message).hint(hint));
        }
        let full = facts.dimension().or_else(|| self.claims.iter().find_map(|claim| claim.dimension));
        let of_manifest = || self.matryoshka.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        if kept == 0 || full.is_some_and(|full| kept >= full) {
            let full = full.map_or(String::new(), |full| format!(" than {full}"));
            return Err(untrained(format!("{}: found {kept} values, expected at least 1 and fewer{full}", self.id))
                .hint(format!("use {whole}, whose vectors are not cut")));
        }
        if !self.matryoshka.is_empty() && !self.matryoshka.contains(&kept) {
            let message = format!("{}: found {kept} values, expected one of {}", self.id, of_manifest());
            return Err(untrained(message).hint("clipstream.json lists what the model was trained for"));
        }
        Ok(())
    }

    /// The algorithm of the checkpoint's vocabulary, if it is OpenCLIP's.
    pub(crate) fn tokenizer_kind(&self) -> Option<TokenizerKind> {
        self.checkpoint.map(|row| row.tokenizer.kind)
    }

    /// Whether a graph with the activation `found` is of the original, though OpenCLIP's tower has another. SigLIP's checkpoints were
    /// trained with GELU by tanh (`nn.gelu` of Flax in big_vision, `gelu_pytorch_tanh` in Transformers); some of timm's towers,
    /// which OpenCLIP takes, have the exact one.
    fn is_original(&self, found: Activation, expected: Activation) -> bool {
        let is_siglip = self.checkpoint.is_some_and(|row| ["SigLIP", "SigLIP2"].contains(&row.family));
        is_siglip && (found, expected) == (Activation::GeluTanh, Activation::Gelu)
    }

    /// Compares what the graphs compute with what the checkpoint was trained with; returns what was accepted.
    ///
    /// # Errors
    /// They differ, unless that is accepted: then it is a warning.
    pub(crate) fn check_activation(
        &self,
        facts: &ModelFacts,
        mismatch: ActivationMismatch,
    ) -> Result<Option<String>, ModelError> {
        for modality in self.unrecognised(facts) {
            tracing::warn!(
                model = %self.id, %modality,
                "no activation is recognised in the graph, so it is not known whether it is the checkpoint's; \
                 clipstream models verify compares vectors, where the model has golden ones"
            );
        }
        let problem = self.activation_problem(facts);
        if let Some(problem) = &problem {
            if mismatch == ActivationMismatch::Refuse {
                return Err(ModelError::new(ModelReason::ActivationMismatch, problem.clone()));
            }
            tracing::warn!(model = %self.id, "{problem}; accepted by clip.activation_mismatch");
        }
        Ok(problem)
    }

    /// The towers in which no activation is recognised, though the checkpoint's is known: nothing can be said of them.
    pub(crate) fn unrecognised(&self, facts: &ModelFacts) -> Vec<Modality> {
        let is_known = |modality: &Modality| self.claims.iter().any(|claim| claim.activations.of(*modality).is_some());
        let is_empty = |modality: &Modality| facts.tower(*modality).activations.is_empty();
        Modality::ALL.into_iter().filter(is_known).filter(is_empty).collect()
    }

    /// The same without the next step.
    pub(crate) fn activation_problem(&self, facts: &ModelFacts) -> Option<String> {
        for Claim { by, activations, .. } in &self.claims {
            let expectations = Modality::ALL.into_iter().filter_map(|m| Some((m, activations.of(m)?)));
            for (modality, expected) in expectations {
                let found = &facts.tower(modality).activations;
                let is_other = |found: Activation| found != expected && !self.is_original(found, expected);
                if let Some((other, times)) = found.iter().find(|(activation, _)| is_other(**activation)) {
                    return Some(format!(
                        "the {modality} tower's graph computes {} ({times} times), and {by} says that the checkpoint was \
                         trained with {}: its vectors would look right and be wrong",
                        other.label(),
                        expected.label(),
                    ));
                }
            }
        }
        None
    }

    /// The checkpoint's own preprocessing, in OpenCLIP's form, for a directory that has none.
    fn preprocessing(&self) -> Option<String> {
        let mut own = json!({});
        write_preprocessing(self.checkpoint?, &mut own);
        Some(own.to_string())
    }

    /// What the directory says about preprocessing, or OpenCLIP's table where it says nothing.
    pub(crate) fn preprocess(&self, files: &ModelFiles) -> Result<Preprocess, ModelError> {
        let unsupported = |message| ModelError::new(ModelReason::PreprocessUnsupported, message);
        let id = &self.id;
        let (json, from) = match (&files.preprocess, self.preprocessing()) {
            (Some(file), _) => (file.json.clone(), file.path.display().to_string()),
            (None, Some(own)) => (own, format!("OpenCLIP's table for {id}")),
            (None, None) => {
                let message =
                    format!("nothing says how to preprocess for {id}, which is not in OpenCLIP's table either");
                return Err(unsupported(message).hint(
                    "write preprocess_cfg.json beside the graphs, as OpenCLIP's get_model_preprocess_cfg gives it",
                ));
            }
        };
        Preprocess::from_json(&json).map_err(|e| unsupported(format!("{from}: {e}")))
    }

    /// Compares what the directory says about preprocessing with the checkpoint's own.
    ///
    /// # Errors
    /// They would treat pictures differently: conversions are often published with OpenAI's constants whatever the
    /// checkpoint has.
    pub(crate) fn check_preprocessing(&self, files: &ModelFiles, found: &Preprocess) -> Result<(), ModelError> {
        let (Some(row), Some(file)) = (self.checkpoint, &files.preprocess) else { return Ok(()) };
        // Keys that the table does not have, such as a background, are the operator's.
        let mut own: Value = serde_json::from_str(&file.json).unwrap_or_else(|_| json!({}));
        write_preprocessing(row, &mut own);
        let Ok(expected) = Preprocess::from_json(&own.to_string()) else { return Ok(()) };
        let (found, expected) = (found.canonical(), expected.canonical());
        if found == expected {
            return Ok(());
        }
        Err(ModelError::new(
            ModelReason::PreprocessMismatch,
            format!(
                "{} preprocesses otherwise than OpenCLIP does for {}: found {found}, expected {expected}",
                file.path.display(),
                self.id
            ),
        ))
    }

    /// Compares what the towers turned out to be with what is known.
    ///
    /// # Errors
    /// Something differs: these are another model's graphs.
    pub(crate) fn check_sizes(&self, found: Sizes) -> Result<(), ModelError> {
        for claim in &self.claims {
            let [height, width] = found.image.map_or([None; 2], |size| size.map(Some));
            let sizes = [
                ("vectors of", "values", Some(found.dimension), claim.dimension),
                ("pictures of", "pixels", height, claim.image_size),
                ("pictures of", "pixels", width, claim.image_size),
                ("texts of", "tokens", found.context_length, claim.context_length),
            ];
            for (what, unit, found, expected) in sizes {
                if let (Some(found), Some(expected)) = (found, expected)
                    && found != expected
                {
                    let message =
                        format!("the graphs have {what} {found} {unit}, expected {expected} as {} has", claim.by);
                    return Err(ModelError::new(ModelReason::Mismatch, message)
                        .hint("correct clip.models, or pull or export the model again"));
                }
            }
        }
        Ok(())
    }
}

/// Sets the keys of a `preprocess_cfg.json` that a checkpoint decides.
fn write_preprocessing(row: &Checkpoint, into: &mut Value) {
    into["size"] = json!([row.image_size, row.image_size]);
    into["mean"] = json!(row.mean);
    into["std"] = json!(row.std);
    into["interpolation"] = json!(row.interpolation);
    into["resize_mode"] = json!(row.resize_mode);
}

/// What a `config.json` says about the activation. OpenCLIP's says `quick_gelu` of its own towers; where it does not, the checkpoint
/// decides, so that nothing is known. Hugging Face's has `hidden_act` for each tower, or for the only one.
fn declared(config: &Value) -> Activations {
    let model = config.get("model_cfg").unwrap_or(config);
    if model.get("quick_gelu") == Some(&json!(true)) {
        let own = |tower_of_others: &str| model.pointer(tower_of_others).is_none().then_some(Activation::QuickGelu);
        return Activations { image: own("/vision_cfg/timm_model_name"), text: own("/text_cfg/hf_model_name") };
    }
    let named = |tower: &str| {
        let place = [tower, "/hidden_act"].iter().find_map(|place| config.pointer(place)?.as_str());
        match place? {
            "quick_gelu" => Some(Activation::QuickGelu),
            "gelu" => Some(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Some(Activation::GeluTanh),
            _ => None,
        }
    };
    Activations { image: named("/vision_config/hidden_act"), text: named("/text_config/hidden_act") }
}

#[cfg(test)]
mod tests;
