//! Why a model's files cannot be used.

/// Names the file, what was found, what was expected and the next step, in one line. The operator must act.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// Short stable code in snake case, for metrics and filters.
    pub reason: &'static str,
    pub message: String,
}

impl ModelError {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
