use std::fmt;
use std::time::Duration;

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

/// Why one attempt at a message failed. `message` names field, value (cut, redacted) and what was expected; it is
/// safe to log and to put into a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{stage} failed ({class}, {reason}): {message}")]
pub struct Failure {
    pub stage: Stage,
    pub class: Class,
    /// Short stable code in snake case, for metrics and filters: `http_not_found`, `image_undecodable`, …
    pub reason: &'static str,
    pub message: String,
    /// The other side asked to wait this long before the next attempt.
    pub retry_after: Option<Duration>,
}

impl Failure {
    pub fn permanent(stage: Stage, reason: &'static str, message: impl Into<String>) -> Self {
        Self { stage, class: Class::Permanent, reason, message: message.into(), retry_after: None }
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
