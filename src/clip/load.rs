//! From a model's entry in the settings to a [`Clip`]: files, ONNX Runtime, sessions, tokenizer, trial runs, fingerprint.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::directory::{self, ModelFiles};
use super::engine::Engine;
use super::facts::ModelFacts;
use super::fit::Known;
use super::golden::Golden;
use super::opener::{Opener, Towers};
use super::probes::Probes;
use super::providers::{Providers, with_own_caches};
use super::session::{CareOf, Reopen, Sessions};
use super::tower::{ImageTower, TextTower};
use super::{Clip, ClipError, Runs, runtime};
use crate::config::{ClipSettings, ModelEntry};
use crate::domain::{Fingerprint, Modality, ModelId};
use crate::picture::{Pixels, Preprocess};
use crate::telemetry::Metrics;
use crate::tokenize::Tokenizer;

impl Clip {
    /// Finds ONNX Runtime and the model's files, opens the sessions and runs each tower once. Blocking, up to
    /// seconds: call it off the async threads. Every error is [`ClipError::Load`].
    pub fn load(entry: &ModelEntry, settings: &ClipSettings, metrics: Arc<Metrics>) -> Result<Self, ClipError> {
        let mut opened = Opened::open(entry, settings)?;
        opened.self_test(&entry.id)?;
        let fingerprint = opened.fingerprint(&entry.id)?;
        let (probe_images, probe_texts) = opened.probes(&entry.id)?;
        let Opened { directory, opener, preprocess, tokenizer, images, texts, .. } = opened;
        let runs = Runs { precision: settings.precision, image: images.active, text: texts.active };
        let name = entry.id.to_string();
        tracing::info!(
            model = name, directory = %directory.display(), layout = opener.files.layout, dimension = images.dimension,
            precision = %runs.precision, providers = %runs, intra_op_threads = settings.intra_op_threads(),
            sessions = images.towers.len(), "model loaded"
        );
        metrics.model(&name, &runs.info());
        let opener = Arc::new(opener);
        let recovery_max = Duration::from_millis(settings.recovery_max_ms);
        let reopen_image: Reopen<ImageTower> = {
            let (opener, active) = (opener.clone(), runs.image.clone());
            Arc::new(move |place| opener.another_image_tower(&active, place))
        };
        let reopen_text: Reopen<TextTower> = {
            let (opener, active, tokenizer) = (opener.clone(), runs.text.clone(), tokenizer.clone());
            Arc::new(move |place| opener.another_text_tower(&active, place, &tokenizer))
        };
        let image = CareOf { probes: Arc::new(probe_images), reopen: reopen_image, recovery_max };
        let text = CareOf { probes: Arc::new(probe_texts), reopen: reopen_text, recovery_max };
        let image = Sessions { towers: images.towers, care: image };
        let text = Sessions { towers: texts.towers, care: text };
        Ok(Self {
            id: entry.id.clone(),
            fingerprint,
            runs,
            preprocess,
            tokenizer,
            image_size: opener.image_size,
            image: Engine::start(&name, image, settings.image_batch_max, &metrics)?,
            text: Engine::start(&name, text, settings.text_batch_max, &metrics)?,
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
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) images: Towers<ImageTower>,
    pub(super) texts: Towers<TextTower>,
}

impl Opened {
    /// Every error is [`ClipError::Load`] and names the model and its directory.
    pub(super) fn open(entry: &ModelEntry, settings: &ClipSettings) -> Result<Self, ClipError> {
        let directory = settings.model_directory(entry);
        Self::open_in(entry, settings, &directory).map_err(|e| named(&entry.id, &directory, e))
    }

    fn open_in(entry: &ModelEntry, settings: &ClipSettings, directory: &Path) -> Result<Self, ClipError> {
        let files = directory::find(&entry.id, directory, settings.precision)?;
        // All that can be known without running anything comes first: a large model takes a while to open.
        let facts = ModelFacts::read(&files)?;
        let known = Known::of(&entry.id, &files)?;
        let activation_problem = known.check_activation(&facts, settings.activation_mismatch)?;
        let preprocess = preprocessing(&entry.id, &known, &files)?;
        known.check_preprocessing(&files, &preprocess)?;
        warn_of_fixed_batches(&entry.id, &facts);
        let runtime = runtime::runtime(settings.onnxruntime.as_deref())?;
        let opener = Opener {
            providers: Providers::new(runtime, with_own_caches(settings.clone(), || facts.sha256())?),
            image_size: preprocess.input_size().into(),
            vocabulary: facts.text.vocabulary,
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

    /// Inputs that every session of the model must do, now and at any time: its golden ones, or those of the trial run.
    fn probes(&mut self, id: &ModelId) -> Result<(Probes<Pixels>, Probes<Vec<i64>>), ClipError> {
        let probes = match &self.opener.files.golden {
            Some(path) => Golden::read(path).and_then(|golden| golden.probes(self)),
            None => self.probes_of_start(),
        };
        probes.map_err(|e| named(id, &self.directory, e))
    }

    fn probes_of_start(&mut self) -> Result<(Probes<Pixels>, Probes<Vec<i64>>), ClipError> {
        let (Some(image), Some(text)) = (self.images.towers.first_mut(), self.texts.towers.first_mut()) else {
            return Err(ClipError::Stopped);
        };
        let picture = image.trial_picture();
        Ok((Probes::of_start(image, vec![picture])?, Probes::of_start(text, Opener::probes(&self.tokenizer))?))
    }

    pub(super) fn fingerprint(&self, id: &ModelId) -> Result<Fingerprint, ClipError> {
        self.facts.fingerprint(id, self.images.dimension, &self.preprocess, &self.opener.files)
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
        // That the library is missing or too old is no model's fault.
        ClipError::Load { reason, .. } if reason.starts_with("onnxruntime_") => error,
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
