//! Reasons of `model`: the files of a model.

use super::reasons;

reasons! {
    /// Why a model's files cannot be used, whether reading them shows it or running them. The operator must act.
    ModelReason {
        Missing = "model_missing", Outage;
        Ambiguous = "model_ambiguous", Outage, "give each model a directory of its own";
        Unusable = "model_unusable", Outage;
        Mismatch = "model_mismatch", Outage;
        PrecisionMissing = "precision_missing", Outage;
        DimensionUntrained = "dimension_untrained", Outage;
        ActivationMismatch = "activation_mismatch", Outage,
            "pull another repository or export the model again with tools/export_openclip.py, or set \
             clip.activation_mismatch = \"accept\" to use it as it is";
        PreprocessMismatch = "preprocess_mismatch", Outage,
            "correct the file, or give the model an id of its own in clip.models";
        PreprocessUnsupported = "preprocess_unsupported", Outage;
        TokenizerMismatch = "tokenizer_mismatch", Outage;
        TokenizerUnusable = "tokenizer_unusable", Outage;
        GoldenMismatch = "golden_mismatch", Outage, "pull or export the model again";
        GoldenUnusable = "golden_unusable", Outage,
            "export the model again, or remove the file: then nothing is verified";
    }
}
