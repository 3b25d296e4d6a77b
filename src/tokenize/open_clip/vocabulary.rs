//! What a `tokenizer.json` of CLIP holds: the tokens with their ids, and the merges in the order of their ranks.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::pieces;
use crate::tokenize::TokenizerError;

/// What `tokenizer.json` calls the special tokens; a file converted from OpenCLIP's vocabulary has OpenCLIP's names.
const SOT_NAMES: [&str; 2] = [pieces::SOT, "<|startoftext|>"];
const EOT_NAMES: [&str; 2] = [pieces::EOT, "<|endoftext|>"];

/// What ends the last token of a word.
pub(super) const END_OF_WORD: &str = "</w>";

/// Hints.
pub(super) const DOWNLOAD_AGAIN: &str = "download the model's tokenizer.json again";
const USE_THE_MODELS_OWN: &str = "use the tokenizer.json of this CLIP model";

pub(super) struct Vocabulary {
    ids: HashMap<String, u32>,
    added: Vec<Added>,
    pub(super) merges: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    model: Value,
    #[serde(default)]
    added_tokens: Vec<Added>,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
}

#[derive(Deserialize)]
struct Model {
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
}

/// Newer files keep the two parts apart, older ones write them with a space between.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Parts(String, String),
    Line(String),
}

impl Vocabulary {
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, TokenizerError> {
        let file: File = serde_json::from_slice(bytes).map_err(|e| not_a_tokenizer(&e))?;
        match file.model.get("type").and_then(Value::as_str) {
            // Left out by the first versions of the format.
            Some("BPE") | None => {}
            Some(other) => {
                let other = crate::redact::cut(other, 40);
                let message = format!("a tokenizer of type {other}, expected CLIP's byte-pair encoding (BPE)");
                return Err(TokenizerError::new(message).hint(USE_THE_MODELS_OWN));
            }
        }
        let model: Model = serde_json::from_value(file.model).map_err(|e| not_a_tokenizer(&e))?;
        let merges = model.merges.into_iter().map(|merge| match merge {
            Merge::Parts(left, right) => Ok((left, right)),
            Merge::Line(line) => match line.split_once(' ') {
                Some((left, right)) => Ok((left.to_owned(), right.to_owned())),
                None => {
                    let line = crate::redact::cut(&line, 40);
                    let message = format!("merge {line:?} has one part, expected two");
                    Err(TokenizerError::new(message).hint(DOWNLOAD_AGAIN))
                }
            },
        });
        Ok(Self { ids: model.vocab, added: file.added_tokens, merges: merges.collect::<Result<_, _>>()? })
    }

    /// The id of a token that CLIP's vocabulary has.
    pub(super) fn id(&self, token: &str) -> Result<u32, TokenizerError> {
        self.ids.get(token).copied().ok_or_else(|| {
            TokenizerError::new(format!("no token {token} in the vocabulary, expected CLIP's byte-pair encoding"))
                .hint(USE_THE_MODELS_OWN)
        })
    }

    /// Starts every text.
    pub(super) fn sot(&self) -> Result<u32, TokenizerError> {
        self.special(SOT_NAMES)
    }

    /// Ends every text.
    pub(super) fn eot(&self) -> Result<u32, TokenizerError> {
        self.special(EOT_NAMES)
    }

    /// The vocabulary before the added tokens: a file that was converted from OpenCLIP's vocabulary has the first name
    /// there, and may list the second one as added, with an id that the text tower has no embedding for.
    fn special(&self, names: [&str; 2]) -> Result<u32, TokenizerError> {
        let in_vocabulary = names.iter().find_map(|name| self.ids.get(*name));
        let added = || names.iter().find_map(|name| self.added.iter().find(|a| a.content == *name).map(|a| &a.id));
        in_vocabulary.or_else(added).copied().map_or_else(|| self.id(names[1]), Ok)
    }

    /// One more than the largest id.
    pub(super) fn size(&self) -> usize {
        let specials = [self.sot(), self.eot()].into_iter().flatten();
        self.ids.values().copied().chain(specials).max().map_or(0, |id| id as usize + 1)
    }
}

fn not_a_tokenizer(error: &serde_json::Error) -> TokenizerError {
    let error = crate::redact::cut(&error.to_string(), 200).to_string();
    TokenizerError::new(format!("not a tokenizer.json of CLIP ({error})")).hint(DOWNLOAD_AGAIN)
}
