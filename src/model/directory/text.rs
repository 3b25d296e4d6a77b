//! What a model's configuration says of the text tower's input: how long it is, what fills it, and where its vector comes from.
//!
//! | file | key |
//! |---|---|
//! | `clipstream.json` of our export tool | `context_length`; `text`: `padding_id`, `any_length` |
//! | OpenCLIP: `config.json`, or `model_cfg` of `open_clip_config.json` | `text_cfg`: `context_length`, `pad_id`, `pool_type`, `no_causal_mask` |
//! | Hugging Face: `config.json` of a pair of towers, or of the text tower alone | `text_config`, or the file itself: `max_position_embeddings`, `pad_token_id`, `model_type` |
//!
//! What none of them says, the registry says of its own checkpoints.

use std::path::Path;

use serde_json::Value;

use super::files::json_of;
use crate::domain::ModelReason;
use crate::domain::registry::Checkpoint;
use crate::model::ModelError;
use crate::redact;

/// CLIP's own, for layouts that do not say.
const CONTEXT_LENGTH: usize = 77;

/// SigLIP's, in Transformers and in OpenCLIP's configurations.
const SIGLIP_CONTEXT_LENGTH: usize = 64;

/// Longer contexts than any CLIP has; keeps a wrong number from asking for gigabytes.
const CONTEXT_LENGTH_MAX: usize = 8192;

/// OpenCLIP's own (`pad_id` of `CLIPTextCfg` in `open_clip/model.py`).
const PADDING_ID: i64 = 0;

/// The text tower's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TextInput {
    /// Most tokens of a text, special tokens included.
    pub(crate) context_length: usize,
    /// What fills a row of ids behind its text.
    pub(crate) padding_id: i64,
    pub(crate) padding_by: PaddingBy,
    pub(crate) pooling: Pooling,
}

/// Who names the padding. OpenCLIP pads with what the tokenizer's files name, whatever Transformers' configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PaddingBy {
    OpenClip,
    Transformers,
    /// OpenCLIP's own padding is meant.
    Nobody,
}

/// Which positions make a text's vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// The end of the text, which sees nothing behind it: padding changes nothing.
    EndOfText,
    /// Others as well (the last position, or attention in both directions): padding is a part of the input.
    Padded,
    /// No file says so. A trial run tells whether padding changes the vectors.
    Unknown,
}

impl TextInput {
    /// The first of `configs` that says something says it; then the registry's `row` of the model; CLIP's own for what none does.
    ///
    /// # Errors
    /// A file is no JSON, or names a length or an id that no text tower has.
    pub(super) fn read<'a>(
        configs: impl Iterator<Item = &'a Path>,
        row: Option<&Checkpoint>,
    ) -> Result<Self, ModelError> {
        let mut said = Said::default();
        for file in configs {
            let config = json_of(file)?;
            let own = Said::of(&config).map_err(|problem| {
                ModelError::new(ModelReason::Unusable, format!("{} has {problem}", file.display()))
                    .hint("take the file from the same export as the graphs")
            })?;
            said = said.or(own);
        }
        if let Some(row) = row {
            said = said.or(Said::of_registry(row));
        }
        let pooling = said.pooling.unwrap_or(Pooling::Unknown);
        // Transformers' configurations of CLIP name an id that OpenCLIP, whose vectors ours are to be, does not pad with.
        let named = said.padding_id.filter(|named| named.by == PaddingBy::OpenClip || pooling != Pooling::EndOfText);
        Ok(Self {
            context_length: said.context_length.unwrap_or(CONTEXT_LENGTH),
            padding_id: named.map_or(PADDING_ID, |named| named.id),
            padding_by: named.map_or(PaddingBy::Nobody, |named| named.by),
            pooling,
        })
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Said {
    context_length: Option<usize>,
    padding_id: Option<PaddingId>,
    pooling: Option<Pooling>,
}

#[derive(Clone, Copy, Debug)]
struct PaddingId {
    id: i64,
    by: PaddingBy,
}

impl Said {
    fn of(config: &Value) -> Result<Self, String> {
        if let Some((text, any_length)) = exported(config) {
            return Ok(Self {
                context_length: context_length(config, "context_length")?,
                padding_id: padding_id(text, "padding_id")?.map(|id| PaddingId { id, by: PaddingBy::OpenClip }),
                pooling: Some(if any_length { Pooling::EndOfText } else { Pooling::Padded }),
            });
        }
        let open_clip = ["/text_cfg", "/model_cfg/text_cfg"].iter().find_map(|place| config.pointer(place));
        let hugging_face = config.get("text_config").unwrap_or(config);
        Ok(match open_clip {
            Some(text) => Self {
                context_length: context_length(text, "context_length")?,
                padding_id: padding_id(text, "pad_id")?.map(|id| PaddingId { id, by: PaddingBy::OpenClip }),
                pooling: open_clip_pooling(text),
            },
            None => Self {
                context_length: hugging_face_length(hugging_face)?,
                padding_id: padding_id(hugging_face, "pad_token_id")?
                    .map(|id| PaddingId { id, by: PaddingBy::Transformers }),
                pooling: hugging_face_pooling(hugging_face),
            },
        })
    }

    /// A text tower of Hugging Face, whose activation the registry does not know, has a mask, as in [`open_clip_pooling`].
    fn of_registry(row: &Checkpoint) -> Self {
        let by_end = row.causal && matches!(row.pooling, "argmax" | "eos");
        let pooling = if by_end { Pooling::EndOfText } else { Pooling::Padded };
        Self {
            context_length: Some(row.context_length),
            padding_id: Some(PaddingId { id: row.tokenizer.padding_id.into(), by: PaddingBy::OpenClip }),
            pooling: row.text_activation.map(|_| pooling),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            context_length: self.context_length.or(other.context_length),
            padding_id: self.padding_id.or(other.padding_id),
            pooling: self.pooling.or(other.pooling),
        }
    }
}

/// What our export tool says of the text tower, and whether its texts may be padded to any length. Its first exports do not say it.
fn exported(manifest: &Value) -> Option<(&Value, bool)> {
    let text = manifest.get("text")?;
    Some((text, text.get("any_length")?.as_bool()?))
}

/// `text_global_pool` in `open_clip/transformer.py`. CoCa's class token (`embed_cls`) comes behind the padding. A text tower of Hugging
/// Face (`hf_model_name`) has a mask: whether its graph heeds it, only running it tells.
fn open_clip_pooling(text: &Value) -> Option<Pooling> {
    if text.get("hf_model_name").is_some_and(|name| !name.is_null()) {
        return None;
    }
    let is_true = |key: &str| text.get(key).and_then(Value::as_bool) == Some(true);
    let sees_behind = is_true("no_causal_mask") || is_true("embed_cls");
    Some(match text.get("pool_type").map(Value::as_str) {
        None | Some(Some("argmax" | "eos")) if !sees_behind => Pooling::EndOfText,
        _ => Pooling::Padded,
    })
}

/// As many positions as the tower has for tokens.
fn hugging_face_length(text: &Value) -> Result<Option<usize>, String> {
    let positions = number(text, "max_position_embeddings", 2..=CONTEXT_LENGTH_MAX as u64)?.map(|n| n as usize);
    let kind = text.get("model_type").and_then(Value::as_str).unwrap_or_default();
    Ok(match positions {
        // `configuration_siglip.py`: the file leaves out what the class has of its own.
        None if kind.starts_with("siglip") => Some(SIGLIP_CONTEXT_LENGTH),
        // Positions count from behind the id of the padding (`create_position_ids_from_input_ids`).
        Some(positions) if ["roberta", "xlm-roberta", "xlm-roberta-xl", "camembert"].contains(&kind) => {
            let padding = padding_id(text, "pad_token_id")?.map_or(1, |id| id as usize);
            Some(positions.saturating_sub(padding + 1).max(2))
        }
        positions => positions,
    })
}

/// `CLIPTextTransformer` takes the end of the text, `SiglipTextTransformer` the last position.
fn hugging_face_pooling(text: &Value) -> Option<Pooling> {
    match text.get("model_type").and_then(Value::as_str)? {
        "clip" | "clip_text_model" => Some(Pooling::EndOfText),
        kind if kind.starts_with("siglip") => Some(Pooling::Padded),
        _ => None,
    }
}

fn context_length(of: &Value, key: &str) -> Result<Option<usize>, String> {
    Ok(number(of, key, 2..=CONTEXT_LENGTH_MAX as u64)?.map(|n| n as usize))
}

fn padding_id(text: &Value, key: &str) -> Result<Option<i64>, String> {
    Ok(number(text, key, 0..=i32::MAX as u64)?.and_then(|id| i64::try_from(id).ok()))
}

/// `null` stands for a key that is not there, as in Python's configurations.
fn number(of: &Value, key: &str, range: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, String> {
    match of.get(key).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => match value.as_u64().filter(|n| range.contains(n)) {
            Some(n) => Ok(Some(n)),
            None => Err(format!(
                "{key} {}, expected {} to {}",
                redact::cut(&value.to_string(), 40),
                range.start(),
                range.end()
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::registry;

    fn read(configs: &[&str]) -> Result<TextInput, ModelError> {
        read_of(configs, None)
    }

    fn read_of(configs: &[&str], id: Option<&str>) -> Result<TextInput, ModelError> {
        let row = id.map(|id| registry::find(&id.parse().unwrap()).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<_> = configs
            .iter()
            .enumerate()
            .map(|(n, config)| {
                let file = folder.path().join(format!("{n}.json"));
                std::fs::write(&file, config).unwrap();
                file
            })
            .collect();
        TextInput::read(files.iter().map(std::path::PathBuf::as_path), row)
    }

    fn input(context_length: usize, padding_id: i64, padding_by: PaddingBy, pooling: Pooling) -> TextInput {
        TextInput { context_length, padding_id, padding_by, pooling }
    }

    // The configurations are those of OpenCLIP 3.3.0 (`model_configs/`) and of the hub, cut down to what matters here.
    #[test]
    fn each_familys_configuration_says_what_its_text_tower_takes() {
        for (config, expected) in [
            // ViT-B-32.json
            (
                r#"{"embed_dim": 512, "text_cfg": {"context_length": 77, "vocab_size": 49408}}"#,
                (77, 0, PaddingBy::Nobody, Pooling::EndOfText),
            ),
            // ViT-B-16-SigLIP.json
            (
                r#"{"text_cfg": {"context_length": 64, "hf_tokenizer_name": "timm/ViT-B-16-SigLIP", "no_causal_mask": true,
                    "pool_type": "last", "pad_id": 1}}"#,
                (64, 1, PaddingBy::OpenClip, Pooling::Padded),
            ),
            // ViT-B-32-SigLIP2-256 in open_clip_config.json
            (
                r#"{"model_cfg": {"text_cfg": {"context_length": 64, "no_causal_mask": true, "pool_type": "last"}}}"#,
                (64, 0, PaddingBy::Nobody, Pooling::Padded),
            ),
            // xlm-roberta-base-ViT-B-32.json
            (
                r#"{"text_cfg": {"hf_model_name": "xlm-roberta-base", "hf_pooler_type": "mean_pooler"}}"#,
                (77, 0, PaddingBy::Nobody, Pooling::Unknown),
            ),
            // openai/clip-vit-base-patch32 and google/siglip-base-patch16-224
            (
                r#"{"model_type": "clip", "text_config": {"model_type": "clip_text_model", "pad_token_id": 1,
                    "max_position_embeddings": 77}}"#,
                (77, 0, PaddingBy::Nobody, Pooling::EndOfText),
            ),
            (
                r#"{"model_type": "siglip", "text_config": {"model_type": "siglip_text_model", "pad_token_id": 1,
                    "max_position_embeddings": 64}}"#,
                (64, 1, PaddingBy::Transformers, Pooling::Padded),
            ),
            // google/siglip2-base-patch16-224, which leaves out what SiglipTextConfig has of its own
            (
                r#"{"model_type": "siglip", "text_config": {"model_type": "siglip_text_model", "vocab_size": 256000}}"#,
                (64, 0, PaddingBy::Nobody, Pooling::Padded),
            ),
            // xlm-roberta-base
            (
                r#"{"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}"#,
                (512, 1, PaddingBy::Transformers, Pooling::Unknown),
            ),
            // coca_ViT-B-32.json
            (
                r#"{"text_cfg": {"context_length": 76, "vocab_size": 49408, "embed_cls": true}}"#,
                (76, 0, PaddingBy::Nobody, Pooling::Padded),
            ),
            // clipstream.json of an export of ViT-H-14-worldwide, and of xlm-roberta-base-ViT-B-32
            (
                r#"{"format": 1, "context_length": 77, "text": {"padding_id": 1, "pooling": "eos", "any_length": true}}"#,
                (77, 1, PaddingBy::OpenClip, Pooling::EndOfText),
            ),
            (
                r#"{"format": 1, "context_length": 77, "text": {"padding_id": 1, "pooling": "mean", "any_length": false}}"#,
                (77, 1, PaddingBy::OpenClip, Pooling::Padded),
            ),
            (r#"{"max_position_embeddings": 32}"#, (32, 0, PaddingBy::Nobody, Pooling::Unknown)),
            ("{}", (77, 0, PaddingBy::Nobody, Pooling::Unknown)),
        ] {
            let (length, padding, by, pooling) = expected;
            assert_eq!(read(&[config]), Ok(input(length, padding, by, pooling)), "{config}");
        }
    }

    #[test]
    fn the_first_file_that_says_something_says_it() {
        let both = [
            r#"{"text_cfg": {"context_length": 64, "pad_id": null}}"#,
            r#"{"text_cfg": {"context_length": 32, "pad_id": 3}}"#,
        ];
        assert_eq!(read(&both), Ok(input(64, 3, PaddingBy::OpenClip, Pooling::EndOfText)));
        assert_eq!(read(&[]), Ok(input(77, 0, PaddingBy::Nobody, Pooling::Unknown)));
    }

    #[test]
    fn what_no_file_says_the_registry_says() {
        use PaddingBy::{OpenClip, Transformers};
        for (id, config, expected) in [
            ("ViT-B-32/openai", "{}", (77, 0, OpenClip, Pooling::EndOfText)),
            ("ViT-B-16-SigLIP/webli", "{}", (64, 1, OpenClip, Pooling::Padded)),
            ("ViT-B-32-SigLIP2-256/webli", "{}", (64, 0, OpenClip, Pooling::Padded)),
            ("MobileCLIP-S1/datacompdr", "{}", (77, 0, OpenClip, Pooling::Padded)),
            ("ViT-H-14-worldwide/metaclip2_worldwide", "{}", (77, 1, OpenClip, Pooling::EndOfText)),
            // Whether its graph heeds the padding, only running it tells.
            ("xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", "{}", (77, 1, OpenClip, Pooling::Unknown)),
            // What a file says stands.
            (
                "ViT-B-16-SigLIP/webli",
                r#"{"model_type": "siglip", "text_config": {"pad_token_id": 3, "max_position_embeddings": 32}}"#,
                (32, 3, Transformers, Pooling::Padded),
            ),
        ] {
            let (length, padding, by, pooling) = expected;
            assert_eq!(read_of(&[config], Some(id)), Ok(input(length, padding, by, pooling)), "{id} {config}");
        }
    }

    #[test]
    fn numbers_that_no_text_tower_has_are_refused_by_name() {
        for config in [
            r#"{"text_cfg": {"context_length": 100000000}}"#,
            r#"{"text_cfg": {"context_length": 1}}"#,
            r#"{"text_cfg": {"pad_id": -1}}"#,
            r#"{"text_config": {"max_position_embeddings": "77"}}"#,
        ] {
            let error = read(&[config]).unwrap_err();
            assert_eq!(error.reason, ModelReason::Unusable);
            assert!(error.message.contains("expected"), "{error}");
        }
    }
}
