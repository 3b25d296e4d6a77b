use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};

use super::DeadLetter;

/// Headers of this prefix are Kafka Connect's (KIP-298, `DeadLetterQueueReporter`), so that its tools read our dead
/// letters. All values are text.
pub const CONNECT_PREFIX: &str = "__connect.errors.";
/// What Kafka Connect has no name for.
pub const OWN_PREFIX: &str = "clipstream.errors.";
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

/// Why the message is a dead letter, as headers.
pub(super) fn error_headers(letter: &DeadLetter, reporter: &Reporter) -> Vec<(String, String)> {
    let (position, failure) = (&letter.message.position, &letter.failure);
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
        ("attempts", letter.attempts.to_string()),
        ("timestamp", Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)),
    ];
    let connect = connect.into_iter().map(|(name, value)| (format!("{CONNECT_PREFIX}{name}"), value));
    connect.chain(own.into_iter().map(|(name, value)| (format!("{OWN_PREFIX}{name}"), value))).collect()
}

/// Whether a header tells of an earlier failure. A message that dies again tells of its last one only.
pub(super) fn is_error_header(name: &str) -> bool {
    name.starts_with(CONNECT_PREFIX) || name.starts_with(OWN_PREFIX)
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
