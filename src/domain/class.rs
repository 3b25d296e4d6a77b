//! The three classes of failures, by which the pipeline acts.

use std::fmt;

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
    pub const ALL: [Self; 3] = [Self::Permanent, Self::Transient, Self::Outage];

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
