//! `golden.json`: inputs with the tokens and vectors that OpenCLIP gave for them, and how close a graph must come.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::ClipError;
use super::directory::text_of;
use super::load::Opened;
use super::probes::Probes;
use super::providers::Active;
use super::tower::Tower as _;
use crate::domain::{Decoding, Embedding, Modality, Orientation, Precision};
use crate::picture::Pixels;

/// The form of the file that is read here.
const FORMAT: u32 = 1;

/// Golden pictures are small; a larger one is none of ours.
const PIXELS_MAX: u64 = 16 * 1024 * 1024;

/// What is run at every start: enough to see a wrong graph, tokenizer or preprocessing, whatever the model's size.
const START_TEXTS: usize = 2;
const START_IMAGES: usize = 1;

/// A floor below it would let a wrong graph pass: the GELU of a QuickGELU checkpoint comes to about 0.99.
fn lowest_floor(precision: Precision) -> f32 {
    match precision {
        Precision::Fp32 => 0.999,
        Precision::Fp16 => 0.99,
        Precision::Int8 => 0.9,
    }
}

pub(super) struct Golden {
    path: PathBuf,
    pub(super) made_with: String,
    cosine_min: BTreeMap<Precision, f32>,
    texts: Vec<GoldenText>,
    images: Vec<GoldenImage>,
}

struct GoldenText {
    text: String,
    tokens: Vec<i64>,
    vector: Embedding,
}

struct GoldenImage {
    name: String,
    file: Vec<u8>,
    vector: Embedding,
}

/// How one golden input came out.
#[derive(Clone, Debug)]
pub(super) struct Compared {
    pub(super) modality: Modality,
    /// The picture's name, or the text.
    pub(super) input: String,
    pub(super) vector: Embedding,
    /// Similarity to OpenCLIP's vector.
    pub(super) cosine: f32,
    /// For a text whose tokens differ: found and expected.
    pub(super) tokens_differ: Option<String>,
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
    /// The file is no collection of golden vectors, or has none.
    pub(super) fn read(path: &Path) -> Result<Self, ClipError> {
        let unusable = |what: String| {
            let next_step = "export the model again, or remove the file: then nothing is verified";
            ClipError::load("golden_unusable", format!("{} {what}; {next_step}", path.display()))
        };
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
            texts: texts.collect::<Result<_, ClipError>>()?,
            images: images.collect::<Result<_, ClipError>>()?,
        };
        if golden.texts.is_empty() || golden.images.is_empty() {
            return Err(unusable("has no text or no picture".to_owned()));
        }
        Ok(golden)
    }

    /// The lowest cosine that is accepted in `precision`: what the export tool measured and allowed, else what the
    /// precision's rounding may cost at most.
    pub(super) fn cosine_min(&self, precision: Precision) -> f32 {
        self.cosine_min.get(&precision).copied().unwrap_or(match precision {
            Precision::Fp32 => 0.99999,
            Precision::Fp16 => 0.999,
            Precision::Int8 => 0.98,
        })
    }

    /// The same for an open model. Providers that round inside (`tensorrt.fp16`, `cuda.tf32`) come as close as half
    /// precision does, whatever the graph is in.
    pub(super) fn floor(&self, model: &Opened) -> f32 {
        let floor = self.cosine_min(model.opener.files.precision);
        let is_exact = |active: &Active| model.opener.settings().is_exact(active.first());
        if is_exact(&model.images.active) && is_exact(&model.texts.active) {
            floor
        } else {
            floor.min(self.cosine_min(Precision::Fp16))
        }
    }

    /// Runs every input through the model.
    ///
    /// # Errors
    /// A tower fails, or gives no vector (NaN, or all zeros).
    pub(super) fn compare(&self, model: &mut Opened) -> Result<Vec<Compared>, ClipError> {
        self.compare_first(model, self.images.len(), self.texts.len())
    }

    /// Refuses a model whose vectors are not OpenCLIP's, by its first golden inputs.
    pub(super) fn self_test(&self, model: &mut Opened) -> Result<(), ClipError> {
        let floor = self.floor(model);
        let compared = self.compare_first(model, START_IMAGES, START_TEXTS)?;
        match compared.iter().find_map(|c| c.problem(floor)) {
            None => Ok(()),
            Some(problem) => Err(ClipError::load(
                "golden_mismatch",
                format!(
                    "the model does not give OpenCLIP's vectors ({}): {problem}; see clipstream models verify, and pull \
                     or export the model again",
                    self.path.display()
                ),
            )),
        }
    }

    /// The first golden inputs with their vectors: what a session must come to at any time.
    pub(super) fn probes(&self, model: &Opened) -> Result<(Probes<Pixels>, Probes<Vec<i64>>), ClipError> {
        let floor = self.floor(model);
        let pixels = self.pixels(model, START_IMAGES)?.into_iter();
        let images = pixels.zip(&self.images).map(|(pixels, image)| (pixels, image.vector.clone())).collect();
        let texts = self.texts.iter().take(START_TEXTS).map(|t| (model.tokenizer.encode(&t.text), t.vector.clone()));
        Ok((Probes::golden(images, floor), Probes::golden(texts.collect(), floor)))
    }

    fn pixels(&self, model: &Opened, images: usize) -> Result<Vec<Pixels>, ClipError> {
        // As OpenCLIP does it, whatever the settings do to pictures otherwise.
        let preprocess = model.preprocess.clone().with(Orientation::default(), Decoding::default());
        let pixels = |image: &GoldenImage| {
            preprocess.decode(&image.file, PIXELS_MAX).map_err(|e| {
                ClipError::load("golden_unusable", format!("{}: picture {:?}: {e}", self.path.display(), image.name))
            })
        };
        self.images.iter().take(images).map(pixels).collect()
    }

    fn compare_first(&self, model: &mut Opened, images: usize, texts: usize) -> Result<Vec<Compared>, ClipError> {
        let pixels = self.pixels(model, images)?;
        let tokens: Vec<_> = self.texts.iter().take(texts).map(|t| model.tokenizer.encode(&t.text)).collect();

        let (Some(images), Some(texts)) = (model.images.towers.first_mut(), model.texts.towers.first_mut()) else {
            return Err(ClipError::Stopped);
        };
        let settings = model.opener.settings();
        let image_vectors = images.run_in_batches(&pixels.iter().collect::<Vec<_>>(), settings.image_batch_max)?;
        let text_vectors = texts.run_in_batches(&tokens.iter().collect::<Vec<_>>(), settings.text_batch_max)?;
        let mut compared = Vec::new();
        for (image, vector) in self.images.iter().zip(image_vectors) {
            compared.push(self.compared(Modality::Image, &image.name, vector?, &image.vector, None)?);
        }
        for ((text, found), vector) in self.texts.iter().zip(&tokens).zip(text_vectors) {
            let differ = (*found != text.tokens).then(|| format!("found {found:?}, expected {:?}", text.tokens));
            compared.push(self.compared(Modality::Text, &text.text, vector?, &text.vector, differ)?);
        }
        Ok(compared)
    }

    fn compared(
        &self,
        modality: Modality,
        input: &str,
        vector: Embedding,
        expected: &Embedding,
        tokens_differ: Option<String>,
    ) -> Result<Compared, ClipError> {
        if vector.dimension() != expected.dimension() {
            return Err(ClipError::load(
                "golden_mismatch",
                format!(
                    "the {modality} tower gives {} values, {} has vectors of {}; expected equal dimensions; pull or \
                     export the model again",
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
    pub(super) fn problem(&self, floor: f32) -> Option<String> {
        let Self { modality, input, cosine, .. } = self;
        if let Some(tokens) = &self.tokens_differ {
            return Some(format!("tokens of {input:?} differ: {}", crate::redact::cut(tokens, 300)));
        }
        // Also for a cosine that is no number.
        let reached = *cosine >= floor;
        (!reached).then(|| format!("{modality} {input:?} has cosine {cosine:.6}, expected at least {floor}"))
    }
}
