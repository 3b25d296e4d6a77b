//! Embeds pictures and texts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::budget::Budget;
use crate::clip::{Clip, ClipError, PictureLimits, PicturePool};
use crate::config::Settings;
use crate::domain::{Embedding, Explain, Finding, Fingerprint, Logits, MediaUrl, ModelId};
use crate::media::{MediaClient, MediaError};
use crate::redact;
use crate::telemetry::Metrics;

/// Embeds pictures and texts into one model's shared space, with the method names of LangChain's OpenCLIP embeddings.
///
/// All vectors have unit length and [`Embedder::dimension`] values, so cosine similarity is their dot product.
/// Calls may run concurrently: concurrent inputs share batches.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use clipstream::api::Embedder;
/// use clipstream::config::Settings;
///
/// let embedder = Embedder::open(&Settings::default(), None).await?;
/// let query = embedder.embed_query("a red heart").await?;
/// let picture = embedder.embed_image("demo/catalog/images/2764.webp".into()).await?;
/// println!("{:.3}", query.cosine(&picture));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Embedder {
    clip: Arc<Clip>,
    media: MediaClient,
    pictures: Arc<PicturePool>,
    media_bytes_max: u64,
}

/// The source of a picture. A string is a URL if it has a scheme, otherwise a path.
#[derive(Clone, Debug)]
pub enum ImageInput {
    Path(PathBuf),
    Url(MediaUrl),
    /// An encoded picture (JPEG, PNG, WebP, GIF, BMP, TIFF).
    Bytes(Bytes),
}

impl From<&str> for ImageInput {
    fn from(text: &str) -> Self {
        // White space from copying a URL is removed; a path may begin with white space.
        let url = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{FEFF}');
        let scheme = url.split_once(':').map(|(scheme, _)| scheme);
        // A single letter is a Windows drive.
        match scheme {
            Some(s) if s.len() > 1 && s.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) => {
                Self::Url(MediaUrl::new(url))
            }
            _ => Self::Path(PathBuf::from(text)),
        }
    }
}

impl From<&Path> for ImageInput {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<Vec<u8>> for ImageInput {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Bytes::from(bytes))
    }
}

/// Why an input has no vector, or why the model could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum EmbedError {
    #[error(transparent)]
    Model(#[from] ClipError),
    #[error(transparent)]
    Media(#[from] MediaError),
    #[error("{0}")]
    Input(String),
    /// The requested model is not in clip.models, or clip.models is empty.
    #[error("{0}")]
    NotConfigured(Finding),
    /// Labels, templates or the model are not fit for labels.
    #[error("{0}")]
    Labels(Finding),
}

impl Explain for EmbedError {
    fn explain(&self) -> Finding {
        match self {
            Self::Model(error) => error.explain(),
            Self::Media(error) => error.explain(),
            Self::Input(why) => Finding::new(why),
            Self::NotConfigured(finding) | Self::Labels(finding) => finding.clone(),
        }
    }
}

impl Embedder {
    /// Reads and checks one of the configured models (`None`: the first). Each of its towers is opened when it is first needed.
    pub async fn open(settings: &Settings, model: Option<&ModelId>) -> Result<Self, EmbedError> {
        let Some(entry) = settings.clip.entry(model).cloned() else {
            let known: Vec<String> = settings.clip.models.iter().map(|e| e.id.to_string()).collect();
            return Err(EmbedError::NotConfigured(match model {
                Some(id) => Finding::new(format!("model {id} is not configured; clip.models has {}", known.join(", "))),
                None => Finding::new("no model is configured").hint("set clip.models, for example \"ViT-B-32/openai\""),
            }));
        };
        let (clip_settings, metrics) = (settings.clip.clone(), Arc::new(Metrics::default()));
        let media = MediaClient::new(
            &settings.media,
            Budget::new(settings.pipeline.media_in_flight_bytes_max),
            metrics.clone(),
        )
        .await?;
        let clip = tokio::task::spawn_blocking(move || Clip::prepare(&entry, &clip_settings, metrics))
            .await
            .map_err(|e| EmbedError::Input(format!("loading the model failed: {e}")))??;
        Self::new(Arc::new(clip), media, settings)
    }

    /// Creates an embedder from existing parts.
    ///
    /// # Errors
    /// If the preprocessing threads cannot be started.
    pub fn new(clip: Arc<Clip>, media: MediaClient, settings: &Settings) -> Result<Self, EmbedError> {
        let pictures = PicturePool::new(PictureLimits::of(settings))
            .map_err(|e| EmbedError::Input(format!("cannot start threads for preprocessing: {e}")))?;
        Ok(Self { clip, media, pictures: Arc::new(pictures), media_bytes_max: settings.media.media_bytes_max })
    }

    pub(super) fn clip(&self) -> &Arc<Clip> {
        &self.clip
    }

    pub fn model(&self) -> &ModelId {
        self.clip.id()
    }

    pub fn dimension(&self) -> usize {
        self.clip.dimension()
    }

    /// What turns similarities into probabilities, where the model's files have it.
    pub fn logits(&self) -> Option<Logits> {
        self.clip.logits()
    }

    /// What makes the model's vectors comparable. The first call digests the model's files, which takes seconds for a large one.
    pub async fn fingerprint(&self) -> Result<Fingerprint, EmbedError> {
        let clip = self.clip.clone();
        let digested = tokio::task::spawn_blocking(move || clip.fingerprint().cloned()).await;
        Ok(digested.map_err(|_| ClipError::stopped())??)
    }

    /// One text, cut at the model's context length as OpenCLIP does.
    pub async fn embed_query(&self, text: &str) -> Result<Embedding, EmbedError> {
        Ok(self.clip.embed_text(text).await?)
    }

    /// Many texts, in order; stops at the first error.
    pub async fn embed_documents<T: AsRef<str>>(&self, texts: &[T]) -> Result<Vec<Embedding>, EmbedError> {
        futures::future::try_join_all(texts.iter().map(|text| self.embed_query(text.as_ref()))).await
    }

    pub async fn embed_image(&self, image: ImageInput) -> Result<Embedding, EmbedError> {
        match image {
            ImageInput::Url(url) => {
                // Held as long as its bytes, which count against the media budget.
                let media = self.media.fetch(&url).await?;
                Ok(self.clip.embed_image(media.bytes.clone(), &self.pictures).await?)
            }
            ImageInput::Bytes(bytes) => Ok(self.clip.embed_image(bytes, &self.pictures).await?),
            ImageInput::Path(path) => Ok(self.clip.embed_image(self.read(&path).await?, &self.pictures).await?),
        }
    }

    /// Many pictures, in order, each with its own result: one bad picture fails alone.
    pub async fn embed_images(&self, images: Vec<ImageInput>) -> Vec<Result<Embedding, EmbedError>> {
        futures::future::join_all(images.into_iter().map(|image| self.embed_image(image))).await
    }

    async fn read(&self, path: &Path) -> Result<Bytes, EmbedError> {
        let shown = redact::cut(&path.display().to_string(), 200);
        let unreadable = |e: std::io::Error| EmbedError::Input(format!("cannot read {shown}: {e}"));
        let bytes_found = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
        if bytes_found > self.media_bytes_max {
            return Err(EmbedError::Input(format!(
                "{shown} has {bytes_found} bytes; expected at most {} (media.media_bytes_max)",
                self.media_bytes_max
            )));
        }
        Ok(tokio::fs::read(path).await.map_err(unreadable)?.into())
    }
}
