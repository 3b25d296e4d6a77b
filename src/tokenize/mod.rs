//! Text to token ids, in the way of the model that reads them. Nothing here runs a model.
//!
//! Each way to tokenize is a folder and a variant of [`Tokenizer`].

mod clean;
mod error;
pub mod open_clip;

use std::path::Path;

pub use error::TokenizerError;
use open_clip::OpenClip;

/// The tokenizer of one model. Shared freely between threads.
pub enum Tokenizer {
    /// OpenCLIP's cleaning and byte-pair encoding.
    OpenClip(OpenClip),
}

impl Tokenizer {
    /// From a `tokenizer.json`; `context_length` is the text tower's (77 for CLIP), special tokens included.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is not a tokenizer, or not one of CLIP's.
    pub fn from_file(path: impl AsRef<Path>, context_length: usize) -> Result<Self, TokenizerError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|error| {
            TokenizerError::new(format!("{error}, expected the model's tokenizer.json"))
                .hint("copy it into the model directory")
                .about(path.display())
        })?;
        Self::from_bytes(&bytes, context_length).map_err(|error| error.about(path.display()))
    }

    /// From the content of a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// As [`Self::from_file`], without the file's name.
    pub fn from_bytes(bytes: &[u8], context_length: usize) -> Result<Self, TokenizerError> {
        OpenClip::from_bytes(bytes, context_length).map(Self::OpenClip)
    }

    /// Most ids that [`Self::encode`] returns.
    pub fn context_length(&self) -> usize {
        match self {
            Self::OpenClip(tokenizer) => tokenizer.context_length(),
        }
    }

    /// One more than the largest id that [`Self::encode`] returns: the rows that a text tower's token embedding needs.
    pub fn vocabulary_size(&self) -> usize {
        match self {
            Self::OpenClip(tokenizer) => tokenizer.vocabulary_size(),
        }
    }

    /// Ids of `text`, at most [`Self::context_length`] of them. Never padded: that is up to the tower.
    pub fn encode(&self, text: &str) -> Vec<i64> {
        match self {
            Self::OpenClip(tokenizer) => tokenizer.encode(text),
        }
    }
}
