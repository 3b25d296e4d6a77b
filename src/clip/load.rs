//! From a model's entry in the settings to a [`Clip`]: files, ONNX Runtime, sessions, tokenizer, trial runs, fingerprint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::directory::{self, ModelFiles};
use super::engine::Engine;
use super::facts::ModelFacts;
use super::graph::Source;
use super::runtime::{self, Runtime};
use super::tower::{ImageTower, TextTower};
use super::{Clip, ClipError, Pixels, Preprocess, Tokenizer, TokenizerError, graph};
use crate::config::{ClipSettings, ModelEntry, Provider};
use crate::domain::{Embedding, Fingerprint, Modality, ModelId, Precision, registry};
use crate::telemetry::Metrics;

/// CLIP's own vocabulary, the same for all of its checkpoints, for directories that have none.
const CLIP_TOKENIZER: &[u8] = include_bytes!("../../demo/model/textual/tokenizer.json");

/// What it takes to open another session of the same model.
pub(super) struct Opener {
    pub(super) runtime: &'static Runtime,
    pub(super) files: ModelFiles,
    pub(super) providers: Vec<Provider>,
    intra_op_threads: usize,
    image_size: [usize; 2],
}

impl Opener {
    pub(super) fn source(&self, modality: Modality) -> Source<'_> {
        let file = match modality {
            Modality::Image => &self.files.image_graph,
            Modality::Text => &self.files.text_graph,
        };
        Source { file, part: self.files.is_combined().then_some(modality) }
    }

    pub(super) fn image_tower(&self) -> Result<ImageTower, ClipError> {
        let session = graph::open(self.runtime, self.source(Modality::Image), &self.providers, self.intra_op_threads)?;
        let signature = graph::image_signature(&session)?;
        ImageTower::new(session, signature, self.image_size)
    }

    pub(super) fn text_tower(&self) -> Result<TextTower, ClipError> {
        let session = graph::open(self.runtime, self.source(Modality::Text), &self.providers, self.intra_op_threads)?;
        let signature = graph::text_signature(&session)?;
        TextTower::new(session, signature, self.files.context_length)
    }
}

impl Clip {
    /// Finds ONNX Runtime and the model's files, opens the sessions and runs each tower once. Blocking, up to
    /// seconds: call it off the async threads. Every error is [`ClipError::Load`].
    pub fn load(entry: &ModelEntry, settings: &ClipSettings, metrics: Arc<Metrics>) -> Result<Self, ClipError> {
        let opened = Opened::open(entry, settings, Precision::Fp32)?;
        let fingerprint = opened.fingerprint(&entry.id)?;
        let Opened { directory, opener, preprocess, tokenizer, images, text, dimension, .. } = opened;
        let name = entry.id.to_string();
        tracing::info!(
            model = name, directory = %directory.display(), layout = opener.files.layout, dimension,
            providers = names(&opener.providers), intra_op_threads = opener.intra_op_threads, sessions = images.len(),
            "model loaded"
        );
        Ok(Self {
            id: entry.id.clone(),
            fingerprint,
            providers: opener.providers.clone(),
            preprocess,
            tokenizer: Arc::new(tokenizer),
            image_size: opener.image_size,
            image: Engine::start(&name, images, settings.image_batch_max, &metrics)?,
            text: Engine::start(&name, vec![text], settings.text_batch_max, &metrics)?,
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
    pub(super) tokenizer: Tokenizer,
    pub(super) images: Vec<ImageTower>,
    pub(super) text: TextTower,
    pub(super) dimension: usize,
}

impl Opened {
    /// Every error is [`ClipError::Load`] and names the model and its directory.
    pub(super) fn open(entry: &ModelEntry, settings: &ClipSettings, precision: Precision) -> Result<Self, ClipError> {
        let directory = settings.model_directory(entry);
        let opened = Self::open_in(entry, settings, precision, &directory);
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
        precision: Precision,
        directory: &Path,
    ) -> Result<Self, ClipError> {
        let files = directory::find(directory, precision).map_err(|e| with_next_step(e, &entry.id))?;
        let facts = ModelFacts::read(&files)?;
        let preprocess = preprocessing(&entry.id, directory, &files)?;
        let opener = Opener {
            runtime: runtime::runtime(settings.onnxruntime.as_deref())?,
            providers: providers(settings)?,
            intra_op_threads: settings.intra_op_threads(),
            image_size: preprocess.input_size().into(),
            files,
        };
        let (images, dimension) = open_images(&opener, settings)?;
        let (text, tokenizer, text_dimension) = open_text(&opener)?;
        if dimension != text_dimension {
            return Err(ClipError::load(
                "model_unusable",
                format!(
                    "the image tower gives {dimension} values, the text tower {text_dimension}; expected equal \
                     dimensions; take both from the same export"
                ),
            ));
        }
        Ok(Self { directory: directory.to_owned(), opener, facts, preprocess, tokenizer, images, text, dimension })
    }

    pub(super) fn fingerprint(&self, id: &ModelId) -> Result<Fingerprint, ClipError> {
        Ok(Fingerprint {
            variant: id.variant.clone(),
            checkpoint: id.checkpoint.clone(),
            dimension: self.dimension,
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

fn open_images(opener: &Opener, settings: &ClipSettings) -> Result<(Vec<ImageTower>, usize), ClipError> {
    let [height, width] = opener.image_size;
    // Not all equal: some graphs normalise their input, and a flat picture would give a vector of nothing.
    let data = (0..3 * height * width).map(|i| (i % 7) as f32 / 7.0 - 0.4).collect();
    let picture = Pixels { data, height, width };
    let mut towers = Vec::new();
    let mut dimension = 0;
    for _ in 0..settings.sessions.max(1) {
        let mut tower = opener.image_tower()?;
        dimension = tower.embed(std::slice::from_ref(&picture))?.first().map_or(0, Embedding::dimension);
        towers.push(tower);
    }
    Ok((towers, dimension))
}

fn open_text(opener: &Opener) -> Result<(TextTower, Tokenizer, usize), ClipError> {
    let mut tower = opener.text_tower()?;
    let unusable = |e: TokenizerError| ClipError::load("tokenizer_unusable", e.to_string());
    let tokenizer = match &opener.files.tokenizer {
        Some(file) => Tokenizer::from_file(file, tower.context_length()),
        None => Tokenizer::from_bytes(CLIP_TOKENIZER, tower.context_length()),
    };
    let tokenizer = tokenizer.map_err(unusable)?;
    let tokens = tokenizer.encode("a photo of a red shoe").map_err(unusable)?;
    let dimension = tower.try_real_length(&tokens)?.dimension();
    Ok((tower, tokenizer, dimension))
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

/// `directory::find` does not know whose files it looks for.
fn with_next_step(error: ClipError, id: &ModelId) -> ClipError {
    match error {
        ClipError::Load { reason: "model_missing", message } if registry::find(id).is_some() => ClipError::load(
            "model_missing",
            message.replace("next: clipstream models pull,", &format!("next: clipstream models pull {id},")),
        ),
        other => other,
    }
}

/// The settings' list, with the CPU at its end, where ONNX Runtime puts it anyway.
fn providers(settings: &ClipSettings) -> Result<Vec<Provider>, ClipError> {
    let mut providers = settings.providers.clone();
    match providers.iter().position(|p| *p == Provider::Cpu) {
        None => providers.push(Provider::Cpu),
        Some(place) if place + 1 == providers.len() => {}
        Some(_) => {
            return Err(ClipError::load(
                "provider_order",
                format!(
                    "[clip] providers is {}; expected cpu last: it runs everything, so that what follows it would \
                     never be used",
                    names(&providers)
                ),
            ));
        }
    }
    Ok(providers)
}

pub(super) fn names(providers: &[Provider]) -> String {
    providers.iter().map(|p| p.as_str()).collect::<Vec<_>>().join(", ")
}
