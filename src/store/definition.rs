//! How a collection is set up: the file format of `migrations/`.

/// Everything but the vectors' names, dimension and distance, which follow from the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CollectionDefinition {
    pub payload_indexes: Vec<PayloadIndex>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PayloadIndex {
    pub field: String,
    pub kind: PayloadIndexKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadIndexKind {
    Keyword,
    Integer,
    Float,
    Bool,
    Datetime,
    Text,
    Uuid,
}
