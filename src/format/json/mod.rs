//! Our own format: a message is one JSON object, and asks for one thing (`docs/messages.md`). Strict: anything unknown
//! is an error, never dropped.

mod fields;
mod malformed;

use std::fmt;

use serde_json::Value;

use self::fields::{Fields, Unreadable};
use super::key;
use super::refusal::{QUOTED_CHARS_MAX, fail};
use super::{Context, framing};
use crate::domain::{
    AssetId, DecodeReason, Failure, IngestRequest, MediaUrl, Message, ModelId, Op, Payload, RESERVED_KEY, Tenant,
    registry,
};
use crate::redact;

const FIELDS: [&str; 8] = ["id", "op", "image", "text", "payload", "version", "models", "tenant"];

/// Most models that one message names; no worker has as many.
const MODELS_MAX: usize = 100;

/// `value`: of the message.
///
/// # Errors
/// Permanent: what was found in the message, and what was expected.
pub(super) fn decode(value: &[u8], message: &Message, context: &Context<'_>) -> Result<IngestRequest, Failure> {
    let Context { default_op, keys } = *context;
    let text = framing::without(value);
    let Fields { known, unknown: unknown_field } = fields::object(text, &FIELDS).map_err(|error| match error {
        Unreadable::Json(error) => not_json(value, text, &error),
        Unreadable::Refused { reason, message } => fail(reason, message),
    })?;
    if let Some(name) = unknown_field {
        return Err(unknown(&name));
    }
    let mut body = Body::default();
    for (name, value) in known {
        body.put(&name, value)?;
    }
    let op = body.op.unwrap_or(default_op);
    if op == Op::Upsert && body.image.is_none() && body.text.is_none() {
        let message = "an upsert needs \"image\", \"text\" or both; found neither";
        return Err(fail(DecodeReason::FieldMissing, message).hint("to change only the payload, use \"op\": \"patch\""));
    }
    if op == Op::Delete && (body.image.is_some() || body.text.is_some()) {
        return Err(fail(DecodeReason::FieldInvalid, "a delete takes no \"image\" and no \"text\"; found one of them"));
    }
    let in_body = body.tenant.take().map(Some);
    // A body with id and tenant needs no key. If both name a tenant, it must be the same one.
    let has_tenant = keys.template.has_tenant();
    let (asset, in_key) = match (body.asset, key::read(keys, message)) {
        (Some(asset), _) if !has_tenant => (asset, None),
        (Some(asset), Err(_)) if in_body.is_some() => (asset, None),
        (_, Err(failure)) => return Err(failure),
        (asset, Ok((in_key, tenant))) => (asset.unwrap_or(in_key), tenant),
    };
    let tenants =
        [("field \"tenant\"", in_body), ("the header", key::header(keys, message)?), ("the message key", in_key)];
    Ok(IngestRequest {
        tenant: key::tenant(keys, tenants)?,
        asset,
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
            "id" => {
                let id = AssetId::new(string(name, value)?).map_err(|e| invalid(name, &e))?;
                if id.as_str().starts_with('\u{feff}') {
                    let why = "begins with an invisible byte order mark (U+FEFF); expected the id alone";
                    return Err(invalid(name, &why));
                }
                self.asset = Some(id);
            }
            "tenant" => self.tenant = Some(Tenant::new(string(name, value)?).map_err(|e| invalid(name, &e))?),
            "op" => self.op = Some(op(&string(name, value)?)?),
            "image" => self.image = Some(string(name, value)?).filter(|s| !s.trim().is_empty()).map(MediaUrl::new),
            "text" => self.text = Some(string(name, value)?).filter(|s| !s.trim().is_empty()),
            "version" => self.version = Some(version(&value).ok_or_else(|| mistyped(name, &value, VERSION))?),
            "payload" => match value {
                Value::Object(payload) if payload.contains_key(RESERVED_KEY) => {
                    return Err(fail(
                        DecodeReason::PayloadReserved,
                        format!("payload key {RESERVED_KEY:?} is reserved"),
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
            DecodeReason::FieldInvalid,
            format!("field \"op\" is {:?}; expected upsert, patch or delete", redact::excerpt(other, QUOTED_CHARS_MAX)),
        )),
    }
}

fn models(value: Value) -> Result<Vec<ModelId>, Failure> {
    let expected = "a list of model ids such as [\"ViT-B-32/openai\"]";
    let Value::Array(items) = value else { return Err(mistyped("models", &value, expected)) };
    if items.is_empty() {
        let empty = fail(DecodeReason::FieldInvalid, "field \"models\" is empty; expected at least one model");
        return Err(empty.hint("leave it out to mean all configured models"));
    }
    if items.len() > MODELS_MAX {
        let message = format!("field \"models\" has {} entries; expected at most {MODELS_MAX}", items.len());
        return Err(fail(DecodeReason::FieldInvalid, message));
    }
    let mut models = Vec::with_capacity(items.len());
    for item in items {
        let Value::String(text) = item else { return Err(mistyped("models", &item, expected)) };
        let model = registry::resolve_or_custom(&text).map_err(|unknown| {
            let failure = invalid("models", &unknown);
            // The worker has its own models, so a list of all that there are does not help.
            match unknown.nearest {
                Some(nearest) => failure.hint(format!("did you mean {nearest}?")),
                None => failure,
            }
        })?;
        if !models.contains(&model) {
            models.push(model);
        }
    }
    Ok(models)
}

const VERSION: &str = "an unsigned integer below 2^63";

/// A float that is whole is that integer (JSON has one kind of number), as long as no other number has the same float.
fn version(value: &Value) -> Option<u64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    // Qdrant keeps integers as i64.
    let integer = value.as_u64().filter(|version| i64::try_from(*version).is_ok());
    let whole = |float: &f64| float.is_sign_positive() && *float < EXACT_MAX && float.fract() == 0.0;
    integer.or_else(|| value.as_f64().filter(|_| value.is_f64()).filter(whole).map(|float| float as u64))
}

fn invalid(name: &str, error: &dyn fmt::Display) -> Failure {
    fail(
        DecodeReason::FieldInvalid,
        format!("field {name:?} {}", redact::excerpt(&error.to_string(), 4 * QUOTED_CHARS_MAX)),
    )
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
    fail(DecodeReason::FieldType, format!("field {name:?} is {kind} ({found}); expected {expected}"))
}

fn unknown(name: &str) -> Failure {
    let shown = redact::excerpt(name, QUOTED_CHARS_MAX);
    let near =
        FIELDS.iter().map(|f| (strsim::jaro_winkler(f, &shown.to_lowercase()), f)).max_by(|a, b| a.0.total_cmp(&b.0));
    let message = format!("unknown field \"{shown}\"; expected one of {}", FIELDS.join(", "));
    let failure = fail(DecodeReason::FieldUnknown, message);
    match (envelope(name), near) {
        (Some(envelope), _) => failure.hint(format!("is this {envelope}")),
        (None, Some((score, field))) if score > 0.75 => failure.hint(format!("did you mean {field:?}?")),
        _ => failure,
    }
}

/// What wraps messages in members of this name, and how to have it unwrapped.
fn envelope(name: &str) -> Option<&'static str> {
    Some(match name {
        "schema" => "Kafka Connect's JsonConverter with schemas? Set value.converter.schemas.enable=false there",
        "before" | "after" | "ts_ms" => {
            "Debezium's envelope? Have it unwrapped by the transformation ExtractNewRecordState"
        }
        "specversion" | "datacontenttype" => "a CloudEvent in structured mode? Send its data alone, or in binary mode",
        "Records" | "eventName" | "s3" => {
            "a notification of S3? Make one message of each record, its key form-decoded (+ is a space, %2F a slash)"
        }
        _ => return None,
    })
}

/// `text`: the part of `value` that was read.
fn not_json(value: &[u8], text: &[u8], error: &serde_json::Error) -> Failure {
    let start = String::from_utf8_lossy(&value[..value.len().min(4 * QUOTED_CHARS_MAX)]);
    let found = redact::excerpt(&start, QUOTED_CHARS_MAX);
    // The parser quotes a whole string.
    let error_text = redact::excerpt(&error.to_string(), 4 * QUOTED_CHARS_MAX);
    if error.is_data() {
        return fail(DecodeReason::MessageInvalid, format!("{error_text}{}; found {found}", another_kind(text)));
    }
    let around = framing::of(value);
    // Of binary data the frame says it all.
    let within = if text.len() == value.len() && around.is_some() { None } else { malformed::cause(text) };
    let causes: Vec<String> = around.into_iter().chain(within).collect();
    let cause = if causes.is_empty() { String::new() } else { format!(", found {}", causes.join(": ")) };
    let message =
        format!("expected a JSON object in UTF-8{cause} ({error_text}); found {} bytes: {found}", value.len());
    fail(DecodeReason::MessageNotJson, message)
}

/// What is looked at a second time, only to name it; values take far more memory than text.
const PARSED_BYTES_MAX: usize = 1024 * 1024;

/// Of JSON that is no object, where it is known what it is instead.
fn another_kind(text: &[u8]) -> &'static str {
    let small = text.get(..PARSED_BYTES_MAX).map_or(text, |_| b"");
    let inner = match serde_json::from_slice::<Value>(small) {
        Ok(Value::Array(items)) if items.iter().all(Value::is_object) => {
            return ": a list of messages; expected one per message and line (jq -c '.[]' takes it apart)";
        }
        Ok(Value::String(inner)) => inner,
        _ => return "",
    };
    let is_object = serde_json::from_str::<Value>(&inner).is_ok_and(|inner| inner.is_object());
    if is_object { ": JSON within a JSON string; it was serialised twice" } else { "" }
}

#[cfg(test)]
mod tests;
