//! Text to token ids, as OpenCLIP's `SimpleTokenizer` does it (`open_clip/tokenizer.py`, version 3.3.0).
//!
//! Only vocabulary, merges and the split into words come from `tokenizer.json`. Cleaning, the two special tokens and
//! truncation are OpenCLIP's: the normalizer and post-processor of such files differ from it in details that change ids.

use std::path::Path;

use tokenizers::{Model as _, Tokenizer as Bpe};

/// What OpenCLIP calls the two special tokens when they are written out in a text.
const SOT_TEXT: &str = "<start_of_text>";
const EOT_TEXT: &str = "<end_of_text>";

/// What `tokenizer.json` calls them.
const SOT_TOKEN: &str = "<|startoftext|>";
const EOT_TOKEN: &str = "<|endoftext|>";

/// Longest text that is cleaned, in bytes: hundreds of times what fits into the context.
const TEXT_BYTES_MAX: usize = 256 * 1024;

/// Why a tokenizer cannot be used. Names the file, what was wrong and the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenizerError(String);

/// CLIP's byte-pair encoding of one model. Shared freely between threads.
pub struct Tokenizer {
    bpe: Bpe,
    sot: i64,
    eot: i64,
    context_length: usize,
}

impl Tokenizer {
    /// From a `tokenizer.json`; `context_length` is the text tower's (77 for CLIP), both special tokens included.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is no tokenizer, or not one of CLIP's.
    pub fn from_file(path: impl AsRef<Path>, context_length: usize) -> Result<Self, TokenizerError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|error| {
            TokenizerError(format!(
                "{}: {error}; expected the model's tokenizer.json: copy it into the model directory",
                path.display()
            ))
        })?;
        Self::from_bytes(&bytes, context_length).map_err(|error| TokenizerError(format!("{}: {error}", path.display())))
    }

    /// From the content of a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// As [`Self::from_file`], without the file's name.
    pub fn from_bytes(bytes: &[u8], context_length: usize) -> Result<Self, TokenizerError> {
        if context_length < 2 {
            return Err(TokenizerError(format!("context length {context_length}, expected at least 2")));
        }
        let mut bpe = Bpe::from_bytes(bytes).map_err(|error| {
            let error = crate::redact::cut(&error.to_string(), 200);
            TokenizerError(format!("not a tokenizer.json ({error}): download the model's tokenizer.json again"))
        })?;
        // The vocabulary before the added tokens: a file that was converted from OpenCLIP's vocabulary has the first name
        // there, and may list the second one as added, with an id that the text tower has no embedding for.
        let id = |names: [&str; 2]| {
            let in_vocabulary = names.into_iter().find_map(|name| bpe.get_model().token_to_id(name));
            let found = in_vocabulary.or_else(|| names.into_iter().find_map(|name| bpe.token_to_id(name)));
            found.map(i64::from).ok_or_else(|| {
                TokenizerError(format!(
                    "no token {} in the vocabulary, expected CLIP's byte-pair encoding: use the tokenizer.json of this CLIP model",
                    names[1]
                ))
            })
        };
        let (sot, eot) = (id([SOT_TEXT, SOT_TOKEN])?, id([EOT_TEXT, EOT_TOKEN])?);
        bpe.with_normalizer(None::<tokenizers::NormalizerWrapper>);
        bpe.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
        bpe.with_padding(None);
        bpe.with_truncation(None)
            .map_err(|error| TokenizerError(format!("truncation cannot be switched off: {error}")))?;
        // `<|endoftext|>` written in a text is ordinary text to OpenCLIP.
        bpe.set_encode_special_tokens(true);
        Ok(Self { bpe, sot, eot, context_length })
    }

    /// Most ids that [`Self::encode`] returns.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// One more than the largest id that [`Self::encode`] returns: the rows that the text tower's embedding must have.
    pub fn vocabulary_size(&self) -> usize {
        let largest = self.bpe.get_vocab(false).into_values().max().map_or(0, i64::from).max(self.sot).max(self.eot);
        usize::try_from(largest).map_or(0, |largest| largest + 1)
    }

    /// Ids of `text`: start, at most `context_length - 2` tokens, end. Never padded (OpenCLIP pads with 0); an empty
    /// text gives start and end.
    ///
    /// # Errors
    ///
    /// The vocabulary lacks a token: the file is damaged.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>, TokenizerError> {
        let text = clean(text);
        let mut ids = vec![self.sot];
        for piece in pieces(&text) {
            match piece {
                SOT_TEXT => ids.push(self.sot),
                EOT_TEXT => ids.push(self.eot),
                words => {
                    let encoding = self
                        .bpe
                        .encode_fast(words, false)
                        .map_err(|error| TokenizerError(format!("text cannot be tokenized: {error}")))?;
                    ids.extend(encoding.get_ids().iter().map(|&id| i64::from(id)));
                }
            }
            if ids.len() >= self.context_length {
                break;
            }
        }
        ids.truncate(self.context_length - 1);
        ids.push(self.eot);
        Ok(ids)
    }
}

/// `_clean_lower`: mojibake repaired, HTML entities resolved twice, runs of white space collapsed, lower case.
fn clean(text: &str) -> String {
    let end = (0..=text.len().min(TEXT_BYTES_MAX)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    let fixed = fix_text(&text[..end]);
    let once = unescape(&fixed);
    let twice = unescape(&once);
    twice.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// `ftfy.fix_text`, by `plsfix` and with what that port leaves out.
fn fix_text(text: &str) -> String {
    let text = without_terminal_escapes(&without_invalid_references(text));
    // Half-width and full-width forms become what NFKC makes of them; plsfix loses the mark of this one.
    let text = text.replace('\u{ffe3}', " \u{304}");
    // ftfy leaves entities alone in what looks like HTML; plsfix does not, so they are hidden from it behind a
    // character that the text does not have, ASCII because any other would change how mojibake is detected.
    let stand_in = "`^~|$%*+=".chars().find(|c| !text.contains(*c));
    match stand_in {
        Some(stand_in) if text.contains('<') && text.contains('&') => {
            plsfix::fix_text(&text.replace('&', stand_in.encode_utf8(&mut [0; 4])), None).replace(stand_in, "&")
        }
        _ => plsfix::fix_text(&text, None),
    }
}

/// Python's `html.unescape`.
fn unescape(text: &str) -> String {
    htmlize::unescape(without_invalid_references(text)).into_owned()
}

/// `text` without numeric references to code points that Python's `html.unescape` drops (`_invalid_codepoints`).
fn without_invalid_references(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("&#") {
        out.push_str(&rest[..at]);
        let digits = &rest[at + 2..];
        let (radix, digits) = match digits.strip_prefix(['x', 'X']) {
            Some(hex) => (16, hex),
            None => (10, digits),
        };
        let count = digits.chars().take_while(|c| c.is_digit(radix)).count();
        let dropped = u32::from_str_radix(&digits[..count], radix).is_ok_and(is_dropped);
        let after = digits[count..].strip_prefix(';').unwrap_or(&digits[count..]);
        if !dropped {
            out.push_str(&rest[at..rest.len() - after.len()]);
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn is_dropped(code: u32) -> bool {
    matches!(code, 0x1..=0x8 | 0xB | 0xE..=0x1F | 0x7F | 0xFDD0..=0xFDEF)
        || (code & 0xFFFE == 0xFFFE && code <= 0x10_FFFF)
}

/// `text` without ANSI sequences (`ESC [ digits and semicolons, letter`).
fn without_terminal_escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        out.push_str(&rest[..at]);
        let body = rest[at + 2..].trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        match body.strip_prefix(|c: char| c.is_ascii_alphabetic()) {
            Some(after) => rest = after,
            None => {
                out.push_str("\x1b[");
                rest = &rest[at + 2..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// `text` cut around the special tokens that OpenCLIP would see in it: its pattern takes a run of punctuation whole,
/// so `!<end_of_text>` is punctuation and words.
fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut begin, mut from) = (0, 0);
    while let Some(offset) = text[from..].find('<') {
        let at = from + offset;
        let special = [SOT_TEXT, EOT_TEXT].into_iter().find(|special| text[at..].starts_with(special));
        let before = text[begin..at].chars().next_back();
        match special {
            Some(special) if before.is_none_or(|c| c.is_alphanumeric() || c.is_whitespace()) => {
                if begin < at {
                    pieces.push(&text[begin..at]);
                }
                pieces.push(special);
                begin = at + special.len();
                from = begin;
            }
            _ => from = at + 1,
        }
    }
    if begin < text.len() {
        pieces.push(&text[begin..]);
    }
    pieces
}

#[cfg(test)]
mod tests;
