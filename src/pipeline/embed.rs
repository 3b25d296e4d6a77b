//! Stage 3: one unit vector per model and modality. A picture is decoded once for all models.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use crate::clip::{Clip, ClipError, Pixels, decode_picture};
use crate::domain::{Failure, MediaRecord, Stage, Vectors};
use crate::media::Media;

/// Decodes and preprocesses on threads of its own. They are few and live long: buffers of megabytes are then reused, where
/// a pool of many short-lived threads has the kernel clear new pages for every picture.
pub struct Embed {
    threads: ThreadPool,
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
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(threads: usize, pixels_max: u64) -> Result<Self, ThreadPoolBuildError> {
        let threads = ThreadPoolBuilder::new().num_threads(threads.max(1)).thread_name(|n| format!("preprocess-{n}"));
        Ok(Self { threads: threads.build()?, pixels_max })
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
        let (bytes, pixels_max, clips) = (media.bytes.clone(), self.pixels_max, clips.to_vec());
        let (url, etag) = (media.url.clone(), media.etag.clone());
        let work = move || {
            let models: Vec<_> = clips.iter().map(|clip| clip.preprocess()).collect();
            let picture = decode_picture(&bytes, pixels_max, &models)
                .map_err(|e| Failure::permanent(Stage::Embed, e.reason, e.message))?;
            let sha256 = hex(&Sha256::digest(&bytes));
            let record = MediaRecord {
                url,
                etag,
                last_modified: None,
                version_id: None,
                sha256,
                width: picture.width,
                height: picture.height,
                mime: picture.mime.into(),
            };
            Ok((record, models.iter().map(|model| model.apply(&picture)).collect()))
        };
        let (reply, done) = oneshot::channel();
        self.threads.spawn(move || {
            // A panic drops `reply`, which tells the waiting message; nobody waits any more when it was fenced.
            if let Ok(result) = catch_unwind(AssertUnwindSafe(work)) {
                let _ = reply.send(result);
            }
        });
        // Whatever panics on hostile bytes has lost this picture, not the worker.
        done.await.unwrap_or_else(|_| {
            let message = "the picture broke its decoder; please report the file and the log line before this";
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
