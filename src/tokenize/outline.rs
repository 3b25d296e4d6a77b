//! What a `tokenizer.json` is, read in one pass without keeping its vocabulary.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::TokenizerError;
use crate::domain::registry::TokenizerKind;

/// CLIP's names of the token that starts a text, and the end of its tokens that end a word.
const CLIP_STARTS: [&str; 2] = ["<start_of_text>", "<|startoftext|>"];
const CLIP_END_OF_WORD: &str = "</w>";

pub(super) const DOWNLOAD_AGAIN: &str = "download the model's tokenizer.json again";

#[derive(Deserialize)]
pub(super) struct Outline {
    pub(super) normalizer: Option<Part>,
    pub(super) pre_tokenizer: Option<Part>,
    pub(super) post_processor: Option<PostProcessor>,
    pub(super) padding: Option<Padding>,
    pub(super) truncation: Option<Truncation>,
    #[serde(default)]
    pub(super) added_tokens: Vec<Added>,
    pub(super) model: Model,
}

/// A normaliser or a pre-tokenizer, with those in it.
#[derive(Deserialize)]
pub(super) struct Part {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default, alias = "pretokenizers")]
    pub(super) normalizers: Vec<Part>,
}

#[derive(Deserialize)]
pub(super) struct PostProcessor {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) processors: Vec<PostProcessor>,
    /// Of a template: what stands around one text.
    #[serde(default)]
    pub(super) single: Vec<Piece>,
    /// Of BERT's and RoBERTa's: the separator's name and id.
    pub(super) sep: Option<(String, u32)>,
}

/// One place of a template: the text, or a special token.
#[derive(Deserialize)]
pub(super) struct Piece {
    #[serde(rename = "SpecialToken")]
    pub(super) token: Option<Named>,
}

#[derive(Deserialize)]
pub(super) struct Named {
    pub(super) id: String,
}

#[derive(Deserialize)]
pub(super) struct Padding {
    pub(super) direction: Option<String>,
    pub(super) pad_token: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Truncation {
    pub(super) direction: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Added {
    pub(super) content: String,
}

#[derive(Deserialize)]
pub(super) struct Model {
    /// Left out by the first versions of the format.
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) vocab: Vocab,
    pub(super) unk_token: Option<String>,
    pub(super) unk_id: Option<u64>,
    /// Whether parts that the vocabulary lacks are written as their bytes.
    byte_fallback: Option<bool>,
}

/// What is kept of a vocabulary.
#[derive(Default)]
pub(super) struct Vocab {
    /// One more than the largest id.
    pub(super) size: u64,
    ends_words: bool,
    starts_texts: bool,
}

impl Outline {
    pub(super) fn of(bytes: &[u8]) -> Result<Self, TokenizerError> {
        serde_json::from_slice(bytes).map_err(|error| not_a_tokenizer(&error))
    }

    /// Whether it has CLIP's own byte-pair encoding.
    pub(super) fn is_clips(&self) -> bool {
        let starts = || self.added_tokens.iter().any(|added| CLIP_STARTS.contains(&added.content.as_str()));
        let Model { kind, vocab, .. } = &self.model;
        matches!(kind.as_deref(), None | Some("BPE")) && vocab.ends_words && (vocab.starts_texts || starts())
    }

    /// The algorithm of its vocabulary. `has_language`: a language's code comes before each text, as in NLLB's.
    pub(super) fn kind(&self, has_language: bool) -> TokenizerKind {
        match self.model.kind.as_deref() {
            _ if has_language => TokenizerKind::Nllb,
            Some("WordPiece") => TokenizerKind::Wordpiece,
            Some("Unigram") => TokenizerKind::Unigram,
            _ if self.model.byte_fallback == Some(true) => TokenizerKind::GemmaBpe,
            _ if self.is_clips() => TokenizerKind::ClipBpe,
            _ => TokenizerKind::ByteLevelBpe,
        }
    }
}

pub(super) fn not_a_tokenizer(error: &dyn fmt::Display) -> TokenizerError {
    let error = crate::redact::cut(&error.to_string(), 200).to_string();
    TokenizerError::new(format!("not a tokenizer.json ({error})")).hint(DOWNLOAD_AGAIN)
}

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OfVocab)
    }
}

struct OfVocab;

impl<'de> Visitor<'de> for OfVocab {
    type Value = Vocab;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a vocabulary: tokens with their ids, or a list of tokens with their scores")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
        let mut vocab = Vocab::default();
        while let Some(Key { ends_word, starts_text }) = map.next_key()? {
            vocab.size = vocab.size.max(u64::from(map.next_value::<u32>()?) + 1);
            vocab.ends_words |= ends_word;
            vocab.starts_texts |= starts_text;
        }
        Ok(vocab)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vocab, A::Error> {
        let mut vocab = Vocab::default();
        while list.next_element::<IgnoredAny>()?.is_some() {
            vocab.size += 1;
        }
        Ok(vocab)
    }
}

/// A token, looked at and dropped.
struct Key {
    ends_word: bool,
    starts_text: bool,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct OfKey;
        impl Visitor<'_> for OfKey {
            type Value = Key;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a token")
            }

            fn visit_str<E: Error>(self, token: &str) -> Result<Key, E> {
                Ok(Key { ends_word: token.ends_with(CLIP_END_OF_WORD), starts_text: CLIP_STARTS.contains(&token) })
            }
        }
        from.deserialize_str(OfKey)
    }
}
