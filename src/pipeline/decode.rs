//! Stage 1: bytes to an [`IngestRequest`]. Strict: what is not understood is an error, never dropped.

use std::fmt;

use serde_json::Value;

use crate::domain::{
    AssetId, Failure, IngestRequest, MediaUrl, Message, ModelId, Op, Payload, RESERVED_KEY, Stage, Tenant, registry,
};
use crate::redact;

use super::json::{self, Fields, Unreadable};

const FIELDS: [&str; 8] = ["id", "op", "image", "text", "payload", "version", "models", "tenant"];

/// Longest quoted value in a failure, in characters.
const QUOTED_CHARS_MAX: usize = 80;

/// Most models that one message names; no worker has as many.
const MODELS_MAX: usize = 100;

/// `default_op`: of messages that name none. A null value (tombstone) is a delete of the asset that the key names.
pub fn decode(message: &Message, default_op: Op) -> Result<IngestRequest, Failure> {
    let Some(value) = &message.value else {
        return Ok(IngestRequest {
            asset: asset_from_key(message)?,
            tenant: None,
            op: Op::Delete,
            image: None,
            text: None,
            payload: Payload::new(),
            version: None,
            models: None,
        });
    };
    let Fields { known, unknown: stranger } = json::object(value, &FIELDS).map_err(|error| match error {
        Unreadable::Json(error) => not_json(value, &error),
        Unreadable::Refused { reason, message } => fail(reason, message),
    })?;
    if let Some(name) = stranger {
        return Err(unknown(&name));
    }
    let mut body = Body::default();
    for (name, value) in known {
        body.put(&name, value)?;
    }
    let op = body.op.unwrap_or(default_op);
    if op == Op::Upsert && body.image.is_none() && body.text.is_none() {
        return Err(fail(
            "field_missing",
            "an upsert needs \"image\", \"text\" or both; found neither (to change only payload, use \"op\": \"patch\")",
        ));
    }
    if op == Op::Delete && (body.image.is_some() || body.text.is_some()) {
        return Err(fail("field_invalid", "a delete takes no \"image\" and no \"text\"; found one of them"));
    }
    Ok(IngestRequest {
        asset: match body.asset {
            Some(asset) => asset,
            None => asset_from_key(message)?,
        },
        tenant: body.tenant,
        op,
        image: body.image,
        text: body.text,
        payload: body.payload,
        version: body.version,
        models: body.models,
    })
}

#[derive(Default)]
struct Body {
    asset: Option<AssetId>,
    op: Option<Op>,
    image: Option<MediaUrl>,
    text: Option<String>,
    payload: Payload,
    version: Option<u64>,
    models: Option<Vec<ModelId>>,
    tenant: Option<Tenant>,
}

impl Body {
    fn put(&mut self, name: &str, value: Value) -> Result<(), Failure> {
        // Many serialisers write absent optional fields as null, so null is absent.
        if value.is_null() {
            return Ok(());
        }
        match name {
            "id" => self.asset = Some(AssetId::new(string(name, value)?).map_err(|e| invalid(name, &e))?),
            "tenant" => self.tenant = Some(Tenant::new(string(name, value)?).map_err(|e| invalid(name, &e))?),
            "op" => self.op = Some(op(&string(name, value)?)?),
            "image" => self.image = Some(string(name, value)?).filter(|s| !s.trim().is_empty()).map(MediaUrl::new),
            "text" => self.text = Some(string(name, value)?).filter(|s| !s.trim().is_empty()),
            "version" => match value.as_u64() {
                // Qdrant keeps integers as i64.
                Some(version) if version <= i64::MAX as u64 => self.version = Some(version),
                _ => return Err(mistyped(name, &value, "an unsigned integer below 2^63")),
            },
            "payload" => match value {
                Value::Object(payload) if payload.contains_key(RESERVED_KEY) => {
                    return Err(fail(
                        "payload_reserved",
                        format!("payload key {RESERVED_KEY:?} is reserved; rename it"),
                    ));
                }
                Value::Object(payload) => self.payload = payload,
                other => return Err(mistyped(name, &other, "an object")),
            },
            "models" => self.models = Some(models(value)?),
            _ => unreachable!("FIELDS lists {name}"),
        }
        Ok(())
    }
}

fn string(name: &str, value: Value) -> Result<String, Failure> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(mistyped(name, &other, "a string")),
    }
}

fn op(text: &str) -> Result<Op, Failure> {
    match text {
        "upsert" => Ok(Op::Upsert),
        "patch" => Ok(Op::Patch),
        "delete" => Ok(Op::Delete),
        other => Err(fail(
            "field_invalid",
            format!("field \"op\" is {:?}; expected upsert, patch or delete", redact::excerpt(other, QUOTED_CHARS_MAX)),
        )),
    }
}

fn models(value: Value) -> Result<Vec<ModelId>, Failure> {
    let expected = "a list of model ids such as [\"ViT-B-32/openai\"]";
    let Value::Array(items) = value else { return Err(mistyped("models", &value, expected)) };
    if items.is_empty() {
        return Err(fail("field_invalid", "field \"models\" is empty; leave it out to mean all configured models"));
    }
    if items.len() > MODELS_MAX {
        let message = format!("field \"models\" has {} entries; expected at most {MODELS_MAX}", items.len());
        return Err(fail("field_invalid", message));
    }
    let mut models = Vec::with_capacity(items.len());
    for item in items {
        let Value::String(text) = item else { return Err(mistyped("models", &item, expected)) };
        let model = registry::resolve_or_custom(&text).map_err(|e| invalid("models", &e))?;
        if !models.contains(&model) {
            models.push(model);
        }
    }
    Ok(models)
}

fn asset_from_key(message: &Message) -> Result<AssetId, Failure> {
    let Some(key) = &message.key else {
        return Err(fail("field_missing", "no asset id: expected field \"id\" or a message key; found neither"));
    };
    let key = std::str::from_utf8(key)
        .map_err(|_| fail("field_invalid", "the message key is not UTF-8; expected the asset id, or field \"id\""))?;
    AssetId::new(key).map_err(|e| fail("field_invalid", format!("the message key {e}")))
}

fn fail(reason: &'static str, message: impl Into<String>) -> Failure {
    Failure::permanent(Stage::Decode, reason, message)
}

fn invalid(name: &str, error: &dyn fmt::Display) -> Failure {
    fail("field_invalid", format!("field {name:?} {}", redact::excerpt(&error.to_string(), 4 * QUOTED_CHARS_MAX)))
}

fn mistyped(name: &str, value: &Value, expected: &str) -> Failure {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    let found = redact::excerpt(&value.to_string(), QUOTED_CHARS_MAX);
    fail("field_type", format!("field {name:?} is {kind} ({found}); expected {expected}"))
}

fn unknown(name: &str) -> Failure {
    let name = redact::excerpt(name, QUOTED_CHARS_MAX);
    let near =
        FIELDS.iter().map(|f| (strsim::jaro_winkler(f, &name.to_lowercase()), f)).max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match near {
        Some((score, field)) if score > 0.75 => format!("; did you mean {field:?}?"),
        _ => format!("; expected one of {}", FIELDS.join(", ")),
    };
    fail("field_unknown", format!("unknown field {name:?}{hint}"))
}

fn not_json(value: &[u8], error: &serde_json::Error) -> Failure {
    let start = String::from_utf8_lossy(&value[..value.len().min(4 * QUOTED_CHARS_MAX)]);
    let found = redact::excerpt(&start, QUOTED_CHARS_MAX);
    if error.is_data() {
        return fail("message_invalid", format!("{error}; found {found}"));
    }
    fail("message_not_json", format!("expected a JSON object in UTF-8 ({error}); found {} bytes: {found}", value.len()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::Position;

    fn message(key: Option<&str>, value: Option<&[u8]>) -> Message {
        Message {
            position: Position { topic: "t".into(), partition: 0, offset: 0 },
            epoch: 1,
            key: key.map(|k| Bytes::copy_from_slice(k.as_bytes())),
            value: value.map(Bytes::copy_from_slice),
            headers: Vec::new(),
            timestamp_ms: None,
            topic_id: None,
            retry: None,
        }
    }

    fn decoded(value: &str) -> Result<IngestRequest, Failure> {
        decode(&message(Some("k"), Some(value.as_bytes())), Op::Upsert)
    }

    #[test]
    fn every_field_is_understood() {
        let request = decoded(
            r#"{"id": "sku-1/photo-2", "op": "upsert", "image": "s3://bucket/key.jpg", "text": "red running shoe",
                "payload": {"price": 59.9, "lang": "en"}, "version": 42, "models": ["ViT-B-32/openai", "ours/v1", "clip-ViT-B-32"],
                "tenant": "acme"}"#,
        )
        .unwrap();
        assert_eq!(request.asset.as_str(), "sku-1/photo-2");
        assert_eq!(request.image.unwrap().expose(), "s3://bucket/key.jpg");
        assert_eq!(request.text.as_deref(), Some("red running shoe"));
        assert_eq!(request.payload["price"], 59.9);
        assert_eq!(request.version, Some(42));
        let models: Vec<_> = request.models.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(models, ["ViT-B-32/openai", "ours/v1"], "two names of one model are one");
        assert_eq!(request.tenant.unwrap().as_str(), "acme");
    }

    #[test]
    fn the_key_names_the_asset_and_a_tombstone_deletes_it() {
        assert_eq!(decoded(r#"{"text": "x"}"#).unwrap().asset.as_str(), "k");
        let tombstone = decode(&message(Some("k"), None), Op::Patch).unwrap();
        assert_eq!((tombstone.op, tombstone.asset.as_str()), (Op::Delete, "k"));
        assert_eq!(decode(&message(None, None), Op::Patch).unwrap_err().reason, "field_missing");
    }

    #[test]
    fn the_topic_sets_the_default_op_and_null_is_absent() {
        let value = br#"{"payload": {"a": 1}, "image": null, "text": ""}"#;
        let patch = decode(&message(Some("k"), Some(value)), Op::Patch).unwrap();
        assert_eq!((patch.op, patch.image.is_none(), patch.text), (Op::Patch, true, None));
        assert_eq!(decoded(std::str::from_utf8(value).unwrap()).unwrap_err().reason, "field_missing");
    }

    #[test]
    fn broken_messages_say_field_found_and_expected() {
        let cases: [(&str, &str, &str); 14] = [
            ("not json", "message_not_json", "expected a JSON object"),
            ("", "message_not_json", "found 0 bytes"),
            ("[1]", "message_invalid", "expected a JSON object"),
            (r#"{"id": "a", "imgae": "x"}"#, "field_unknown", r#"did you mean "image"?"#),
            (r#"{"id": "a", "zzz": "x"}"#, "field_unknown", "expected one of id, op"),
            (r#"{"id": "a", "text": "x", "text": "y"}"#, "message_invalid", "comes twice"),
            (r#"{"id": 5, "text": "x"}"#, "field_type", r#"field "id" is a number (5); expected a string"#),
            (r#"{"id": "", "text": "x"}"#, "field_invalid", "is empty"),
            (r#"{"id": "a"}"#, "field_missing", "needs \"image\", \"text\" or both"),
            (r#"{"id": "a", "text": "x", "op": "insert"}"#, "field_invalid", "expected upsert, patch or delete"),
            (r#"{"id": "a", "text": "x", "version": -1}"#, "field_type", "unsigned integer"),
            (r#"{"id": "a", "text": "x", "payload": [1]}"#, "field_type", "is a list ([1]); expected an object"),
            (r#"{"id": "a", "text": "x", "payload": {"clipstream": 1}}"#, "payload_reserved", "reserved"),
            (r#"{"id": "a", "text": "x", "models": ["b32"]}"#, "field_invalid", "VARIANT/CHECKPOINT"),
        ];
        for (value, reason, part) in cases {
            let failure = decoded(value).unwrap_err();
            assert_eq!(failure.reason, reason, "{value}: {failure}");
            assert!(failure.message.contains(part), "{value}: {failure}");
        }
        let nested = "[".repeat(100_000);
        assert_eq!(decoded(&nested).unwrap_err().reason, "message_invalid");
    }
}
