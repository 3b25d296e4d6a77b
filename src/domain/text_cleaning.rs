//! The last step of cleaning a text. OpenCLIP configures it per model, and it changes token ids.

use serde::{Deserialize, Serialize};

/// What is done to a text after mojibake and entities (`get_clean_fn` of OpenCLIP's `tokenizer.py`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TextCleaning {
    /// White space becomes single spaces.
    #[default]
    Whitespace,
    /// The same in lower case.
    Lower,
    /// The same without ASCII punctuation; `_` is a space.
    Canonicalize,
}

impl TextCleaning {
    pub const ALL: [Self; 3] = [Self::Whitespace, Self::Lower, Self::Canonicalize];

    /// OpenCLIP's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Whitespace => "whitespace",
            Self::Lower => "lower",
            Self::Canonicalize => "canonicalize",
        }
    }
}
