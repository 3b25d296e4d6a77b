//! The models that OpenCLIP publishes: what each is, and where its ONNX graphs are published.
//!
//! [`all`] is the table, [`find`] looks an id up, [`resolve`] finds the id for a name as people write it. A model that is not in
//! the table can be used, too (a custom export, the demo's model), but nothing is known about it beforehand.

mod pins;
mod resolve;
mod source;
mod sources;
mod table;
mod tokenizer;

use serde::Deserialize;

pub use pins::{Pin, pinned_commit, pins};
pub use resolve::{UnknownModel, resolve, resolve_or_custom};
pub use source::{Layout, Source};
pub use tokenizer::{TokenizerFacts, TokenizerKind};

use super::{Activation, ModelId};

/// Whether a licence of weights allows no commercial use: Creative Commons' with `NC` in their names, and Apple's for research.
pub fn forbids_commercial_use(licence: &str) -> bool {
    licence.split('-').any(|part| part.eq_ignore_ascii_case("nc")) || licence.eq_ignore_ascii_case("apple-amlr")
}

/// One pretrained model, as OpenCLIP 3.3.0 describes it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    pub variant: &'static str,
    pub checkpoint: &'static str,
    /// The id of the same weights under the variant's name without `-quickgelu`, which this program calls them by.
    #[serde(borrow)]
    pub same_as: Option<&'static str>,
    /// `CLIP`, `SigLIP2`, and so on: what `models list --family` takes.
    pub family: &'static str,
    /// Values of a vector.
    pub dimension: usize,
    /// Height and width of the image tower's input in pixels.
    pub image_size: usize,
    /// `shortest` or `squash`, as `preprocess_cfg.json` has it.
    pub resize_mode: &'static str,
    /// As `preprocess_cfg.json` has it.
    pub interpolation: &'static str,
    /// Of red, green and blue, on a scale of 0 to 1.
    pub mean: [f32; 3],
    pub std: [f32; 3],
    /// Of pixels beside a picture that is smaller than the input, on a scale of 0 to 255.
    pub fill: u8,
    /// The image tower's activation. `None`: neither GELU nor QuickGELU (ReLU of ResNets, SiLU of some EVA02).
    pub image_activation: Option<Activation>,
    /// The text tower's activation. `None`: it is a tower of Hugging Face, for which OpenCLIP does not name it.
    pub text_activation: Option<Activation>,
    pub tokenizer: TokenizerFacts,
    /// Tokens of the text tower's input.
    pub context_length: usize,
    /// Which positions of the text tower make the vector: `argmax` and `eos` the end of the text, `last`, `cls` (the first), `mean`.
    pub pooling: &'static str,
    /// Whether a token attends only to the tokens before it.
    pub causal: bool,
    /// Whether it was trained with a sigmoid loss: a label's probability does not depend on other labels.
    pub sigmoid: bool,
    /// Whether it was trained so that the first values of a vector are a vector themselves (Kusupati et al. 2022, "Matryoshka
    /// Representation Learning").
    pub matryoshka: bool,
    /// Whether its texts are of many languages.
    pub multilingual: bool,
    /// The weights' licence, if it was looked up.
    #[serde(borrow)]
    pub licence: Option<&'static str>,
    /// The repository of OpenCLIP's weights on the hub.
    pub weights: &'static str,
    /// Where its ONNX graphs are published, the preferred place first. Empty: export it (`tools/export_openclip.py`).
    #[serde(skip)]
    pub sources: &'static [Source],
}

impl Checkpoint {
    /// Its own, as OpenCLIP names it.
    pub fn id(&self) -> ModelId {
        ModelId { variant: self.variant.to_owned(), checkpoint: self.checkpoint.to_owned(), dimension: None }
    }

    /// The licence of its weights, if that forbids commercial use.
    pub fn not_commercial(&self) -> Option<&'static str> {
        self.licence.filter(|licence| forbids_commercial_use(licence))
    }
}

/// Every model of the table, in OpenCLIP's order.
pub fn all() -> &'static [Checkpoint] {
    table::all()
}

/// The model of exactly this id, whatever is kept of its vectors. [`resolve`] first makes an id of what people type.
pub fn find(id: &ModelId) -> Option<&'static Checkpoint> {
    all().iter().find(|row| row.variant == id.variant && row.checkpoint == id.checkpoint)
}

#[cfg(test)]
mod tests;
