//! What an input of a text tower is, by its name: exporters agree on these.

/// What a graph expects in one of its integer inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextRole {
    /// Token ids.
    Ids,
    /// 1 for what counts, 0 for padding.
    Mask,
    /// Which text of a pair each token belongs to, of BERT and what was made from it.
    Types,
}

impl TextRole {
    pub(crate) fn of(name: &str) -> Self {
        if name.contains("mask") {
            Self::Mask
        } else if name.contains("token_type") || name.contains("segment") {
            Self::Types
        } else {
            Self::Ids
        }
    }
}
