//! Port: where messages come from. A source hands out messages in order per partition and takes back, per partition,
//! the offset up to which everything is settled.

mod directory;
mod kafka;
mod line_reader;
mod lines;
mod produce;
mod trials;

use std::collections::BTreeSet;

use async_trait::async_trait;

pub use self::directory::{DirectorySource, Skipped, SkippedKind, Walk};
pub use self::kafka::{KafkaFound, KafkaSource, Removed};
pub use self::line_reader::{Line, LineReader};
pub use self::lines::LinesSource;
pub use self::produce::{ProduceError, Producer, ensure_topics};
pub use self::trials::{TrialOutcome, Trials};

use crate::domain::{Fault, Message, SourceReason, TopicPartition};

/// What a source tells the pipeline.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all events are messages")]
pub enum SourceEvent {
    /// Comes before the first message of the partitions in this epoch. An earlier epoch of one of them, if there was any, is
    /// over: nothing of it counts any more (the partition came back, its topic was made anew, or its log was cut off).
    Assigned {
        epoch: u64,
        partitions: Vec<TopicPartition>,
    },
    Message(Message),
    /// Others will get these partitions: take no more of their messages, finish what is in flight, then complete the
    /// revocation. The source releases the partitions when it is completed, dropped, or past the drain deadline.
    Revoking(Revocation),
    /// Others have these partitions already; nothing of them can be committed any more.
    Lost {
        partitions: Vec<TopicPartition>,
    },
    /// A finite source has no more messages.
    End,
}

/// Partitions that are about to go, and the way to say that their work is finished.
#[derive(Debug)]
pub struct Revocation {
    pub partitions: Vec<TopicPartition>,
    reply: tokio::sync::oneshot::Sender<Vec<(TopicPartition, i64)>>,
}

impl Revocation {
    /// The receiver gets the last offsets to commit, or an error when the revocation is dropped.
    pub fn new(partitions: Vec<TopicPartition>) -> (Self, tokio::sync::oneshot::Receiver<Vec<(TopicPartition, i64)>>) {
        let (reply, completed) = tokio::sync::oneshot::channel();
        (Self { partitions, reply }, completed)
    }

    /// Whether the source released the partitions without waiting any longer.
    pub fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    /// `offsets`: per partition the next offset to consume (one past the last settled one).
    pub fn complete(self, offsets: Vec<(TopicPartition, i64)>) {
        // The source may be past its deadline and gone; then there is nobody left to tell.
        let _ = self.reply.send(offsets);
    }
}

/// Whether the pipeline has room for another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    Messages,
    /// Only assignments and revocations; messages wait (and the source pauses its partitions).
    ControlOnly,
}

#[async_trait]
pub trait Source: Send {
    /// The next event. Control events come before messages. Cancel-safe: nothing is lost when the future is dropped.
    /// After `End`, waits for ever on `Messages`.
    async fn next(&mut self, demand: Demand) -> Result<SourceEvent, SourceError>;

    /// Records progress: per partition the next offset to consume. Returns once the source has taken it over;
    /// an error means that it may be offered again, never that work is lost.
    async fn commit(&mut self, offsets: Vec<(TopicPartition, i64)>) -> Result<(), SourceError>;

    /// No more messages of these partitions are wanted for now, and of all others they are: what was said before does not count
    /// any more. What was read already still comes. A source that has one partition only need not heed it: it is asked for
    /// nothing but control events then.
    fn hold_back(&mut self, _partitions: &BTreeSet<TopicPartition>) {}

    /// Messages behind, per partition, as last known: high watermark minus position.
    fn lag(&self) -> Vec<(TopicPartition, i64)> {
        Vec::new()
    }

    /// Says, before [`Source::close`], that the pipeline ends because of what it was given: a stage broke, or a model does not
    /// work any more. Where the source counts how often that happens, it counts.
    fn failed(&mut self) {}

    /// Leaves in order (for Kafka: commits what was taken over and leaves the group).
    async fn close(self: Box<Self>) -> Result<(), SourceError>;
}

/// Why a source cannot go on: wrong topic, refused credentials, unreadable file. `Transient`: a call failed that may succeed
/// later, for example a commit while the coordinator moves.
pub type SourceError = Fault<SourceReason>;
