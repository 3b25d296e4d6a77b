//! Stage 4: one unit vector per model and modality, where the point does not have it already. A picture is decoded once
//! for all models.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use crate::budget::Budget;
use crate::clip::{Clip, ClipError};
use crate::domain::{Failure, MediaRecord, Modality, Recorded, Stage, UnchangedBy, Vectors};
use crate::media::Media;
use crate::picture::{Pixels, Preprocess, decode_picture, picture_bytes};
use crate::telemetry::Pulse;

/// Decodes and preprocesses on threads of its own. They are few and live long: buffers of megabytes are then reused, where
/// a pool of many short-lived threads has the kernel clear new pages for every picture.
pub struct Embed {
    threads: ThreadPool,
    /// By thread.
    pulses: Arc<[Pulse]>,
    limits: Limits,
    /// What all pictures that are being decoded may take together. Each reserves its own part before anything of it is
    /// allocated, in the order in which they come: large ones wait for one another, and nobody overtakes them for ever.
    budget: Budget,
}

/// Bounds on decoding.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Pictures at once.
    pub threads: usize,
    /// Of one picture.
    pub pixels_max: u64,
    /// Of all of them together, decoded and preprocessed.
    pub decode_bytes_max: u64,
}

/// A model, and the content that its collection has the asset's vectors of already.
#[derive(Clone)]
pub struct Target {
    clip: Arc<Clip>,
    media: Option<MediaRecord>,
    text_sha256: Option<String>,
}

impl Target {
    /// Of an empty record everything is embedded.
    pub fn new(clip: Arc<Clip>, known: &Recorded) -> Self {
        Self { clip, media: known.media.clone(), text_sha256: known.text_sha256.clone() }
    }
}

/// A request's picture.
#[derive(Debug)]
pub enum Picture {
    Fetched(Media),
    /// Not fetched: it is the one that all targets have, of this record.
    Unchanged {
        record: MediaRecord,
        by: UnchangedBy,
    },
}

/// What the towers gave for one request, in the order of its targets, and what was seen on the way.
#[derive(Clone, Debug)]
pub struct Embedded {
    pub targets: Vec<Given>,
    pub media: Option<MediaRecord>,
    pub text_sha256: Option<String>,
    /// What told of a kept picture.
    image_by: UnchangedBy,
}

/// The vectors that a point gets, and those that it has already and keeps.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub vectors: Vectors,
    pub kept: Vec<Modality>,
}

impl Embedded {
    /// How many targets keep a vector, by what told that it need not be made again.
    pub fn kept(&self) -> [(UnchangedBy, usize); 2] {
        let kept = |modality| self.targets.iter().filter(|given| given.kept.contains(&modality)).count();
        [(self.image_by, kept(Modality::Image)), (UnchangedBy::Text, kept(Modality::Text))]
    }
}

impl Embed {
    /// # Errors
    /// When the threads cannot be started.
    pub fn new(limits: Limits) -> Result<Self, ThreadPoolBuildError> {
        let count = limits.threads.max(1);
        let threads = ThreadPoolBuilder::new().num_threads(count).thread_name(|n| format!("preprocess-{n}"));
        let pulses = (0..count).map(|n| Pulse::new(format!("the decoder of pictures {n}"))).collect();
        Ok(Self { threads: threads.build()?, pulses, limits, budget: Budget::new(limits.decode_bytes_max) })
    }

    /// What pictures that are being decoded have reserved.
    pub fn bytes_held(&self) -> u64 {
        self.budget.bytes_held()
    }

    /// The signs of life of the threads.
    pub fn pulses(&self) -> &[Pulse] {
        &self.pulses
    }

    pub async fn embed(
        &self,
        targets: &[Target],
        picture: Option<&Picture>,
        text: Option<&str>,
    ) -> Result<Embedded, Failure> {
        let (media, image_by, pixels) = match picture {
            Some(Picture::Fetched(media)) => {
                let (record, pixels) = self.preprocess(targets, media).await?;
                (Some(record), UnchangedBy::Content, pixels)
            }
            Some(Picture::Unchanged { record, by }) => (Some(record.clone()), *by, no_pixels(targets)),
            None => (None, UnchangedBy::Content, no_pixels(targets)),
        };
        let text_sha256 = text.map(|t| hex(&Sha256::digest(t.as_bytes())));
        let has_image = media.is_some();
        let given = targets.iter().zip(pixels).map(async |(target, pixels)| {
            let mut kept = Vec::new();
            if has_image && pixels.is_none() {
                kept.push(Modality::Image);
            }
            let text_is_known = text_sha256.is_some() && target.text_sha256 == text_sha256;
            if text_is_known {
                kept.push(Modality::Text);
            }
            let image = async {
                match pixels {
                    Some(pixels) => target.clip.embed_pixels(pixels).await.map(Some),
                    None => Ok(None),
                }
            };
            let text = async {
                match text.filter(|_| !text_is_known) {
                    Some(text) => target.clip.embed_text(text).await.map(Some),
                    None => Ok(None),
                }
            };
            let (image, text) = tokio::try_join!(image, text)?;
            Ok::<_, ClipError>(Given { vectors: Vectors { image, text }, kept })
        });
        let targets = futures::future::try_join_all(given).await.map_err(|e| failure(&e))?;
        Ok(Embedded { targets, media, text_sha256, image_by })
    }

    /// Decodes once and preprocesses for every target that does not have the picture's vector already.
    async fn preprocess(
        &self,
        targets: &[Target],
        media: &Media,
    ) -> Result<(MediaRecord, Vec<Option<Pixels>>), Failure> {
        let Limits { pixels_max, decode_bytes_max, .. } = self.limits;
        let (bytes, owned) = (media.bytes.clone(), targets.to_vec());
        let (sha256, wanted, taken) = self
            .on_threads(move || {
                let sha256 = hex(&Sha256::digest(&bytes));
                let known = |target: &Target| target.media.as_ref().is_some_and(|media| media.sha256 == sha256);
                let wanted: Vec<bool> = owned.iter().map(|target| !known(target)).collect();
                let taken = match wanted.contains(&true) {
                    true => picture_bytes(&bytes, pixels_max, decode_bytes_max, &preprocesses(&owned, &wanted)),
                    false => Ok(0),
                };
                let taken = taken.map_err(|e| Failure::permanent(Stage::Embed, e.reason, e.message))?;
                Ok((sha256, wanted, taken))
            })
            .await?;
        let (url, validators) = (media.url.clone(), media.validators.clone());
        let record = |width, height, mime| MediaRecord {
            url,
            etag: validators.etag,
            last_modified: validators.last_modified,
            version_id: validators.version_id,
            sha256,
            width,
            height,
            mime,
        };
        if let Some(MediaRecord { width, height, mime, .. }) = targets.first().and_then(|t| t.media.clone())
            && !wanted.contains(&true)
        {
            return Ok((record(width, height, mime), no_pixels(targets)));
        }
        let reserved = self.budget.reserve(taken).await;
        let (bytes, owned) = (media.bytes.clone(), targets.to_vec());
        let (width, height, mime, pixels) = self
            .on_threads(move || {
                // Held until all of it is done, even if nobody waits for it any more.
                let _reserved = reserved;
                let models = preprocesses(&owned, &wanted);
                let picture = decode_picture(&bytes, pixels_max, &models)
                    .map_err(|e| Failure::permanent(Stage::Embed, e.reason, e.message))?;
                let mut pixels = models.iter().map(|model| model.apply(&picture));
                let pixels: Vec<_> = wanted.iter().map(|wanted| if *wanted { pixels.next() } else { None }).collect();
                Ok((picture.width, picture.height, picture.mime, pixels))
            })
            .await?;
        Ok((record(width, height, mime.into()), pixels))
    }

    async fn on_threads<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, done) = oneshot::channel();
        let pulses = self.pulses.clone();
        self.threads.spawn(move || {
            let pulse = rayon::current_thread_index().and_then(|thread| pulses.get(thread));
            let _working = pulse.map(Pulse::work);
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

/// Of the targets that want the picture's vector.
fn preprocesses<'a>(targets: &'a [Target], wanted: &[bool]) -> Vec<&'a Preprocess> {
    targets.iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(target, _)| target.clip.preprocess()).collect()
}

fn no_pixels(targets: &[Target]) -> Vec<Option<Pixels>> {
    vec![const { None }; targets.len()]
}

fn failure(error: &ClipError) -> Failure {
    // A tower that is gone is an outage for the item; the dispatcher notices and stops the worker.
    let message = error.to_string();
    Failure { stage: Stage::Embed, class: error.class(), reason: error.reason(), message, retry_after: None }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
