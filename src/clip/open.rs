//! From a model's entry in the settings to open towers: files, ONNX Runtime, sessions, tokenizer, trial runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::opener::{Opener, Towers};
use super::providers::{Providers, with_own_caches};
use super::tower::{ImageTower, TextTower};
use super::{ClipError, runtime};
use crate::config::{ClipSettings, ModelEntry};
use crate::domain::{ClipReason, Embedding, Fault, Fingerprint, Logits, Modality, ModelId, ModelReason};
use crate::model::{Golden, Known, ModelFacts, Sizes, find};
use crate::picture::Preprocess;
use crate::tokenize::Tokenizer;

/// A model whose files have been read and checked. Its towers are opened one by one.
pub(super) struct Model {
    pub(super) id: ModelId,
    pub(super) directory: PathBuf,
    pub(super) opener: Opener,
    pub(super) facts: Arc<ModelFacts>,
    /// What is wrong with its activation, if that was accepted.
    pub(super) activation_problem: Option<String>,
    pub(super) preprocess: Preprocess,
    known: Known,
    /// Length of a vector, and whose: of the tower that was opened first.
    dimension: Arc<OnceLock<(usize, Modality)>>,
    fingerprint: OnceLock<Fingerprint>,
}

/// A text tower's sessions, and what makes their input.
pub(super) struct Texts {
    pub(super) towers: Towers<TextTower>,
    pub(super) tokenizer: Arc<Tokenizer>,
}

impl Model {
    /// Opens no tower. No error is an item's fault. Each names the model and its directory, except those of ONNX Runtime itself.
    pub(super) fn read(entry: &ModelEntry, settings: &ClipSettings) -> Result<Self, ClipError> {
        let directory = settings.model_directory(entry);
        Self::read_in(entry, settings, &directory).map_err(|e| named(&entry.id, &directory, e))
    }

    fn read_in(entry: &ModelEntry, settings: &ClipSettings, directory: &Path) -> Result<Self, ClipError> {
        let files = find(&entry.id, directory, settings.precision)?;
        // First, all checks that need no run: opening a large model takes long.
        let facts = Arc::new(ModelFacts::read(&files)?);
        let known = Known::of(&entry.id, &files)?;
        let activation_problem = known.check_activation(&facts, settings.activation_mismatch)?;
        let preprocess = known.preprocess(&files)?;
        known.check_preprocessing(&files, &preprocess)?;
        known.check_dimension(&facts)?;
        warn_of_fixed_batches(&entry.id, &facts);
        let runtime = runtime::runtime(settings.onnxruntime.as_deref())?;
        let opener = Opener {
            providers: Providers::new(runtime, with_own_caches(settings.clone(), || Ok(facts.sha256()?))?),
            image_size: preprocess.input_size().into(),
            vocabulary: facts.text.vocabulary,
            tokenizer_kind: known.tokenizer_kind(),
            files,
        };
        let preprocess = preprocess.with(settings.orientation, settings.decoding);
        let preprocess = if facts.takes_bytes() { preprocess.without_normalisation() } else { preprocess };
        Ok(Self {
            id: entry.id.clone(),
            directory: directory.to_owned(),
            opener,
            facts,
            activation_problem,
            preprocess,
            known,
            dimension: Arc::default(),
            fingerprint: OnceLock::new(),
        })
    }

    /// Whether the other's towers are its own: they differ in no more than what is kept of a vector.
    pub(super) fn has_towers_of(&self, other: &Self) -> bool {
        self.directory == other.directory && self.id.whole() == other.id.whole()
    }

    /// With what is known of the towers that it has in common with `other`.
    pub(super) fn beside(self, other: &Self) -> Result<Self, ClipError> {
        let common = Self { facts: other.facts.clone(), dimension: other.dimension.clone(), ..self };
        if let Some((dimension, modality)) = common.dimension.get() {
            let sizes = Sizes { dimension: *dimension, image: None, context_length: None };
            common.check(*modality, sizes).map_err(|e| common.named(e))?;
        }
        Ok(common)
    }

    pub(super) fn open_images(&self) -> Result<Towers<ImageTower>, ClipError> {
        let images = self.opener.image_towers()?;
        let size = self.opener.image_size;
        self.check(Modality::Image, Sizes { dimension: images.dimension, image: Some(size), context_length: None })?;
        Ok(images)
    }

    pub(super) fn open_texts(&self) -> Result<Texts, ClipError> {
        let (towers, tokenizer) = self.opener.text_towers()?;
        let context_length = towers.towers.first().map(TextTower::context_length);
        self.check(Modality::Text, Sizes { dimension: towers.dimension, image: None, context_length })?;
        Ok(Texts { towers, tokenizer })
    }

    fn check(&self, modality: Modality, sizes: Sizes) -> Result<(), ClipError> {
        let (dimension, first) = *self.dimension.get_or_init(|| (sizes.dimension, modality));
        if dimension != sizes.dimension {
            let (image, text) =
                if first == Modality::Image { (dimension, sizes.dimension) } else { (sizes.dimension, dimension) };
            let message =
                format!("the image tower gives {image} values, the text tower {text}; expected equal dimensions");
            return Err(Fault::new(ModelReason::Unusable, message).hint("take both from the same export").into());
        }
        Ok(self.known.check_sizes(sizes)?)
    }

    /// Length of a vector as it leaves, if a tower has been opened or the graphs tell.
    pub(super) fn dimension(&self) -> Option<usize> {
        self.dimension_of_towers().map(|full| self.id.dimension.unwrap_or(full))
    }

    /// What leaves of a tower's vector.
    pub(super) fn cut(&self, vector: Embedding) -> Result<Embedding, ClipError> {
        let Some(kept) = self.id.dimension else { return Ok(vector) };
        vector.cut(kept).map_err(|e| Fault::new(ClipReason::EmbeddingInvalid, e.to_string()).into())
    }

    fn dimension_of_towers(&self) -> Option<usize> {
        self.dimension.get().map(|(dimension, _)| *dimension).or_else(|| self.facts.dimension())
    }

    /// Digests all files the first time, which takes seconds for a large model. Opens the image tower where nothing else tells how
    /// long the vectors are.
    pub(super) fn fingerprint(&self) -> Result<&Fingerprint, ClipError> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known);
        }
        let made = || {
            let dimension = match self.dimension() {
                Some(dimension) => dimension,
                None => {
                    let full = self.open_images()?.dimension;
                    self.id.dimension.unwrap_or(full)
                }
            };
            Ok(self.facts.fingerprint(&self.id, dimension, &self.preprocess, &self.opener.files)?)
        };
        let made = made().map_err(|e| self.named(e))?;
        Ok(self.fingerprint.get_or_init(|| made))
    }

    pub(super) fn logits(&self) -> Option<Logits> {
        self.known.logits()
    }

    /// The model's golden inputs, if its directory has some.
    pub(super) fn golden(&self) -> Result<Option<Golden>, ClipError> {
        Ok(self.opener.files.golden.as_deref().map(Golden::read).transpose()?)
    }

    /// An error of loading that says which model it is about.
    pub(super) fn named(&self, error: ClipError) -> ClipError {
        named(&self.id, &self.directory, error)
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
fn named(id: &ModelId, directory: &Path, error: ClipError) -> ClipError {
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
