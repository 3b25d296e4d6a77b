use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};

use super::DeadLetter;
use crate::kafka_client::{CONNECT_PREFIX, OWN_PREFIX};

/// How often a message was replayed. The message's own: it stays with it, also into its next dead letter.
pub const REPLAYS: &str = "clipstream.replays";

/// Who reports the failure.
#[derive(Clone, Debug)]
pub(super) struct Reporter {
    /// The consumer group; Connect's connector name.
    pub group: String,
    /// The process; Connect's task id.
    pub client: String,
}

/// Why the message failed, as headers.
pub(super) fn error_headers(letter: &DeadLetter, reporter: &Reporter) -> Vec<(String, String)> {
    let (position, failure) = (letter.message.origin().position, &letter.failure);
    let connect = [
        ("topic", position.topic.to_string()),
        ("partition", position.partition.to_string()),
        ("offset", position.offset.to_string()),
        ("connector.name", reporter.group.clone()),
        ("task.id", reporter.client.clone()),
        ("stage", failure.stage.to_string()),
        ("class.name", format!("clipstream.{}", failure.stage)),
        ("exception.class.name", failure.reason.to_owned()),
        ("exception.message", failure.message.clone()),
        // There is no stack to show; the whole failure in one line is what a reader looks for here.
        ("exception.stacktrace", failure.to_string()),
    ];
    let own = [
        ("class", failure.class.to_string()),
        ("attempts", letter.attempts_in_all().to_string()),
        ("timestamp", Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)),
    ];
    let connect = connect.into_iter().map(|(name, value)| (format!("{CONNECT_PREFIX}{name}"), value));
    connect.chain(own.into_iter().map(|(name, value)| (format!("{OWN_PREFIX}{name}"), value))).collect()
}

/// Bytes in JSON: text, null where there are none, `{"base64": "…"}` where they are not UTF-8.
pub(super) fn text(bytes: Option<&[u8]>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
        },
    }
}
