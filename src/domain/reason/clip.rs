//! Reasons of `clip`: running a model.

use super::reasons;

reasons! {
    /// Why a model cannot be run, or has no vector for an item. What is wrong with its files is a
    /// [`ModelReason`](super::ModelReason).
    ClipReason {
        // ONNX Runtime and its execution providers. The operator must act; no item is at fault.
        OnnxruntimeMissing = "onnxruntime_missing", Outage;
        OnnxruntimeTooOld = "onnxruntime_too_old", Outage;
        OnnxruntimeFailed = "onnxruntime_failed", Outage;
        ProviderUnavailable = "provider_unavailable", Outage;
        ProviderUnknown = "provider_unknown", Outage, "free space in the folder for temporary files (TMPDIR)";
        CacheUnwritable = "cache_unwritable", Outage;
        ThreadFailed = "thread_failed", Outage;

        // The sessions. No item is at fault.
        /// A session no longer works: it fails for known good inputs, or for all inputs. It is
        /// opened anew.
        SessionFailed = "model_session_failed", Outage;
        /// The model's threads have ended, after a panic or because the model was dropped.
        Stopped = "model_stopped", Outage, "see the log before this line, then restart the process";

        // An item, which this model cannot embed. Others can be.
        /// ONNX Runtime failed on this item when it ran alone, and gave the right result for a known good input. A
        /// later attempt may succeed.
        RunFailed = "model_run_failed", Transient;
        BrokenByItem = "model_broken_by_item", Permanent;
        /// NaN, infinite, or nothing but zeros.
        EmbeddingInvalid = "embedding_invalid", Permanent;
        PixelsWrongSize = "pixels_wrong_size", Permanent, "preprocess with the same model";
        TokensWrongLength = "tokens_wrong_length", Permanent;
    }
}

impl ClipReason {
    /// Whether ONNX Runtime itself is missing or does not work, for any model.
    pub fn is_of_runtime(self) -> bool {
        matches!(self, Self::OnnxruntimeMissing | Self::OnnxruntimeTooOld | Self::OnnxruntimeFailed)
    }

    /// Whether one item failed, not the model.
    pub fn is_of_item(self) -> bool {
        use ClipReason::{BrokenByItem, EmbeddingInvalid, PixelsWrongSize, RunFailed, TokensWrongLength};
        matches!(self, RunFailed | BrokenByItem | EmbeddingInvalid | PixelsWrongSize | TokensWrongLength)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Class, Reason as _};

    #[test]
    fn what_is_of_an_item_is_never_an_outage_and_all_else_is() {
        for reason in ClipReason::ALL {
            assert_eq!(reason.is_of_item(), reason.class() != Class::Outage, "{reason}");
            assert!(!(reason.is_of_item() && reason.is_of_runtime()), "{reason}");
        }
    }
}
