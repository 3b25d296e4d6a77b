//! One tower: a session with its reused input buffers. It runs batches; nothing here waits or queues.

use half::f16;
use half::slice::HalfFloatSliceExt;
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session, SessionInputValue};
use ort::value::TensorRef;

use super::ClipError;
use super::graph::{Axis, Float, ImageSignature, Integer, Output, TextSignature, one_line};
use super::preprocess::Pixels;
use crate::domain::{Embedding, Modality};

/// What a queue's thread drives.
pub(super) trait Tower: Send + 'static {
    type Item: Send + 'static;
    const MODALITY: Modality;

    /// One result per item, in order; or why the run as a whole failed.
    fn run(&mut self, items: &[&Self::Item]) -> Result<Vec<Result<Embedding, ClipError>>, ClipError>;
}

/// Pixels in, vectors out.
pub(super) struct ImageTower {
    session: Session,
    signature: ImageSignature,
    outputs: RunOptions<HasSelectedOutputs>,
    /// `[height, width]` of every picture.
    size: [usize; 2],
    buffer: Floats,
}

impl ImageTower {
    pub(super) fn new(session: Session, signature: ImageSignature, size: [usize; 2]) -> Result<Self, ClipError> {
        let fixed = [signature.height.fixed().unwrap_or(size[0]), signature.width.fixed().unwrap_or(size[1])];
        if fixed != size {
            return Err(ClipError::load(
                "model_unusable",
                format!(
                    "the image tower takes {}x{} pixels, its preprocessing gives {}x{} (height x width); expected \
                     equal sizes; take both files from the same export",
                    fixed[0], fixed[1], size[0], size[1]
                ),
            ));
        }
        let outputs = only(&signature.output)?;
        let buffer = Floats::new(signature.float);
        Ok(Self { session, signature, outputs, size, buffer })
    }

    /// Vectors of preprocessed pictures, in order, in one run of the graph (or several where its batch is fixed). It
    /// blocks, and joins no queue: the model alone, as benches want it.
    pub(super) fn embed(&mut self, pictures: &[Pixels]) -> Result<Vec<Embedding>, ClipError> {
        self.run(&pictures.iter().collect::<Vec<_>>())?.into_iter().collect()
    }

    /// Whether a picture has the shape that the graph takes.
    pub(super) fn check(size: [usize; 2], pixels: &Pixels) -> Result<(), ClipError> {
        let [height, width] = size;
        if [pixels.height, pixels.width] == size && pixels.data.len() == 3 * height * width {
            return Ok(());
        }
        Err(ClipError::item(
            "pixels_wrong_size",
            format!(
                "found {} values for {}x{} pixels, expected 3x{height}x{width} (channels, height, width); preprocess \
                 with the same model",
                pixels.data.len(),
                pixels.height,
                pixels.width
            ),
        ))
    }

    fn run_rows(&mut self, items: &[&Pixels], rows: usize) -> Result<Vec<Vec<f32>>, ClipError> {
        let [height, width] = self.size;
        self.buffer.clear();
        for item in items {
            Self::check(self.size, item)?;
            self.buffer.extend(&item.data);
        }
        self.buffer.pad(rows * 3 * height * width);
        let mut run = || -> ort::Result<_> {
            let pixels = self.buffer.tensor([rows, 3, height, width])?;
            let inputs = vec![(self.signature.pixels.as_str(), pixels)];
            let outputs = self.session.run_with_options(inputs, &self.outputs)?;
            vectors(&outputs[0], self.signature.output.float, rows, items.len())
        };
        run().map_err(|e| {
            ClipError::run(format!("the image tower failed on {} pictures: {}", items.len(), one_line(&e)))
        })
    }
}

impl Tower for ImageTower {
    type Item = Pixels;
    const MODALITY: Modality = Modality::Image;

    fn run(&mut self, items: &[&Pixels]) -> Result<Vec<Result<Embedding, ClipError>>, ClipError> {
        in_runs(items, self.signature.batch, |items, rows| self.run_rows(items, rows))
    }
}

/// Token ids in, vectors out.
pub(super) struct TextTower {
    session: Session,
    signature: TextSignature,
    outputs: RunOptions<HasSelectedOutputs>,
    /// Most tokens of a text, start and end of text included.
    context_length: usize,
    /// Whether a batch is run at its longest text's length, not at the whole context length.
    at_real_length: bool,
    ids: Integers,
    mask: Integers,
}

impl TextTower {
    pub(super) fn new(session: Session, signature: TextSignature, context_length: usize) -> Result<Self, ClipError> {
        let context_length = signature.sequence.fixed().map_or(context_length, |s| s.min(context_length));
        let outputs = only(&signature.output)?;
        let ids = Integers::new(signature.ids.1);
        let mask = Integers::new(signature.mask.as_ref().map_or(Integer::I64, |(_, integer)| *integer));
        let at_real_length = signature.sequence == Axis::Free;
        Ok(Self { session, signature, outputs, context_length, at_real_length, ids, mask })
    }

    pub(super) fn context_length(&self) -> usize {
        self.context_length
    }

    /// Runs `text` alone at its real length and at the whole context length. Where the two vectors differ, or the
    /// graph refuses the shorter one, texts are not causal here, and batches run at the whole context length from now
    /// on. Returns the vector.
    pub(super) fn try_real_length(&mut self, text: &Vec<i64>) -> Result<Embedding, ClipError> {
        let real = if self.at_real_length { self.alone(text) } else { Err(ClipError::run("not tried")) };
        self.at_real_length = false;
        let whole = self.alone(text)?;
        // Far above rounding (1e-6), far below what a wrong pooling position does (1e-1).
        self.at_real_length =
            real.is_ok_and(|real| real.dimension() == whole.dimension() && real.cosine(&whole) > 0.9999);
        if !self.at_real_length && self.signature.sequence == Axis::Free {
            tracing::warn!("the text tower's vectors depend on padding: every text runs at the whole context length");
        }
        Ok(whole)
    }

    fn alone(&mut self, text: &Vec<i64>) -> Result<Embedding, ClipError> {
        let rows = self.signature.batch.fixed().unwrap_or(1);
        let mut vectors = self.run_rows(&[text], rows)?;
        normalised(vectors.swap_remove(0))
    }

    fn run_rows(&mut self, items: &[&Vec<i64>], rows: usize) -> Result<Vec<Vec<f32>>, ClipError> {
        let longest = items.iter().map(|i| i.len()).max().unwrap_or(0);
        if longest > self.context_length || items.iter().any(|i| i.is_empty()) {
            return Err(ClipError::item(
                "tokens_wrong_length",
                format!("found a text of {longest} tokens, expected 1 to {}", self.context_length),
            ));
        }
        let length = match self.signature.sequence {
            Axis::Fixed(length) => length,
            Axis::Free if self.at_real_length => longest,
            Axis::Free => self.context_length,
        };
        self.ids.clear();
        self.mask.clear();
        for (row, item) in (1..).zip(items) {
            self.ids.extend(item.iter().copied());
            self.ids.pad(row * length);
            self.mask.extend(item.iter().map(|_| 1));
            self.mask.pad(row * length);
        }
        self.ids.pad(rows * length);
        self.mask.pad(rows * length);
        let mut run = || -> ort::Result<_> {
            let mut inputs = vec![(self.signature.ids.0.as_str(), self.ids.tensor([rows, length])?)];
            if let Some((name, _)) = &self.signature.mask {
                inputs.push((name.as_str(), self.mask.tensor([rows, length])?));
            }
            let outputs = self.session.run_with_options(inputs, &self.outputs)?;
            vectors(&outputs[0], self.signature.output.float, rows, items.len())
        };
        run().map_err(|e| ClipError::run(format!("the text tower failed on {} texts: {}", items.len(), one_line(&e))))
    }
}

impl Tower for TextTower {
    type Item = Vec<i64>;
    const MODALITY: Modality = Modality::Text;

    fn run(&mut self, items: &[&Vec<i64>]) -> Result<Vec<Result<Embedding, ClipError>>, ClipError> {
        in_runs(items, self.signature.batch, |items, rows| self.run_rows(items, rows))
    }
}

/// A free batch is one run; a fixed one is as many runs of its size as it takes, the last one padded.
fn in_runs<I>(
    items: &[&I],
    batch: Axis,
    mut run_rows: impl FnMut(&[&I], usize) -> Result<Vec<Vec<f32>>, ClipError>,
) -> Result<Vec<Result<Embedding, ClipError>>, ClipError> {
    let mut results = Vec::with_capacity(items.len());
    for items in items.chunks(batch.fixed().unwrap_or(items.len()).max(1)) {
        let rows = batch.fixed().unwrap_or(items.len());
        results.extend(run_rows(items, rows)?.into_iter().map(normalised));
    }
    Ok(results)
}

fn normalised(vector: Vec<f32>) -> Result<Embedding, ClipError> {
    Embedding::normalised(vector).map_err(|e| ClipError::item("embedding_invalid", e.to_string()))
}

/// Asks for the embedding alone, so that hidden states beside it are neither computed nor copied.
fn only(output: &Output) -> Result<RunOptions<HasSelectedOutputs>, ClipError> {
    let options = RunOptions::new()
        .map_err(|e| ClipError::load("onnxruntime_failed", format!("ONNX Runtime gave no run options: {e}")))?;
    Ok(options.with_outputs(OutputSelector::no_default().with(&output.name)))
}

/// The first `count` vectors of an output `[rows, dimension]`.
fn vectors(output: &ort::value::DynValue, float: Float, rows: usize, count: usize) -> ort::Result<Vec<Vec<f32>>> {
    let (shape, values) = match float {
        Float::F32 => {
            let (shape, values) = output.try_extract_tensor::<f32>()?;
            (shape, std::borrow::Cow::Borrowed(values))
        }
        Float::F16 => {
            let (shape, values) = output.try_extract_tensor::<f16>()?;
            (shape, values.to_f32_vec().into())
        }
    };
    match shape[..] {
        [found, dimension] if found == rows as i64 && dimension > 0 => {
            Ok(values.chunks_exact(dimension as usize).take(count).map(<[f32]>::to_vec).collect())
        }
        _ => Err(ort::Error::new(format!("the graph gave shape {:?}, expected [{rows}, dimension]", &shape[..]))),
    }
}

/// A reused buffer of the element type that the graph takes.
enum Floats {
    F32(Vec<f32>),
    F16(Vec<f16>),
}

impl Floats {
    fn new(float: Float) -> Self {
        match float {
            Float::F32 => Self::F32(Vec::new()),
            Float::F16 => Self::F16(Vec::new()),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::F32(values) => values.clear(),
            Self::F16(values) => values.clear(),
        }
    }

    fn extend(&mut self, more: &[f32]) {
        match self {
            Self::F32(values) => values.extend_from_slice(more),
            Self::F16(values) => {
                let start = values.len();
                values.resize(start + more.len(), f16::ZERO);
                values[start..].convert_from_f32_slice(more);
            }
        }
    }

    fn pad(&mut self, length: usize) {
        match self {
            Self::F32(values) => values.resize(length, 0.0),
            Self::F16(values) => values.resize(length, f16::ZERO),
        }
    }

    fn tensor(&self, shape: [usize; 4]) -> ort::Result<SessionInputValue<'_>> {
        Ok(match self {
            Self::F32(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
            Self::F16(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        })
    }
}

/// The same for ids and masks; padding is 0, which CLIP's texts end before.
enum Integers {
    I32(Vec<i32>),
    I64(Vec<i64>),
}

impl Integers {
    fn new(integer: Integer) -> Self {
        match integer {
            Integer::I32 => Self::I32(Vec::new()),
            Integer::I64 => Self::I64(Vec::new()),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::I32(values) => values.clear(),
            Self::I64(values) => values.clear(),
        }
    }

    fn extend(&mut self, more: impl Iterator<Item = i64>) {
        match self {
            // No vocabulary reaches i32::MAX: the graph refuses such an id as it would refuse the i64 one.
            Self::I32(values) => values.extend(more.map(|id| i32::try_from(id).unwrap_or(i32::MAX))),
            Self::I64(values) => values.extend(more),
        }
    }

    fn pad(&mut self, length: usize) {
        match self {
            Self::I32(values) => values.resize(length, 0),
            Self::I64(values) => values.resize(length, 0),
        }
    }

    fn tensor(&self, shape: [usize; 2]) -> ort::Result<SessionInputValue<'_>> {
        Ok(match self {
            Self::I32(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
            Self::I64(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        })
    }
}
