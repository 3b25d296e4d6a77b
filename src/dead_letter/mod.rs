//! Port: where messages go that cannot be processed, whole and with the reason; and how they are
//! read back (`read`).

mod file;
mod kafka;
mod letter;
pub mod read;
mod selection;
mod stored;

use async_trait::async_trait;

pub use self::file::FileDeadLetters;
pub use self::kafka::KafkaDeadLetters;
pub use self::letter::{CONNECT_PREFIX, OWN_PREFIX, REPLAYS};
pub use self::selection::Selection;
pub use self::stored::StoredLetter;
use crate::domain::{Failure, Message};

#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub message: Message,
    pub failure: Failure,
    pub attempts: u32,
}

#[async_trait]
pub trait DeadLetters: Send + Sync {
    /// Returns once the letter is safe (for Kafka: acknowledged by all in-sync replicas). Every error is an outage:
    /// the caller holds the message and tries again.
    async fn send(&self, letter: &DeadLetter) -> Result<(), DeadLetterError>;
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DeadLetterError(pub String);
