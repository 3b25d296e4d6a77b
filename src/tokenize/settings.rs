//! What a model's configuration says about its tokenizer.

use crate::domain::TextCleaning;

/// Which tokenizer a model has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TokenizerSettings {
    /// The configuration does not say: CLIP's own if the file has CLIP's vocabulary, otherwise OpenCLIP's `HFTokenizer` with its defaults.
    #[default]
    OfFile,
    /// OpenCLIP's `HFTokenizer`, for any vocabulary of the file.
    HuggingFace(HuggingFaceSettings),
}

/// Arguments of OpenCLIP's `HFTokenizer` (`tokenizer_kwargs` of its configurations).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HuggingFaceSettings {
    pub cleaning: TextCleaning,
    /// Whether the separator (`[SEP]`, `</s>`) is replaced by 0 (`strip_sep_token`).
    pub strip_separator: bool,
    /// Must be one of the vocabulary's, and changes no id: OpenCLIP 3.3.0 sets it, and Transformers sets its own again before each
    /// text.
    pub language: Option<String>,
    /// The language of the texts (`src_lang`), for NLLB.
    pub source_language: Option<String>,
}
