//! What a message's key says: the asset, and the tenant if keys name one. The same rule for tombstones and for messages
//! without an id in the body, so that a delete finds what an upsert made. A key that the rule cannot read is an error.

use serde_json::Value;

use super::framing;
use super::refusal::{QUOTED_CHARS_MAX, fail};
use crate::config::{KeyFormat, KeySettings};
use crate::domain::{AssetId, DecodeReason, Failure, IngestRequest, Message, Op, Payload, Tenant};
use crate::redact;

/// What one place says about the tenant: nothing, that the asset has no tenant, or its name.
pub type NamedTenant = Option<Option<Tenant>>;

/// # Errors
/// No key, or one that the settings cannot read.
pub(super) fn read(settings: &KeySettings, message: &Message) -> Result<(AssetId, NamedTenant), Failure> {
    let Some(key) = &message.key else {
        return Err(fail(
            DecodeReason::FieldMissing,
            "no asset id: expected field \"id\" or a message key; found neither",
        ));
    };
    let found = match settings.format {
        KeyFormat::Auto => auto(key)?,
        KeyFormat::Text => Found::Text(text(key)?.to_owned()),
        KeyFormat::Json => json(key, settings.template.has_tenant())?,
        KeyFormat::Integer => Found::Text(integer(key)?),
    };
    let (tenant, id) = match &found {
        Found::Members { tenant, id } => (tenant.as_deref(), id.as_str()),
        Found::Text(text) => settings.template.split(text).ok_or_else(|| {
            let template = &settings.template;
            let message =
                format!("the message key is {}; expected the form {template} (kafka.key_template)", quoted(text));
            fail(DecodeReason::FieldInvalid, message)
        })?,
    };
    let asset = AssetId::new(id).map_err(|error| unusable(key, &error.to_string()))?;
    if id.starts_with('\u{feff}') {
        return Err(unusable(key, "begins with an invisible byte order mark (U+FEFF); expected the id alone"));
    }
    let named = match tenant {
        None if settings.template.has_tenant() => Some(None),
        None => None,
        Some("") => Some(None),
        Some(name) => Some(Some(
            Tenant::new(name)
                .map_err(|e| fail(DecodeReason::FieldInvalid, format!("the tenant in the message key {e}")))?,
        )),
    };
    Ok((asset, named))
}

/// The key of an asset's messages, for producers: it is read as the same asset and tenant again.
///
/// # Errors
/// In words, if no key of the configured form names them.
pub fn write(settings: &KeySettings, tenant: Option<&str>, id: &str) -> Result<Vec<u8>, String> {
    let in_key = tenant.filter(|_| settings.template.has_tenant());
    let text = settings.template.join(in_key, id).ok_or_else(|| {
        format!(
            "no key of the form {} (kafka.key_template) has the tenant {}",
            settings.template,
            quoted(in_key.unwrap_or_default())
        )
    })?;
    match settings.format {
        // In quotes if it would be read as JSON otherwise.
        KeyFormat::Auto if !matches!(auto(text.as_bytes()), Ok(Found::Text(read)) if read == text) => {
            Ok(Value::String(text).to_string().into_bytes())
        }
        KeyFormat::Auto | KeyFormat::Text => Ok(text.into_bytes()),
        KeyFormat::Json => Ok(Value::String(text).to_string().into_bytes()),
        KeyFormat::Integer => text.parse::<i64>().map(|n| n.to_be_bytes().to_vec()).map_err(|_| {
            format!("the id {} is not an integer; expected one, because kafka.key_format is integer", quoted(&text))
        }),
    }
}

/// The tenant in the header of `kafka.tenant_header`; `None` without this setting or header.
pub(super) fn header(settings: &KeySettings, message: &Message) -> Result<NamedTenant, Failure> {
    let Some(name) = &settings.tenant_header else { return Ok(None) };
    let shown = redact::cut(name, QUOTED_CHARS_MAX);
    let mut named = None;
    for (_, value) in message.headers.iter().filter(|(header, _)| header == name) {
        let value = std::str::from_utf8(value.as_deref().unwrap_or_default()).map_err(|_| {
            fail(DecodeReason::FieldInvalid, format!("the header {shown:?} is not UTF-8; expected a tenant"))
        })?;
        let tenant = match value {
            "" => None,
            name => Some(
                Tenant::new(name).map_err(|e| fail(DecodeReason::FieldInvalid, format!("the header {shown:?} {e}")))?,
            ),
        };
        if named.replace(tenant.clone()).is_some_and(|before| before != tenant) {
            return Err(fail(
                DecodeReason::TenantConflict,
                format!("the header {shown:?} comes twice, with two tenants; expected one"),
            ));
        }
    }
    Ok(named)
}

/// The tenant of a request. `named`: the places that may name one, in words, and what they say, which must be the same.
pub(super) fn tenant<const N: usize>(
    keys: &KeySettings,
    named: [(&str, NamedTenant); N],
) -> Result<Option<Tenant>, Failure> {
    let mut all = named.into_iter().filter_map(|(place, named)| Some((place, named?)));
    let Some((first, tenant)) = all.next() else {
        if !keys.name_tenants() {
            return Ok(None);
        }
        let place = match &keys.tenant_header {
            Some(name) => format!("the header {:?} (kafka.tenant_header)", redact::cut(name, QUOTED_CHARS_MAX)),
            None => format!("the form {} of the key (kafka.key_template)", keys.template),
        };
        return Err(fail(
            DecodeReason::TenantMissing,
            format!("no tenant; expected {place} to name it, empty for no tenant"),
        ));
    };
    let shown = |tenant: &Option<Tenant>| {
        tenant.as_ref().map_or("none".to_owned(), |t| format!("\"{}\"", redact::excerpt(t.as_str(), QUOTED_CHARS_MAX)))
    };
    match all.find(|(_, other)| *other != tenant) {
        None => Ok(tenant),
        Some((second, other)) => {
            let message = format!(
                "the tenant is {} in {first} and {} in {second}; expected the same",
                shown(&tenant),
                shown(&other)
            );
            Err(fail(DecodeReason::TenantConflict, message))
        }
    }
}

/// What a null value asks for, in every format: the deletion of the asset that the key names.
pub(super) fn tombstone(settings: &KeySettings, message: &Message) -> Result<IngestRequest, Failure> {
    let (asset, in_key) = read(settings, message)?;
    Ok(IngestRequest {
        asset,
        tenant: tenant(settings, [("the header", header(settings, message)?), ("the message key", in_key)])?,
        op: Op::Delete,
        image: None,
        text: None,
        payload: Payload::new(),
        version: None,
        models: None,
    })
}

enum Found {
    /// The template splits it.
    Text(String),
    /// Of a JSON object.
    Members { tenant: Option<String>, id: String },
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", redact::excerpt(text, QUOTED_CHARS_MAX))
}

/// `why` continues "the message key …".
fn unusable(key: &[u8], why: &str) -> Failure {
    let framing = framing::of(key);
    let found = framing.as_ref().map_or_else(String::new, |framing| format!("; found {framing}; expected text"));
    let failure = fail(DecodeReason::FieldInvalid, format!("the message key {why}{found}"));
    let is_integer = matches!(key.len(), 4 | 8) && key.iter().any(|b| *b < 32 || *b > 126);
    match (framing, is_integer) {
        (_, true) => failure
            .hint("write keys with a string serializer, or set kafka.key_format = \"integer\" if they are integers"),
        (Some(_), false) => failure.hint("write keys with a string serializer"),
        (None, false) => failure,
    }
}

fn text(key: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(key).map_err(|_| unusable(key, "is not UTF-8; expected the asset id, or field \"id\""))
}

/// Big-endian with sign, as Kafka's `IntegerSerializer` and `LongSerializer`.
fn integer(key: &[u8]) -> Result<String, Failure> {
    match (<[u8; 4]>::try_from(key), <[u8; 8]>::try_from(key)) {
        (Ok(bytes), _) => Ok(i32::from_be_bytes(bytes).to_string()),
        (_, Ok(bytes)) => Ok(i64::from_be_bytes(bytes).to_string()),
        _ => {
            let message = format!(
                "the message key has {} bytes; expected 4 or 8, because kafka.key_format is integer",
                key.len()
            );
            Err(fail(DecodeReason::FieldInvalid, message))
        }
    }
}

/// Text, unless it can only be JSON.
fn auto(key: &[u8]) -> Result<Found, Failure> {
    let begins = framing::without(key).trim_ascii_start().first().copied();
    if !matches!(begins, Some(b'"' | b'{' | b'[')) {
        return text(key).map(|text| Found::Text(text.to_owned()));
    }
    match serde_json::from_slice::<Value>(framing::without(key)).map(unwrapped) {
        Err(_) => text(key).map(|text| Found::Text(text.to_owned())),
        Ok(value) => scalar(&value).map(Found::Text).ok_or_else(|| {
            let kind = if value.is_array() { "a JSON list" } else { "a JSON object" };
            let message = format!(
                "the message key is {kind} ({}); expected the asset's id",
                redact::excerpt(&value.to_string(), QUOTED_CHARS_MAX)
            );
            fail(DecodeReason::FieldInvalid, message).hint(
                "write keys as plain text, or set kafka.key_format to \"json\" where its member \"id\" is the id, or to \
                 \"text\" where all of it is",
            )
        }),
    }
}

fn json(key: &[u8], has_tenant: bool) -> Result<Found, Failure> {
    let shown = || quoted(&String::from_utf8_lossy(&key[..key.len().min(4 * QUOTED_CHARS_MAX)]));
    let wrong = |expected: &str| {
        let because = "because kafka.key_format is json";
        fail(DecodeReason::FieldInvalid, format!("the message key is {}; expected {expected}, {because}", shown()))
    };
    let value = serde_json::from_slice::<Value>(framing::without(key)).map(unwrapped);
    let value = value.map_err(|error| match framing::of(key) {
        Some(framing) => wrong(&format!("JSON, found {framing}")),
        None => wrong(&format!("JSON ({error})")),
    })?;
    if let Some(text) = scalar(&value) {
        return Ok(Found::Text(text));
    }
    let Value::Object(members) = &value else { return Err(wrong("a string, an integer, or an object with \"id\"")) };
    let tenant = match members.get("tenant") {
        _ if !has_tenant => None,
        None => return Err(wrong("the member \"tenant\", null for no tenant (kafka.key_template)")),
        Some(Value::Null) => None,
        Some(value) => Some(scalar(value).ok_or_else(|| wrong("text as member \"tenant\""))?),
    };
    let mut ids = members.iter().filter(|(name, _)| !has_tenant || *name != "tenant").map(|(_, value)| value);
    let only = ids.next().filter(|_| ids.next().is_none());
    let id = members.get("id").or(only).and_then(scalar);
    let id = id.ok_or_else(|| wrong("an object with the member \"id\", or with one member, a string or an integer"))?;
    Ok(Found::Members { tenant, id })
}

/// The payload of Kafka Connect's envelope, `{"schema": …, "payload": …}`.
fn unwrapped(mut value: Value) -> Value {
    if let Value::Object(members) = &mut value
        && members.len() == 2
        && members.contains_key("schema")
        && let Some(payload) = members.remove("payload")
    {
        return payload;
    }
    value
}

/// A string, or the digits of an integer.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
