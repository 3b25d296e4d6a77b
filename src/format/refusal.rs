//! How decoding says no.

use crate::domain::{Failure, Stage};

/// Longest quoted value in a failure, in characters.
pub const QUOTED_CHARS_MAX: usize = 80;

/// Of a message that can never be read.
pub fn fail(reason: &'static str, message: impl Into<String>) -> Failure {
    Failure::permanent(Stage::Decode, reason, message)
}
