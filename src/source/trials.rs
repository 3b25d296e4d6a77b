//! Where a message is tried that may be what ends processes.

use tokio::sync::oneshot;

use crate::domain::{Failure, Message};

/// A place apart, where a message that ends its process ends nothing else.
pub trait Trials: Send + Sync {
    /// Begins a trial and returns at once. Dropping the receiver gives it up.
    fn begin(&self, message: &Message) -> oneshot::Receiver<Tried>;
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// The message was worked on as far as its vectors, or failed as messages do. Either comes again where it counts.
    Survived,
    /// Nothing is known of the message: what is known to be good could not be done either, or others ended the trial.
    Unknown,
    /// It ended every process that it was given to, none of which had anything else to do.
    Condemned(Failure),
}
