use super::StoredLetter;
use crate::domain::Position;

/// What is read where a letter is expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Letter(Box<StoredLetter>),
    Unreadable(Unreadable),
}

/// Something that was cut off while it was written. It does not keep others from being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub position: Position,
    pub why: String,
}
