//! Stage 4: one unit vector per model and modality, unless the point already has it. A picture is decoded once for all
//! models.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::clip::{Clip, ClipError, PicturePool, PreparedPicture};
use crate::domain::{Failure, LabelRecord, MediaRecord, Modality, Recorded, Stage, UnchangedBy, Vectors};
use crate::media::Media;
use crate::picture::{Pixels, Preprocess};

/// Turns a picture and a text into the vectors that the points lack.
pub struct Embed {
    pictures: Arc<PicturePool>,
}

/// A model, and the content whose vectors its collection already has.
#[derive(Clone)]
pub struct Target {
    clip: Arc<Clip>,
    media: Option<MediaRecord>,
    text_sha256: Option<String>,
}

impl Target {
    /// With an empty record, everything is embedded.
    pub fn new(clip: Arc<Clip>, known: &Recorded) -> Self {
        Self { clip, media: known.media.clone(), text_sha256: known.text_sha256.clone() }
    }
}

/// A request's picture.
#[derive(Debug)]
pub enum Picture {
    Fetched(Media),
    /// Not fetched: all targets already have the picture of this record.
    Unchanged {
        record: MediaRecord,
        by: UnchangedBy,
    },
}

/// The vectors of one request, in the order of its targets, and what was learned on the way.
#[derive(Clone, Debug)]
pub struct Embedded {
    pub targets: Vec<TargetVectors>,
    pub media: Option<MediaRecord>,
    pub text_sha256: Option<String>,
    /// How it was found that a kept picture is unchanged.
    image_by: UnchangedBy,
}

/// The vectors that a point gets, and those that it keeps.
#[derive(Clone, Debug, Default)]
pub struct TargetVectors {
    pub vectors: Vectors,
    pub kept: Vec<Modality>,
    /// Of its picture, if it is to have some.
    pub labels: Option<LabelRecord>,
}

impl Embedded {
    /// How many targets keep a vector, by how it was found to be unchanged.
    pub fn kept(&self) -> [(UnchangedBy, usize); 2] {
        let kept = |modality| self.targets.iter().filter(|target| target.kept.contains(&modality)).count();
        [(self.image_by, kept(Modality::Image)), (UnchangedBy::Text, kept(Modality::Text))]
    }
}

impl Embed {
    pub fn new(pictures: Arc<PicturePool>) -> Self {
        Self { pictures }
    }

    /// Bytes reserved by pictures that are being decoded.
    pub fn bytes_held(&self) -> u64 {
        self.pictures.bytes_held()
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
                (record, UnchangedBy::Content, pixels)
            }
            Some(Picture::Unchanged { record, by }) => (Some(record.clone()), *by, no_pixels(targets)),
            None => (None, UnchangedBy::Content, no_pixels(targets)),
        };
        let text_sha256 = text.map(|t| hex(&Sha256::digest(t.as_bytes())));
        let has_image = media.is_some();
        let vectors = targets.iter().zip(pixels).map(async |(target, pixels)| {
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
            Ok::<_, ClipError>(TargetVectors { vectors: Vectors { image, text }, kept, labels: None })
        });
        let targets = futures::future::try_join_all(vectors).await;
        // A dead tower is an outage for the item; the dispatcher notices it and stops the worker.
        let targets = targets.map_err(|error| error.into_fault().at(Stage::Embed))?;
        Ok(Embedded { targets, media, text_sha256, image_by })
    }

    /// Pixels for each target that lacks the picture's vector. The record is `None` without targets.
    async fn preprocess(
        &self,
        targets: &[Target],
        media: &Media,
    ) -> Result<(Option<MediaRecord>, Vec<Option<Pixels>>), Failure> {
        let known = |target: &Target| target.media.as_ref().map(|media| media.sha256.clone());
        let models: Vec<_> = targets.iter().map(|t| (known(t), t.clip.preprocess().clone())).collect();
        let wanted = move |sha256: &str| -> Vec<Preprocess> {
            let wanted = models.into_iter().filter(|(known, _)| known.as_deref() != Some(sha256));
            wanted.map(|(_, preprocess)| preprocess).collect()
        };
        let made = self.pictures.preprocess(media.bytes.clone(), wanted).await;
        let made = made.map_err(|error| error.at(Stage::Embed))?;
        let (width, height, mime, pixels) = match (made.picture, targets.first().and_then(|t| t.media.clone())) {
            (Some(PreparedPicture { width, height, mime, pixels }), _) => (width, height, mime.into(), pixels),
            // All targets have it.
            (None, Some(MediaRecord { width, height, mime, .. })) => (width, height, mime, Vec::new()),
            (None, None) => return Ok((None, no_pixels(targets))),
        };
        let mut pixels = pixels.into_iter();
        let is_known = |target: &Target| known(target).as_ref() == Some(&made.sha256);
        let pixels = targets.iter().map(|target| if is_known(target) { None } else { pixels.next() }).collect();
        let (url, validators) = (media.url.clone(), media.validators.clone());
        let record = MediaRecord {
            url,
            etag: validators.etag,
            last_modified: validators.last_modified,
            version_id: validators.version_id,
            sha256: made.sha256,
            width,
            height,
            mime,
        };
        Ok((Some(record), pixels))
    }
}

fn no_pixels(targets: &[Target]) -> Vec<Option<Pixels>> {
    vec![const { None }; targets.len()]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
