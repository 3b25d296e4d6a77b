//! Port: pictures and texts in, unit vectors out.
//!
//! [`Clip`] is one loaded model: two ONNX graphs (towers), the tokenizer and the preprocessing that belong to them. Each
//! tower is run by threads of its own; callers from many tasks share batches.

mod alone;
mod directory;
mod engine;
mod error;
mod facts;
mod graph;
mod load;
mod onnx;
mod picture;
mod preprocess;
mod runtime;
#[cfg(test)]
mod test_graph;
mod tokenize;
mod tower;

use std::sync::Arc;

pub use alone::ModelAlone;
pub use error::ClipError;
pub use picture::{Picture, PictureError, decode_picture};
pub use preprocess::{InvalidPreprocess, Pixels, Preprocess};
pub use tokenize::{Tokenizer, TokenizerError};

use crate::config::{ClipSettings, Provider};
use crate::domain::{Embedding, Fingerprint, ModelId};
use engine::Engine;
use load::{Opener, names};
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

impl Clip {
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

    /// Resizes, crops and normalises for the image tower. CPU-bound: call it off the async threads.
    pub fn preprocess(&self, picture: &Picture) -> Pixels {
        self.preprocess.apply(picture)
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
        self.text.embed(tokens.map_err(|e| ClipError::item("text_untokenizable", e.to_string()))?).await
    }
}

/// Finds and loads ONNX Runtime, as the first model would; returns the path of the library. Blocking.
///
/// # Errors
/// [`ClipError::Load`] where none is found, or the one that was asked for cannot be used.
pub fn load_runtime(settings: &ClipSettings) -> Result<String, ClipError> {
    Ok(runtime::runtime(settings.onnxruntime.as_deref())?.path.display().to_string())
}

#[cfg(test)]
mod tests;
