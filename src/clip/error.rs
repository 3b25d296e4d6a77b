//! Why a model could not be loaded, or an item not be embedded.
//!
//! Each error is one line that names what was found, what was expected and the next step. Paths of the operator's own
//! files are quoted; nothing that came in a message is, except cut.

use crate::domain::Class;
use crate::model::ModelError;
use crate::picture::PictureError;

/// The reason of a vector that is none: NaN, infinite, or nothing but zeros.
pub(super) const EMBEDDING_INVALID: &str = "embedding_invalid";

/// What went wrong, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClipError {
    /// The model or ONNX Runtime cannot be used: the operator must act, no item is at fault.
    #[error("{message}")]
    Load { reason: &'static str, message: String },
    /// This item can never be embedded with this model; others can.
    #[error("{message}")]
    Item { reason: &'static str, message: String },
    /// ONNX Runtime failed on this item when it ran alone, and did what it should for an input that is known to be good. A
    /// later attempt may succeed.
    #[error("{message}")]
    Run { reason: &'static str, message: String },
    /// A session does not work any more: it fails for inputs that are known to be good, or for whatever it is given. No item
    /// is at fault; the session is opened anew.
    #[error("{message}")]
    Session { reason: &'static str, message: String },
    /// The model's threads have ended, after a panic or because the model was dropped.
    #[error("the model has stopped: a thread of it ended; see the log before this line, then restart the process")]
    Stopped,
}

impl ClipError {
    pub(super) fn load(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Load { reason, message: message.into() }
    }

    pub(super) fn item(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Item { reason, message: message.into() }
    }

    pub(super) fn run(message: impl Into<String>) -> Self {
        Self::Run { reason: "model_run_failed", message: message.into() }
    }

    pub(super) fn session(message: impl Into<String>) -> Self {
        Self::Session { reason: "model_session_failed", message: message.into() }
    }

    /// Whether this is said of an item and may be the session's fault: the run failed, or gave no vector. What we check by
    /// ourselves before a run is not.
    pub(super) fn is_of_run(&self) -> bool {
        matches!(self, Self::Run { .. } | Self::Item { reason: EMBEDDING_INVALID, .. })
    }

    /// Whether memory could not be had, in ONNX Runtime's words and those of its providers: no input is larger than another,
    /// so that is never an item's fault.
    pub(super) fn is_of_memory(&self) -> bool {
        matches!(self, Self::Run { message, .. } if is_of_memory(message))
    }

    /// Short stable code in snake case, for metrics and filters.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Load { reason, .. }
            | Self::Item { reason, .. }
            | Self::Run { reason, .. }
            | Self::Session { reason, .. } => reason,
            Self::Stopped => "model_stopped",
        }
    }

    /// What the failure means for the item and for those behind it.
    pub fn class(&self) -> Class {
        match self {
            Self::Item { .. } => Class::Permanent,
            Self::Run { .. } => Class::Transient,
            Self::Load { .. } | Self::Session { .. } | Self::Stopped => Class::Outage,
        }
    }
}

/// What is wrong with a model's files is wrong with the model.
impl From<ModelError> for ClipError {
    fn from(error: ModelError) -> Self {
        Self::load(error.reason, error.message)
    }
}

/// The same file fails again, with any model.
impl From<PictureError> for ClipError {
    fn from(error: PictureError) -> Self {
        Self::item(error.reason, error.message)
    }
}

/// Whether an error's text says that memory could not be had.
pub fn is_of_memory(message: &str) -> bool {
    const WORDS: [&str; 7] = [
        "failed to allocate memory",
        "bad allocation",
        "bad_alloc",
        "out of memory",
        "out_of_memory",
        "alloc_failed",
        "not enough memory",
    ];
    let message = message.to_ascii_lowercase();
    WORDS.iter().any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wordings of ONNX Runtime 1.22 to 1.27: its arena, its CPU allocator, CUDA, cuBLAS.
    #[test]
    fn memory_that_cannot_be_had_is_told_from_other_failures() {
        for message in [
            "Non-zero status code returned while running MatMul node. Failed to allocate memory for requested buffer of size 9437184",
            "bad allocation",
            "std::bad_alloc",
            "CUDA failure 2: out of memory ; GPU=0",
            "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
        ] {
            assert!(ClipError::run(format!("the text tower failed on 3 texts: {message}")).is_of_memory(), "{message}");
        }
        let other = ClipError::run(
            "indices element out of data bounds, idx=70000 must be within the inclusive range [-49408,49407]",
        );
        assert!(!other.is_of_memory());
        assert!(other.is_of_run());
        assert!(ClipError::item(EMBEDDING_INVALID, "NaN").is_of_run());
        assert!(!ClipError::item("tokens_wrong_length", "long").is_of_run());
    }
}
