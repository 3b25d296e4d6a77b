//! Results of reading dead letters.

use super::StoredLetter;
use crate::domain::{Finding, Position};

/// The result of reading one letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Letter(Box<StoredLetter>),
    Unreadable(Unreadable),
}

/// An incomplete letter, whose write was interrupted. Reading continues after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub position: Position,
    pub why: Finding,
}
