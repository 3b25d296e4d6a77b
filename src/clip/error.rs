//! Why a model could not be loaded, or an item could not be embedded.
//!
//! Each error names what was found and what was expected. Paths of the operator's files are quoted. Content of a
//! message is only quoted cut.

use crate::domain::{AnyReason, Class, ClipReason, Explain, Fault, Finding};
use crate::model::ModelError;
use crate::picture::PictureError;

/// What went wrong, by the module that found it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClipError {
    /// The model's files cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A picture's file cannot be used, by any model.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// ONNX Runtime or a session failed, or the model has no vector for an item.
    #[error(transparent)]
    Clip(#[from] Fault<ClipReason>),
}

impl ClipError {
    pub(super) fn run(message: impl Into<String>) -> Self {
        Fault::new(ClipReason::RunFailed, message).into()
    }

    pub(super) fn session(message: impl Into<String>) -> Self {
        Fault::new(ClipReason::SessionFailed, message).into()
    }

    pub fn stopped() -> Self {
        Fault::new(ClipReason::Stopped, "the model has stopped: one of its threads ended").into()
    }

    /// Whether the error is about an item but may be the session's fault: the run failed, or gave no valid vector. Our
    /// own checks before a run are excluded.
    pub(super) fn is_of_run(&self) -> bool {
        use ClipReason::{EmbeddingInvalid, RunFailed};
        matches!(self, Self::Clip(fault) if matches!(fault.reason, RunFailed | EmbeddingInvalid))
    }

    /// Whether memory was exhausted, by the texts of ONNX Runtime and its providers. The size of inputs is bounded, so
    /// this is never an item's fault.
    pub(super) fn is_of_memory(&self) -> bool {
        matches!(self, Self::Clip(fault) if fault.reason == ClipReason::RunFailed && is_of_memory(&fault.message))
    }

    pub fn reason(&self) -> AnyReason {
        match self {
            Self::Model(fault) => fault.reason.into(),
            Self::Picture(fault) => fault.reason.into(),
            Self::Clip(fault) => fault.reason.into(),
        }
    }

    /// What the failure means for the item and for those behind it.
    pub fn class(&self) -> Class {
        match self {
            Self::Model(fault) => fault.class,
            Self::Picture(fault) => fault.class,
            Self::Clip(fault) => fault.class,
        }
    }

    /// Converts it to a fault of any port.
    pub fn into_fault(self) -> Fault {
        match self {
            Self::Model(fault) => fault.of_any(),
            Self::Picture(fault) => fault.of_any(),
            Self::Clip(fault) => fault.of_any(),
        }
    }
}

impl Explain for ClipError {
    fn explain(&self) -> Finding {
        match self {
            Self::Model(fault) => fault.explain(),
            Self::Picture(fault) => fault.explain(),
            Self::Clip(fault) => fault.explain(),
        }
    }
}

/// Whether an error's text says that memory was exhausted.
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
    use crate::domain::{ModelReason, PictureReason};

    /// Messages of ONNX Runtime 1.22 to 1.27: its arena, its CPU allocator, CUDA, cuBLAS.
    #[test]
    fn a_lack_of_memory_is_distinguished_from_other_failures() {
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
        assert!(ClipError::from(Fault::new(ClipReason::EmbeddingInvalid, "NaN")).is_of_run());
        assert!(!ClipError::from(Fault::new(ClipReason::TokensWrongLength, "long")).is_of_run());
    }

    #[test]
    fn the_hint_is_a_field_whatever_the_message_quotes() {
        let error = ClipError::from(ModelError::new(ModelReason::Ambiguous, "a-vision; b-vision are alike"));
        let Finding { message, hint } = error.explain();
        assert_eq!(message, "a-vision; b-vision are alike");
        assert_eq!(hint.as_deref(), Some("give each model a directory of its own"));
        // Text after a semicolon is not taken for a hint.
        assert_eq!(ClipError::run("CUDA failure 2: out of memory ; GPU=0; stream 1").explain().hint, None);
    }

    #[test]
    fn an_error_of_any_trade_keeps_its_reason_class_and_hint_as_a_failure() {
        let errors: [ClipError; 3] = [
            ModelError::new(ModelReason::PrecisionMissing, "no int8").hint("set clip.precision").into(),
            PictureError::new(PictureReason::Undecodable, "half").into(),
            ClipError::stopped(),
        ];
        let expected: [(AnyReason, Class); 3] = [
            (ModelReason::PrecisionMissing.into(), Class::Outage),
            (PictureReason::Undecodable.into(), Class::Permanent),
            (ClipReason::Stopped.into(), Class::Outage),
        ];
        for (error, expected) in errors.into_iter().zip(expected) {
            assert_eq!((error.reason(), error.class()), expected);
            let (text, finding) = (error.to_string(), error.explain());
            let fault = error.into_fault();
            assert_eq!((fault.reason, fault.class), expected);
            assert_eq!((fault.to_string(), fault.explain()), (text, finding));
            assert!(fault.hint.is_some(), "{fault}");
        }
    }
}
