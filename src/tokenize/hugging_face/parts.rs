//! The names of the parts of a `tokenizer.json` that the crate `tokenizers` 0.22 knows. Its own error does not
//! name an unknown part.

use crate::redact;
use crate::tokenize::TokenizerError;
use crate::tokenize::outline::{Outline, Part, PostProcessor};

const NORMALIZERS: [&str; 14] = [
    "BertNormalizer",
    "ByteLevel",
    "Lowercase",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Nmt",
    "Precompiled",
    "Prepend",
    "Replace",
    "Sequence",
    "Strip",
    "StripAccents",
];

const PRE_TOKENIZERS: [&str; 12] = [
    "BertPreTokenizer",
    "ByteLevel",
    "CharDelimiterSplit",
    "Digits",
    "FixedLength",
    "Metaspace",
    "Punctuation",
    "Sequence",
    "Split",
    "UnicodeScripts",
    "Whitespace",
    "WhitespaceSplit",
];

const POST_PROCESSORS: [&str; 5] =
    ["BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"];

/// The crate also has `WordLevel`, which no model of OpenCLIP has.
const MODELS: [&str; 3] = ["BPE", "Unigram", "WordPiece"];

const HINT: &str = "use the tokenizer.json of a model that OpenCLIP knows";

pub(super) fn check(outline: &Outline) -> Result<(), TokenizerError> {
    known("model", outline.model.kind.as_deref(), &MODELS)?;
    all("normalizer", outline.normalizer.as_ref(), &NORMALIZERS)?;
    all("pre_tokenizer", outline.pre_tokenizer.as_ref(), &PRE_TOKENIZERS)?;
    outline.post_processor.as_ref().map_or(Ok(()), all_processors)
}

fn all(what: &str, part: Option<&Part>, names: &[&str]) -> Result<(), TokenizerError> {
    let Some(part) = part else { return Ok(()) };
    known(what, part.kind.as_deref(), names)?;
    part.normalizers.iter().try_for_each(|part| all(what, Some(part), names))
}

fn all_processors(part: &PostProcessor) -> Result<(), TokenizerError> {
    known("post_processor", part.kind.as_deref(), &POST_PROCESSORS)?;
    part.processors.iter().try_for_each(all_processors)
}

/// A part without a type is of the format's first versions: the crate guesses it by its fields.
fn known(what: &str, kind: Option<&str>, names: &[&str]) -> Result<(), TokenizerError> {
    match kind {
        Some(kind) if !names.contains(&kind) => {
            let (kind, names) = (redact::cut(kind, 40), names.join(", "));
            Err(TokenizerError::new(format!("a {what} of type {kind}, expected one of {names}")).hint(HINT))
        }
        _ => Ok(()),
    }
}
