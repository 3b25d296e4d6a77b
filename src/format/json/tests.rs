use bytes::Bytes;

use super::*;
use crate::config::KeySettings;
use crate::domain::{DecodeReason, Position};
use crate::format::{Format, Read};

fn message(key: Option<&str>, value: Option<&[u8]>) -> Message {
    Message {
        position: Position { topic: "t".into(), partition: 0, offset: 0 },
        epoch: 1,
        key: key.map(|k| Bytes::copy_from_slice(k.as_bytes())),
        value: value.map(Bytes::copy_from_slice),
        headers: Vec::new(),
        timestamp_ms: None,
        topic_id: None,
        leader_epoch: None,
        retry: None,
        suspicion: None,
    }
}

fn decoded_with(message: &Message, default_op: Op, keys: &KeySettings) -> Result<IngestRequest, Failure> {
    let read = Format::Json.decode(message, &Context { default_op, keys })?;
    let Read::Requests(mut requests) = read else { panic!("{read:?}") };
    assert_eq!(requests.len(), 1);
    requests.remove(0)
}

/// With the default settings.
fn decode(message: &Message, default_op: Op) -> Result<IngestRequest, Failure> {
    decoded_with(message, default_op, &KeySettings::default())
}

fn decoded(value: &str) -> Result<IngestRequest, Failure> {
    decode(&message(Some("k"), Some(value.as_bytes())), Op::Upsert)
}

fn of_bytes(value: &[u8]) -> Result<IngestRequest, Failure> {
    decode(&message(Some("k"), Some(value)), Op::Upsert)
}

#[test]
fn every_field_is_understood() {
    let request = decoded(
        r#"{"id": "sku-1/photo-2", "op": "upsert", "image": "s3://bucket/key.jpg", "text": "red running shoe",
            "payload": {"price": 59.9, "lang": "en"}, "version": 42, "models": ["ViT-B-32/openai", "ours/v1", "clip-ViT-B-32"],
            "tenant": "acme"}"#,
    )
    .unwrap();
    assert_eq!(request.asset.as_str(), "sku-1/photo-2");
    assert_eq!(request.image.unwrap().expose(), "s3://bucket/key.jpg");
    assert_eq!(request.text.as_deref(), Some("red running shoe"));
    assert_eq!(request.payload["price"], 59.9);
    assert_eq!(request.version, Some(42));
    let models: Vec<_> = request.models.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(models, ["ViT-B-32/openai", "ours/v1"], "two names of one model are one");
    assert_eq!(request.tenant.unwrap().as_str(), "acme");
}

#[test]
fn the_key_names_the_asset_and_a_tombstone_deletes_it() {
    assert_eq!(decoded(r#"{"text": "x"}"#).unwrap().asset.as_str(), "k");
    let tombstone = decode(&message(Some("k"), None), Op::Patch).unwrap();
    assert_eq!((tombstone.op, tombstone.asset.as_str()), (Op::Delete, "k"));
    assert_eq!(decode(&message(None, None), Op::Patch).unwrap_err().fault.reason, DecodeReason::FieldMissing.into());
}

#[test]
fn the_topic_sets_the_default_op_and_null_is_absent() {
    let value = br#"{"payload": {"a": 1}, "image": null, "text": ""}"#;
    let patch = decode(&message(Some("k"), Some(value)), Op::Patch).unwrap();
    assert_eq!((patch.op, patch.image.is_none(), patch.text), (Op::Patch, true, None));
    assert_eq!(
        decoded(std::str::from_utf8(value).unwrap()).unwrap_err().fault.reason,
        DecodeReason::FieldMissing.into()
    );
}

#[test]
fn broken_messages_say_field_found_and_expected() {
    let cases: [(&str, DecodeReason, &str); 14] = [
        ("not json", DecodeReason::MessageNotJson, "expected a JSON object"),
        ("", DecodeReason::MessageNotJson, "found 0 bytes"),
        ("[1]", DecodeReason::MessageInvalid, "expected a JSON object"),
        (r#"{"id": "a", "imgae": "x"}"#, DecodeReason::FieldUnknown, r#"did you mean "image"?"#),
        (r#"{"id": "a", "zzz": "x"}"#, DecodeReason::FieldUnknown, "expected one of id, op"),
        (r#"{"id": "a", "text": "x", "text": "y"}"#, DecodeReason::MessageInvalid, "comes twice"),
        (r#"{"id": 5, "text": "x"}"#, DecodeReason::FieldType, r#"field "id" is a number (5); expected a string"#),
        (r#"{"id": "", "text": "x"}"#, DecodeReason::FieldInvalid, "is empty"),
        (r#"{"id": "a"}"#, DecodeReason::FieldMissing, "needs \"image\", \"text\" or both"),
        (r#"{"id": "a", "text": "x", "op": "insert"}"#, DecodeReason::FieldInvalid, "expected upsert, patch or delete"),
        (r#"{"id": "a", "text": "x", "version": -1}"#, DecodeReason::FieldType, "unsigned integer"),
        (r#"{"id": "a", "text": "x", "payload": [1]}"#, DecodeReason::FieldType, "is a list ([1]); expected an object"),
        (r#"{"id": "a", "text": "x", "payload": {"clipstream": 1}}"#, DecodeReason::PayloadReserved, "reserved"),
        (r#"{"id": "a", "text": "x", "models": ["b32"]}"#, DecodeReason::FieldInvalid, "VARIANT/CHECKPOINT"),
    ];
    for (value, reason, part) in cases {
        let failure = decoded(value).unwrap_err();
        assert_eq!(failure.fault.reason, reason.into(), "{value}: {failure}");
        let text = failure.fault.to_string();
        assert!(text.contains(part), "{value}: {text}");
    }
    let nested = "[".repeat(100_000);
    assert_eq!(decoded(&nested).unwrap_err().fault.reason, DecodeReason::MessageInvalid.into());
}

#[test]
fn what_stands_before_the_text_is_read_over() {
    for prefix in [&b"\xEF\xBB\xBF"[..], b"\0\0\0\0\x07", b"\0\x01\x02\x03\x04 ", b" \r\n"] {
        let request = of_bytes(&[prefix, b"{\"text\": \"x\"}"].concat()).unwrap();
        assert_eq!(request.text.as_deref(), Some("x"));
    }
}

#[test]
fn what_is_no_json_is_named_in_visible_words() {
    let utf16: Vec<u8> = "{\"id\": \"a\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: [(&[u8], &str); 30] = [
        (&utf16, "UTF-16 (little-endian) text"),
        (b"\0\0\0\x01\x02\x0asku-1", "the framing of a Schema Registry (a zero byte, schema id 258)"),
        (b"\0\0\0\0\x07{\"id\"", "schema id 7), with JSON behind it: the beginning of an object that does not end"),
        (b"\x03\0aaaaaaaaaaaaaaaa{}", "AWS Glue Schema Registry"),
        (b"Obj\x01\x02\x16avro.schema", "an Avro container file"),
        (b"\x0a\x05sku-1\x12\x03abc\x18\x2a", "Protobuf"),
        (b"\x82\xa2id\xa1a\xa4text\xa1x", "MessagePack"),
        (b"\xa2bidaadtextax", "CBOR"),
        (b"\x0c\0\0\0\x10a\0\x01\0\0\0\0", "BSON"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip-compressed data"),
        (b"\x28\xb5\x2f\xfd\x04\0", "zstd-compressed data"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "a picture itself"),
        (b"<message/>", "XML or HTML"),
        (b"eyJpZCI6ImEifQ==", "base64 of JSON"),
        (b"hello", "plain text (hello)"),
        (b"", "an empty value, which is not a tombstone"),
        ("\u{200b}{}".as_bytes(), "the invisible character U+200B"),
        (b"{'id': 'a'}", "single quotes"),
        (
            b"{\"id\": \"a\", \"payload\": {\"n\": NaN}}",
            "NaN, which is not a number in JSON; expected null, or the member left out, in field \"payload.n\"",
        ),
        (b"{\"id\": \"a\",}", "a trailing comma"),
        (b"{\"id\": \"a\"} // x", "something behind the JSON value"),
        (b"{\"id\": \"a\"}{\"id\": \"b\"}", "more than one JSON value"),
        (b"{\"id\": \"a\"", "an object that does not end"),
        (br#"{"id": "a", "text": "cut emoji \ud83d"}"#, "half of a surrogate pair (\\ud83d)"),
        (br#"{"id": "a", "text": "cut emoji \ud83d"}"#, "in field \"text\""),
        (br#""{\"id\": \"a\"}""#, "serialised twice"),
        (br#"[{"id": "a"}, {"id": "b"}]"#, "a list of messages"),
        (br#"{"schema": {}, "payload": {"id": "a"}}"#, "value.converter.schemas.enable=false"),
        (br#"{"before": null, "after": {"id": "a"}}"#, "ExtractNewRecordState"),
        (br#"{"Records": [{"s3": {}}]}"#, "form-decoded"),
    ];
    for (value, part) in cases {
        let failure = of_bytes(value).expect_err(part);
        assert!(failure.fault.to_string().contains(part), "{part}: {failure}");
        assert!(!failure.fault.to_string().chars().any(redact::is_invisible), "{failure:?}");
        assert!(failure.fault.to_string().len() < 600, "{failure}");
    }
    let long = format!("\"{}\"", "x".repeat(1_000_000));
    assert!(decoded(&long).unwrap_err().fault.message.len() < 1000, "it is not quoted as a whole");
}

#[test]
fn a_whole_float_is_its_integer() {
    let version = |number: &str| decoded(&format!(r#"{{"text": "x", "version": {number}}}"#)).map(|r| r.version);
    for (number, expected) in [("42.0", 42), ("4.2e1", 42), ("0.0", 0), ("9007199254740991.0", 9_007_199_254_740_991)] {
        assert_eq!(version(number).unwrap(), Some(expected), "{number}");
    }
    // 2^53 is also the nearest float of 2^53 + 1.
    for number in ["42.5", "-1.0", "-0.0", "9007199254740992.0", "1e300", "\"42\""] {
        assert_eq!(version(number).unwrap_err().fault.reason, DecodeReason::FieldType.into(), "{number}");
    }
}

#[test]
fn body_header_or_key_name_tenants_and_must_agree() {
    let header = KeySettings { tenant_header: Some("tenant".into()), ..KeySettings::default() };
    let key = KeySettings { template: "{tenant}/{id}".parse().unwrap(), ..KeySettings::default() };
    let with = |key: &str, value: Option<&str>, tenant: Option<&'static str>| {
        let headers =
            tenant.map(|name| ("tenant".to_owned(), Some(Bytes::from_static(name.as_bytes())))).into_iter().collect();
        Message { headers, ..message(Some(key), value.map(str::as_bytes)) }
    };
    let tenant_and_id = |settings: &KeySettings, message: Message| match decoded_with(&message, Op::Upsert, settings) {
        Ok(request) => {
            let tenant = request.tenant.as_ref().map_or("none", |tenant| tenant.as_str());
            Ok(format!("{tenant}: {}", request.asset))
        }
        Err(failure) => Err(failure.fault.reason),
    };
    let fine = |text: &str| Ok(text.to_owned());
    let (plain, acme) = (Some(r#"{"text": "x"}"#), Some(r#"{"id": "a", "text": "x", "tenant": "acme"}"#));
    // An upsert and a tombstone that say the same are about the same asset.
    for value in [plain, None] {
        assert_eq!(tenant_and_id(&header, with("a", value, Some("acme"))), fine("acme: a"));
        assert_eq!(tenant_and_id(&header, with("a", value, Some(""))), fine("none: a"));
        assert_eq!(tenant_and_id(&header, with("a", value, None)), Err(DecodeReason::TenantMissing.into()));
        assert_eq!(tenant_and_id(&key, with("acme/a", value, None)), fine("acme: a"));
        assert_eq!(tenant_and_id(&key, with("/a", value, None)), fine("none: a"));
        assert_eq!(tenant_and_id(&key, with("a", value, None)), Err(DecodeReason::FieldInvalid.into()));
    }
    assert_eq!(tenant_and_id(&header, with("a", acme, None)), fine("acme: a"));
    assert_eq!(tenant_and_id(&header, with("a", acme, Some("acme"))), fine("acme: a"));
    assert_eq!(tenant_and_id(&header, with("a", acme, Some("globex"))), Err(DecodeReason::TenantConflict.into()));
    assert_eq!(tenant_and_id(&header, with("a", acme, Some(""))), Err(DecodeReason::TenantConflict.into()));
    assert_eq!(tenant_and_id(&key, with("globex/a", acme, None)), Err(DecodeReason::TenantConflict.into()));
    assert_eq!(tenant_and_id(&key, with("any", acme, None)), fine("acme: a"), "its body names both");
    let both = KeySettings { tenant_header: Some("tenant".into()), ..key };
    assert_eq!(tenant_and_id(&both, with("acme/a", None, Some("globex"))), Err(DecodeReason::TenantConflict.into()));
    assert_eq!(tenant_and_id(&both, with("acme/a", None, None)), fine("acme: a"));
    // By default only bodies tell.
    let default = KeySettings::default();
    assert_eq!(tenant_and_id(&default, with("acme/a", None, Some("acme"))), fine("none: acme/a"));
}
