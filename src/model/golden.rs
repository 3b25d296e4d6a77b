//! `golden.json`: inputs with the tokens and vectors that OpenCLIP gave for them, and how close a graph must come.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::ModelError;
use super::directory::text_of;
use crate::domain::{Embedding, Modality, ModelReason, Precision};

/// The form of the file that is read here.
const FORMAT: u32 = 1;

/// A floor below it would let a wrong graph pass: the GELU of a QuickGELU checkpoint comes to about 0.99.
fn lowest_floor(precision: Precision) -> f32 {
    match precision {
        Precision::Fp32 => 0.999,
        Precision::Fp16 => 0.99,
        Precision::Int8 => 0.9,
        Precision::Int4 => 0.8,
    }
}

pub(crate) struct Golden {
    pub(crate) path: PathBuf,
    pub(crate) made_with: String,
    cosine_min: BTreeMap<Precision, f32>,
    pub(crate) texts: Vec<GoldenText>,
    pub(crate) images: Vec<GoldenImage>,
}

pub(crate) struct GoldenText {
    pub(crate) text: String,
    pub(crate) tokens: Vec<i64>,
    pub(crate) vector: Embedding,
}

pub(crate) struct GoldenImage {
    pub(crate) name: String,
    pub(crate) file: Vec<u8>,
    pub(crate) vector: Embedding,
}

/// How one golden input came out.
#[derive(Clone, Debug)]
pub(crate) struct Compared {
    pub(crate) modality: Modality,
    /// The picture's name, or the text.
    pub(crate) input: String,
    pub(crate) vector: Embedding,
    /// Similarity to OpenCLIP's vector.
    pub(crate) cosine: f32,
    /// For a text whose tokens differ: found and expected.
    pub(crate) tokens_differ: Option<String>,
}

#[derive(Deserialize)]
struct File {
    format: u32,
    #[serde(default)]
    made_with: String,
    #[serde(default)]
    cosine_min: BTreeMap<Precision, f32>,
    texts: Vec<FileText>,
    images: Vec<FileImage>,
}

#[derive(Deserialize)]
struct FileText {
    text: String,
    tokens: Vec<i64>,
    vector: Vec<f32>,
}

#[derive(Deserialize)]
struct FileImage {
    name: String,
    data: String,
    vector: Vec<f32>,
}

impl Golden {
    /// # Errors
    /// The file is not a collection of golden vectors, or has none.
    pub(crate) fn read(path: &Path) -> Result<Self, ModelError> {
        let unusable =
            |what: String| ModelError::new(ModelReason::GoldenUnusable, format!("{} {what}", path.display()));
        let file: File =
            serde_json::from_str(&text_of(path)?).map_err(|e| unusable(format!("has no golden vectors: {e}")))?;
        if file.format != FORMAT {
            return Err(unusable(format!("has format {}, expected {FORMAT}", file.format)));
        }
        for (precision, found) in &file.cosine_min {
            let lowest = lowest_floor(*precision);
            if !(lowest..=1.0).contains(found) {
                return Err(unusable(format!("has cosine_min {found} for {precision}, expected {lowest} to 1")));
            }
        }
        let vector = |of: &str, values: Vec<f32>| {
            Embedding::normalised(values).map_err(|e| unusable(format!("has no vector for {of:?}: {e}")))
        };
        let texts = file
            .texts
            .into_iter()
            .map(|t| Ok(GoldenText { vector: vector(&t.text, t.vector)?, text: t.text, tokens: t.tokens }));
        let images = file.images.into_iter().map(|i| {
            let data =
                STANDARD.decode(&i.data).map_err(|e| unusable(format!("has no picture for {:?}: {e}", i.name)))?;
            Ok(GoldenImage { vector: vector(&i.name, i.vector)?, name: i.name, file: data })
        });
        let golden = Self {
            path: path.to_owned(),
            made_with: file.made_with,
            cosine_min: file.cosine_min,
            texts: texts.collect::<Result<_, ModelError>>()?,
            images: images.collect::<Result<_, ModelError>>()?,
        };
        if golden.texts.is_empty() || golden.images.is_empty() {
            return Err(unusable("has no text or no picture".to_owned()));
        }
        Ok(golden)
    }

    /// The lowest cosine that is accepted in `precision`: what the export tool measured and allowed, else what the
    /// precision's rounding may cost at most.
    pub(crate) fn cosine_min(&self, precision: Precision) -> f32 {
        self.cosine_min.get(&precision).copied().unwrap_or(match precision {
            Precision::Fp32 => 0.99999,
            Precision::Fp16 => 0.999,
            Precision::Int8 => 0.98,
            Precision::Int4 => 0.95,
        })
    }

    /// One input's vector beside its golden one.
    ///
    /// # Errors
    /// They have not as many values.
    pub(crate) fn compared(
        &self,
        modality: Modality,
        input: &str,
        vector: Embedding,
        expected: &Embedding,
        tokens_differ: Option<String>,
    ) -> Result<Compared, ModelError> {
        if vector.dimension() != expected.dimension() {
            return Err(ModelError::new(
                ModelReason::GoldenMismatch,
                format!(
                    "the {modality} tower gives {} values, {} has vectors of {}; expected equal dimensions",
                    vector.dimension(),
                    self.path.display(),
                    expected.dimension()
                ),
            ));
        }
        let cosine = vector.cosine(expected);
        Ok(Compared { modality, input: crate::redact::cut(input, 60), vector, cosine, tokens_differ })
    }
}

impl Compared {
    /// Why this is not OpenCLIP's result; none: it is.
    pub(crate) fn problem(&self, floor: f32) -> Option<String> {
        let Self { modality, input, cosine, .. } = self;
        if let Some(tokens) = &self.tokens_differ {
            return Some(format!("tokens of {input:?} differ: {}", crate::redact::cut(tokens, 300)));
        }
        // Also for a cosine that is no number.
        let reached = *cosine >= floor;
        (!reached).then(|| format!("{modality} {input:?} has cosine {cosine:.6}, expected at least {floor}"))
    }
}
