//! Message decoding. Whatever the bytes are: a request, or a failure that is short, printable and without the value.
//! What is accepted is compared with a plain JSON parser, so that nothing is read as something else.

#![no_main]

use clipstream::domain::{Message, Op, Position};
use clipstream::pipeline::decode;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// A failure quotes at most a few values, each cut (`QUOTED_CHARS_MAX`); lists of names come on top.
const MESSAGE_CHARS_MAX: usize = 2000;

// First byte: what the topic's default is (bits 0 and 1), whether there is a key (bit 2) and a value (bit 3). Then the
// key up to the first line feed, and the value.
fuzz_target!(|data: &[u8]| {
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
        retry: None,
    };
    let default_op = [Op::Upsert, Op::Patch, Op::Delete, Op::Upsert][usize::from(options & 3)];
    match decode(&message, default_op) {
        Err(failure) => {
            assert!(failure.message.chars().count() <= MESSAGE_CHARS_MAX, "{}", failure.message);
            assert!(!failure.message.chars().any(char::is_control), "{:?}", failure.message);
        }
        Ok(request) => {
            assert!(!request.asset.as_str().is_empty());
            let Some(value) = &message.value else {
                assert_eq!(request.op, Op::Delete, "a tombstone deletes");
                return;
            };
            let plain: Value = serde_json::from_slice(value).expect("only JSON is accepted");
            if let Some(id) = plain["id"].as_str() {
                assert_eq!(request.asset.as_str(), id);
            }
            assert_eq!(request.version, plain["version"].as_u64());
            let payload = plain["payload"].as_object().cloned().unwrap_or_default();
            assert_eq!(request.payload, payload);
            let text = plain["text"].as_str().filter(|text| !text.trim().is_empty());
            assert_eq!(request.text.as_deref(), text);
        }
    }
});
