//! The tokenizer of a pretrained model, as the registry describes it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::TextCleaning;

/// How a checkpoint's texts become token ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerFacts {
    pub kind: TokenizerKind,
    /// The repository of its vocabulary; `None`: part of OpenCLIP.
    #[serde(borrow)]
    pub repository: Option<&'static str>,
    /// What is done to a text first, after mojibake is repaired and HTML entities are resolved.
    pub clean: TextCleaning,
    /// Whether the separator behind a text is replaced by id 0.
    pub strip_separator: bool,
    /// Rows of the token embedding, if OpenCLIP's configuration names them.
    pub vocabulary_size: Option<u32>,
    /// What fills a row of ids behind its text.
    pub padding_id: u32,
}

/// The algorithm of a vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerKind {
    /// OpenAI's byte-pair encoding, of OpenCLIP's `SimpleTokenizer`.
    ClipBpe,
    /// BERT's.
    Wordpiece,
    /// RoBERTa's.
    ByteLevelBpe,
    /// SentencePiece's, of T5, mT5, XLM-R and XLM-V.
    Unigram,
    /// Gemma's byte-pair encoding, with single bytes for characters outside of its vocabulary.
    GemmaBpe,
    /// SentencePiece's with a language's code before each text.
    Nllb,
}

impl TokenizerKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClipBpe => "clip_bpe",
            Self::Wordpiece => "wordpiece",
            Self::ByteLevelBpe => "byte_level_bpe",
            Self::Unigram => "unigram",
            Self::GemmaBpe => "gemma_bpe",
            Self::Nllb => "nllb",
        }
    }
}

impl fmt::Display for TokenizerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
