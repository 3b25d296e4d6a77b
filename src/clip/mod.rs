//! Port: pictures and texts in, unit vectors out.
//!
//! [`Clip`] is one loaded model: two ONNX graphs (towers) with their tokenizer and preprocessing. Each tower runs on
//! its own threads; callers from many tasks share batches.

mod alone;
mod blame;
mod compare;
mod engine;
mod error;
#[cfg(test)]
mod exported_tests;
#[cfg(test)]
mod fixture_tests;
mod graph;
mod inspect;
mod labels;
mod load;
mod open;
mod opener;
mod picture_pool;
mod probes;
mod providers;
mod running_threads;
mod runs;
mod runtime;
mod session;
mod slot;
mod tower;
mod verify;

use std::sync::Arc;

use bytes::Bytes;

pub use alone::ModelAlone;
pub use error::{ClipError, is_of_memory};
pub use inspect::{Inspection, TowerInspection, inspect};
pub use picture_pool::{PictureLimits, PicturePool, PreparedPicture, Preprocessed};
pub use providers::Active;
pub use runs::Runs;
pub use verify::{Case, Verification, verify};

use crate::config::{ClipSettings, Provider};
use crate::domain::{Embedding, Fingerprint, Logits, ModelId};
use crate::picture::{Pixels, Preprocess};
use crate::telemetry::Pulse;
use load::{ImageSide, TextSide};
use open::Model;
use slot::Slot;
use tower::ImageTower;

/// Longer texts are tokenized off the async threads.
const SHORT_TEXT_BYTES: usize = 2048;

/// One loaded model. Shared by reference. Dropping it joins its threads, which takes up to one run, and at most
/// [`crate::shutdown::TOWERS_CLOSE_MAX`] per tower.
pub struct Clip {
    model: Arc<Model>,
    /// Of both towers' threads, and of their opening.
    pulses: Vec<Pulse>,
    /// Perhaps in common with models that differ only in how much of a vector is kept.
    image: Arc<Slot<ImageSide>>,
    text: Arc<Slot<TextSide>>,
}

impl Clip {
    pub fn id(&self) -> &ModelId {
        &self.model.id
    }

    /// Length of each vector.
    pub fn dimension(&self) -> usize {
        self.model.dimension().unwrap_or_default()
    }

    /// What turns similarities into probabilities, where the model's files have it.
    pub fn logits(&self) -> Option<Logits> {
        self.model.logits()
    }

    /// What makes the model's vectors comparable. The first call digests all files: off the async threads, unless the model was
    /// opened by [`Clip::load`].
    pub fn fingerprint(&self) -> Result<&Fingerprint, ClipError> {
        self.model.fingerprint()
    }

    /// The layout of the model's directory, for example `Immich`.
    pub fn layout(&self) -> &'static str {
        self.model.opener.files.layout
    }

    /// What runs the graphs: precision, execution providers, devices. Towers that are not open yet will run on the CPU.
    pub fn runs(&self) -> Runs {
        let cpu = || Active { providers: vec![Provider::Cpu], ..Active::default() };
        Runs {
            precision: self.model.opener.settings().precision,
            image: self.image.opened().map_or_else(cpu, |side| side.active.clone()),
            text: self.text.opened().map_or_else(cpu, |side| side.active.clone()),
        }
    }

    /// False once a thread of a tower has panicked. From then on, embedding fails with
    /// [`ClipReason::Stopped`](crate::domain::ClipReason::Stopped).
    pub fn is_alive(&self) -> bool {
        self.image.opened().is_none_or(|side| side.engine.is_alive())
            && self.text.opened().is_none_or(|side| side.engine.is_alive())
    }

    /// Why a tower cannot be opened, or why no session of it works any more, once reopening has failed for
    /// `clip.recovery_max_ms`. Until a session
    /// works again, embedding fails with [`ClipReason::SessionFailed`](crate::domain::ClipReason::SessionFailed).
    pub fn given_up(&self) -> Option<String> {
        let image = || self.image.opened()?.engine.given_up();
        let text = || self.text.opened()?.engine.given_up();
        self.image.given_up().or_else(|| self.text.given_up()).or_else(image).or_else(text)
    }

    /// Heartbeats of the towers' threads.
    pub fn pulses(&self) -> impl Iterator<Item = &Pulse> {
        self.pulses.iter()
    }

    /// How pictures become input of the image tower.
    pub fn preprocess(&self) -> &Preprocess {
        &self.model.preprocess
    }

    /// The unit vector of a preprocessed picture. Joins the next batch.
    pub async fn embed_pixels(&self, pixels: Pixels) -> Result<Embedding, ClipError> {
        // Checked here, so that a wrong picture never fails a batch.
        ImageTower::check(self.model.opener.image_size, &pixels)?;
        self.model.cut(self.image.get().await?.engine.embed(pixels).await?)
    }

    /// The unit vector of a picture's file, decoded and preprocessed by `pool`.
    pub async fn embed_image(&self, file: Bytes, pool: &PicturePool) -> Result<Embedding, ClipError> {
        let preprocess = self.model.preprocess.clone();
        let made = pool.preprocess(file, move |_| vec![preprocess]).await?;
        let pixels = made.picture.and_then(|picture| picture.pixels.into_iter().next());
        self.embed_pixels(pixels.ok_or_else(ClipError::stopped)?).await
    }

    /// The unit vector of a text, cut at the model's context length like in OpenCLIP. Joins the next batch.
    pub async fn embed_text(&self, text: &str) -> Result<Embedding, ClipError> {
        let TextSide { engine, tokenizer, .. } = self.text.get().await?;
        let tokens = if text.len() <= SHORT_TEXT_BYTES {
            tokenizer.encode(text)
        } else {
            let (tokenizer, text) = (tokenizer.clone(), text.to_owned());
            let encoding = tokio::task::spawn_blocking(move || tokenizer.encode(&text));
            encoding.await.map_err(|_| ClipError::stopped())?
        };
        self.model.cut(engine.embed(tokens).await?)
    }
}

/// Finds and loads ONNX Runtime, as the first model would. Returns the library's path. Blocks.
///
/// # Errors
/// No library is found, or the configured one cannot be used.
pub fn load_runtime(settings: &ClipSettings) -> Result<String, ClipError> {
    Ok(runtime::runtime(settings.onnxruntime.as_deref())?.path.display().to_string())
}

#[cfg(test)]
mod tests;
