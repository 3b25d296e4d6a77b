use bytes::Bytes;

use super::*;

fn settings(format: KeyFormat, text: &str) -> KeySettings {
    KeySettings { format, template: text.parse().expect("a template"), tenant_header: None }
}

fn keyed(key: &[u8]) -> Message {
    Message { key: Some(Bytes::copy_from_slice(key)), ..Message::empty("t", 0, 0) }
}

/// The id, with the tenant if the key names one.
fn found(settings: &KeySettings, key: &[u8]) -> Result<String, String> {
    let (asset, told) = read(settings, &keyed(key)).map_err(|failure| failure.fault.to_string())?;
    Ok(match told {
        None => asset.to_string(),
        Some(None) => format!("none: {asset}"),
        Some(Some(tenant)) => format!("{}: {asset}", tenant.as_str()),
    })
}

#[track_caller]
fn assert_found(settings: &KeySettings, key: &[u8], expected: &str) {
    assert_eq!(found(settings, key).as_deref(), Ok(expected), "{}", String::from_utf8_lossy(key));
}

#[track_caller]
fn assert_refused(settings: &KeySettings, key: &[u8], part: &str) {
    let why = found(settings, key).expect_err(&String::from_utf8_lossy(key));
    assert!(why.contains(part), "{why}");
    assert!(!why.chars().any(redact::is_invisible), "{why:?}");
}

/// What Kafka's serializers, Connect's converters and Debezium write.
#[test]
fn keys_are_text_unless_they_can_only_be_json() {
    let auto = settings(KeyFormat::Auto, "{id}");
    assert_found(&auto, b"sku-3", "sku-3");
    assert_found(&auto, b"4", "4");
    assert_found(&auto, b"shop/a b.jpg", "shop/a b.jpg");
    assert_found(&auto, b"\"sku-3\"", "sku-3");
    assert_found(&auto, b"{\"schema\":{\"type\":\"string\"},\"payload\":\"sku-3\"}", "sku-3");
    assert_found(&auto, b"\0\0\0\0\x07\"sku-3\"", "sku-3");
    // No JSON.
    assert_found(&auto, b"\"sku", "\"sku");
    assert_found(&auto, b"{sku}", "{sku}");
    assert_refused(&auto, b"{\"id\":4}", "is a JSON object");
    assert_refused(&auto, b"{\"id\":4}", "kafka.key_format");
    assert_refused(&auto, b"{\"schema\":{\"type\":\"struct\"},\"payload\":{\"id\":\"sku-4\"}}", "is a JSON object");
    assert_refused(&auto, b"[\"sku-3\"]", "is a JSON list");
    assert_refused(&auto, b"\0\0\0\x04", "kafka.key_format = \"integer\"");
    assert_refused(&auto, b"\0\0\0\0\0\0\0\xff", "kafka.key_format = \"integer\"");
    assert_refused(&auto, b"\0\0\0\0\x07\x0asku-3", "Schema Registry (a zero byte, schema id 7)");
    assert_refused(&auto, b"\xff\xfes\0k\0u\0", "UTF-16 (little-endian)");
    assert_refused(&auto, "\u{feff}sku-3".as_bytes(), "byte order mark");
    assert_refused(&auto, b"", "is empty");

    let text = settings(KeyFormat::Text, "{id}");
    for key in ["\"sku-3\"", "{\"id\":4}", "4"] {
        assert_found(&text, key.as_bytes(), key);
    }
}

#[test]
fn keys_of_json_and_of_integers() {
    let json = settings(KeyFormat::Json, "{id}");
    for (key, expected) in [
        ("\"sku-3\"", "sku-3"),
        ("4", "4"),
        ("{\"id\":4}", "4"),
        ("{\"id\":\"sku-4\",\"shop\":1}", "sku-4"),
        ("{\"product_id\":\"sku-4\"}", "sku-4"),
        ("{\"schema\":{\"type\":\"struct\"},\"payload\":{\"id\":4}}", "4"),
        ("{\"schema\":{\"type\":\"int32\"},\"payload\":4}", "4"),
        ("\0\0\0\0\x07{\"id\":4}", "4"),
    ] {
        assert_found(&json, key.as_bytes(), expected);
    }
    assert_refused(&json, b"sku-3", "kafka.key_format is json");
    assert_refused(&json, b"{\"a\":1,\"b\":2}", "the member \"id\"");
    assert_refused(&json, b"{\"id\":1.5}", "a string or an integer");
    assert_refused(&json, b"null", "expected a string");

    let integer = settings(KeyFormat::Integer, "{id}");
    assert_found(&integer, &42_i32.to_be_bytes(), "42");
    assert_found(&integer, &(-7_i64).to_be_bytes(), "-7");
    assert_refused(&integer, b"42", "has 2 bytes; expected 4 or 8");
}

#[test]
fn keys_with_tenants() {
    let auto = settings(KeyFormat::Auto, "{tenant}/{id}");
    assert_found(&auto, b"acme/sku-1/photo-2", "acme: sku-1/photo-2");
    assert_found(&auto, b"\"acme/a\"", "acme: a");
    assert_found(&auto, b"/a", "none: a");
    assert_refused(&auto, b"a", "expected the form {tenant}/{id} (kafka.key_template)");
    let json = settings(KeyFormat::Json, "{tenant}/{id}");
    assert_found(&json, b"{\"tenant\":\"acme\",\"id\":4}", "acme: 4");
    assert_found(&json, b"{\"tenant\":\"acme\",\"product\":4}", "acme: 4");
    assert_found(&json, b"{\"tenant\":null,\"id\":4}", "none: 4");
    assert_refused(&json, b"{\"id\":4}", "the member \"tenant\"");
}

#[test]
fn what_is_written_is_read_again() {
    for (settings, tenant, id) in [
        (settings(KeyFormat::Auto, "{id}"), None, "sku-1"),
        (settings(KeyFormat::Auto, "{tenant}/{id}"), Some("acme"), "sku-1/a"),
        (settings(KeyFormat::Json, "{id}@{tenant}"), Some("acme"), "sku-1"),
        (settings(KeyFormat::Integer, "{id}"), None, "42"),
    ] {
        let key = write(&settings, tenant, id).expect("a key");
        let (asset, named) = read(&settings, &keyed(&key)).expect("it is read");
        assert_eq!((asset.as_str(), named.flatten().map(|t| t.as_str().to_owned()).as_deref()), (id, tenant));
    }
    assert!(write(&settings(KeyFormat::Integer, "{id}"), None, "sku").is_err());
    assert!(write(&settings(KeyFormat::Auto, "{tenant}/{id}"), Some("a/b"), "c").is_err());
    // These would be read as something else.
    let auto = settings(KeyFormat::Auto, "{id}");
    for id in ["\"q\"", "{\"id\":4}"] {
        assert_found(&auto, &write(&auto, None, id).expect("a key"), id);
    }
}
