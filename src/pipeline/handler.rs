//! What the dispatcher needs from the stages. A trait, so that tests of the dispatcher need no model, store or network.

use super::PipelineError;
use super::attempts::{GaveUp, Stop, Tried};
use crate::dead_letter::{DeadLetter, Sent};
use crate::domain::{Failure, IngestRequest, Message, Outcome};
use crate::format::{LookUp, Read};
use crate::media::Standing;

/// Processes messages. The stages implement it; tests have their own.
pub trait Handler: Send + Sync + 'static {
    /// # Errors
    /// When nothing of the message can be decoded.
    fn decode(&self, message: &Message) -> Result<Read, Failure>;

    /// Looks up what a message needs before it can be decoded, retries included.
    fn look_up(&self, needed: &dyn LookUp) -> impl Future<Output = Result<(), GaveUp>> + Send;

    /// Bytes that the request holds in memory while it is processed, without its message.
    fn memory_bytes(&self, request: &IngestRequest) -> usize;

    /// The media host that the request fetches from, if any.
    fn host(&self, request: &IngestRequest) -> Option<String>;

    /// What to expect of a host now.
    fn standing(&self, host: &str) -> Standing;

    /// Processes the request, number `index` of the message, retries included. If it is put aside, it is processed
    /// again with the same `tried`.
    fn process(
        &self,
        request: &IngestRequest,
        index: usize,
        message: &Message,
        tried: &mut Tried,
    ) -> impl Future<Output = Result<Outcome, Stop>> + Send;

    /// Why no more work is possible, if so: something that all messages need has panicked or stopped working.
    fn broken(&self) -> Option<PipelineError>;

    /// Returns once the letter is safe, however long that takes.
    fn send_dead_letter(&self, letter: &DeadLetter) -> impl Future<Output = Sent> + Send;
}
