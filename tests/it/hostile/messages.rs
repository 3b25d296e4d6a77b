//! Messages as JSON allows them and nobody writes them: what is refused becomes a dead letter with its reason, what is
//! valid comes back from the store as it was sent. Through the real binary, into both kinds of store.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use clipstream::config::{StoreKind, StoreSettings};
use clipstream::domain::{AssetId, PointId};
use clipstream::store;
use clipstream_test_support::qdrant::QdrantEndpoint;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::worker_process::{clipstream, set};

/// Far above what a linear reader takes for these messages, far below what a quadratic one does.
const PATIENCE: Duration = Duration::from_secs(240);

/// Indexes `lines` and gives the dead letters by line number, with the report.
async fn index(folder: &Path, store: &[(&str, &str)], lines: &[Vec<u8>]) -> (BTreeMap<u64, Value>, Value) {
    let (input, letters) = (folder.join("messages.jsonl"), folder.join("dead.jsonl"));
    std::fs::write(&input, lines.join(&b'\n')).unwrap();
    let mut command = clipstream("index");
    command.arg(&input).arg("--json");
    let more = [
        ("dead_letter.file", letters.to_str().unwrap()),
        ("pipeline.backoff_base_ms", "10"),
        ("clip.models", "demo-emoji/v1=demo/model"),
    ];
    set(&mut command, &more);
    set(&mut command, store);
    let started = Instant::now();
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().expect("the binary starts");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{:?}: {stderr}", output.status);
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"));
    let letters = std::fs::read_to_string(&letters).unwrap_or_default();
    let letters = letters.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    (letters.map(|letter| (letter["offset"].as_u64().unwrap(), letter)).collect(), report)
}

fn nested(open: &str, close: &str, levels: usize) -> String {
    format!("{}1{}", open.repeat(levels), close.repeat(levels))
}

fn with_payload(payload: &str) -> Vec<u8> {
    format!(r#"{{"id": "x", "text": "x", "payload": {payload}}}"#).into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_cannot_be_kept_exactly_are_dead_letters() {
    let many = |n: usize, member: &dyn Fn(usize) -> String| (0..n).map(member).collect::<Vec<_>>().join(",");
    let raw = |text: &str| text.as_bytes().to_vec();
    let models = many(100_000, &|n| format!(r#""a/b{n}""#));
    let cases: Vec<(Vec<u8>, &str, &str)> = vec![
        // The mark is read over, before any message; the object then has nothing to index.
        (raw("\u{feff}{\"id\": \"x\"}"), "field_missing", "found neither"),
        (raw("{\"id\": \"x\"}\u{feff}"), "message_not_json", "something behind the JSON value (\\u{feff})"),
        (b"{\"id\": \"x\", \"text\": \"\xff\xfe\"}".to_vec(), "message_not_json", "byte 0xFF, which is not UTF-8"),
        (b"{\"id\": \"\xed\xa0\x80\", \"text\": \"x\"}".to_vec(), "message_not_json", "half of a surrogate pair"),
        (raw(r#"{"id": "x", "text": "\ud800"}"#), "message_not_json", "(\\ud800): a text that was cut"),
        (raw(r#"{"id": "x", "text": "\udc00\ud800"}"#), "message_not_json", "in field \"text\""),
        (raw(r#"{"id": "x", "text": "x"} {"id": "y"}"#), "message_not_json", "trailing"),
        (raw(r#"{"id": "x", "text": "x",}"#), "message_not_json", "trailing comma"),
        (raw(r#"{'id': 'x'}"#), "message_not_json", "single quotes"),
        (raw(r#"["id", "x"]"#), "message_invalid", "expected a JSON object"),
        (raw("null"), "message_invalid", "expected a JSON object"),
        (raw("1e5"), "message_invalid", "expected a JSON object"),
        (raw(&"[".repeat(1_000_000)), "message_invalid", "expected a JSON object"),
        (raw(&r#"{"text":"#.repeat(100_000)), "nested_too_deep", "24 levels"),
        (with_payload("NaN"), "message_not_json", "NaN, which is not a number"),
        (with_payload(r#"{"a": Infinity}"#), "message_not_json", "in field \"payload.a\""),
        (with_payload(r#"{"a": 1e400}"#), "message_not_json", "number out of range"),
        (with_payload(r#"{"a": -1e400}"#), "message_not_json", "number out of range"),
        (with_payload(r#"{"a": 01}"#), "message_not_json", "invalid number"),
        (
            with_payload(r#"{"a": 18446744073709551616}"#),
            "integer_out_of_range",
            "\"payload.a\" is the integer 18446744073709551616",
        ),
        (with_payload(r#"{"a": [{"b": 9223372036854775808}]}"#), "integer_out_of_range", "\"payload.a[0].b\""),
        (with_payload(r#"{"a": -9223372036854775809}"#), "integer_out_of_range", "or a string"),
        // Beyond every float as well, as 1e400 is.
        (with_payload(&format!(r#"{{"a": 1{}}}"#, "0".repeat(1_000_000))), "message_not_json", "number out of range"),
        (with_payload(r#"{"a": 1, "b": {"c": 1, "d": 2, "c": 3}}"#), "message_invalid", "\"payload.b.c\" comes twice"),
        (with_payload(r#"{"a": 1, "\u0061": 2}"#), "message_invalid", "\"payload.a\" comes twice"),
        (with_payload(r#"{"clipstream": {}}"#), "payload_reserved", "rename"),
        (with_payload(r#"{"\u0063lipstream": {}}"#), "payload_reserved", "rename"),
        (with_payload(&nested("[", "]", 100)), "nested_too_deep", "24 levels"),
        (with_payload(&nested(r#"{"a":"#, "}", 100)), "nested_too_deep", "payload.a.a"),
        (with_payload(&nested("[", "]", 100_000)), "nested_too_deep", "24 levels"),
        (raw(r#"{"id": "x", "text": "x", "id": "y"}"#), "message_invalid", "\"id\" comes twice"),
        (raw(&format!(r#"{{"id": "{}", "text": "x"}}"#, "x".repeat(1025))), "field_invalid", "1025 bytes"),
        (raw(&format!(r#"{{"id": "{}", "text": "x"}}"#, "x".repeat(10_000_000))), "field_invalid", "10000000 bytes"),
        (raw(r#"{"id": "a\u0000b", "text": "x"}"#), "field_invalid", "control character"),
        (raw(r#"{"id": "", "text": "x"}"#), "field_invalid", "is empty"),
        (raw(r#"{"id": 18446744073709551616, "text": "x"}"#), "integer_out_of_range", "\"id\""),
        (raw(r#"{"id": "x", "text": "x", "version": 9223372036854775808}"#), "integer_out_of_range", "\"version\""),
        (raw(r#"{"id": "x", "text": "x", "version": 1.5}"#), "field_type", "unsigned integer"),
        (raw(r#"{"id": "x", "text": "x", "version": 9007199254740993.0}"#), "field_type", "unsigned integer"),
        (raw("{\"id\": \"\u{feff}x\", \"text\": \"x\"}"), "field_invalid", "byte order mark"),
        (raw(r#"{"id": "x", "text": "x", "version": -0}"#), "field_type", "unsigned integer"),
        (
            raw(&format!(r#"{{"id": "x", "models": [{models}]}}"#)),
            "field_invalid",
            "100000 entries; expected at most 100",
        ),
        (raw(&format!("{{{}}}", many(100_000, &|n| format!(r#""k{n}": {n}"#)))), "field_unknown", "\"k0\""),
        (raw(&format!(r#"{{"id": "x", "{}": 1}}"#, "k".repeat(1_000_000))), "field_unknown", "…"),
        (raw(&format!(r#"{{"id": "x", "image": ["{}"]}}"#, "x".repeat(10_000_000))), "field_type", "is a list"),
        (raw(&format!(r#"{{"id": "x", "image": "http://{}"}}"#, "x".repeat(1_000_000))), "url_invalid", "…"),
        (raw(&format!(r#"{{"id": "x", "image": "{}:x"}}"#, "x".repeat(1_000_000))), "scheme_unsupported", "…"),
        (raw(r#"{"id": "x", "image": "file:///etc/pass\u0000wd"}"#), "file_forbidden", "media.allow_file_roots"),
        // A line beyond what is read into memory.
        (
            raw(&format!(r#"{{"id": "x", "text": "{}"}}"#, "x".repeat(17_000_000))),
            "message_not_json",
            "expected a JSON object",
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut lines: Vec<Vec<u8>> = cases.iter().map(|(line, ..)| line.clone()).collect();
    lines.push(raw(r#"{"id": "good", "text": "a good one behind them"}"#));
    let path = folder.path().join("store");
    let (letters, report) = index(folder.path(), &[("store.path", path.to_str().unwrap())], &lines).await;
    let mut wrong = Vec::new();
    for (n, (line, reason, part)) in cases.iter().enumerate() {
        let shown = String::from_utf8_lossy(&line[..line.len().min(120)]).into_owned();
        let Some(letter) = letters.get(&(n as u64)) else {
            wrong.push(format!("{shown} is no dead letter"));
            continue;
        };
        let message = letter["message"].as_str().unwrap();
        let is_final = letter["class"] == "permanent" && letter["attempts"] == 1;
        if letter["reason"] != *reason || !is_final || !message.contains(part) || message.len() > 1_000 {
            wrong.push(format!("{shown}: expected {reason}, {part}; found {}: {message}", letter["reason"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!((letters.len(), &report["points"]), (cases.len(), &1.into()));
}

/// JSON text of payloads that are unusual and valid.
fn payloads() -> Vec<String> {
    let mut out: Vec<String> = [
        r#"{"floats": [5e-324, 2.2250738585072014e-308, 0.1, 0.30000000000000004, 1e308, 1.7976931348623157e308, -2.5e-8]}"#,
        r#"{"floats that are whole": [1.0, -3.0, 1e10, 9007199254740993.0, 1e300], "integers": [1, -3, 10000000000]}"#,
        r#"{"zeros": [0, 0.0, -0.0]}"#,
        r#"{"edges": [9223372036854775807, -9223372036854775808, 9007199254740993, 4294967296, -1]}"#,
        r#"{"17 digits": [0.1234567890123456, 59.900000000000006, 3.141592653589793]}"#,
        r#"{"nothing": null, "yes": true, "no": false, "empty": ["", [], {}, [[]], [{}], [null]]}"#,
        r#"{"escapes": "\" \\ \/ \b \f \n \r \t \u0000 \u001f \u007f \u2028 \ufeff \uffff \ud83e\udd80"}"#,
        r#"{"größe": "ключ", "emoji 🦀": "👩‍👩‍👧‍👦 🏳️‍🌈", "right to left": "שלום עליכם", "combining": "é é", "wide": "１２７"}"#,
        r#"{"": "no key", " ": "a space", "a.b": 1, "a": {"b": 2}, "a[0]": 3, "a[]": [4], "\"a\"": 5, "a\\.b": 6, "$": 7}"#,
        r#"{"clipstream.version": 99, "Clipstream": 1, "a": {"clipstream": {"asset_id": "not ours"}}, "clipstream ": 0}"#,
        r#"{"\u0000": "a NUL", "\n": "a line", "\u200b": "nothing to see", "id": 1, "image": 2, "vector": [1, 2], "__proto__": {}}"#,
        r#"{"a date": "2026-11-25T06:00:00.123456789Z", "uuid": "550e8400-e29b-41d4-a716-446655440000", "geo": [13.4, 52.5]}"#,
    ]
    .map(str::to_owned)
    .to_vec();
    out.push(format!(r#"{{"lists": {}}}"#, nested("[", "]", 23)));
    out.push(format!(r#"{{"objects": {}}}"#, nested(r#"{"a":"#, "}", 23)));
    out.push(format!(r#"{{"long": "{}"}}"#, "ä🦀x\\n".repeat(100_000)));
    out.push(format!(r#"{{"{}": "a long key"}}"#, "k".repeat(60_000)));
    out.push(format!("{{{}}}", (0..20_000).map(|n| format!(r#""k{n}": {n}"#)).collect::<Vec<_>>().join(",")));
    out.push(format!(r#"{{"many": [{}]}}"#, vec!["1.5"; 50_000].join(",")));
    out
}

async fn round_trip(folder: &TempDir, settings: StoreSettings, store: &[(&str, &str)]) {
    let payloads = payloads();
    let mut lines = Vec::new();
    for (n, payload) in payloads.iter().enumerate() {
        lines.push(format!(r#"{{"id": "upsert {n}", "text": "x", "payload": {payload}}}"#).into_bytes());
        // The same by a patch, which takes another way into the store. A null there means removal.
        let patch = payload.replacen(r#""nothing": null, "#, "", 1);
        lines.push(format!(r#"{{"id": "patch {n}", "op": "patch", "payload": {patch}}}"#).into_bytes());
    }
    // Texts of any length and kind are one vector.
    let texts = [
        "a".repeat(5_000_000),
        "ä ".repeat(1_000_000),
        "&amp;".repeat(500_000),
        "\u{0}\u{feff}".into(),
        "🦀".repeat(300_000),
    ];
    for (n, text) in texts.iter().enumerate() {
        lines.push(json!({"id": format!("text {n}"), "text": text}).to_string().into_bytes());
    }
    let (letters, report) = index(folder.path(), store, &lines).await;
    assert!(letters.is_empty(), "{:?}", letters.values().map(|l| l["message"].clone()).collect::<Vec<_>>());
    assert_eq!(report["points"], lines.len());

    let store = store::open(&settings).await.unwrap();
    let collection = report["collection"].as_str().unwrap();
    let points = store.scroll(collection, None, 1000).await.unwrap();
    let found = |id: &str| {
        let id = PointId::of(None, &AssetId::new(id).unwrap());
        points.iter().find(|point| point.id == id).expect("it was indexed")
    };
    for (n, payload) in payloads.iter().enumerate() {
        for kind in ["upsert", "patch"] {
            let mut stored = found(&format!("{kind} {n}")).payload.clone();
            assert!(stored.remove("clipstream").is_some());
            let mut expected: Value = exact(payload);
            if kind == "patch" {
                expected.as_object_mut().unwrap().remove("nothing");
            }
            // As text, so that 1 is not 1.0 and 0.0 is not -0.0.
            let (stored, expected) = (sorted(&Value::Object(stored)), sorted(&expected));
            let at = stored.bytes().zip(expected.bytes()).take_while(|(a, b)| a == b).count();
            let near = |text: &str| text.chars().skip(at.saturating_sub(20)).take(80).collect::<String>();
            assert!(stored == expected, "{kind}: found {:?}, expected {:?}", near(&stored), near(&expected));
        }
    }
    store.close().await.unwrap();
}

/// JSON with the members of every object in order of name.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: BTreeMap<&String, String> = members.iter().map(|(k, v)| (k, sorted(v))).collect();
            let members: Vec<String> = members.iter().map(|(k, v)| format!("{k:?}:{v}")).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(sorted).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// The payload with its floats as Rust itself reads them: `serde_json` rounds some twice.
fn exact(text: &str) -> Value {
    fn correct(value: &mut Value, floats: &mut impl Iterator<Item = f64>) {
        match value {
            Value::Number(number) if number.is_f64() => *value = floats.next().expect("a float in the text").into(),
            Value::Array(items) => items.iter_mut().for_each(|item| correct(item, floats)),
            Value::Object(members) => members.values_mut().for_each(|member| correct(member, floats)),
            _ => {}
        }
    }
    let mut value: Value = serde_json::from_str(text).unwrap();
    // Only those payloads that have one list of floats per member hold any, so that order is the text's.
    let is_float = |token: &&str| token.contains(['.', 'e']) && token.parse::<f64>().is_ok();
    let mut floats =
        text.split(['[', ']', ',', ' ', ':', '{', '}']).filter(is_float).map(|token| token.parse().unwrap());
    correct(&mut value, &mut floats);
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_payloads_come_back_exactly_from_the_embedded_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let settings = StoreSettings { kind: StoreKind::Embedded, path: path.clone(), ..Default::default() };
    round_trip(&folder, settings, &[("store.path", path.to_str().unwrap())]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_payloads_come_back_exactly_over_grpc() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = QdrantEndpoint::start(&folder.path().join("endpoint"));
    let url = endpoint.url();
    let settings = StoreSettings { kind: StoreKind::Qdrant, url: url.clone(), ..Default::default() };
    round_trip(&folder, settings, &[("store.kind", "qdrant"), ("store.url", &url)]).await;
    endpoint.stop().await;
}
