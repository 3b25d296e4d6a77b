//! From a model's entry in the settings to a [`Clip`]: files, ONNX Runtime, sessions, tokenizer, trial runs, fingerprint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::directory::{self, ModelFiles};
use super::engine::Engine;
use super::facts::ModelFacts;
use super::opener::{Opener, Towers};
use super::providers::Providers;
use super::tower::{ImageTower, TextTower};
use super::{Clip, ClipError, Preprocess, Runs, Tokenizer, runtime};
use crate::config::{ClipSettings, ModelEntry};
use crate::domain::{Fingerprint, ModelId};
use crate::telemetry::Metrics;

/// CLIP's own vocabulary, the same for all of its checkpoints, for directories that have none.
pub(super) const CLIP_TOKENIZER: &[u8] = include_bytes!("../../demo/model/textual/tokenizer.json");

impl Clip {
    /// Finds ONNX Runtime and the model's files, opens the sessions and runs each tower once. Blocking, up to
    /// seconds: call it off the async threads. Every error is [`ClipError::Load`].
    pub fn load(entry: &ModelEntry, settings: &ClipSettings, metrics: Arc<Metrics>) -> Result<Self, ClipError> {
        let opened = Opened::open(entry, settings)?;
        let fingerprint = opened.fingerprint(&entry.id)?;
        let Opened { directory, opener, preprocess, tokenizer, images, texts, .. } = opened;
        let runs = Runs { precision: settings.precision, image: images.active, text: texts.active };
        let name = entry.id.to_string();
        tracing::info!(
            model = name, directory = %directory.display(), layout = opener.files.layout, dimension = images.dimension,
            precision = %runs.precision, providers = %runs, intra_op_threads = settings.intra_op_threads(),
            sessions = images.towers.len(), "model loaded"
        );
        metrics.model(&name, &runs.facts());
        Ok(Self {
            id: entry.id.clone(),
            fingerprint,
            runs,
            preprocess,
            tokenizer,
            image_size: opener.image_size,
            image: Engine::start(&name, images.towers, settings.image_batch_max, &metrics)?,
            text: Engine::start(&name, texts.towers, settings.text_batch_max, &metrics)?,
            opener,
        })
    }
}

/// A model whose towers are open and have run once, before they get threads.
pub(super) struct Opened {
    pub(super) directory: PathBuf,
    pub(super) opener: Opener,
    pub(super) facts: ModelFacts,
    pub(super) preprocess: Preprocess,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) images: Towers<ImageTower>,
    pub(super) texts: Towers<TextTower>,
}

impl Opened {
    /// Every error is [`ClipError::Load`] and names the model and its directory.
    pub(super) fn open(entry: &ModelEntry, settings: &ClipSettings) -> Result<Self, ClipError> {
        let directory = settings.model_directory(entry);
        let opened = Self::open_in(entry, settings, &directory);
        opened.map_err(|e| {
            let of_model = |message: String| format!("model {} in {}: {message}", entry.id, directory.display());
            match e {
                ClipError::Load { reason, message } if !message.contains(&*directory.to_string_lossy()) => {
                    ClipError::Load { reason, message: of_model(message) }
                }
                ClipError::Item { message, .. } | ClipError::Run { message, .. } => {
                    ClipError::load("model_unusable", of_model(format!("the trial run failed: {message}")))
                }
                other => other,
            }
        })
    }

    fn open_in(
        entry: &ModelEntry,
        settings: &ClipSettings,
        directory: &Path,
    ) -> Result<Self, ClipError> {
        let files = directory::find(directory, settings.precision)?;
        let facts = ModelFacts::read(&files)?;
        let preprocess = preprocessing(&entry.id, directory, &files)?;
        let runtime = runtime::runtime(settings.onnxruntime.as_deref())?;
        let opener = Opener {
            providers: Providers::new(runtime, settings.clone()),
            image_size: preprocess.input_size().into(),
            files,
        };
        let images = opener.image_towers()?;
        let (texts, tokenizer) = opener.text_towers()?;
        if images.dimension != texts.dimension {
            return Err(ClipError::load(
                "model_unusable",
                format!(
                    "the image tower gives {} values, the text tower {}; expected equal dimensions; take both from the \
                     same export",
                    images.dimension, texts.dimension
                ),
            ));
        }
        Ok(Self { directory: directory.to_owned(), opener, facts, preprocess, tokenizer, images, texts })
    }

    pub(super) fn fingerprint(&self, id: &ModelId) -> Result<Fingerprint, ClipError> {
        Ok(Fingerprint {
            variant: id.variant.clone(),
            checkpoint: id.checkpoint.clone(),
            dimension: self.images.dimension,
            preprocessing: self.preprocess.canonical(),
            tokenizer: match &self.opener.files.tokenizer {
                Some(file) => directory::sha256(std::slice::from_ref(file))?,
                None => format!("{:x}", Sha256::digest(CLIP_TOKENIZER)),
            },
            graph: self.facts.sha256()?,
            activation: self.facts.activation(),
            precision: Some(self.opener.files.precision),
        })
    }
}

/// What the directory says about preprocessing.
fn preprocessing(id: &ModelId, directory: &Path, files: &ModelFiles) -> Result<Preprocess, ClipError> {
    let unsupported = |message| ClipError::load("preprocess_unsupported", message);
    let Some(file) = &files.preprocess else {
        return Err(unsupported(format!(
            "model {id} in {}: nothing says how to preprocess; expected preprocess_cfg.json, as OpenCLIP's \
             get_model_preprocess_cfg gives it; write it beside the graphs",
            directory.display()
        )));
    };
    Preprocess::from_json(&file.json).map_err(|e| unsupported(format!("{}: {e}", file.path.display())))
}
