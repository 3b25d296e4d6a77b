//! A letter as records of a topic. Usually one record: the message's key, value and headers, with the reason in additional
//! headers. If the topic cannot store that, the letter has another form, and headers contain the original:
//!
//! - *With a unique key*, for a compacted topic, which would refuse a letter without a key, drop all but the last letter of a
//!   key, and treat one without a value as a deletion.
//! - *In parts*, if the topic does not accept a message of that size: the pieces of the value follow each other in one
//!   partition, and the first one has all headers.

use std::ops::Range;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;

use crate::dead_letter::DeadLetter;
use crate::dead_letter::letter::{KEY, Part, Reporter, TOMBSTONE, error_headers, own_header, position_headers};
use crate::kafka_client;

/// Smaller parts do not help, because then the headers are too large.
const PART_BYTES_MIN: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// The record's key is the message's position; the message's own key is in a header.
    pub own_key: bool,
    /// `None`: one record. Otherwise bytes of the value in one record.
    pub part_bytes: Option<usize>,
}

/// One record of a letter.
pub(super) struct Record {
    headers: OwnedHeaders,
    /// Replaces the message's key.
    key: Option<String>,
    /// Range of the message's value.
    piece: Range<usize>,
    is_tombstone: bool,
}

impl Form {
    /// The next form to try if this is too large. `None`: smaller parts would not help.
    pub fn smaller(self, value_bytes: usize) -> Option<Self> {
        let part_bytes = self.part_bytes.unwrap_or(value_bytes).div_ceil(2);
        (part_bytes >= PART_BYTES_MIN).then_some(Self { part_bytes: Some(part_bytes), ..self })
    }

    pub fn records(self, letter: &DeadLetter, reporter: &Reporter) -> Vec<Record> {
        let bytes = letter.message.value.as_ref().map_or(0, |value| value.len());
        let part_bytes = self.part_bytes.unwrap_or(bytes).max(1);
        let count = bytes.div_ceil(part_bytes).max(1);
        let one = |index: usize| {
            let part = (count > 1).then_some(Part { number: index + 1, of: count });
            let mut headers = match index {
                0 => self.all_headers(letter, reporter),
                _ => position_headers(letter).into_iter().fold(OwnedHeaders::new(), text),
            };
            if let Some(part) = part {
                headers = text(headers, (own_header(Part::HEADER), part.to_string()));
            }
            let place = letter.message.origin().position;
            let key = match part {
                Some(part) => format!("{place}#{part}"),
                None => place.to_string(),
            };
            Record {
                headers,
                key: self.own_key.then_some(key),
                piece: index * part_bytes..bytes.min((index + 1) * part_bytes),
                is_tombstone: letter.message.value.is_none() && !self.own_key,
            }
        };
        (0..count).map(one).collect()
    }

    fn all_headers(self, letter: &DeadLetter, reporter: &Reporter) -> OwnedHeaders {
        let message = &letter.message;
        let mut headers = OwnedHeaders::new();
        for (name, value) in message.headers.iter().filter(|(name, _)| !kafka_client::is_failure_header(name)) {
            headers = headers.insert(Header { key: name, value: value.as_deref() });
        }
        headers = error_headers(letter, reporter).into_iter().fold(headers, text);
        if self.own_key {
            headers = headers.insert(Header { key: &own_header(KEY), value: message.key.as_deref() });
            if message.value.is_none() {
                headers = headers.insert(Header::<&[u8]> { key: &own_header(TOMBSTONE), value: None });
            }
        }
        headers
    }
}

fn text(headers: OwnedHeaders, (name, value): (String, String)) -> OwnedHeaders {
    headers.insert(Header { key: &name, value: Some(&value) })
}

impl Record {
    /// Without a timestamp, so that librdkafka sets the current time, which is that of the failure and starts the topic's
    /// retention.
    pub fn to<'a>(
        &'a self,
        topic: &'a str,
        partition: Option<i32>,
        letter: &'a DeadLetter,
    ) -> FutureRecord<'a, [u8], [u8]> {
        let mut record = FutureRecord::<[u8], [u8]>::to(topic).headers(self.headers.clone());
        record.partition = partition;
        record.key = match &self.key {
            Some(key) => Some(key.as_bytes()),
            None => letter.message.key.as_deref(),
        };
        let value = letter.message.value.as_deref().unwrap_or_default();
        record.payload = (!self.is_tombstone).then(|| value.get(self.piece.clone()).unwrap_or_default());
        record
    }
}
