//! What a `tokenizer_config.json` adds to the `tokenizer.json` beside it.

use serde::Deserialize;

use crate::tokenize::TokenizerError;
use crate::tokenize::outline::Outline;

const MASK: &str = "attention_mask";

#[derive(Default, Deserialize)]
pub(super) struct Config {
    pub(super) tokenizer_class: Option<String>,
    pub(super) pad_token: Option<Token>,
    pub(super) sep_token: Option<Token>,
    /// NLLB's language, and whether its code comes last.
    pub(super) src_lang: Option<String>,
    pub(super) legacy_behaviour: Option<bool>,
    /// What Transformers gives a model of each text.
    model_input_names: Option<Vec<String>>,
    padding_side: Option<String>,
    truncation_side: Option<String>,
}

/// A special token: its name, or all that is known of it.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Token {
    Name(String),
    Whole { content: String },
}

impl Token {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Name(name) | Self::Whole { content: name } => name,
        }
    }
}

impl Config {
    pub(super) fn of(bytes: &[u8]) -> Result<Self, TokenizerError> {
        serde_json::from_slice(bytes).map_err(|error| {
            let error = crate::redact::cut(&error.to_string(), 200).to_string();
            TokenizerError::new(format!("not a tokenizer_config.json beside it ({error})"))
                .hint("download the model's tokenizer_config.json again")
        })
    }

    /// Whether each text has an attention mask, as those of most classes have.
    pub(super) fn has_mask(&self) -> bool {
        self.model_input_names.as_ref().is_none_or(|names| names.iter().any(|name| name == MASK))
    }

    /// Whether texts are padded and cut at their ends, as all models of OpenCLIP need it.
    pub(super) fn check_sides(&self, outline: &Outline) -> Result<(), TokenizerError> {
        let padding = outline.padding.as_ref().and_then(|padding| padding.direction.as_ref());
        let truncation = outline.truncation.as_ref().and_then(|truncation| truncation.direction.as_ref());
        let sides =
            [("padded", self.padding_side.as_ref().or(padding)), ("cut", self.truncation_side.as_ref().or(truncation))];
        for (what, side) in sides {
            if let Some(side) = side
                && !side.eq_ignore_ascii_case("right")
            {
                let side = crate::redact::cut(side, 40);
                return Err(TokenizerError::new(format!("texts are {what} on the side {side}, expected right"))
                    .hint("use the tokenizer files of the CLIP model, not those of a language model"));
            }
        }
        Ok(())
    }
}
