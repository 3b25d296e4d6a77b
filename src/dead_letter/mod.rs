//! Port: where messages go that cannot be processed, whole and with the reason, or that are to be tried again later; and
//! how dead letters are read back (`read`).

mod file;
mod found;
mod kafka;
mod letter;
mod parts;
pub mod read;
mod selection;
mod stored;

use async_trait::async_trait;

pub use self::file::FileDeadLetters;
pub use self::kafka::{KafkaDeadLetters, TopicFacts, describe};
pub use self::letter::REPLAYS;
pub use self::selection::Selection;
pub use self::stored::StoredLetter;
use crate::domain::{DeadLetterReason, Failure, Fault, Message};

#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub message: Message,
    pub failure: Failure,
    /// This time.
    pub attempts: u32,
    /// Which of the message's requests failed, from 0, in order. Empty where it brought no more than one, or could not be read.
    pub requests: Vec<usize>,
}

impl DeadLetter {
    /// With those before the message was put off.
    fn attempts_in_all(&self) -> u32 {
        self.attempts.saturating_add(self.message.retry.as_ref().map_or(0, |retry| retry.attempts))
    }
}

/// Where a letter has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    DeadLetter,
    /// Its message comes again, from a retry topic.
    RetryScheduled,
}

#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Returns once the letter is safe (for Kafka: acknowledged by all in-sync replicas). Every error is an outage:
    /// the caller holds the message and tries again.
    async fn send(&self, letter: &DeadLetter) -> Result<Sent, DeadLetterError>;
}

/// Why a dead letter is not written, or not read.
pub type DeadLetterError = Fault<DeadLetterReason>;

fn unavailable(message: impl Into<String>) -> DeadLetterError {
    DeadLetterError::new(DeadLetterReason::Unavailable, message)
}
