//! Trials: a message that may crash the worker is tried in another process.

use tokio::sync::oneshot;

use crate::domain::{Failure, Message};

/// Runs messages in a separate process, so that a crash there does not end the worker.
pub trait Trials: Send + Sync {
    /// Starts a trial and returns at once. Dropping the receiver cancels it.
    fn begin(&self, message: &Message) -> oneshot::Receiver<TrialOutcome>;
}

/// The result of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrialOutcome {
    /// The message was processed as far as its vectors, or failed in an ordinary way. The worker will see the same result.
    Passed,
    /// The trial says nothing about the message: known good inputs failed as well, or the process was killed from outside.
    Inconclusive,
    /// Every process that got the message crashed while it was working on nothing else.
    Poison(Failure),
}
