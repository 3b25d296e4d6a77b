//! What a model's configuration says about its tokenizer.
//!
//! | file | key |
//! |---|---|
//! | OpenCLIP: `config.json`, or `model_cfg` of `open_clip_config.json` | `text_cfg`: `hf_tokenizer_name` and, for that, `tokenizer_kwargs` |
//! | Hugging Face: `config.json` of a pair of towers, or of the text tower alone | `model_type`: for SigLIP, OpenCLIP cleans texts as SigLIP's authors did |
//!
//! Where none of them says it, the registry says how OpenCLIP cleans the texts of its own checkpoints.

use std::path::Path;

use serde_json::Value;

use super::files::json_of;
use crate::domain::registry::{Checkpoint, TokenizerKind};
use crate::domain::{ModelReason, TextCleaning};
use crate::model::ModelError;
use crate::redact;
use crate::tokenize::{HuggingFaceSettings, TokenizerSettings};

/// The tokenizer of the first of `configs` that names one; else that of the registry's `row` of the model.
///
/// # Errors
/// A file is not JSON, or needs something that OpenCLIP's `HFTokenizer` or this tokenizer does not have.
pub(super) fn read<'a>(
    configs: impl Iterator<Item = &'a Path>,
    row: Option<&Checkpoint>,
) -> Result<TokenizerSettings, ModelError> {
    let mut is_clip = false;
    for file in configs {
        let config = json_of(file)?;
        is_clip |= is_of_clip(&config);
        let named = of(&config).map_err(|problem| {
            ModelError::new(ModelReason::TokenizerUnusable, format!("{} has {problem}", file.display()))
                .hint("take the file from the same export as the graphs")
        })?;
        if let Some(settings) = named {
            return Ok(TokenizerSettings::HuggingFace(settings));
        }
    }
    let settings = row.filter(|_| !is_clip).map(of_registry);
    // Its defaults are what is taken for a file that nothing is said of.
    let settings = settings.filter(|settings| *settings != HuggingFaceSettings::default());
    Ok(settings.map_or(TokenizerSettings::OfFile, TokenizerSettings::HuggingFace))
}

fn of_registry(row: &Checkpoint) -> HuggingFaceSettings {
    match row.tokenizer.kind {
        // What it is cleaned by is part of CLIP's own tokenizer.
        TokenizerKind::ClipBpe => HuggingFaceSettings::default(),
        _ => HuggingFaceSettings {
            cleaning: row.tokenizer.clean,
            strip_separator: row.tokenizer.strip_separator,
            ..HuggingFaceSettings::default()
        },
    }
}

/// Whether a configuration names a model whose tokenizer is CLIP's own: in OpenCLIP's words no other, in Transformers' a CLIP.
fn is_of_clip(config: &Value) -> bool {
    let is_clip = |kind: &Value| matches!(kind.as_str(), Some("clip" | "clip_text_model"));
    open_clip(config).is_some() || config.get("model_type").is_some_and(is_clip)
}

fn open_clip(config: &Value) -> Option<&Value> {
    ["/text_cfg", "/model_cfg/text_cfg"].iter().find_map(|place| config.pointer(place))
}

fn of(config: &Value) -> Result<Option<HuggingFaceSettings>, String> {
    match open_clip(config) {
        Some(text) if text.get("hf_tokenizer_name").and_then(Value::as_str).is_some_and(|name| !name.is_empty()) => {
            arguments(text).map(Some)
        }
        Some(_) => Ok(None),
        None => {
            let kinds = [config.get("model_type"), config.pointer("/text_config/model_type")];
            let is_siglip = |kind: &Value| kind.as_str().is_some_and(|kind| kind.starts_with("siglip"));
            let settings = HuggingFaceSettings { cleaning: TextCleaning::Canonicalize, ..Default::default() };
            Ok(kinds.into_iter().flatten().any(is_siglip).then_some(settings))
        }
    }
}

/// Arguments of `HFTokenizer` (`get_tokenizer` of OpenCLIP's `factory.py`).
fn arguments(text: &Value) -> Result<HuggingFaceSettings, String> {
    // A mode of its own for CLIPS, whose graphs no layout has.
    if let Some(mode) = given(text, "tokenizer_mode").filter(|mode| *mode != "") {
        return Err(format!("tokenizer_mode {}, expected none", shown(mode)));
    }
    let mut settings = HuggingFaceSettings::default();
    let Some(arguments) = given(text, "tokenizer_kwargs") else { return Ok(settings) };
    let Some(arguments) = arguments.as_object() else {
        return Err(format!("tokenizer_kwargs {}, expected an object", shown(arguments)));
    };
    for (name, value) in arguments.iter().filter(|(_, value)| !value.is_null()) {
        let wrong = |expected: &str| format!("tokenizer_kwargs.{name} {}, expected {expected}", shown(value));
        match name.as_str() {
            "clean" => {
                let found = TextCleaning::ALL.into_iter().find(|cleaning| value == cleaning.as_str());
                settings.cleaning = found.ok_or_else(|| wrong("whitespace, lower or canonicalize"))?;
            }
            "strip_sep_token" => settings.strip_separator = value.as_bool().ok_or_else(|| wrong("true or false"))?,
            "language" => settings.language = Some(value.as_str().ok_or_else(|| wrong("a code"))?.to_owned()),
            "src_lang" => settings.source_language = Some(value.as_str().ok_or_else(|| wrong("a code"))?.to_owned()),
            _ => {
                let name = redact::cut(name, 40);
                return Err(format!("tokenizer_kwargs.{name}, expected clean, strip_sep_token, language and src_lang"));
            }
        }
    }
    Ok(settings)
}

/// `null` means an absent key, as in Python's configurations.
fn given<'a>(of: &'a Value, key: &str) -> Option<&'a Value> {
    of.get(key).filter(|value| !value.is_null())
}

fn shown(value: &Value) -> String {
    redact::cut(&value.to_string(), 40)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::registry;

    fn said(config: &str) -> Result<Option<HuggingFaceSettings>, String> {
        of(&serde_json::from_str(config).unwrap())
    }

    // The configurations are those of OpenCLIP 3.3.0 (`model_configs/`) and of the hub, cut down to what matters here.
    #[test]
    fn each_familys_configuration_says_which_tokenizer_it_has() {
        let canonicalize = HuggingFaceSettings { cleaning: TextCleaning::Canonicalize, ..Default::default() };
        let clipa = HuggingFaceSettings { strip_separator: true, ..Default::default() };
        let german = HuggingFaceSettings {
            language: Some("fra_Latn".to_owned()),
            source_language: Some("deu_Latn".to_owned()),
            ..Default::default()
        };
        for (config, expected) in [
            (r#"{"embed_dim": 512, "text_cfg": {"context_length": 77, "vocab_size": 49408}}"#, None),
            (
                r#"{"text_cfg": {"hf_tokenizer_name": "timm/ViT-B-16-SigLIP", "tokenizer_kwargs": {"clean": "canonicalize"}}}"#,
                Some(canonicalize.clone()),
            ),
            (
                r#"{"model_cfg": {"text_cfg": {"hf_tokenizer_name": "bert-base-uncased",
                    "tokenizer_kwargs": {"strip_sep_token": true, "clean": null}}}}"#,
                Some(clipa),
            ),
            (
                r#"{"text_cfg": {"hf_tokenizer_name": "xlm-roberta-base", "hf_model_name": "xlm-roberta-base", "tokenizer_mode": null}}"#,
                Some(HuggingFaceSettings::default()),
            ),
            (
                r#"{"text_cfg": {"hf_tokenizer_name": "facebook/nllb-200-distilled-600M",
                    "tokenizer_kwargs": {"language": "fra_Latn", "src_lang": "deu_Latn"}}}"#,
                Some(german),
            ),
            (r#"{"text_cfg": {"hf_tokenizer_name": ""}}"#, None),
            (
                r#"{"model_type": "siglip", "text_config": {"model_type": "siglip_text_model"}}"#,
                Some(canonicalize.clone()),
            ),
            (r#"{"model_type": "siglip2_text_model"}"#, Some(canonicalize)),
            (r#"{"model_type": "clip"}"#, None),
            ("{}", None),
        ] {
            assert_eq!(said(config), Ok(expected), "{config}");
        }
    }

    #[test]
    fn what_no_file_says_the_registry_says() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        let found = |id: &str, config: &str| {
            std::fs::write(&file, config).unwrap();
            read([file.as_path()].into_iter(), registry::find(&id.parse().unwrap())).unwrap()
        };
        let canonicalize = HuggingFaceSettings { cleaning: TextCleaning::Canonicalize, ..Default::default() };
        let stripped = HuggingFaceSettings { strip_separator: true, ..Default::default() };
        for (id, config, expected) in [
            ("ViT-B-16-SigLIP2/webli", "{}", Some(canonicalize)),
            ("ViT-L-14-CLIPA/datacomp1b", "{}", Some(stripped)),
            ("xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", "{}", None),
            ("ViT-B-32/openai", "{}", None),
            // What a file says stands.
            ("ViT-B-16-SigLIP2/webli", r#"{"text_cfg": {"context_length": 64}}"#, None),
            ("ViT-B-16-SigLIP2/webli", r#"{"model_type": "clip"}"#, None),
            (
                "ViT-B-16-SigLIP2/webli",
                r#"{"text_cfg": {"hf_tokenizer_name": "a/b"}}"#,
                Some(HuggingFaceSettings::default()),
            ),
        ] {
            let expected = expected.map_or(TokenizerSettings::OfFile, TokenizerSettings::HuggingFace);
            assert_eq!(found(id, config), expected, "{id} {config}");
        }
    }

    #[test]
    fn what_openclips_tokenizer_does_not_take_is_refused_by_name() {
        for (argument, expected) in [
            (r#""tokenizer_mode": "clips""#, r#"tokenizer_mode "clips", expected none"#),
            (r#""tokenizer_kwargs": 3"#, "tokenizer_kwargs 3, expected an object"),
            (
                r#""tokenizer_kwargs": {"clean": "upper"}"#,
                r#"tokenizer_kwargs.clean "upper", expected whitespace, lower or canonicalize"#,
            ),
            (
                r#""tokenizer_kwargs": {"strip_sep_token": 1}"#,
                "tokenizer_kwargs.strip_sep_token 1, expected true or false",
            ),
            (r#""tokenizer_kwargs": {"use_fast": false}"#, "tokenizer_kwargs.use_fast, expected clean"),
        ] {
            let config = format!(r#"{{"text_cfg": {{"hf_tokenizer_name": "a/b", {argument}}}}}"#);
            let found = said(&config).unwrap_err();
            assert!(found.contains(expected), "{found}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        std::fs::write(&file, r#"{"text_cfg": {"hf_tokenizer_name": "a/b", "tokenizer_mode": "clips"}}"#).unwrap();
        let error = read([file.as_path()].into_iter(), None).unwrap_err();
        assert_eq!(error.reason, ModelReason::TokenizerUnusable);
        assert!(error.to_string().contains("config.json has tokenizer_mode"), "{error}");
    }
}
