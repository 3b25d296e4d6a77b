//! The 20 broken messages: two of each of ten kinds. One of a pair comes alone, or before good messages of its asset;
//! the other comes last to an asset that is fine, which must stay as it was.

use serde_json::{Value, json};

use super::media::Media;
use super::messages::{Chain, Death, Message, To, message};

fn raw(value: &[u8]) -> Message {
    Message { value: Some(value.to_vec()), ..message("", Value::Null) }
}

fn body(value: Value) -> Message {
    message("", value)
}

/// `picture`: the URL of one that is fine.
pub fn chains(media: &Media, picture: &str) -> Vec<Chain> {
    let origin = &media.origin;
    let missing = match &media.bucket {
        Some(bucket) => (format!("s3://{}/no/such/key.jpg", bucket.name), "s3_no_such_key"),
        None => (format!("{origin}/images/neither.webp"), "http_not_found"),
    };
    let half = picture.replace("/images/", "/half/");
    let image = |url: &str| body(json!({"image": url, "text": "the text alone is not enough"}));
    let decode = "decode";
    let broken = [
        ("not JSON", decode, "message_not_json", "expected a JSON object", raw(b"hello")),
        ("not JSON", decode, "message_not_json", "expected a JSON object", raw(b"{\"text\": \"cut o")),
        ("unknown field", decode, "field_unknown", "did you mean \"image\"?", body(json!({"imgae": picture}))),
        ("unknown field", decode, "field_unknown", "expected one of id", body(json!({"text": "x", "zzz": 1}))),
        ("image and text missing", decode, "field_missing", "found neither", body(json!({"payload": {"a": 1}}))),
        ("image and text missing", decode, "field_missing", "found neither", body(json!({"image": null, "text": ""}))),
        ("wrong type", decode, "field_type", "is a number (5)", body(json!({"text": 5}))),
        ("wrong type", decode, "field_type", "unsigned integer", body(json!({"text": "x", "version": "2"}))),
        (
            "reserved payload key",
            decode,
            "payload_reserved",
            "rename",
            body(json!({"text": "x", "payload": {"clipstream": 1}})),
        ),
        (
            "reserved payload key",
            decode,
            "payload_reserved",
            "rename",
            body(json!({"op": "patch", "payload": {"clipstream": {}}})),
        ),
        ("not found", "fetch", "http_not_found", "HTTP 404", image(&format!("{origin}/images/none.webp"))),
        ("not found", "fetch", missing.1, "404", image(&missing.0)),
        ("undecodable", "embed", "image_undecodable", "expected an intact file", image(&half)),
        ("undecodable", "embed", "image_unsupported", "expected a JPEG", image(&format!("{origin}/page/a.jpg"))),
        ("forbidden address", "fetch", "address_forbidden", "private", image("http://10.0.0.1/a.jpg")),
        (
            "forbidden address",
            "fetch",
            "address_forbidden",
            "metadata",
            image("http://169.254.169.254/latest/meta-data/"),
        ),
        ("unsupported scheme", "fetch", "scheme_unsupported", "scheme \"ftp\"", image("ftp://host/a.jpg")),
        ("unsupported scheme", "fetch", "scheme_unsupported", "scheme \"javascript\"", image("javascript:alert(1)")),
        (
            "model not configured",
            decode,
            "model_not_configured",
            "demo-emoji/v1",
            body(json!({"text": "x", "models": ["ViT-B-32/openai"]})),
        ),
        (
            "model not configured",
            decode,
            "model_not_configured",
            "demo-emoji/v1",
            body(json!({"text": "x", "models": ["demo-emoji/v1", "a/b"]})),
        ),
    ];
    let chain = |(n, (kind, stage, reason, says, broken)): (usize, (_, _, _, _, Message))| {
        let key = format!("broken-{n}");
        let headers = vec![("traceparent", Some("00-1234-5678-01")), ("empty", None)];
        let dies = Some(Death { kind, stage, reason, says });
        let broken = Message { key: Some(key.clone()), headers, dies, ..broken };
        let good = [
            message(&key, json!({"text": format!("this was fine {n}"), "payload": {"n": n}})),
            message(&key, json!({"op": "patch", "payload": {"patched": true}})),
        ];
        match n % 4 {
            // Nothing of it may be seen in the store.
            0 => Chain::from([broken]),
            1 => Chain::from([good[0].clone(), good[1].clone(), broken]),
            // A topic whose messages are patches reports as well.
            2 if stage == decode => Chain::from([Message { to: To::Captions, ..broken }]),
            2 => Chain::from([good[0].clone(), broken]),
            // It must not hold up those behind it. A patch does not supersede it while it waits.
            _ => Chain::from([broken, good[1].clone()]),
        }
    };
    broken.into_iter().enumerate().map(chain).collect()
}
