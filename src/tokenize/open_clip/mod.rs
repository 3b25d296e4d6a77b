//! Text to token ids, as OpenCLIP's `SimpleTokenizer` does it (`open_clip/tokenizer.py`, version 3.3.0).
//!
//! Only vocabulary and merges come from `tokenizer.json`. Cleaning, the split into pieces, the two special tokens and
//! truncation are OpenCLIP's: the normalizer, pre-tokenizer and post-processor of such files differ from it in details
//! that change ids.
//!
//! A text goes through `clean` (mojibake repaired, HTML entities resolved; words in lower case), `pieces` (words cut as OpenCLIP's
//! pattern cuts them) and `merges` (byte-pair encoding).

mod merges;
mod pieces;
mod vocabulary;

use merges::Merges;
use vocabulary::Vocabulary;

use super::TokenizerError;
use super::clean::{self, python};

/// CLIP's own vocabulary as a `tokenizer.json`, the same for all of OpenAI's and OpenCLIP's checkpoints: for models that come
/// without one.
pub const VOCABULARY: &[u8] = include_bytes!("tokenizer.json");

/// CLIP's byte-pair encoding of one model. Shared freely between threads.
pub struct OpenClip {
    merges: Merges,
    sot: i64,
    eot: i64,
    vocabulary_size: usize,
    context_length: usize,
}

impl OpenClip {
    /// From the content of a `tokenizer.json`; `context_length` is the text tower's (77 for CLIP), both special tokens
    /// included.
    ///
    /// # Errors
    ///
    /// It is not a tokenizer, or not one of CLIP's.
    pub fn from_bytes(bytes: &[u8], context_length: usize) -> Result<Self, TokenizerError> {
        if context_length < 2 {
            return Err(TokenizerError::new(format!("context length {context_length}, expected at least 2")));
        }
        let vocabulary = Vocabulary::from_json(bytes)?;
        Ok(Self {
            merges: Merges::new(&vocabulary)?,
            sot: i64::from(vocabulary.sot()?),
            eot: i64::from(vocabulary.eot()?),
            vocabulary_size: vocabulary.size(),
            context_length,
        })
    }

    /// Most ids that [`Self::encode`] returns.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// One more than the largest id that [`Self::encode`] returns: the rows that a text tower's token embedding needs.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary_size
    }

    /// Ids of `text`: start, at most `context_length - 2` tokens, end. Never padded (OpenCLIP pads with 0); an empty
    /// text gives start and end.
    pub fn encode(&self, text: &str) -> Vec<i64> {
        let mut ids = vec![self.sot];
        'text: for lines in clean::Lines::of(text) {
            for word in python::split(&lines) {
                let word = python::lower(word);
                for piece in pieces::of(&word) {
                    match piece {
                        pieces::SOT => ids.push(self.sot),
                        pieces::EOT => ids.push(self.eot),
                        piece => self.merges.encode(piece, &mut ids),
                    }
                    if ids.len() >= self.context_length {
                        break 'text;
                    }
                }
            }
        }
        ids.truncate(self.context_length - 1);
        ids.push(self.eot);
        ids
    }
}

#[cfg(test)]
mod tests;
