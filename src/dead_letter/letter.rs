//! Headers of a dead letter.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};

use super::DeadLetter;
use crate::kafka_client::{
    CONNECT_PREFIX, LEADER_EPOCH, MESSAGE_TIMESTAMP, NO_TIMESTAMP, OWN_PREFIX, REQUESTS, TOPIC_ID, request_numbers,
};

/// How often a message was replayed. This header belongs to the message, and is kept in its next dead letter.
pub const REPLAYS: &str = "clipstream.replays";

/// The message's own key (null if it has none), if the record has another key.
pub(super) const KEY: &str = "key";
/// Present if the message is a tombstone and the record cannot be one.
pub(super) const TOMBSTONE: &str = "tombstone";

/// Which piece of its message's value a record holds: `2/5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// From 1.
    pub number: usize,
    pub of: usize,
}

impl Part {
    pub const HEADER: &str = "part";

    pub fn read(text: &str) -> Option<Self> {
        let (number, of) = text.split_once('/')?;
        let part = Self { number: number.parse().ok()?, of: of.parse().ok()? };
        (1..=part.of).contains(&part.number).then_some(part)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// The full name of one of our headers.
pub(super) fn own_header(name: &str) -> String {
    format!("{OWN_PREFIX}{name}")
}

/// The reporter of the failure.
#[derive(Clone, Debug)]
pub(super) struct Reporter {
    /// The consumer group; Connect's connector name.
    pub group: String,
    /// The process; Connect's task id.
    pub client: String,
}

/// The message's position, as headers.
pub(super) fn position_headers(letter: &DeadLetter) -> Vec<(String, String)> {
    let position = letter.message.origin().position;
    let place = [
        ("topic", position.topic.to_string()),
        ("partition", position.partition.to_string()),
        ("offset", position.offset.to_string()),
    ];
    place.into_iter().map(connect).collect()
}

/// Why the message failed, as headers.
pub(super) fn error_headers(letter: &DeadLetter, reporter: &Reporter) -> Vec<(String, String)> {
    let origin = letter.message.origin();
    let (failure, fault) = (&letter.failure, &letter.failure.fault);
    let reason = [
        ("connector.name", reporter.group.clone()),
        ("task.id", reporter.client.clone()),
        ("stage", failure.stage.to_string()),
        ("class.name", format!("clipstream.{}", failure.stage)),
        ("exception.class.name", fault.reason.to_string()),
        ("exception.message", fault.to_string()),
        // There is no stack trace; readers look for the whole failure in one line here.
        ("exception.stacktrace", failure.to_string()),
    ];
    let mut more = vec![
        ("class", fault.class.to_string()),
        ("attempts", letter.attempts_in_all().to_string()),
        ("timestamp", Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true)),
        (MESSAGE_TIMESTAMP, origin.timestamp_ms.unwrap_or(NO_TIMESTAMP).to_string()),
    ];
    more.extend(origin.topic_id.map(|id| (TOPIC_ID, id.to_string())));
    if !letter.requests.is_empty() {
        more.push((REQUESTS, request_numbers(&letter.requests)));
    }
    more.extend(origin.leader_epoch.map(|epoch| (LEADER_EPOCH, epoch.to_string())));
    let mut headers = position_headers(letter);
    headers.extend(reason.into_iter().map(connect));
    headers.extend(more.into_iter().map(|(name, value)| (own_header(name), value)));
    headers
}

fn connect((name, value): (&str, String)) -> (String, String) {
    (format!("{CONNECT_PREFIX}{name}"), value)
}

/// Bytes in JSON: text, null if missing, `{"base64": "…"}` if they are not UTF-8.
pub(super) fn text(bytes: Option<&[u8]>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.into(),
            Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
        },
    }
}
