//! One tower: a session with its reused input buffers. It runs batches and has no queue.

mod buffers;
mod image;
mod run_cost;
mod text;

use half::f16;
use half::slice::HalfFloatSliceExt;
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions};

pub(super) use image::ImageTower;
pub(super) use text::{TextTower, Tolerance};

use super::ClipError;
use super::graph::{Axis, Float, Output};
use crate::domain::{ClipReason, Embedding, Fault, Modality};

/// What an engine's thread runs.
pub(super) trait Tower: Send + 'static {
    type Item: Send + Sync + 'static;
    const MODALITY: Modality;

    /// One result per item, in order; or why the whole run failed.
    fn run(&mut self, items: &[&Self::Item]) -> Result<Vec<Result<Embedding, ClipError>>, ClipError>;

    /// How much work an item is, in a unit of the tower's own.
    fn work(_item: &Self::Item) -> usize {
        0
    }

    /// Work after which no more items are taken for a batch. It bounds how long an item waits for the batch under way.
    fn work_max(&self) -> usize {
        usize::MAX
    }

    /// Indices of items that run together: all, unless some would lengthen the others' run. Groups are in the order in
    /// which they should run.
    fn groups(&self, items: &[&Self::Item]) -> Vec<Vec<usize>> {
        vec![(0..items.len()).collect()]
    }

    /// Runs of at most `batch_max` items (at least 1): providers may not be set up for more.
    fn run_in_batches(
        &mut self,
        items: &[&Self::Item],
        batch_max: usize,
    ) -> Result<Vec<Result<Embedding, ClipError>>, ClipError> {
        let mut results = Vec::with_capacity(items.len());
        for items in items.chunks(batch_max.max(1)) {
            results.extend(self.run(items)?);
        }
        Ok(results)
    }

    /// Rows of every run, if the graph fixes them. More items take several runs.
    fn fixed_rows(&self) -> Option<usize>;

    /// A hash that distinguishes items.
    fn digest(item: &Self::Item) -> u64;

    /// Repeats the last run over the same inputs and drops the result: times ONNX Runtime alone, for benches.
    fn run_again(&mut self) -> Result<(), ClipError>;
}

/// With a free batch size, one run of `rows` rows; with a fixed one, several runs of its size. Rows without an item are
/// padding.
fn in_runs<I>(
    items: &[&I],
    batch: Axis,
    rows: usize,
    mut run_rows: impl FnMut(&[&I], usize) -> Result<Vec<Vec<f32>>, ClipError>,
) -> Result<Vec<Result<Embedding, ClipError>>, ClipError> {
    let mut results = Vec::with_capacity(items.len());
    let rows = batch.fixed().unwrap_or(rows);
    for items in items.chunks(rows.max(1)) {
        results.extend(run_rows(items, rows)?.into_iter().map(normalised));
    }
    Ok(results)
}

fn normalised(vector: Vec<f32>) -> Result<Embedding, ClipError> {
    Embedding::normalised(vector).map_err(|e| Fault::new(ClipReason::EmbeddingInvalid, e.to_string()).into())
}

/// Requests only the embedding, so that hidden states are neither computed nor copied.
fn only(output: &Output) -> Result<RunOptions<HasSelectedOutputs>, ClipError> {
    let options = RunOptions::new()
        .map_err(|e| Fault::new(ClipReason::OnnxruntimeFailed, format!("ONNX Runtime gave no run options: {e}")))?;
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
