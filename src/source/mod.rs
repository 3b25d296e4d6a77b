//! Port: sources of messages. A source delivers messages in order per partition and receives, per partition, the offset up to
//! which everything is settled.

mod directory;
mod kafka;
mod line_reader;
mod lines;
mod produce;
mod trials;

use std::collections::BTreeSet;

use async_trait::async_trait;

pub use self::directory::{DirectorySource, SkippedFileKind, SkippedFiles, Walk};
pub use self::kafka::{KafkaFound, KafkaSource, Removed};
pub use self::line_reader::{Line, LineReader};
pub use self::lines::LinesSource;
pub use self::produce::{ProduceError, Producer, ensure_topics};
pub use self::trials::{TrialOutcome, Trials};

use crate::domain::{Fault, Message, SourceReason, TopicPartition};

/// Events from a source to the pipeline.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all events are messages")]
pub enum SourceEvent {
    /// Comes before the first message of the partitions in this epoch. It ends an earlier epoch of these partitions, whose messages
    /// no longer count (the partition came back, its topic was recreated, or its log was truncated).
    Assigned {
        epoch: u64,
        partitions: Vec<TopicPartition>,
    },
    Message(Message),
    /// Other members will get these partitions: take no more of their messages, finish what is in flight, then complete the
    /// revocation. The source releases the partitions when it is completed, dropped, or past the drain deadline.
    Revoking(Revocation),
    /// Other members own these partitions already; nothing can be committed for them.
    Lost {
        partitions: Vec<TopicPartition>,
    },
    /// A finite source has no more messages.
    End,
}

/// Partitions that are being revoked, and the channel to report that their work is finished.
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

    /// Whether the source has released the partitions without waiting.
    pub fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    /// `offsets`: per partition the next offset to consume (one past the last settled one).
    pub fn complete(self, offsets: Vec<(TopicPartition, i64)>) {
        // The source may be past its deadline and closed.
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
    /// After `End`, waits forever on `Messages`.
    async fn next(&mut self, demand: Demand) -> Result<SourceEvent, SourceError>;

    /// Records progress: the next offset to consume, per partition. Returns once the source has accepted it. After an error it
    /// may be offered again; no work is lost.
    async fn commit(&mut self, offsets: Vec<(TopicPartition, i64)>) -> Result<(), SourceError>;

    /// Sets the partitions to pause for now; all others resume. It replaces the previous set. Messages that were already read
    /// still come. A source with a single partition may ignore it: it is then asked only for control events.
    fn hold_back(&mut self, _partitions: &BTreeSet<TopicPartition>) {}

    /// Lag per partition, as last known: high watermark minus position.
    fn lag(&self) -> Vec<(TopicPartition, i64)> {
        Vec::new()
    }

    /// Reports, before [`Source::close`], that the pipeline ends because of its messages: a stage broke, or a model no longer
    /// works. A source that counts crashes counts this as one.
    fn failed(&mut self) {}

    /// Closes the source (for Kafka: commits the accepted offsets and leaves the group).
    async fn close(self: Box<Self>) -> Result<(), SourceError>;
}

/// Why a source cannot continue: wrong topic, refused credentials, unreadable file. `Transient`: a failed call that may
/// succeed later, for example a commit while the coordinator moves.
pub type SourceError = Fault<SourceReason>;
