//! A dead letter as read back.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use serde::Deserialize;
use serde_json::{Value, json};

use super::letter::{KEY, Part, REPLAYS, TOMBSTONE, text};
use crate::domain::Position;
use crate::kafka_client::{
    self, CONNECT_PREFIX, MESSAGE_TIMESTAMP, NO_TIMESTAMP, OWN_PREFIX, REQUESTS, is_failure_header,
};

/// A dead letter read back from a topic or a file. Other programs, for example Kafka Connect, may have written it, so its
/// fields are text, and missing ones are `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLetter {
    /// Position of the letter: in a topic, or the line in a file from 0 (partition 0).
    pub position: Position,
    /// Position of its message.
    pub source: Option<Position>,
    pub key: Option<Bytes>,
    /// `None`: a tombstone.
    pub value: Option<Bytes>,
    /// The message's own headers, without those of the failure.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// The message's own timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
    pub stage: Option<String>,
    pub class: Option<String>,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub attempts: Option<u32>,
    /// The failed requests of the message, from 0. Empty if it has only one request.
    pub requests: Vec<usize>,
    pub failed_at: Option<DateTime<Utc>>,
}

impl StoredLetter {
    /// The letter, and the number of this part if it was written in parts.
    pub(super) fn from_kafka(message: &BorrowedMessage<'_>, topic: &Arc<str>) -> (Self, Option<Part>) {
        let (mut errors, mut headers, mut own_key) = (BTreeMap::new(), Vec::new(), None);
        for header in message.headers().iter().flat_map(|headers| headers.iter()) {
            if header.key.strip_prefix(OWN_PREFIX) == Some(KEY) {
                own_key = Some(header.value.map(Bytes::copy_from_slice));
            } else if is_failure_header(header.key) {
                let value = String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned();
                errors.insert(header.key.to_owned(), value);
            } else {
                headers.push((header.key.to_owned(), header.value.map(Bytes::copy_from_slice)));
            }
        }
        let source = kafka_client::position(|name| errors.get(&format!("{CONNECT_PREFIX}{name}")).map(String::as_str));
        let mut connect = |name: &str| errors.remove(&format!("{CONNECT_PREFIX}{name}"));
        let (stage, reason) = (connect("stage"), connect("exception.class.name"));
        let text = connect("exception.message");
        let mut own = |name: &str| errors.remove(&format!("{OWN_PREFIX}{name}"));
        let is_tombstone = own(TOMBSTONE).is_some();
        let part = own(Part::HEADER).as_deref().and_then(Part::read);
        let timestamp_ms = match own(MESSAGE_TIMESTAMP) {
            Some(ms) => ms.parse().ok().filter(|ms| *ms != NO_TIMESTAMP),
            // Letters of older releases have it as the record's timestamp.
            None => message.timestamp().to_millis(),
        };
        let letter = Self {
            position: Position { topic: topic.clone(), partition: message.partition(), offset: message.offset() },
            source,
            key: own_key.unwrap_or_else(|| message.key().map(Bytes::copy_from_slice)),
            value: message.payload().filter(|_| !is_tombstone).map(Bytes::copy_from_slice),
            headers,
            timestamp_ms,
            stage,
            class: own("class"),
            reason,
            message: text,
            attempts: own("attempts").and_then(|n| n.parse().ok()),
            requests: own(REQUESTS).as_deref().map(kafka_client::read_request_numbers).unwrap_or_default(),
            failed_at: own("timestamp").as_deref().and_then(time),
        };
        (letter, part)
    }

    /// One line of [`super::FileDeadLetters`].
    ///
    /// # Errors
    /// What is wrong with it, in the parser's words.
    pub(super) fn from_line(line: &[u8], position: Position) -> Result<Self, String> {
        let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        let bytes = |text: Option<Text>| text.map(Text::bytes).transpose();
        let mut headers = Vec::with_capacity(line.headers.len());
        for (name, value) in line.headers {
            if !is_failure_header(&name) {
                headers.push((name, bytes(value)?));
            }
        }
        Ok(Self {
            position,
            source: Some(Position { topic: line.topic.into(), partition: line.partition, offset: line.offset }),
            key: bytes(line.key)?,
            value: bytes(line.value)?,
            headers,
            timestamp_ms: line.timestamp_ms,
            stage: Some(line.stage),
            class: Some(line.class),
            reason: Some(line.reason),
            message: Some(line.message),
            attempts: Some(line.attempts),
            requests: line.requests.into_iter().filter_map(|number| number.checked_sub(1)).collect(),
            failed_at: time(&line.failed_at),
        })
    }

    /// The time of the failure, or, if unknown, the message's own timestamp.
    pub fn time(&self) -> Option<DateTime<Utc>> {
        self.failed_at.or_else(|| self.timestamp_ms.and_then(DateTime::from_timestamp_millis))
    }

    /// How often the message was replayed before it failed this time.
    pub fn replays(&self) -> u32 {
        let mut counts = self.headers.iter().filter(|(name, _)| name == REPLAYS);
        let count = counts.next_back().and_then(|(_, value)| std::str::from_utf8(value.as_deref()?).ok()?.parse().ok());
        count.unwrap_or(0)
    }

    /// The message's headers for the next replay.
    pub fn headers_to_replay(&self) -> Vec<(String, Option<Bytes>)> {
        let mut headers: Vec<_> = self.headers.iter().filter(|(name, _)| name != REPLAYS).cloned().collect();
        headers.push((REPLAYS.to_owned(), Some(self.replays().saturating_add(1).to_string().into())));
        headers
    }

    /// The output of `clipstream dlq list --json`. Bytes are text, or `{"base64": "…"}` if they are not UTF-8.
    pub fn describe(&self, values: bool) -> Value {
        let position = |p: &Position| json!({ "topic": &*p.topic, "partition": p.partition, "offset": p.offset });
        let mut out = json!({
            "letter": position(&self.position),
            "source": self.source.as_ref().map(position),
            "key": text(self.key.as_deref()),
            "timestamp_ms": self.timestamp_ms,
            "stage": self.stage,
            "class": self.class,
            "reason": self.reason,
            "message": self.message,
            "attempts": self.attempts,
            "requests": self.requests.iter().map(|index| index + 1).collect::<Vec<_>>(),
            "failed_at": self.failed_at.map(|at| at.to_rfc3339_opts(SecondsFormat::Millis, true)),
            "replays": self.replays(),
        });
        if values {
            let headers: Vec<Value> =
                self.headers.iter().map(|(name, value)| json!([name, text(value.as_deref())])).collect();
            out["value"] = text(self.value.as_deref());
            out["headers"] = headers.into();
        }
        out
    }
}

fn time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc())
}

#[derive(Deserialize)]
struct Line {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp_ms: Option<i64>,
    key: Option<Text>,
    value: Option<Text>,
    headers: Vec<(String, Option<Text>)>,
    stage: String,
    class: String,
    reason: String,
    message: String,
    attempts: u32,
    /// From 1.
    #[serde(default)]
    requests: Vec<usize>,
    failed_at: String,
}

/// The inverse of `text`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Bytes { base64: String },
}

impl Text {
    fn bytes(self) -> Result<Bytes, String> {
        match self {
            Self::Plain(text) => Ok(text.into()),
            Self::Bytes { base64 } => {
                STANDARD.decode(base64).map(Bytes::from).map_err(|error| format!("\"base64\" does not decode: {error}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position() -> Position {
        Position { topic: "dead.jsonl".into(), partition: 0, offset: 4 }
    }

    fn line(headers: Value) -> Vec<u8> {
        json!({
            "topic": "t", "partition": 1, "offset": 2, "timestamp_ms": null, "key": "k", "value": {"base64": "/w=="},
            "headers": headers, "stage": "fetch", "class": "transient", "reason": "fetch_timeout", "message": "slow",
            "attempts": 5, "failed_at": "2026-11-25T06:00:00.000Z",
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn a_line_is_read_back_as_it_was_written() {
        let headers = json!([["a", "1"], ["b", null], ["clipstream.errors.class", "permanent"]]);
        let letter = StoredLetter::from_line(&line(headers), position()).unwrap();
        assert_eq!(letter.value.as_deref(), Some(&b"\xff"[..]));
        assert_eq!(letter.headers, [("a".to_owned(), Some("1".into())), ("b".to_owned(), None)]);
        let described = letter.describe(true);
        assert_eq!(described["source"], json!({"topic": "t", "partition": 1, "offset": 2}));
        assert_eq!(described["letter"]["offset"], 4);
        assert_eq!(described["value"], json!({"base64": "/w=="}));
        assert_eq!(described["failed_at"], "2026-11-25T06:00:00.000Z");
        assert_eq!(letter.describe(false).get("value"), None);
    }

    #[test]
    fn a_line_that_is_no_letter_is_refused() {
        for wrong in [&b"{"[..], b"{\"id\": \"a\"}", b"[]"] {
            assert!(StoredLetter::from_line(wrong, position()).is_err());
        }
        let wrong = line(json!([["a", {"base64": "?"}]]));
        assert!(StoredLetter::from_line(&wrong, position()).unwrap_err().contains("base64"));
    }

    #[test]
    fn replays_are_counted_up_in_one_header() {
        let letter = |headers| StoredLetter::from_line(&line(headers), position()).unwrap();
        assert_eq!(letter(json!([])).replays(), 0);
        assert_eq!(letter(json!([["clipstream.replays", "many"]])).replays(), 0);
        let third = letter(json!([["clipstream.replays", "2"], ["a", null]]));
        assert_eq!(third.replays(), 2);
        let headers = third.headers_to_replay();
        assert_eq!(headers, [("a".to_owned(), None), (REPLAYS.to_owned(), Some("3".into()))]);
    }
}
