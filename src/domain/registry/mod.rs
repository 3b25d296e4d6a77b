//! The models that OpenCLIP publishes for the variants that this program supports: what each is, and where its ONNX
//! graphs can be had.
//!
//! [`all`] is the table, [`find`] looks an id up, [`resolve`] takes what people type. A model that is not here can be
//! used all the same (a custom export, the demo's model): then nothing is known about it beforehand.

mod pins;
mod resolve;
mod source;
mod table;

pub use pins::{Pin, pinned_commit, pins};
pub use resolve::{UnknownModel, resolve, resolve_or_custom};
pub use source::{Layout, Source};

use super::{Activation, ModelId};

/// One pretrained model, as OpenCLIP 3.3.0 describes it in `open_clip/pretrained.py` and `model_configs/*.json`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Checkpoint {
    pub variant: &'static str,
    pub checkpoint: &'static str,
    /// Values of a vector.
    pub dimension: usize,
    /// Height and width of the image tower's input in pixels.
    pub image_size: usize,
    /// Tokens of the text tower's input.
    pub context_length: usize,
    /// What the weights were trained with. OpenCLIP keeps it per checkpoint, not per variant.
    pub activation: Activation,
    /// Of red, green and blue, on a scale of 0 to 1.
    pub mean: [f32; 3],
    pub std: [f32; 3],
    /// `shortest` or `squash`, as `preprocess_cfg.json` has it.
    pub resize_mode: &'static str,
    /// As `preprocess_cfg.json` has it.
    pub interpolation: &'static str,
    /// Where its ONNX graphs can be had, the preferred one first. Empty: export it (`tools/export_openclip.py`).
    pub sources: &'static [Source],
}

impl Checkpoint {
    pub fn id(&self) -> ModelId {
        ModelId { variant: self.variant.to_owned(), checkpoint: self.checkpoint.to_owned() }
    }
}

/// Every model of the table, by variant, in OpenCLIP's order.
pub fn all() -> &'static [Checkpoint] {
    table::TABLE
}

/// The model of exactly this id. [`resolve`] first makes an id of what people type.
pub fn find(id: &ModelId) -> Option<&'static Checkpoint> {
    all().iter().find(|row| row.variant == id.variant && row.checkpoint == id.checkpoint)
}

#[cfg(test)]
mod tests;
