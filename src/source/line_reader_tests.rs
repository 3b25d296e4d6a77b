use super::*;

async fn all(mut reader: LineReader) -> Result<Vec<(i64, String)>, SourceError> {
    let mut out = Vec::new();
    while let Some(Line { number, text }) = reader.next().await? {
        out.push((number, String::from_utf8(text).expect("UTF-8")));
    }
    Ok(out)
}

async fn lines(bytes: &[u8]) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    for capacity in [1, 3, 4096] {
        let reader = BufReader::with_capacity(capacity, io::Cursor::new(bytes.to_vec()));
        found.push(all(LineReader::new("test", reader)).await.expect("lines"));
    }
    assert!(found.iter().all(|one| *one == found[0]), "in pieces of any size: {found:?}");
    found.swap_remove(0)
}

fn owned(lines: &[(i64, &str)]) -> Vec<(i64, String)> {
    lines.iter().map(|(number, text)| (*number, (*text).to_owned())).collect()
}

#[tokio::test]
async fn every_kind_of_line_end_and_blank_lines() {
    let text = b"{\"id\":\"a\"}\r\n\n  \n{\"id\":\"b\"}\nlast without newline";
    assert_eq!(lines(text).await, owned(&[(0, "{\"id\":\"a\"}"), (3, "{\"id\":\"b\"}"), (4, "last without newline")]));
    assert_eq!(lines(b"a\rb\r\r\nc\r").await, owned(&[(0, "a"), (1, "b"), (3, "c")]));
    assert_eq!(lines(b"").await, []);
}

#[tokio::test]
async fn byte_order_marks_and_other_encodings_are_understood() {
    let text = "{\"id\":\"ü 🦀\"}\r\nb\n";
    let expected = owned(&[(0, "{\"id\":\"ü 🦀\"}"), (1, "b")]);
    assert_eq!(lines(format!("\u{feff}{text}").as_bytes()).await, expected);
    assert_eq!(lines(b"\xEF\xBB\xBF").await, []);
    for mark in ["", "\u{feff}"] {
        let marked = format!("{mark}{text}");
        let utf16: Vec<u16> = marked.encode_utf16().collect();
        let utf32: Vec<u32> = marked.chars().map(u32::from).collect();
        let all: [Vec<u8>; 4] = [
            utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
            utf16.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
            utf32.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
            utf32.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
        ];
        for bytes in all {
            assert_eq!(lines(&bytes).await, expected, "{bytes:02x?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_text_of_lines_is_named() {
    let cases: [(&[u8], &str, &str); 8] = [
        (b"\x1F\x8B\x08\0\0\0\0\0", "gzip-compressed", "gzip -dc"),
        (b"\x28\xB5\x2F\xFD\x04\0", "zstd-compressed", "zstd -dc"),
        (b"Obj\x01\x04\x16avro.schema", "an Avro container file", "JSON Lines"),
        (b"PAR1\x15\x04", "a Parquet file", "JSON Lines"),
        (b"\xFF\xD8\xFF\xE0\0\x10JFIF", "a picture", "folder"),
        (b"[\n  {\"id\": \"a\"}\n]\n", "one JSON list", "jq -c '.[]'"),
        (b"\n{\r\n  \"id\": \"a\"\n}\n", "one JSON document", "jq -c ."),
        ("\u{feff}[\n".as_bytes(), "one JSON list", "jq -c '.[]'"),
    ];
    for (bytes, kind, next) in cases {
        for capacity in [1, 4096] {
            let reader = BufReader::with_capacity(capacity, io::Cursor::new(bytes.to_vec()));
            match all(LineReader::new("test", reader)).await {
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains(kind) && text.contains(next), "{text}");
                }
                other => panic!("{kind}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_line_that_is_too_long_is_cut_and_the_next_one_is_whole() {
    let text = format!("{{\"id\":\"{}\"}}\n{{}}\n", "x".repeat(100_000)).into_bytes();
    for capacity in [7, 4096, 1 << 20] {
        let mut reader = LineReader::new("test", BufReader::with_capacity(capacity, io::Cursor::new(text.clone())));
        reader.line_bytes_max = 10_000;
        let lines = all(reader).await.expect("lines");
        assert_eq!(lines.len(), 2);
        assert!(lines[0].1.starts_with("{\"id\":\"xxx") && lines[0].1.ends_with("longer than 10000 bytes)"));
        assert_eq!(lines[0].1.chars().filter(|c| *c == 'x').count(), LINE_BYTES_KEPT - 7);
        assert_eq!(lines[1], (1, "{}".to_owned()));
    }
}
