//! What must hold for any bytes: they are a request, or a failure that is short, printable and without the value.
//! What is accepted is compared with a plain JSON parser, so that nothing is read as something else.

use serde_json::Value;

use super::{Context, Format, Read};
use crate::config::{KeyFormat, KeySettings};
use crate::domain::{Message, Op, Position};
use crate::redact::is_invisible;

/// A failure quotes at most a few values, each cut (`QUOTED_CHARS_MAX`); lists of names come on top.
const MESSAGE_CHARS_MAX: usize = 2000;

/// First byte: what the topic's default is (bits 0 and 1), whether there is a key (bit 2) and a value (bit 3), and how keys are
/// read (bits 4 and 5). Then the key up to the first line feed, and the value.
///
/// # Panics
/// When a promise is broken.
pub fn message(data: &[u8]) {
    let Some((&options, rest)) = data.split_first() else { return };
    let cut = rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
    let (key, value) = (&rest[..cut], rest.get(cut + 1..).unwrap_or_default());
    let message = Message {
        position: Position { topic: "fuzz".into(), partition: 0, offset: 0 },
        epoch: 1,
        key: (options & 4 != 0).then(|| key.to_vec().into()),
        value: (options & 8 != 0).then(|| value.to_vec().into()),
        headers: Vec::new(),
        timestamp_ms: None,
        topic_id: None,
        leader_epoch: None,
        retry: None,
        suspicion: None,
    };
    let default_op = [Op::Upsert, Op::Patch, Op::Delete, Op::Upsert][usize::from(options & 3)];
    let format = [KeyFormat::Auto, KeyFormat::Text, KeyFormat::Json, KeyFormat::Integer][usize::from(options >> 4 & 3)];
    let keys = KeySettings { format, ..KeySettings::default() };
    let context = Context { default_op, keys: &keys };
    let decoded = Format::Json.decode(&message, &context).and_then(|read| match read {
        Read::Requests(mut requests) => requests.remove(0),
        Read::Needs(look_up) => panic!("JSON needs no look-up: {look_up:?}"),
    });
    match decoded {
        Err(failure) => {
            let text = failure.fault.to_string();
            assert!(text.chars().count() <= MESSAGE_CHARS_MAX, "{text}");
            assert!(!text.chars().any(is_invisible), "{text:?}");
        }
        Ok(request) => {
            assert!(!request.asset.as_str().is_empty());
            let Some(value) = &message.value else {
                assert_eq!(request.op, Op::Delete, "a tombstone deletes");
                return;
            };
            // A byte order mark, or a Schema Registry's five bytes, may stand before the text.
            let text = value.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(value);
            let text = if text.first() == Some(&0) { &text[5..] } else { text };
            let plain: Value = serde_json::from_slice(text).expect("only JSON is accepted");
            if let Some(id) = plain["id"].as_str() {
                assert_eq!(request.asset.as_str(), id);
            }
            let number = &plain["version"];
            // `as` saturates; floats from 2^53 on are refused.
            assert_eq!(request.version, number.as_u64().or_else(|| number.as_f64().map(|float| float as u64)));
            let payload = plain["payload"].as_object().cloned().unwrap_or_default();
            assert_eq!(request.payload, payload);
            let text = plain["text"].as_str().filter(|text| !text.trim().is_empty());
            assert_eq!(request.text.as_deref(), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The target of the fuzzer compiles, and holds where its runs begin.
    #[test]
    fn the_seeds_hold() {
        let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/message");
        let mut count = 0;
        for seed in std::fs::read_dir(seeds).unwrap() {
            message(&std::fs::read(seed.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 10, "{count} seeds");
        for value in
            ["\u{feff}{}", "\0\0\0\0\x07{\"text\": \"x\"}", "{\"version\": 42.0, \"text\": \"x\"}", "\u{200b}{"]
        {
            for options in 0..64 {
                message(&[&[options][..], b"key\n", value.as_bytes()].concat());
            }
        }
    }
}
