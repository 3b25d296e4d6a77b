//! From a model's entry in the settings to a [`Clip`]: files, ONNX Runtime, sessions, tokenizer, trial runs, fingerprint.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::directory::{self, ModelFiles};
use super::engine::Engine;
use super::facts::ModelFacts;
use super::fit::{self, Known};
use super::golden::Golden;
use super::graph::Source;
use super::runtime::{self, Runtime};
use super::tower::{ImageTower, TextTower};
use super::{Clip, ClipError, Pixels, Preprocess, Tokenizer, TokenizerError, graph};
use crate::config::{ClipSettings, ModelEntry, Provider};
use crate::domain::{Embedding, Fingerprint, Modality, ModelId, Precision};
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
        let mut opened = Opened::open(entry, settings, Precision::Fp32)?;
        opened.self_test(&entry.id)?;
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
    /// What is wrong with its activation, where that was accepted.
    pub(super) activation_problem: Option<String>,
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
        Self::open_in(entry, settings, precision, &directory).map_err(|e| named(&entry.id, &directory, e))
    }

    fn open_in(
        entry: &ModelEntry,
        settings: &ClipSettings,
        precision: Precision,
        directory: &Path,
    ) -> Result<Self, ClipError> {
        let files = directory::find(directory, precision)?;
        // All that can be known without running anything comes first: a large model takes a while to open.
        let facts = ModelFacts::read(&files)?;
        let known = Known::of(&entry.id, &files)?;
        let activation_problem = known.check_activation(&facts, settings.activation_mismatch)?;
        let preprocess = preprocessing(&entry.id, &known, &files)?;
        known.check_preprocessing(&files, &preprocess)?;
        warn_of_fixed_batches(&entry.id, &facts);
        let opener = Opener {
            runtime: runtime::runtime(settings.onnxruntime.as_deref())?,
            providers: providers(settings)?,
            intra_op_threads: settings.intra_op_threads(),
            image_size: preprocess.input_size().into(),
            files,
        };
        let (images, dimension) = open_images(&opener, settings)?;
        let (text, tokenizer, text_dimension) = open_text(&opener, facts.text.vocabulary)?;
        if dimension != text_dimension {
            return Err(ClipError::load(
                "model_unusable",
                format!(
                    "the image tower gives {dimension} values, the text tower {text_dimension}; expected equal \
                     dimensions; take both from the same export"
                ),
            ));
        }
        known.check_sizes(dimension, opener.image_size, text.context_length())?;
        let preprocess = preprocess.with(settings.orientation, settings.decoding);
        Ok(Self {
            directory: directory.to_owned(),
            opener,
            facts,
            activation_problem,
            preprocess,
            tokenizer,
            images,
            text,
            dimension,
        })
    }

    /// Runs a few golden inputs, where the directory has some, and refuses the model if it fails them.
    fn self_test(&mut self, id: &ModelId) -> Result<(), ClipError> {
        let Some(path) = &self.opener.files.golden else {
            tracing::info!(
                model = %id, directory = %self.directory.display(),
                "not verified: the model has no golden vectors (golden.json) to compare its own with"
            );
            return Ok(());
        };
        let tested = Golden::read(path).and_then(|golden| golden.self_test(self));
        tested.map_err(|e| named(id, &self.directory, e))
    }

    pub(super) fn fingerprint(&self, id: &ModelId) -> Result<Fingerprint, ClipError> {
        Ok(Fingerprint {
            variant: id.variant.clone(),
            checkpoint: id.checkpoint.clone(),
            dimension: self.dimension,
            preprocessing: self.preprocess.canonical(),
            tokenizer: tokenizer_sha256(&self.opener.files)?,
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

fn open_text(opener: &Opener, vocabulary: Option<u64>) -> Result<(TextTower, Tokenizer, usize), ClipError> {
    let mut tower = opener.text_tower()?;
    let unusable = |e: TokenizerError| ClipError::load("tokenizer_unusable", e.to_string());
    let tokenizer = match &opener.files.tokenizer {
        Some(file) => Tokenizer::from_file(file, tower.context_length()),
        None => Tokenizer::from_bytes(CLIP_TOKENIZER, tower.context_length()),
    };
    let tokenizer = tokenizer.map_err(unusable)?;
    fit::check_vocabulary(&opener.files, &tokenizer, vocabulary)?;
    let tokens = tokenizer.encode("a photo of a red shoe").map_err(unusable)?;
    let dimension = tower.try_real_length(&tokens)?.dimension();
    Ok((tower, tokenizer, dimension))
}

/// SHA-256 (hex) of the tokenizer's file.
pub(super) fn tokenizer_sha256(files: &ModelFiles) -> Result<String, ClipError> {
    match &files.tokenizer {
        Some(file) => directory::sha256(std::slice::from_ref(file)),
        None => Ok(format!("{:x}", Sha256::digest(CLIP_TOKENIZER))),
    }
}

/// What the directory says about preprocessing, or OpenCLIP's table where it says nothing.
pub(super) fn preprocessing(id: &ModelId, known: &Known, files: &ModelFiles) -> Result<Preprocess, ClipError> {
    let unsupported = |message| ClipError::load("preprocess_unsupported", message);
    let (json, from) = match (&files.preprocess, known.preprocessing()) {
        (Some(file), _) => (file.json.clone(), file.path.display().to_string()),
        (None, Some(own)) => (own, format!("OpenCLIP's table for {id}")),
        (None, None) => {
            return Err(unsupported(format!(
                "nothing says how to preprocess for {id}, which is not in OpenCLIP's table either; write \
                 preprocess_cfg.json beside the graphs, as OpenCLIP's get_model_preprocess_cfg gives it"
            )));
        }
    };
    Preprocess::from_json(&json).map_err(|e| unsupported(format!("{from}: {e}")))
}

/// A graph whose batch is fixed works, one piece after the other.
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

/// An error of loading that says which model it is about.
fn named(id: &ModelId, directory: &Path, error: ClipError) -> ClipError {
    let of_model = |message: String| format!("model {id} in {}: {message}", directory.display());
    match error {
        ClipError::Load { reason, message } if !message.contains(&*directory.to_string_lossy()) => {
            ClipError::Load { reason, message: of_model(message) }
        }
        ClipError::Item { message, .. } | ClipError::Run { message, .. } => {
            let message = of_model(format!("the trial run failed: {message}; export the model again"));
            ClipError::load("model_unusable", message)
        }
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
