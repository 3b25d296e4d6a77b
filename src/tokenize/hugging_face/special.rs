//! The tokens of a vocabulary that have a meaning, found by the names that the files give them.

use super::config::{Config, Token};
use crate::redact;
use crate::tokenize::TokenizerError;
use crate::tokenize::outline::Outline;

const USE_ALL: &str = "take all tokenizer files from the same repository";

/// Default names, as Transformers' classes have them.
const PADDINGS: [&str; 2] = ["<pad>", "[PAD]"];
const SEPARATORS: [&str; 2] = ["[SEP]", "</s>"];
const UNKNOWN: &str = "[UNK]";

/// Whether the model has an id for unknown parts of a text: without one, it fails on the first text with such a part.
pub(super) fn check_unknown(tokenizer: &tokenizers::Tokenizer, outline: &Outline) -> Result<(), TokenizerError> {
    let model = &outline.model;
    let name = match (model.kind.as_deref(), model.unk_token.as_deref()) {
        (Some("Unigram"), _) if model.unk_id.is_none() => {
            return Err(TokenizerError::new("no id for unknown parts (unk_id), expected one").hint(USE_ALL));
        }
        (Some("Unigram"), _) => None,
        (Some("WordPiece"), name) => Some(name.unwrap_or(UNKNOWN)),
        (_, name) => name,
    };
    name.map_or(Ok(()), |name| id(tokenizer, "token for unknown parts", name).map(drop))
}

/// The separator (`sep_token`).
pub(super) fn separator(
    tokenizer: &tokenizers::Tokenizer,
    outline: &Outline,
    config: &Config,
) -> Result<u32, TokenizerError> {
    let by_steps = outline.post_processor.as_ref().and_then(|steps| steps.sep.as_ref());
    let named = config.sep_token.as_ref().map(Token::name).or(by_steps.map(|(name, _)| name.as_str()));
    if let Some(name) = named {
        return id(tokenizer, "separator", name);
    }
    SEPARATORS.iter().find_map(|name| tokenizer.token_to_id(name)).ok_or_else(|| {
        TokenizerError::new("no separator in the vocabulary, expected [SEP] or </s> for strip_sep_token")
            .hint("name it in tokenizer_config.json (sep_token)")
    })
}

/// The padding (`pad_token`), if the files name one.
pub(super) fn named_padding(
    tokenizer: &tokenizers::Tokenizer,
    outline: &Outline,
    config: &Config,
) -> Result<Option<u32>, TokenizerError> {
    let of_file = outline.padding.as_ref().and_then(|padding| padding.pad_token.as_deref());
    // Transformers would give another one an id behind the vocabulary, for which the text tower has no embedding.
    config.pad_token.as_ref().map(Token::name).or(of_file).map(|name| id(tokenizer, "padding token", name)).transpose()
}

/// The padding that Transformers' classes have where no file names it.
pub(super) fn usual_padding(tokenizer: &tokenizers::Tokenizer) -> Option<u32> {
    PADDINGS.iter().find_map(|name| tokenizer.token_to_id(name))
}

/// One more than the largest id.
pub(super) fn vocabulary_size(tokenizer: &tokenizers::Tokenizer, outline: &Outline) -> usize {
    let added = outline.added_tokens.iter().filter_map(|added| tokenizer.token_to_id(&added.content));
    added.map(|id| id as usize + 1).fold(outline.model.vocab.size as usize, usize::max)
}

pub(super) fn id(tokenizer: &tokenizers::Tokenizer, what: &str, name: &str) -> Result<u32, TokenizerError> {
    tokenizer.token_to_id(name).ok_or_else(|| {
        let name = redact::cut(name, 40);
        TokenizerError::new(format!("no {what} {name} in the vocabulary, expected an id of it")).hint(USE_ALL)
    })
}
