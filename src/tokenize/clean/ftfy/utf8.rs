//! Bytes that should be UTF-8: repairs before they are decoded (`ftfy/fixes.py`, `ftfy/chardata.py`), and the decoder for
//! its variants (`ftfy/bad_codecs/utf8_variants.py`).

use std::sync::LazyLock;

use regex::bytes::Regex;

/// `ALTERED_UTF8_RE`: sequences that would be valid if a space were the byte A0.
static ALTERED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&[
        r"[\xc2\xc3\xc5\xce\xd0\xd9][ ]",
        r"[\xe2\xe3][ ][\x80-\x84\x86-\x9f\xa1-\xbf]",
        r"[\xe0-\xe3][\x80-\x84\x86-\x9f\xa1-\xbf][ ]",
        r"[\xf0][ ][\x80-\xbf][\x80-\xbf]",
        r"[\xf0][\x80-\xbf][ ][\x80-\xbf]",
        r"[\xf0][\x80-\xbf][\x80-\xbf][ ]",
    ])
});

/// `LOSSY_UTF8_RE`: UTF-8 and CESU-8 of which some bytes are lost, written as 1A or, once a sequence, as a question mark.
static LOSSY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&[
        r"[\xc2-\xdf][\x1a]",
        r"[\xc2-\xc3][?]",
        r"\xed[\xa0-\xaf][\x1a?]\xed[\xb0-\xbf][\x1a?\x80-\xbf]",
        r"\xed[\xa0-\xaf][\x1a?\x80-\xbf]\xed[\xb0-\xbf][\x1a?]",
        r"[\xe0-\xef][\x1a?][\x1a\x80-\xbf]",
        r"[\xe0-\xef][\x1a\x80-\xbf][\x1a?]",
        r"[\xf0-\xf4][\x1a?][\x1a\x80-\xbf][\x1a\x80-\xbf]",
        r"[\xf0-\xf4][\x1a\x80-\xbf][\x1a?][\x1a\x80-\xbf]",
        r"[\xf0-\xf4][\x1a\x80-\xbf][\x1a\x80-\xbf][\x1a?]",
        r"\x1a",
    ])
});

fn pattern(alternatives: &[&str]) -> Regex {
    Regex::new(&format!("(?-u){}", alternatives.join("|"))).expect("a constant pattern")
}

/// `restore_byte_a0`. A `Ã` that stands alone was `à`, a word: its space stays.
pub(super) fn with_byte_a0_restored(bytes: Vec<u8>) -> Vec<u8> {
    if !ALTERED.is_match(&bytes) {
        return bytes;
    }
    let mut out = Vec::with_capacity(bytes.len() + 8);
    for (at, &byte) in bytes.iter().enumerate() {
        // `A_GRAVE_WORD_RE`, with its exceptions for Portuguese words.
        let before = at.checked_sub(1).map(|before| bytes[before]);
        if byte == b' ' && before == Some(0xc3) {
            let after = &bytes[at + 1..];
            if ![&b" "[..], b"quele", b"quela", b"quilo", b"s "].iter().any(|word| after.starts_with(word)) {
                out.push(0xa0);
            }
        }
        out.push(byte);
    }
    let mut from = 0;
    let restored: Vec<_> = ALTERED.find_iter(&out).map(|found| found.range()).collect();
    for range in restored {
        debug_assert!(range.start >= from);
        from = range.end;
        out[range].iter_mut().filter(|byte| **byte == b' ').for_each(|byte| *byte = 0xa0);
    }
    out
}

/// `replace_lossy_sequences`: U+FFFD for each.
pub(super) fn with_lossy_sequences_replaced(bytes: Vec<u8>) -> Vec<u8> {
    LOSSY.replace_all(&bytes, "\u{fffd}".as_bytes()).into_owned()
}

/// As UTF-8; with the bytes ED or C0 as ftfy's variant of it, in which surrogates may be encoded (CESU-8), and U+0000 in two
/// bytes (Java).
pub(super) fn decode(bytes: Vec<u8>) -> Option<String> {
    if !bytes.iter().any(|byte| matches!(byte, 0xed | 0xc0)) {
        return String::from_utf8(bytes).ok();
    }
    let mut out = String::with_capacity(bytes.len());
    let mut plain = 0;
    let mut at = 0;
    while at < bytes.len() {
        let Some((character, length)) = variant(&bytes[at..]) else {
            at += 1;
            continue;
        };
        out.push_str(std::str::from_utf8(&bytes[plain..at]).ok()?);
        out.push(character);
        at += length;
        plain = at;
    }
    out.push_str(std::str::from_utf8(&bytes[plain..]).ok()?);
    Some(out)
}

/// A character at the start of `bytes` that only the variant has, and its length. The `$` of ftfy's patterns also matches
/// before a line feed that ends the bytes, which then counts as the missing last byte.
fn variant(bytes: &[u8]) -> Option<(char, usize)> {
    match *bytes {
        [0xc0, 0x80, ..] | [0xc0, b'\n'] => Some(('\0', 2)),
        [0xed, a @ 0xa0..=0xaf, b @ 0x80..=0xbf, 0xed, c @ 0xb0..=0xbf, d, ref rest @ ..]
            if matches!(d, 0x80..=0xbf) || (d == b'\n' && rest.is_empty()) =>
        {
            let [a, b, c, d] = [a & 0xf, b & 0x3f, c & 0xf, d & 0x3f].map(u32::from);
            char::from_u32(0x1_0000 + (a << 16) + (b << 10) + (c << 6) + d).map(|character| (character, 6))
        }
        _ => None,
    }
}
