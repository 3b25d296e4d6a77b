//! Memory that JSON values take: up to 70 times the size of their text, so a small message can be large.

use std::mem::size_of;

use serde_json::Value;

use super::Payload;

/// Any value.
pub const VALUE_BYTES: usize = size_of::<Value>();
/// A member of an object: its entry with hash and name, and its place in the index.
pub const MEMBER_BYTES: usize = size_of::<(usize, String, Value)>() + 2 * size_of::<usize>();
/// Members that an object has room for, if it has any.
pub const MEMBERS_MIN: usize = 4;
/// The smallest piece of text.
const TEXT_BYTES_MIN: usize = 8;

/// Bytes that a payload holds.
pub fn payload_bytes(payload: &Payload) -> usize {
    let members = payload.iter().map(|(name, value)| text_bytes(name) + value_bytes(value));
    match payload.len() {
        0 => 0,
        count => count.max(MEMBERS_MIN) * MEMBER_BYTES + members.sum::<usize>(),
    }
}

/// Bytes that a value holds, without the value itself.
fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text_bytes(text),
        Value::Array(items) => items.capacity() * VALUE_BYTES + items.iter().map(value_bytes).sum::<usize>(),
        Value::Object(members) => payload_bytes(members),
    }
}

fn text_bytes(text: &str) -> usize {
    text.len().max(TEXT_BYTES_MIN)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_short_as_text_is_not_in_memory() {
        let bytes = |value: Value| payload_bytes(value.as_object().expect("an object"));
        assert_eq!(bytes(json!({})), 0);
        let ones = bytes(json!({"a": vec![1; 1000]}));
        assert!((1000 * VALUE_BYTES..1100 * VALUE_BYTES).contains(&ones), "{ones}");
        let objects = bytes(json!({"a": vec![json!({"a": 1}); 1000]}));
        assert!(objects > 1000 * (VALUE_BYTES + 4 * MEMBER_BYTES), "{objects}");
        let text = bytes(json!({"a": "x".repeat(100_000)}));
        assert!((100_000..101_000).contains(&text), "{text}");
    }
}
