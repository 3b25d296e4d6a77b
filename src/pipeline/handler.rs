use super::PipelineError;
use super::attempts::{GaveUp, Stop, Tried};
use crate::dead_letter::{DeadLetter, Sent};
use crate::domain::{Failure, IngestRequest, Message, Outcome};
use crate::format::{LookUp, Read};
use crate::media::Standing;

/// What is done with one message. The stages implement it; tests have their own.
pub trait Handler: Send + Sync + 'static {
    /// # Errors
    /// When nothing of the message can be read.
    fn decode(&self, message: &Message) -> Result<Read, Failure>;

    /// Looks up what a message needs before it can be decoded, retries included.
    fn look_up(&self, needed: &dyn LookUp) -> impl Future<Output = Result<(), GaveUp>> + Send;

    /// Bytes that the request holds in memory on its way, its message left out.
    fn memory_bytes(&self, request: &IngestRequest) -> usize;

    /// The media host that the request needs something of, if any.
    fn host(&self, request: &IngestRequest) -> Option<String>;

    /// What may be expected of a host now.
    fn standing(&self, host: &str) -> Standing;

    /// Takes the request, the message's one of this index, as far as it gets, retries included. Put aside, it is processed anew,
    /// with the same `tried`.
    fn process(
        &self,
        request: &IngestRequest,
        index: usize,
        message: &Message,
        tried: &mut Tried,
    ) -> impl Future<Output = Result<Outcome, Stop>> + Send;

    /// Why no more work can be done, if so: something that all messages need has panicked, or does not work any more.
    fn broken(&self) -> Option<PipelineError>;

    /// Returns once the letter is safe, however long that takes.
    fn send_dead_letter(&self, letter: &DeadLetter) -> impl Future<Output = Sent> + Send;
}
