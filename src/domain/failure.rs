use std::error::Error;
use std::fmt;

use super::Fault;

/// Where in the pipeline a message is, or where it failed. In reading order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    Decode,
    Recall,
    Fetch,
    Embed,
    Upsert,
    Settle,
}

impl Stage {
    pub const ALL: [Self; 6] = [Self::Decode, Self::Recall, Self::Fetch, Self::Embed, Self::Upsert, Self::Settle];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Recall => "recall",
            Self::Fetch => "fetch",
            Self::Embed => "embed",
            Self::Upsert => "upsert",
            Self::Settle => "settle",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a failure means for the message, and for those behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// This item can never succeed (404, undecodable, bad schema): dead letter at once.
    Permanent,
    /// This item may succeed later (5xx, reset, timeout): retry with backoff, then dead letter.
    Transient,
    /// Something shared is down (store, broker, credentials): hold, keep retrying, never dead-letter.
    Outage,
}

impl Class {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Transient => "transient",
            Self::Outage => "outage",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why one attempt at a message failed, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub stage: Stage,
    pub fault: Fault,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, fault } = self;
        write!(f, "{stage} failed ({}, {}): {fault}", fault.class, fault.reason)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.fault.source()
    }
}

/// How a message ended. Every outcome but the last two means that the store reflects the message (or a newer one).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Written to every collection it was meant for.
    Indexed,
    Deleted,
    /// A later full upsert or delete of the same asset was already waiting; it is written instead.
    Superseded,
    /// The store holds a newer `version`.
    Stale,
    /// The message asked for nothing.
    Empty,
    DeadLettered(Failure),
    /// It waits in a retry topic.
    PutOff(Failure),
}

impl Outcome {
    /// The label in metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Indexed => "indexed",
            Self::Deleted => "deleted",
            Self::Superseded => "superseded",
            Self::Stale => "stale",
            Self::Empty => "empty",
            Self::DeadLettered(_) => "dead_lettered",
            Self::PutOff(_) => "put_off",
        }
    }
}
