//! Reasons of `dead_letter`.

use super::reasons;

reasons! {
    /// Why a dead letter is not written, or not read.
    DeadLetterReason {
        Unavailable = "dead_letter_unavailable", Outage;
    }
}
