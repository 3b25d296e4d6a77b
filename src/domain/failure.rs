//! How an attempt at a message failed, in which stage, and how a message ended.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use super::{AnyReason, Fault};

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

    /// Whether a message can become a dead letter because of a failure in this stage. The others depend only on what all messages
    /// share: a refused read of the store or an undelivered letter holds the message.
    pub fn has_letters(self) -> bool {
        match self {
            Self::Decode | Self::Fetch | Self::Embed | Self::Upsert => true,
            Self::Recall | Self::Settle => false,
        }
    }
}

impl fmt::Display for Stage {
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

impl Failure {
    /// With another next step.
    pub fn hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { fault: self.fault.hint(hint), ..self }
    }
}

impl<R: Into<AnyReason>> Fault<R> {
    /// What it means for a message in `stage`.
    pub fn at(self, stage: Stage) -> Failure {
        Failure { stage, fault: self.of_any() }
    }
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
    RetryScheduled(Failure),
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
            Self::RetryScheduled(_) => "retry_scheduled",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::MediaReason;

    #[test]
    fn a_failure_is_a_fault_in_a_stage_and_keeps_its_cause() {
        let cause = std::io::Error::other("reset");
        let wait = Some(Duration::from_secs(7));
        let fault = Fault::new(MediaReason::BodyIncomplete, "half").retry_after(wait).caused_by(cause);
        let failure = fault.at(Stage::Fetch);
        assert_eq!(failure.fault.reason, AnyReason::Media(MediaReason::BodyIncomplete));
        assert_eq!(failure.to_string(), "fetch failed (transient, body_incomplete): half");
        assert_eq!(failure.fault.retry_after, wait);
        assert_eq!(failure.source().unwrap().to_string(), "reset");
    }
}
