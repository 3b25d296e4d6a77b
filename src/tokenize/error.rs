/// Why a tokenizer cannot be used. Names the file, what was wrong and the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TokenizerError(pub(super) String);
