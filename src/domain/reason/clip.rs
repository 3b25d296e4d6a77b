use super::reasons;

reasons! {
    /// Why a model could not be loaded, or an item not be embedded.
    ClipReason {
        // ONNX Runtime and its execution providers.
        OnnxruntimeMissing = "onnxruntime_missing", Outage;
        OnnxruntimeTooOld = "onnxruntime_too_old", Outage;
        OnnxruntimeFailed = "onnxruntime_failed", Outage;
        ProviderUnavailable = "provider_unavailable", Outage;
        ProviderUnknown = "provider_unknown", Outage;
        CacheUnwritable = "cache_unwritable", Outage;
        ThreadFailed = "thread_failed", Outage;

        // The model's files.
        ModelMissing = "model_missing", Outage;
        ModelAmbiguous = "model_ambiguous", Outage;
        ModelUnusable = "model_unusable", Outage;
        ModelMismatch = "model_mismatch", Outage;
        PrecisionMissing = "precision_missing", Outage;
        ActivationMismatch = "activation_mismatch", Outage;
        PreprocessMismatch = "preprocess_mismatch", Outage;
        PreprocessUnsupported = "preprocess_unsupported", Outage;
        TokenizerMismatch = "tokenizer_mismatch", Outage;
        TokenizerUnusable = "tokenizer_unusable", Outage;
        GoldenMismatch = "golden_mismatch", Outage;
        GoldenUnusable = "golden_unusable", Outage;

        // The sessions.
        SessionFailed = "model_session_failed", Outage;
        Stopped = "model_stopped", Outage;

        // An item.
        RunFailed = "model_run_failed", Transient;
        BrokenByItem = "model_broken_by_item", Permanent;
        EmbeddingInvalid = "embedding_invalid", Permanent;
        PixelsWrongSize = "pixels_wrong_size", Permanent;
        TokensWrongLength = "tokens_wrong_length", Permanent;
    }
}
