use super::*;

fn read(text: &str) -> Result<Fields, Unreadable> {
    object(text.as_bytes(), &["a", "b"])
}

fn refused(text: &str) -> (DecodeReason, String) {
    match read(text) {
        Err(Unreadable::Refused { reason, message }) => (reason, message),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn what_is_refused_is_named_by_its_path() {
    let deep = |levels: usize| format!(r#"{{"a": {}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    let cases = [
        (r#"{"a": 1, "a": 2}"#.to_owned(), DecodeReason::MessageInvalid, r#"field "a" comes twice"#),
        (
            r#"{"a": {"x": [1, {"y": 1, "y": 1}]}}"#.to_owned(),
            DecodeReason::MessageInvalid,
            r#"field "a.x[1].y" comes twice"#,
        ),
        (r#"{"a": {"": 1, "": 1}}"#.to_owned(), DecodeReason::MessageInvalid, r#"field "a." comes twice"#),
        (
            r#"{"b": ["1e5", -1.5, {"n": 9223372036854775808}]}"#.to_owned(),
            DecodeReason::IntegerOutOfRange,
            r#"field "b[2].n" is the integer 9223372036854775808; expected one from -9223372036854775808"#,
        ),
        (r#"{"a": 1e3, "b": -9223372036854775809}"#.to_owned(), DecodeReason::IntegerOutOfRange, "field \"b\" is"),
        (format!(r#"{{"a": 1{}}}"#, "0".repeat(200)), DecodeReason::IntegerOutOfRange, "0…; expected"),
        (deep(DEPTH_MAX + 1), DecodeReason::NestedTooDeep, "is nested deeper than 24 levels"),
        (deep(120), DecodeReason::NestedTooDeep, "field \"a[0][0]"),
    ];
    for (text, reason, part) in cases {
        let found = refused(&text);
        assert_eq!(found.0, reason, "{text}");
        assert!(found.1.contains(part), "{text}: {}", found.1);
    }
    assert!(read(&deep(DEPTH_MAX)).is_ok());
    assert!(matches!(read(&deep(100_000)), Err(Unreadable::Refused { .. })));
    assert!(matches!(read(&"[".repeat(100_000)), Err(Unreadable::Json(_))));
    for text in
        ["", "{", "[]", "null", "{} x", r#"{"a": 01}"#, r#"{"a": NaN}"#, r#"{"a": 1e999}"#, r#"{"a": "\ud800"}"#]
    {
        assert!(matches!(read(text), Err(Unreadable::Json(_))), "{text}");
    }
}

#[test]
fn what_takes_much_more_memory_than_text_is_refused_before_it_does() {
    let list = |item: &str, count: usize| format!(r#"{{"a": [{}]}}"#, vec![item; count].join(","));
    for (item, fits, fits_not) in
        [("1", 500_000, 1_000_000), (r#"{"a":1}"#, 50_000, 200_000), ("1e1", 500_000, 1_000_000)]
    {
        assert!(read(&list(item, fits)).is_ok(), "{item}");
        let (reason, message) = refused(&list(item, fits_not));
        assert_eq!(reason, DecodeReason::MessageTooLarge);
        assert!(message.contains("field \"a") && message.contains("64 MiB"), "{message}");
    }
    assert!(read(&format!(r#"{{"a": "{}"}}"#, "x".repeat(20_000_000))).is_ok(), "text is as large as it is");
}

#[test]
fn the_first_unknown_member_is_kept_and_the_rest_is_only_checked() {
    let fields = read(r#"{"a": 1, "x": [[1, 2]], "b": 99999999999999999999, "y": 1}"#).unwrap();
    assert_eq!((fields.known.len(), fields.unknown.as_deref()), (1, Some("x")));
    assert!(matches!(read(r#"{"x": 1, "b": nul}"#), Err(Unreadable::Json(_))));
}

/// Whatever digits a float is written with, the nearest one is read, and no number takes another's place.
#[test]
fn floats_are_the_nearest() {
    use rand::{Rng as _, SeedableRng as _};
    let mut rng = rand::rngs::StdRng::seed_from_u64(11);
    let mut texts: Vec<String> = ["0.1", "5e-324", "1.7976931348623157e308", "-0.0", "0.30000000000000004", "1E5", "7"]
        .map(str::to_owned)
        .to_vec();
    for _ in 0..20_000 {
        let float = f64::from_bits(rng.random());
        if float.is_finite() {
            texts.push(format!("{float:?}"));
            texts.push(format!("{float:e}"));
        }
        texts.push((rng.random::<f64>() * 1000.0).to_string());
    }
    let text = format!(r#"{{"a": "1, 2", "b": [{}]}}"#, texts.join(", "));
    let fields = read(&text).unwrap();
    let Value::Array(found) = &fields.known[1].1 else { panic!("a list") };
    assert_eq!(found.len(), texts.len());
    for (found, text) in found.iter().zip(&texts) {
        let (found, expected) = (found.as_f64().unwrap(), text.parse::<f64>().unwrap());
        assert_eq!(found.to_bits(), expected.to_bits(), "{text}");
    }
}
