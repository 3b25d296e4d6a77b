//! Inputs that are known to be good: what a session is tried with before an item is blamed, and before a session that was opened
//! anew is used.

use super::ClipError;
use super::tower::Tower;
use crate::domain::Embedding;

/// How close a session must come to the vectors that another one of the same graph gave at the start, where the model has no
/// golden ones: far below what rounding does, far above what a broken session gives.
const OWN_COSINE_MIN: f32 = 0.99;

/// Inputs of one tower with their vectors: the model's golden ones, or, where it has none, those of the start's trial run.
#[derive(Debug)]
pub(super) struct Probes<I> {
    inputs: Vec<(I, Embedding)>,
    cosine_min: f32,
}

impl<I> Probes<I> {
    /// At least one input; vectors of one dimension.
    pub(super) fn golden(inputs: Vec<(I, Embedding)>, cosine_min: f32) -> Self {
        Self { inputs, cosine_min }
    }

    /// From what the tower gives now, having just been opened and tried.
    pub(super) fn of_start<T: Tower<Item = I>>(tower: &mut T, inputs: Vec<I>) -> Result<Self, ClipError> {
        let vector = |input: I| Ok((tower.run(&[&input])?.pop().unwrap_or_else(|| Err(ClipError::stopped()))?, input));
        let inputs = inputs.into_iter().map(vector).collect::<Result<Vec<_>, ClipError>>()?;
        let inputs = inputs.into_iter().map(|(vector, input)| (input, vector)).collect();
        Ok(Self { inputs, cosine_min: OWN_COSINE_MIN })
    }

    /// Values of a vector.
    pub(super) fn dimension(&self) -> usize {
        self.inputs.first().map_or(0, |(_, vector)| vector.dimension())
    }

    /// Runs them all, each alone.
    ///
    /// # Errors
    /// How the tower failed, or that it gave another vector.
    pub(super) fn prove<T: Tower<Item = I>>(&self, tower: &mut T) -> Result<(), ClipError> {
        for (input, expected) in &self.inputs {
            let found = tower.run(&[input])?.pop().unwrap_or_else(|| Err(ClipError::stopped()))?;
            let is_alike = found.dimension() == expected.dimension() && found.cosine(expected) >= self.cosine_min;
            if !is_alike {
                let message = format!(
                    "it gave another vector for the same input as before, expected a cosine of {}",
                    self.cosine_min
                );
                return Err(ClipError::run(message));
            }
        }
        Ok(())
    }
}
