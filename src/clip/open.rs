//! From a model's entry in the settings to open towers: files, ONNX Runtime, sessions, tokenizer, trial runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::opener::{Opener, Towers};
use super::providers::{Providers, with_own_caches};
use super::tower::{ImageTower, TextTower};
use super::{ClipError, runtime};
use crate::config::{ClipSettings, ModelEntry};
use crate::domain::{Fault, Fingerprint, Modality, ModelId, ModelReason};
use crate::model::{Known, ModelFacts, find};
use crate::picture::Preprocess;
use crate::tokenize::Tokenizer;

/// A model whose towers are open and have run once, before their threads start.
pub(super) struct Opened {
    pub(super) directory: PathBuf,
    pub(super) opener: Opener,
    pub(super) facts: ModelFacts,
    /// What is wrong with its activation, if that was accepted.
    pub(super) activation_problem: Option<String>,
    pub(super) preprocess: Preprocess,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) images: Towers<ImageTower>,
    pub(super) texts: Towers<TextTower>,
}

impl Opened {
    /// No error is an item's fault. Each names the model and its directory, except those of ONNX Runtime itself.
    pub(super) fn open(entry: &ModelEntry, settings: &ClipSettings) -> Result<Self, ClipError> {
        let directory = settings.model_directory(entry);
        Self::open_in(entry, settings, &directory).map_err(|e| named(&entry.id, &directory, e))
    }

    fn open_in(entry: &ModelEntry, settings: &ClipSettings, directory: &Path) -> Result<Self, ClipError> {
        let files = find(&entry.id, directory, settings.precision)?;
        // First, all checks that need no run: opening a large model takes long.
        let facts = ModelFacts::read(&files)?;
        let known = Known::of(&entry.id, &files)?;
        let activation_problem = known.check_activation(&facts, settings.activation_mismatch)?;
        let preprocess = known.preprocess(&files)?;
        known.check_preprocessing(&files, &preprocess)?;
        warn_of_fixed_batches(&entry.id, &facts);
        let runtime = runtime::runtime(settings.onnxruntime.as_deref())?;
        let opener = Opener {
            providers: Providers::new(runtime, with_own_caches(settings.clone(), || Ok(facts.sha256()?))?),
            image_size: preprocess.input_size().into(),
            vocabulary: facts.text.vocabulary,
            files,
        };
        let images = opener.image_towers()?;
        let (texts, tokenizer) = opener.text_towers()?;
        if images.dimension != texts.dimension {
            let message = format!(
                "the image tower gives {} values, the text tower {}; expected equal dimensions",
                images.dimension, texts.dimension
            );
            return Err(Fault::new(ModelReason::Unusable, message).hint("take both from the same export").into());
        }
        let context_length = texts.towers.first().map_or(0, TextTower::context_length);
        known.check_sizes(images.dimension, opener.image_size, context_length)?;
        let preprocess = preprocess.with(settings.orientation, settings.decoding);
        let normalises = images.towers.first().is_some_and(ImageTower::normalises);
        let preprocess = if normalises { preprocess.without_normalisation() } else { preprocess };
        Ok(Self {
            directory: directory.to_owned(),
            opener,
            facts,
            activation_problem,
            preprocess,
            tokenizer,
            images,
            texts,
        })
    }

    pub(super) fn fingerprint(&self, id: &ModelId) -> Result<Fingerprint, ClipError> {
        Ok(self.facts.fingerprint(id, self.images.dimension, &self.preprocess, &self.opener.files)?)
    }
}

/// Graphs with a fixed batch size work, but split larger batches into several runs.
fn warn_of_fixed_batches(id: &ModelId, facts: &ModelFacts) {
    for modality in Modality::ALL {
        let first_axis = facts.tower(modality).inputs.first().and_then(|input| input.axes.first()?.parse::<u64>().ok());
        if let Some(batch) = first_axis {
            tracing::warn!(
                model = %id, %modality, batch,
                "the graph's batch is fixed: it runs in pieces of this size, much slower than one run; export the model \
                 again with a free batch (tools/export_openclip.py)"
            );
        }
    }
}

/// Adds the model to an error of loading.
pub(super) fn named(id: &ModelId, directory: &Path, error: ClipError) -> ClipError {
    let model = format!("model {id} in {}", directory.display());
    match error {
        // A missing or outdated library is not the model's fault.
        ClipError::Clip(fault) if fault.reason.is_of_runtime() => fault.into(),
        ClipError::Clip(fault) if fault.reason.is_of_item() => {
            Fault::new(ModelReason::Unusable, format!("the trial run failed: {}", fault.message))
                .hint("export the model again")
                .about(model)
                .into()
        }
        ClipError::Clip(fault) => about(model, directory, fault).into(),
        ClipError::Model(fault) => about(model, directory, fault).into(),
        // Cannot be about the model: `compare` reports its golden pictures as golden.json's fault.
        ClipError::Picture(fault) => fault.into(),
    }
}

/// Names the model, unless the message already names its directory.
fn about<R>(model: String, directory: &Path, fault: Fault<R>) -> Fault<R> {
    if fault.message.contains(&*directory.to_string_lossy()) { fault } else { fault.about(model) }
}
