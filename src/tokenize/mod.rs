//! Text to token ids, in the way of the model that reads them. Nothing here runs a model.
//!
//! Each way to tokenize is a folder and a variant of [`Tokenizer`]. Both begin with the same cleaning (`clean`).

mod clean;
mod error;
#[cfg(any(feature = "fuzzing", test))]
pub mod fuzzing;
mod hugging_face;
pub mod open_clip;
mod outline;
mod settings;

use std::path::Path;

pub use error::TokenizerError;
use hugging_face::HuggingFace;
pub(crate) use hugging_face::is_guarded;
use open_clip::OpenClip;
use outline::Outline;
pub use settings::{HuggingFaceSettings, TokenizerSettings};

use crate::domain::registry::TokenizerKind;

/// What is beside a `tokenizer.json` and names its special tokens.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// The tokenizer of one model. Shared freely between threads.
pub enum Tokenizer {
    /// OpenCLIP's cleaning and byte-pair encoding.
    OpenClip(Box<OpenClip>),
    /// OpenCLIP's cleaning, and what the file itself describes.
    HuggingFace(Box<HuggingFace>),
}

impl Tokenizer {
    /// From a `tokenizer.json`, and the `tokenizer_config.json` beside it if there is one; `context_length` is the text tower's (77
    /// for CLIP), special tokens included.
    ///
    /// # Errors
    ///
    /// A file cannot be read, is not a tokenizer, or not what `settings` say.
    pub fn from_file(
        path: impl AsRef<Path>,
        settings: &TokenizerSettings,
        context_length: usize,
    ) -> Result<Self, TokenizerError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|error| {
            TokenizerError::new(format!("{error}, expected the model's tokenizer.json"))
                .hint("copy it into the model directory")
                .about(path.display())
        })?;
        let config = path.with_file_name(TOKENIZER_CONFIG);
        let config = match std::fs::read(&config) {
            Ok(config) => Some(config),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(TokenizerError::new(error.to_string()).about(config.display())),
        };
        Self::from_bytes(&bytes, config.as_deref(), settings, context_length)
            .map_err(|error| error.about(path.display()))
    }

    /// From the content of a `tokenizer.json` and of a `tokenizer_config.json`.
    ///
    /// # Errors
    ///
    /// As [`Self::from_file`], without the file's name.
    pub fn from_bytes(
        bytes: &[u8],
        config: Option<&[u8]>,
        settings: &TokenizerSettings,
        context_length: usize,
    ) -> Result<Self, TokenizerError> {
        let outline = Outline::of(bytes)?;
        let default = HuggingFaceSettings::default();
        let settings = match settings {
            TokenizerSettings::HuggingFace(settings) => settings,
            TokenizerSettings::OfFile if outline.is_clips() => {
                return Self::clip(bytes, context_length);
            }
            TokenizerSettings::OfFile => &default,
        };
        let tokenizer = HuggingFace::new(bytes, &outline, config, settings, context_length)?;
        Ok(Self::HuggingFace(Box::new(tokenizer)))
    }

    /// CLIP's own vocabulary, for models that come without one.
    ///
    /// # Errors
    ///
    /// `context_length` has no room for start and end.
    pub fn of_clip(context_length: usize) -> Result<Self, TokenizerError> {
        Self::clip(open_clip::VOCABULARY, context_length)
    }

    fn clip(bytes: &[u8], context_length: usize) -> Result<Self, TokenizerError> {
        Ok(Self::OpenClip(Box::new(OpenClip::from_bytes(bytes, context_length)?)))
    }

    /// Whether it is CLIP's own.
    pub fn is_clips(&self) -> bool {
        matches!(self, Self::OpenClip(_))
    }

    /// Most ids that [`Self::encode`] returns.
    pub fn context_length(&self) -> usize {
        match self {
            Self::OpenClip(tokenizer) => tokenizer.context_length(),
            Self::HuggingFace(tokenizer) => tokenizer.context_length(),
        }
    }

    /// One more than the largest id that [`Self::encode`] returns: the rows that a text tower's token embedding needs.
    pub fn vocabulary_size(&self) -> usize {
        match self {
            Self::OpenClip(tokenizer) => tokenizer.vocabulary_size(),
            Self::HuggingFace(tokenizer) => tokenizer.vocabulary_size(),
        }
    }

    /// The id that fills a row behind its text: the one that the tokenizer's files name, or that of a token with a usual name.
    pub fn padding_id(&self) -> Option<i64> {
        match self {
            Self::OpenClip(_) => None,
            Self::HuggingFace(tokenizer) => tokenizer.padding_id(),
        }
    }

    /// Whether the files name the padding.
    pub fn names_padding(&self) -> bool {
        match self {
            Self::OpenClip(_) => false,
            Self::HuggingFace(tokenizer) => tokenizer.names_padding(),
        }
    }

    /// Whether each text has an attention mask: 1 for its tokens, 0 for the padding behind them. Transformers' files may say that
    /// theirs have none (`model_input_names`).
    pub fn has_mask(&self) -> bool {
        match self {
            Self::OpenClip(_) => true,
            Self::HuggingFace(tokenizer) => tokenizer.has_mask(),
        }
    }

    /// The algorithm of the vocabulary, as OpenCLIP's models differ in it.
    pub fn kind(&self) -> TokenizerKind {
        match self {
            Self::OpenClip(_) => TokenizerKind::ClipBpe,
            Self::HuggingFace(tokenizer) => tokenizer.kind(),
        }
    }

    /// Ids of `text`, at most [`Self::context_length`] of them. Never padded: that is up to the tower. None at all where the file's
    /// own steps fail on the text; a tower refuses that.
    pub fn encode(&self, text: &str) -> Vec<i64> {
        match self {
            Self::OpenClip(tokenizer) => tokenizer.encode(text),
            Self::HuggingFace(tokenizer) => tokenizer.encode(text),
        }
    }
}
