//! The JSON objects that points carry.

use serde_json::{Map, Value};

/// A JSON object, as Qdrant keeps it.
pub type Payload = Map<String, Value>;

/// A value's text, if it is text.
pub(super) fn text(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).map(str::to_owned)
}
