//! The error of this folder. It has no reason: that depends on the caller.

use crate::domain::Finding;

/// Why a tokenizer cannot be used: the file, what was found and what was expected. The caller adds the reason.
pub type TokenizerError = Finding;
