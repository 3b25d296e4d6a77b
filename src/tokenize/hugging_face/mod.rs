//! Text to token ids, as OpenCLIP's `HFTokenizer` does it (`open_clip/tokenizer.py`, version 3.3.0, with Transformers 4.57): OpenCLIP's
//! cleaning, then the steps of the model's `tokenizer.json` as the crate `tokenizers` takes them.
//!
//! `parts` refuses steps that the crate does not know, `config` reads what `tokenizer_config.json` adds, `special` finds the tokens
//! with a meaning, `language` puts NLLB's code before the text, `cleaned` cleans a text as far as it is needed, and `guard` catches the
//! crate's panics.

mod cleaned;
mod config;
mod guard;
mod language;
mod parts;
mod special;

use tokenizers::{PostProcessor as _, TruncationParams};

use self::cleaned::Cleaned;
use self::config::Config;
use self::guard::guarded;
pub(crate) use self::guard::is_guarded;
use super::outline::{DOWNLOAD_AGAIN, Outline, not_a_tokenizer};
use super::{HuggingFaceSettings, TokenizerError};
use crate::domain::TextCleaning;
use crate::domain::registry::TokenizerKind;

/// How much of a long text is encoded at first, in bytes of cleaned text.
const PART_BYTES: usize = 16 * 1024;

/// Tokens that a part of a text must have beyond the context length. What comes behind the part may change its last tokens, as a piece may
/// end there within a word; that it changes those before as many others would take as many merges, each of a lower rank than
/// the one before.
const SPARE_TOKENS: usize = 1024;

/// What a tokenizer must take to be used: nothing, words, and characters that no vocabulary has.
const TRIAL_TEXTS: [&str; 3] = ["", "a photo of a red shoe", "é ﬁ 中\u{378}\u{200d}😀\u{10fffd} <x> </s>"];

/// A `tokenizer.json` of one model. Shared freely between threads.
pub struct HuggingFace {
    tokenizer: tokenizers::Tokenizer,
    cleaning: TextCleaning,
    /// The id that 0 replaces.
    separator: Option<u32>,
    padding_id: Option<i64>,
    names_padding: bool,
    has_mask: bool,
    kind: TokenizerKind,
    vocabulary_size: usize,
    context_length: usize,
}

impl HuggingFace {
    /// From the content of a `tokenizer.json`, of which `outline` is known, and of the `tokenizer_config.json` beside it.
    ///
    /// # Errors
    ///
    /// It is not a tokenizer, has a part that is not known, or lacks a token that `settings` or its configuration name.
    pub(super) fn new(
        bytes: &[u8],
        outline: &Outline,
        config: Option<&[u8]>,
        settings: &HuggingFaceSettings,
        context_length: usize,
    ) -> Result<Self, TokenizerError> {
        parts::check(outline)?;
        let config = config.map(Config::of).transpose()?.unwrap_or_default();
        config.check_sides(outline)?;
        let mut tokenizer =
            guarded(|| tokenizers::Tokenizer::from_bytes(bytes)).map_err(|error| not_a_tokenizer(&error))?;
        special::check_unknown(&tokenizer, outline)?;
        let language = language::template(&tokenizer, outline, &config, settings)?;
        if let Some(template) = &language {
            tokenizer.with_post_processor(Some(template.clone()));
        }
        let added = tokenizer.get_post_processor().map_or(0, |steps| steps.added_tokens(false));
        if context_length <= added {
            return Err(TokenizerError::new(format!(
                "context length {context_length}, expected at least {}",
                added + 1
            )));
        }
        let truncation = TruncationParams { max_length: context_length, ..Default::default() };
        tokenizer.with_padding(None).with_truncation(Some(truncation)).map_err(|error| not_a_tokenizer(&error))?;
        let separator =
            settings.strip_separator.then(|| special::separator(&tokenizer, outline, &config)).transpose()?;
        let named = special::named_padding(&tokenizer, outline, &config)?;
        let padding = named.or_else(|| special::usual_padding(&tokenizer));
        let mut made = Self {
            vocabulary_size: special::vocabulary_size(&tokenizer, outline),
            cleaning: settings.cleaning,
            // OpenCLIP replaces the separators of the padded row.
            padding_id: padding.map(|id| if Some(id) == separator { 0 } else { i64::from(id) }),
            names_padding: named.is_some(),
            has_mask: config.has_mask(),
            kind: outline.kind(language.is_some()),
            separator,
            context_length,
            tokenizer,
        };
        for text in TRIAL_TEXTS {
            let (ids, _) = made.ids(text).map_err(|error| {
                TokenizerError::new(format!("a trial text has no ids ({error})")).hint(DOWNLOAD_AGAIN)
            })?;
            // The steps may have ids of their own for the special tokens, which are in every text.
            let largest = ids.into_iter().max().and_then(|id| usize::try_from(id).ok());
            made.vocabulary_size = made.vocabulary_size.max(largest.map_or(0, |id| id + 1));
        }
        Ok(made)
    }

    /// Most ids that [`Self::encode`] returns.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// One more than the largest id that [`Self::encode`] returns: the rows that a text tower's token embedding needs.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary_size
    }

    /// The id that fills a row behind its text: the one that the files name, or that of a token with a usual name.
    pub fn padding_id(&self) -> Option<i64> {
        self.padding_id
    }

    /// Whether the files name the padding.
    pub fn names_padding(&self) -> bool {
        self.names_padding
    }

    /// The algorithm of its vocabulary.
    pub fn kind(&self) -> TokenizerKind {
        self.kind
    }

    /// Whether the files give each text an attention mask.
    pub fn has_mask(&self) -> bool {
        self.has_mask
    }

    /// Ids of `text` with the file's special tokens, of which none is lost when a text is cut. None at all where the file's own steps fail.
    pub fn encode(&self, text: &str) -> Vec<i64> {
        let mut cleaned = Cleaned::of(text, self.cleaning);
        let (mut part, mut bytes) = (String::new(), PART_BYTES);
        loop {
            let is_more = cleaned.extend(&mut part, bytes);
            match self.ids(&part) {
                Ok((_, tokens)) if is_more && tokens < self.context_length + SPARE_TOKENS => bytes = 2 * part.len(),
                Ok((ids, _)) => return ids,
                Err(error) => {
                    tracing::error!(error, "a text has no token ids: the steps of tokenizer.json fail on it");
                    return Vec::new();
                }
            }
        }
    }

    /// Ids of a cleaned text, and how many they were before it was cut.
    fn ids(&self, text: &str) -> Result<(Vec<i64>, usize), String> {
        let encoding = guarded(|| self.tokenizer.encode_fast(text, true))?;
        let more: usize = encoding.get_overflowing().iter().map(|part| part.len()).sum();
        let ids = encoding.get_ids().iter().map(|&id| if Some(id) == self.separator { 0 } else { i64::from(id) });
        Ok((ids.collect(), encoding.len() + more))
    }
}

#[cfg(test)]
mod tests;
