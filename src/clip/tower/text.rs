//! The text tower: batches of token ids to vectors. Texts run at their real length if the graph allows that, because padding to the
//! whole context costs several times as much.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use ort::session::{HasSelectedOutputs, RunOptions, Session};

use super::buffers::Integers;
use super::run_cost::RunCost;
use super::{Tower, in_runs, only, vectors};
use crate::clip::ClipError;
use crate::clip::graph::{Axis, Integer, TextSignature, one_line};
use crate::clip::providers::{OnSession, TextShapes};
use crate::domain::{ClipReason, Embedding, Fault, Modality};
use crate::model::{Pooling, TextInput};

/// Token ids in, vectors out.
///
/// CLIP's text is causal and its vector is that of the end of the text, so padding after it changes nothing. A batch
/// runs at the length of its longest text. If the graph's length is fixed, or padding is part of the input
/// ([`Pooling::Padded`]), every text runs at the whole context length. A graph's attention mask is 1 for the tokens of a text and 0
/// for the padding behind them. Its token types are 0: there is one text in each row.
pub(crate) struct TextTower {
    session: Session,
    signature: TextSignature,
    outputs: RunOptions<HasSelectedOutputs>,
    /// Most tokens of a text, including start and end of text.
    context_length: usize,
    pooling: Pooling,
    shapes: TextShapes,
    /// Whether batches run at the length of their longest text instead of the whole context length.
    at_real_length: bool,
    ids: Integers,
    mask: Integers,
    types: Integers,
    run_cost: RunCost,
    /// Rows and tokens of the last run.
    shape: [usize; 2],
}

/// How much a vector at real length may differ from the padded one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tolerance {
    /// 1e-5 per value: far above rounding in full precision (1e-6), far below the effect of a wrong pooling (1e-1).
    Exact,
    /// For half and eight-bit precision, where rounding depends on the whole batch: a fraction of the difference
    /// between two different texts.
    Rounded,
}

/// Fraction of the smallest difference between two probes.
const ROUNDED_FRACTION: f32 = 0.25;

impl TextTower {
    pub(crate) fn new(
        session: Session,
        signature: TextSignature,
        input: TextInput,
        shapes: TextShapes,
    ) -> Result<Self, ClipError> {
        let TextInput { context_length, padding_id, pooling, .. } = input;
        let context_length = signature.sequence.fixed().map_or(context_length, |s| s.min(context_length));
        let outputs = only(&signature.output)?;
        let ids = Integers::new(signature.ids.1, padding_id);
        let zeros = |input: &Option<(String, Integer)>| {
            Integers::new(input.as_ref().map_or(Integer::I64, |(_, integer)| *integer), 0)
        };
        let (mask, types) = (zeros(&signature.mask), zeros(&signature.types));
        Ok(Self {
            session,
            signature,
            outputs,
            context_length,
            pooling,
            shapes,
            at_real_length: false,
            ids,
            mask,
            types,
            run_cost: RunCost::default(),
            shape: [0, 0],
        })
    }

    pub(crate) fn context_length(&self) -> usize {
        self.context_length
    }

    /// The name of the mask that the graph takes.
    pub(crate) fn mask(&self) -> Option<&str> {
        self.signature.mask.as_ref().map(|(name, _)| name.as_str())
    }

    /// From now on, fills rows with `id`.
    pub(crate) fn pad_with(&mut self, id: i64) {
        self.ids = Integers::new(self.signature.ids.1, id);
    }

    pub(crate) fn is_at_real_length(&self) -> bool {
        self.at_real_length
    }

    /// From now on, runs every text at the whole context length: the baseline for real length.
    pub(crate) fn pad_always(&mut self) {
        self.at_real_length = false;
    }

    /// Tests real length with the probes (two or more different texts): together, up to `batch_max` per run, at the
    /// whole context length, and each alone at its real length. Skipped if the length is fixed or padding is part of
    /// the input. Batches run at real length if the vectors agree within `tolerance`. Returns the padded vectors.
    pub(crate) fn prove_real_length(
        &mut self,
        probes: &[&Vec<i64>],
        batch_max: usize,
        tolerance: Tolerance,
    ) -> Result<Vec<Embedding>, ClipError> {
        self.at_real_length = false;
        let padded: Vec<Embedding> = self.run_in_batches(probes, batch_max)?.into_iter().collect::<Result<_, _>>()?;
        if self.signature.sequence != Axis::Free || self.pooling == Pooling::Padded {
            return Ok(padded);
        }
        let allowed = match tolerance {
            Tolerance::Exact => 1e-5,
            Tolerance::Rounded => {
                let apart = padded
                    .iter()
                    .enumerate()
                    .flat_map(|(n, one)| padded[..n].iter().map(|other| difference(one, other)).collect::<Vec<_>>());
                ROUNDED_FRACTION * apart.fold(f32::INFINITY, f32::min)
            }
        };
        self.at_real_length = true;
        let differs = |this: &mut Self| -> Result<f32, ClipError> {
            let mut largest = 0.0_f32;
            for (probe, padded) in probes.iter().zip(&padded) {
                let real = this.run(&[probe])?.pop().unwrap_or_else(|| Err(ClipError::stopped()))?;
                largest = largest.max(difference(&real, padded));
            }
            Ok(largest)
        };
        let found = differs(self);
        self.at_real_length = found.as_ref().is_ok_and(|found| *found <= allowed);
        if !self.at_real_length {
            let difference = found.map_or_else(|e| e.to_string(), |found| format!("{found:.1e}"));
            tracing::warn!(
                difference,
                allowed,
                "the text tower's vectors depend on padding: every text runs at the \
                whole context length"
            );
        }
        Ok(padded)
    }

    fn run_rows(&mut self, items: &[&Vec<i64>], rows: usize) -> Result<Vec<Vec<f32>>, ClipError> {
        let longest = items.iter().map(|i| i.len()).max().unwrap_or(0);
        if longest > self.context_length || items.iter().any(|i| i.is_empty()) {
            let message = format!("found a text of {longest} tokens, expected 1 to {}", self.context_length);
            return Err(Fault::new(ClipReason::TokensWrongLength, message).into());
        }
        let length = match self.signature.sequence {
            Axis::Fixed(length) => length,
            Axis::Free if self.at_real_length => self.shapes.length(longest),
            Axis::Free => self.context_length,
        };
        self.ids.clear();
        self.mask.clear();
        for (row, item) in (1..).zip(items) {
            self.ids.extend(item.iter().copied());
            self.ids.pad(row * length);
            // Where padding is a part of the input, nothing is masked.
            let masked_from = if self.pooling == Pooling::Padded { length } else { item.len() };
            self.mask.extend(std::iter::repeat_n(1, masked_from));
            self.mask.pad(row * length);
        }
        self.ids.pad(rows * length);
        self.mask.pad(rows * length);
        self.types.clear();
        self.types.pad(rows * length);
        self.shape = [rows, length];
        self.run_buffers(items.len())
    }

    fn run_buffers(&mut self, count: usize) -> Result<Vec<Vec<f32>>, ClipError> {
        let mut run = || -> ort::Result<_> {
            let mut inputs = vec![(self.signature.ids.0.as_str(), self.ids.tensor(self.shape)?)];
            if let Some((name, _)) = &self.signature.mask {
                inputs.push((name.as_str(), self.mask.tensor(self.shape)?));
            }
            if let Some((name, _)) = &self.signature.types {
                inputs.push((name.as_str(), self.types.tensor(self.shape)?));
            }
            let start = Instant::now();
            let outputs = self.session.run_with_options(inputs, &self.outputs)?;
            self.run_cost.seen(self.shape[0] * self.shape[1], start.elapsed());
            vectors(&outputs[0], self.signature.output.float, self.shape[0], count)
        };
        run().map_err(|e| ClipError::run(format!("the text tower failed on {count} texts: {}", one_line(&e))))
    }
}

/// The largest difference between two values at the same index.
fn difference(one: &Embedding, other: &Embedding) -> f32 {
    if one.dimension() != other.dimension() {
        return f32::INFINITY;
    }
    one.as_slice().iter().zip(other.as_slice()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

impl OnSession for TextTower {
    fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Tower for TextTower {
    type Item = Vec<i64>;
    const MODALITY: Modality = Modality::Text;

    fn run(&mut self, items: &[&Vec<i64>]) -> Result<Vec<Result<Embedding, ClipError>>, ClipError> {
        let rows = self.shapes.rows(items.len());
        in_runs(items, self.signature.batch, rows, |items, rows| self.run_rows(items, rows))
    }

    /// Tokens.
    fn work(item: &Vec<i64>) -> usize {
        item.len()
    }

    fn work_max(&self) -> usize {
        self.shapes.tokens_max()
    }

    fn groups(&self, items: &[&Vec<i64>]) -> Vec<Vec<usize>> {
        if self.at_real_length {
            let lengths: Vec<_> = items.iter().map(|item| item.len()).collect();
            self.shapes.groups(&lengths, self.run_cost.in_tokens())
        } else {
            vec![(0..items.len()).collect()]
        }
    }

    fn fixed_rows(&self) -> Option<usize> {
        self.signature.batch.fixed()
    }

    fn digest(item: &Vec<i64>) -> u64 {
        let mut hasher = DefaultHasher::new();
        item.hash(&mut hasher);
        hasher.finish()
    }

    fn run_again(&mut self) -> Result<(), ClipError> {
        self.run_buffers(0).map(drop)
    }
}
