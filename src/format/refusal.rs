//! Failures of decoding.

use crate::domain::{DecodeReason, Failure, Fault, Stage};

/// Longest quoted value in a failure, in characters.
pub const QUOTED_CHARS_MAX: usize = 80;

/// The failure of a message that can never be read.
pub fn fail(reason: DecodeReason, message: impl Into<String>) -> Failure {
    Fault::new(reason, message).at(Stage::Decode)
}
