//! Port: pictures and texts in, unit vectors out.
//!
//! [`Clip`] is one loaded model: two ONNX graphs (towers), the tokenizer and the preprocessing that belong to them. Each
//! tower is run by threads of its own; callers from many tasks share batches.

mod alone;
mod area;
mod directory;
mod engine;
mod error;
mod graph;
mod picture;
mod preprocess;
mod runtime;
#[cfg(test)]
mod test_graph;
mod tokenize;
mod tower;

use std::path::PathBuf;
use std::sync::Arc;

pub use alone::ModelAlone;
pub use error::ClipError;
pub use picture::{Picture, PictureError, decode_picture};
pub use preprocess::{InvalidPreprocess, Pixels, Preprocess};
pub use tokenize::{Tokenizer, TokenizerError};

use crate::config::{ClipSettings, ModelEntry, Provider};
use crate::domain::{Embedding, Fingerprint, ModelId};
use crate::telemetry::Metrics;
use directory::ModelFiles;
use engine::Engine;
use runtime::Runtime;
use tower::{ImageTower, TextTower};

/// Longer texts are tokenized off the async threads.
const SHORT_TEXT_BYTES: usize = 2048;

/// One loaded model. Shared by reference; dropping it ends and joins its threads, which takes up to one run.
pub struct Clip {
    id: ModelId,
    fingerprint: Fingerprint,
    providers: Vec<Provider>,
    preprocess: Preprocess,
    tokenizer: Arc<Tokenizer>,
    image_size: [usize; 2],
    image: Engine<ImageTower>,
    text: Engine<TextTower>,
    opener: Opener,
}

/// What it takes to open another session of the same model.
struct Opener {
    runtime: &'static Runtime,
    files: ModelFiles,
    providers: Vec<Provider>,
    intra_op_threads: usize,
    image_size: [usize; 2],
}

impl Opener {
    fn image_tower(&self) -> Result<ImageTower, ClipError> {
        let session = graph::open(self.runtime, &self.files.image_graph, &self.providers, self.intra_op_threads)?;
        let signature = graph::image_signature(&session)?;
        ImageTower::new(session, signature, self.image_size)
    }

    fn text_tower(&self) -> Result<TextTower, ClipError> {
        let session = graph::open(self.runtime, &self.files.text_graph, &self.providers, self.intra_op_threads)?;
        let signature = graph::text_signature(&session)?;
        TextTower::new(session, signature, self.files.context_length)
    }
}

impl Clip {
    /// Finds ONNX Runtime and the model's files, opens the sessions and runs each tower once. Blocking, up to
    /// seconds: call it off the async threads. Every error is [`ClipError::Load`].
    pub fn load(entry: &ModelEntry, settings: &ClipSettings, metrics: Arc<Metrics>) -> Result<Self, ClipError> {
        let directory = model_directory(entry, settings);
        let files = directory::find(&directory)?;
        let preprocess = Preprocess::from_json(&files.preprocess).map_err(|e| {
            ClipError::load("preprocess_unsupported", format!("{}: {e}", files.preprocess_file.display()))
        })?;
        let preprocess = preprocess.with(settings.orientation, settings.decoding);
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
        let tokens = tokenizer.encode("a photo of a red shoe");
        let dimension = tower.try_real_length(&tokens)?.dimension();
        Ok((tower, tokenizer, dimension))
    }

    pub fn id(&self) -> &ModelId {
        &self.id
    }

    /// Values of each vector.
    pub fn dimension(&self) -> usize {
        self.fingerprint.dimension
    }

    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Which known layout the model's directory has, for example `Immich`.
    pub fn layout(&self) -> &'static str {
        self.opener.files.layout
    }

    /// The execution providers that run the graphs, in order of preference, for example `cuda, cpu`.
    pub fn providers(&self) -> String {
        names(&self.providers)
    }

    /// False once a thread of a tower has panicked. The model answers [`ClipError::Stopped`] from then on.
    pub fn is_alive(&self) -> bool {
        self.image.is_alive() && self.text.is_alive()
    }

    /// How pictures become the image tower's input.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// The unit vector of a preprocessed picture. Joins the next batch.
    pub async fn embed_pixels(&self, pixels: Pixels) -> Result<Embedding, ClipError> {
        // Here, so that a wrong picture never costs its neighbours a run.
        ImageTower::check(self.image_size, &pixels)?;
        self.image.embed(pixels).await
    }

    /// The unit vector of a text, cut at the model's context length as OpenCLIP cuts it. Joins the next batch.
    pub async fn embed_text(&self, text: &str) -> Result<Embedding, ClipError> {
        let tokens = if text.len() <= SHORT_TEXT_BYTES {
            self.tokenizer.encode(text)
        } else {
            let (tokenizer, text) = (self.tokenizer.clone(), text.to_owned());
            let encoding = tokio::task::spawn_blocking(move || tokenizer.encode(&text));
            encoding.await.map_err(|_| ClipError::Stopped)?
        };
        self.text.embed(tokens).await
    }
}

/// Finds and loads ONNX Runtime, as the first model would; returns the path of the library. Blocking.
///
/// # Errors
/// [`ClipError::Load`] where none is found, or the one that was asked for cannot be used.
pub fn load_runtime(settings: &ClipSettings) -> Result<String, ClipError> {
    Ok(runtime::runtime(settings.onnxruntime.as_deref())?.path.display().to_string())
}

/// The entry's own directory, or `{variant}__{checkpoint}` below the models' directory, as Immich names its exports.
fn model_directory(entry: &ModelEntry, settings: &ClipSettings) -> PathBuf {
    entry.directory.clone().unwrap_or_else(|| {
        let name = format!("{}__{}", entry.id.variant, entry.id.checkpoint);
        settings.models_directory.join(name.replace(['/', '\\'], "-"))
    })
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

fn names(providers: &[Provider]) -> String {
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

#[cfg(test)]
mod tests;
