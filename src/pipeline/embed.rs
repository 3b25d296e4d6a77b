//! Stage 3: one unit vector per model and modality. A picture is decoded once for all models.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::clip::{Clip, ClipError, Pixels, decode_picture};
use crate::domain::{Failure, MediaRecord, Stage, Vectors};
use crate::media::Media;

/// Bounds how many pictures are decoded and preprocessed at once; that work runs on blocking threads.
pub struct Embed {
    permits: Arc<Semaphore>,
    pixels_max: u64,
}

/// What the towers gave for one request: the vectors in the order of its models, and what was seen on the way.
#[derive(Clone, Default)]
pub struct Embedded {
    pub vectors: Vec<Vectors>,
    pub media: Option<MediaRecord>,
    pub text_sha256: Option<String>,
}

impl Embed {
    pub fn new(threads: usize, pixels_max: u64) -> Self {
        Self { permits: Arc::new(Semaphore::new(threads.max(1))), pixels_max }
    }

    pub async fn embed(
        &self,
        clips: &[Arc<Clip>],
        media: Option<&Media>,
        text: Option<&str>,
    ) -> Result<Embedded, Failure> {
        let (record, pixels) = match media {
            Some(media) => {
                let (record, pixels) = self.preprocess(clips, media).await?;
                (Some(record), pixels.into_iter().map(Some).collect())
            }
            None => (None, vec![const { None }; clips.len()]),
        };
        let vectors = clips.iter().zip(pixels).map(async |(clip, pixels)| {
            let image = async {
                match pixels {
                    Some(pixels) => clip.embed_pixels(pixels).await.map(Some),
                    None => Ok(None),
                }
            };
            let text = async {
                match text {
                    Some(text) => clip.embed_text(text).await.map(Some),
                    None => Ok(None),
                }
            };
            let (image, text) = tokio::try_join!(image, text)?;
            Ok::<_, ClipError>(Vectors { image, text })
        });
        Ok(Embedded {
            vectors: futures::future::try_join_all(vectors).await.map_err(|e| failure(&e))?,
            media: record,
            text_sha256: text.map(|t| hex(&Sha256::digest(t.as_bytes()))),
        })
    }

    /// Decodes once and preprocesses for every model.
    async fn preprocess(&self, clips: &[Arc<Clip>], media: &Media) -> Result<(MediaRecord, Vec<Pixels>), Failure> {
        let permit = self.permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        let clips = clips.to_vec();
        let (bytes, pixels_max) = (media.bytes.clone(), self.pixels_max);
        let (url, etag) = (media.url.clone(), media.etag.clone());
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let picture = decode_picture(&bytes, pixels_max)
                .map_err(|e| Failure::permanent(Stage::Embed, e.reason, e.message))?;
            let sha256 = hex(&Sha256::digest(&bytes));
            let record =
                MediaRecord { url, etag, sha256, width: picture.width, height: picture.height, mime: picture.mime };
            Ok((record, clips.iter().map(|clip| clip.preprocess(&picture)).collect()))
        });
        // A decoder that panics on hostile bytes has lost this picture, not the worker.
        work.await.unwrap_or_else(|e| {
            let message = format!("the picture broke its decoder ({e}); please report the file");
            Err(Failure::permanent(Stage::Embed, "image_undecodable", message))
        })
    }
}

fn failure(error: &ClipError) -> Failure {
    // A tower that is gone is an outage for the item; the dispatcher notices and stops the worker.
    let message = error.to_string();
    Failure { stage: Stage::Embed, class: error.class(), reason: error.reason(), message, retry_after: None }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
