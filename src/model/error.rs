//! Why a model's files cannot be used.

use crate::domain::{Fault, ModelReason};

/// Names the file, what was found and what was expected. The operator must act.
pub type ModelError = Fault<ModelReason>;
