//! Known-good inputs. They test a session before an item is blamed, and a reopened session before it is used.

use super::ClipError;
use super::tower::Tower;
use crate::domain::Embedding;

/// The lowest accepted cosine to the vectors from startup, for models without golden ones. Rounding stays well above
/// it; a broken session falls far below.
const OWN_COSINE_MIN: f32 = 0.99;

/// Inputs of one tower with their vectors: golden ones, or those of the trial run at startup.
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

    /// Uses the vectors that a newly opened and tested tower gives.
    pub(super) fn of_start<T: Tower<Item = I>>(tower: &mut T, inputs: Vec<I>) -> Result<Self, ClipError> {
        let vector = |input: I| Ok((tower.run(&[&input])?.pop().unwrap_or_else(|| Err(ClipError::stopped()))?, input));
        let inputs = inputs.into_iter().map(vector).collect::<Result<Vec<_>, ClipError>>()?;
        let inputs = inputs.into_iter().map(|(vector, input)| (input, vector)).collect();
        Ok(Self { inputs, cosine_min: OWN_COSINE_MIN })
    }

    /// Length of a vector.
    pub(super) fn dimension(&self) -> usize {
        self.inputs.first().map_or(0, |(_, vector)| vector.dimension())
    }

    /// Runs each input alone.
    ///
    /// # Errors
    /// How the tower failed, or that a vector differs.
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
