//! The image tower: batches of preprocessed pictures to vectors. It reuses one input buffer, because a batch of pixels is megabytes.

use std::hash::{DefaultHasher, Hasher};

use ort::session::{HasSelectedOutputs, RunOptions, Session};

use super::buffers::PixelBuffer;
use super::{Tower, in_runs, only, vectors};
use crate::clip::ClipError;
use crate::clip::graph::{ImageSignature, PixelType, one_line};
use crate::clip::providers::{ImageShapes, OnSession};
use crate::domain::{ClipReason, Embedding, Fault, Modality, ModelReason};
use crate::picture::Pixels;

/// Pixels in, vectors out.
pub(crate) struct ImageTower {
    session: Session,
    signature: ImageSignature,
    outputs: RunOptions<HasSelectedOutputs>,
    /// `[height, width]` of every picture.
    size: [usize; 2],
    shapes: ImageShapes,
    buffer: PixelBuffer,
    /// Rows of the last run.
    rows: usize,
}

impl ImageTower {
    pub(crate) fn new(
        session: Session,
        signature: ImageSignature,
        size: [usize; 2],
        shapes: ImageShapes,
    ) -> Result<Self, ClipError> {
        let fixed = [signature.height.fixed().unwrap_or(size[0]), signature.width.fixed().unwrap_or(size[1])];
        if fixed != size {
            let message = format!(
                "the image tower takes {}x{} pixels, its preprocessing gives {}x{} (height x width); expected equal sizes",
                fixed[0], fixed[1], size[0], size[1]
            );
            return Err(Fault::new(ModelReason::Unusable, message).hint("take both files from the same export").into());
        }
        let outputs = only(&signature.output)?;
        let buffer = PixelBuffer::new(signature.pixel_type);
        Ok(Self { session, signature, outputs, size, shapes, buffer, rows: 0 })
    }

    /// Vectors of preprocessed pictures, in order, in one run of the graph (several if its batch is fixed). Blocks,
    /// without a queue: for benches.
    pub(crate) fn embed(&mut self, pictures: &[Pixels]) -> Result<Vec<Embedding>, ClipError> {
        self.run(&pictures.iter().collect::<Vec<_>>())?.into_iter().collect()
    }

    /// Checks that a picture has the graph's input shape.
    pub(crate) fn check(size: [usize; 2], pixels: &Pixels) -> Result<(), ClipError> {
        let [height, width] = size;
        if [pixels.height, pixels.width] == size && pixels.data.len() == 3 * height * width {
            return Ok(());
        }
        let message = format!(
            "found {} values for {}x{} pixels, expected 3x{height}x{width} (channels, height, width)",
            pixels.data.len(),
            pixels.height,
            pixels.width
        );
        Err(Fault::new(ClipReason::PixelsWrongSize, message).into())
    }

    /// Whether the graph normalises its input itself.
    pub(crate) fn normalises(&self) -> bool {
        self.signature.pixel_type == PixelType::Rgb
    }

    /// A picture for the trial run. Its pixels differ: a graph that normalises its input could give no valid vector for
    /// a uniform picture.
    pub(crate) fn trial_picture(&self) -> Pixels {
        let [height, width] = self.size;
        let (step, offset) = if self.normalises() { (36.0, 0.0) } else { (1.0 / 7.0, -0.4) };
        let data = (0..3 * height * width).map(|i| (i % 7) as f32 * step + offset).collect();
        Pixels { data, height, width }
    }

    fn run_rows(&mut self, items: &[&Pixels], rows: usize) -> Result<Vec<Vec<f32>>, ClipError> {
        let [height, width] = self.size;
        self.buffer.clear();
        for item in items {
            Self::check(self.size, item)?;
            self.buffer.extend(&item.data);
        }
        self.buffer.pad(rows * 3 * height * width);
        self.rows = rows;
        self.run_buffer(items.len())
    }

    fn run_buffer(&mut self, count: usize) -> Result<Vec<Vec<f32>>, ClipError> {
        let shape = self.signature.pixel_type.shape(self.rows, self.size);
        let mut run = || -> ort::Result<_> {
            let pixels = self.buffer.tensor(shape)?;
            let inputs = vec![(self.signature.pixels.as_str(), pixels)];
            let outputs = self.session.run_with_options(inputs, &self.outputs)?;
            vectors(&outputs[0], self.signature.output.float, self.rows, count)
        };
        run().map_err(|e| ClipError::run(format!("the image tower failed on {count} pictures: {}", one_line(&e))))
    }
}

impl OnSession for ImageTower {
    fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Tower for ImageTower {
    type Item = Pixels;
    const MODALITY: Modality = Modality::Image;

    fn run(&mut self, items: &[&Pixels]) -> Result<Vec<Result<Embedding, ClipError>>, ClipError> {
        let rows = self.shapes.rows(items.len());
        in_runs(items, self.signature.batch, rows, |items, rows| self.run_rows(items, rows))
    }

    fn fixed_rows(&self) -> Option<usize> {
        self.signature.batch.fixed()
    }

    fn digest(item: &Pixels) -> u64 {
        let mut hasher = DefaultHasher::new();
        item.data.iter().for_each(|value| hasher.write_u32(value.to_bits()));
        hasher.finish()
    }

    fn run_again(&mut self) -> Result<(), ClipError> {
        self.run_buffer(0).map(drop)
    }
}
