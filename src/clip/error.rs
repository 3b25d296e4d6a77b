//! Why a model could not be loaded, or an item not be embedded.
//!
//! Each error is one line that names what was found, what was expected and the next step. Paths of the operator's own
//! files are quoted; nothing that came in a message is, except cut.

use crate::domain::Class;

/// What went wrong, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClipError {
    /// The model or ONNX Runtime cannot be used: the operator must act, no item is at fault.
    #[error("{message}")]
    Load { reason: &'static str, message: String },
    /// This item can never be embedded with this model; others can.
    #[error("{message}")]
    Item { reason: &'static str, message: String },
    /// ONNX Runtime failed on this item when it ran alone, for example because a device ran out of memory. A later
    /// attempt may succeed.
    #[error("{message}")]
    Run { reason: &'static str, message: String },
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

    /// Short stable code in snake case, for metrics and filters.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Load { reason, .. } | Self::Item { reason, .. } | Self::Run { reason, .. } => reason,
            Self::Stopped => "model_stopped",
        }
    }

    /// What the failure means for the item and for those behind it.
    pub fn class(&self) -> Class {
        match self {
            Self::Item { .. } => Class::Permanent,
            Self::Run { .. } => Class::Transient,
            Self::Load { .. } | Self::Stopped => Class::Outage,
        }
    }
}
