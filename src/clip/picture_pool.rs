//! Decodes and preprocesses pictures on its own threads. They are few and long-lived, so buffers of megabytes are
//! reused. Many short-lived threads would make the kernel clear new pages for every picture.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use crate::budget::Budget;
use crate::config::Settings;
use crate::domain::PictureReason;
use crate::picture::{PictureError, Pixels, Preprocess, decode_picture, picture_bytes};
use crate::telemetry::Pulse;

/// One pool for all models: a picture is decoded once for all of them.
pub struct PicturePool {
    threads: ThreadPool,
    /// By thread.
    pulses: Arc<[Pulse]>,
    limits: PictureLimits,
    /// Memory limit for all pictures being decoded. Each reserves its part before allocating, in order of arrival:
    /// large ones wait for one another, and later ones cannot overtake them for ever.
    budget: Budget,
}

/// Bounds on decoding.
#[derive(Clone, Copy, Debug)]
pub struct PictureLimits {
    /// Pictures decoded at once.
    pub threads: usize,
    /// Pixels of one picture.
    pub pixels_max: u64,
    /// Bytes of all pictures together, decoded and preprocessed.
    pub decode_bytes_max: u64,
}

impl PictureLimits {
    pub fn of(settings: &Settings) -> Self {
        Self {
            threads: settings.clip.preprocess_threads(),
            pixels_max: settings.media.pixels_max,
            decode_bytes_max: settings.clip.decode_bytes_max(),
        }
    }
}

/// The result for a picture's file.
#[derive(Clone, Debug)]
pub struct Preprocessed {
    /// Hash of the file, in hex.
    pub sha256: String,
    /// `None` if no model wanted it.
    pub picture: Option<PreparedPicture>,
}

#[derive(Clone, Debug)]
pub struct PreparedPicture {
    /// Size of the file's picture, in pixels.
    pub width: u32,
    pub height: u32,
    /// Detected from the content.
    pub mime: &'static str,
    /// For each model that wanted it, in order.
    pub pixels: Vec<Pixels>,
}

impl PicturePool {
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(limits: PictureLimits) -> Result<Self, ThreadPoolBuildError> {
        let count = limits.threads.max(1);
        let threads = ThreadPoolBuilder::new().num_threads(count).thread_name(|n| format!("preprocess-{n}"));
        let pulses = (0..count).map(|n| Pulse::new(format!("the decoder of pictures {n}"))).collect();
        Ok(Self { threads: threads.build()?, pulses, limits, budget: Budget::new(limits.decode_bytes_max) })
    }

    /// Bytes reserved by pictures being decoded.
    pub fn bytes_held(&self) -> u64 {
        self.budget.bytes_held()
    }

    /// Heartbeats of the threads.
    pub fn pulses(&self) -> &[Pulse] {
        &self.pulses
    }

    /// Decodes a picture's file once and preprocesses it for the models that `wanted` returns. `wanted` gets the file's
    /// SHA-256 (hex), so that a picture with known vectors is not decoded.
    ///
    /// # Errors
    /// The file is not a supported picture, or too large.
    pub async fn preprocess(
        &self,
        file: Bytes,
        wanted: impl FnOnce(&str) -> Vec<Preprocess> + Send + 'static,
    ) -> Result<Preprocessed, PictureError> {
        let PictureLimits { pixels_max, decode_bytes_max, .. } = self.limits;
        let bytes = file.clone();
        let (sha256, models, taken) = self
            .on_threads(move || {
                let sha256 = format!("{:x}", Sha256::digest(&bytes));
                let models = wanted(&sha256);
                let taken = match models.is_empty() {
                    true => 0,
                    false => picture_bytes(&bytes, pixels_max, decode_bytes_max, &models.iter().collect::<Vec<_>>())?,
                };
                Ok((sha256, models, taken))
            })
            .await?;
        if models.is_empty() {
            return Ok(Preprocessed { sha256, picture: None });
        }
        let reserved = self.budget.reserve(taken).await;
        let picture = self
            .on_threads(move || {
                // Held until the work is done, even if the caller has gone.
                let _reserved = reserved;
                let picture = decode_picture(&file, pixels_max, &models.iter().collect::<Vec<_>>())?;
                let pixels = models.iter().map(|model| model.apply(&picture)).collect();
                Ok(PreparedPicture { width: picture.width, height: picture.height, mime: picture.mime, pixels })
            })
            .await?;
        Ok(Preprocessed { sha256, picture: Some(picture) })
    }

    async fn on_threads<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PictureError> + Send + 'static,
    ) -> Result<T, PictureError> {
        let (reply, done) = oneshot::channel();
        let pulses = self.pulses.clone();
        self.threads.spawn(move || {
            let pulse = rayon::current_thread_index().and_then(|thread| pulses.get(thread));
            let _working = pulse.map(Pulse::work);
            // A panic drops `reply`, which tells the waiting caller. A closed reply channel means that the job was fenced.
            if let Ok(result) = catch_unwind(AssertUnwindSafe(work)) {
                let _ = reply.send(result);
            }
        });
        // A panic on hostile bytes costs only this picture, not the process.
        done.await.unwrap_or_else(|_| {
            Err(PictureError::new(PictureReason::Undecodable, "the picture broke its decoder")
                .hint("please report the file and the log line before this"))
        })
    }
}
