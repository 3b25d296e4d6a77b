//! Port: dead letters. Messages that cannot be processed are stored complete and with the reason, or scheduled for a retry;
//! `read` reads dead letters back.

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
    /// Attempts since the last retry topic.
    pub attempts: u32,
    /// The failed requests of the message, from 0, in order. Empty if it has only one request, or could not be decoded.
    pub requests: Vec<usize>,
}

impl DeadLetter {
    /// Including attempts before retry topics.
    fn attempts_in_all(&self) -> u32 {
        self.attempts.saturating_add(self.message.retry.as_ref().map_or(0, |retry| retry.attempts))
    }
}

/// Where a letter was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    DeadLetter,
    /// To a retry topic, from which its message will be consumed again.
    RetryScheduled,
}

#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Returns once the letter is safe (for Kafka: acknowledged by all in-sync replicas). Every error is an outage: the caller
    /// holds the message and retries.
    async fn send(&self, letter: &DeadLetter) -> Result<Sent, DeadLetterError>;
}

/// Why a dead letter was not written or not read.
pub type DeadLetterError = Fault<DeadLetterReason>;

fn unavailable(message: impl Into<String>) -> DeadLetterError {
    DeadLetterError::new(DeadLetterReason::Unavailable, message)
}
