//! From a model's entry in the settings to a [`Clip`]: files, ONNX Runtime, sessions, tokenizer, trial runs, fingerprint.

use std::sync::Arc;

use super::directory::{self, ModelFiles};
use super::engine::Engine;
use super::runtime::{self, Runtime};
use super::tower::{ImageTower, TextTower};
use super::{Clip, ClipError, Pixels, Preprocess, Tokenizer, TokenizerError, graph};
use crate::config::{ClipSettings, ModelEntry, Provider};
use crate::domain::{Embedding, Fingerprint, ModelId, registry};
use crate::telemetry::Metrics;

/// What it takes to open another session of the same model.
pub(super) struct Opener {
    pub(super) runtime: &'static Runtime,
    pub(super) files: ModelFiles,
    pub(super) providers: Vec<Provider>,
    intra_op_threads: usize,
    image_size: [usize; 2],
}

impl Opener {
    pub(super) fn image_tower(&self) -> Result<ImageTower, ClipError> {
        let session = graph::open(self.runtime, &self.files.image_graph, &self.providers, self.intra_op_threads)?;
        let signature = graph::image_signature(&session)?;
        ImageTower::new(session, signature, self.image_size)
    }

    pub(super) fn text_tower(&self) -> Result<TextTower, ClipError> {
        let session = graph::open(self.runtime, &self.files.text_graph, &self.providers, self.intra_op_threads)?;
        let signature = graph::text_signature(&session)?;
        TextTower::new(session, signature, self.files.context_length)
    }
}

impl Clip {
    /// Finds ONNX Runtime and the model's files, opens the sessions and runs each tower once. Blocking, up to
    /// seconds: call it off the async threads. Every error is [`ClipError::Load`].
    pub fn load(entry: &ModelEntry, settings: &ClipSettings, metrics: Arc<Metrics>) -> Result<Self, ClipError> {
        let directory = settings.model_directory(entry);
        let files = directory::find(&directory).map_err(|e| with_next_step(e, &entry.id))?;
        let preprocess = Preprocess::from_json(&files.preprocess).map_err(|e| {
            ClipError::load("preprocess_unsupported", format!("{}: {e}", files.preprocess_file.display()))
        })?;
        let image_size = preprocess.input_size().into();
        let opener = Opener {
            runtime: runtime::runtime(settings.onnxruntime.as_deref())?,
            providers: providers(settings)?,
            intra_op_threads: settings.intra_op_threads(),
            image_size,
            files,
        };
        let in_directory = |e: ClipError| match e {
            ClipError::Load { reason, message } if !message.contains(&*directory.to_string_lossy()) => {
                ClipError::Load { reason, message: format!("model {} in {}: {message}", entry.id, directory.display()) }
            }
            ClipError::Item { message, .. } | ClipError::Run { message, .. } => ClipError::load(
                "model_unusable",
                format!("model {} in {}: the trial run failed: {message}", entry.id, directory.display()),
            ),
            other => other,
        };
        let (image, image_dimension) = Self::open_images(&opener, settings).map_err(in_directory)?;
        let (text, tokenizer, text_dimension) = Self::open_text(&opener).map_err(in_directory)?;
        if image_dimension != text_dimension {
            return Err(ClipError::load(
                "model_unusable",
                format!(
                    "model {} in {}: the image tower gives {image_dimension} values, the text tower {text_dimension}; \
                     expected equal dimensions; take both from the same export",
                    entry.id,
                    directory.display()
                ),
            ));
        }
        let fingerprint = fingerprint(&entry.id, image_dimension, &preprocess, &opener.files)?;
        let name = entry.id.to_string();
        tracing::info!(
            model = name, directory = %directory.display(), layout = opener.files.layout, dimension = image_dimension,
            providers = names(&opener.providers), intra_op_threads = opener.intra_op_threads, sessions = image.len(),
            "model loaded"
        );
        Ok(Self {
            id: entry.id.clone(),
            fingerprint,
            providers: opener.providers.clone(),
            preprocess,
            tokenizer: Arc::new(tokenizer),
            image_size,
            image: Engine::start(&name, image, settings.image_batch_max, &metrics)?,
            text: Engine::start(&name, vec![text], settings.text_batch_max, &metrics)?,
            opener,
        })
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
        let tokenizer = Tokenizer::from_file(&opener.files.tokenizer, tower.context_length()).map_err(unusable)?;
        let tokens = tokenizer.encode("a photo of a red shoe").map_err(unusable)?;
        let dimension = tower.try_real_length(&tokens)?.dimension();
        Ok((tower, tokenizer, dimension))
    }
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

fn fingerprint(
    id: &ModelId,
    dimension: usize,
    preprocess: &Preprocess,
    files: &ModelFiles,
) -> Result<Fingerprint, ClipError> {
    let graphs = [&files.image_graph, &files.text_graph].map(|graph| directory::with_external_data(graph));
    Ok(Fingerprint {
        variant: id.variant.clone(),
        checkpoint: id.checkpoint.clone(),
        dimension,
        preprocessing: preprocess.canonical(),
        tokenizer: directory::sha256(std::slice::from_ref(&files.tokenizer))?,
        graph: directory::sha256(&graphs.concat())?,
    })
}
