//! Timestamps that are not the time of sending: of events, of another unit, of another clock, or none. Nothing of what the
//! store holds in the end may depend on them.

use rand::Rng;
use rand::rngs::StdRng;
use rdkafka::message::{Message as _, OwnedMessage};

use crate::broker::header;

/// Header of a message with such a timestamp: which, and the timestamp that it was sent with.
pub const MISDATED: &str = "chaos-misdated";

const DAY_MS: i64 = 86_400_000;
/// What brokers and clients write where there is no timestamp.
pub const NONE: i64 = -1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Misdate {
    /// A producer whose clock is a second or so behind that of all others.
    Behind,
    /// Of an event long ago.
    Old,
    /// Of a clock that is ahead.
    Ahead,
    /// A producer that counts in seconds, and so is in January 1970.
    Seconds,
    /// One that counts in microseconds, and so is tens of thousands of years ahead.
    Microseconds,
    Without,
}

impl Misdate {
    pub const ALL: [Self; 6] = [Self::Behind, Self::Old, Self::Ahead, Self::Seconds, Self::Microseconds, Self::Without];
    /// In a topic that nothing younger than two months is in.
    pub const OF_A_BACKLOG: [Self; 3] = [Self::Old, Self::Old, Self::Seconds];

    pub fn name(self) -> &'static str {
        match self {
            Self::Behind => "dated a second behind",
            Self::Old => "dated months ago",
            Self::Ahead => "dated hours or weeks ahead",
            Self::Seconds => "dated in seconds",
            Self::Microseconds => "dated in microseconds",
            Self::Without => "without a timestamp",
        }
    }

    /// Milliseconds since the Unix epoch, as the record has it.
    pub fn timestamp(self, rng: &mut StdRng) -> i64 {
        let now = chrono::Utc::now().timestamp_millis();
        match self {
            Self::Behind => now - rng.random_range(500..2_000),
            Self::Old => now - rng.random_range(60..400) * DAY_MS,
            Self::Ahead => now + rng.random_range(DAY_MS / 24..30 * DAY_MS),
            Self::Seconds => now / 1000,
            Self::Microseconds => now * 1000,
            Self::Without => NONE,
        }
    }

    pub fn to_header(self, timestamp: i64) -> String {
        format!("{}={timestamp}", self.name())
    }

    /// Of a message that is in the log with the timestamp that it was sent with: another one shows nothing.
    pub fn of(message: &OwnedMessage) -> Option<Self> {
        let (name, sent) = header(message, MISDATED)?.rsplit_once('=')?;
        let kept = sent.parse() == Ok(timestamp(message));
        Self::ALL.into_iter().find(|kind| kept && kind.name() == name)
    }
}

/// As the record has it.
pub fn timestamp(message: &OwnedMessage) -> i64 {
    message.timestamp().to_millis().unwrap_or(NONE)
}
