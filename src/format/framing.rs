//! Recognises, by the first bytes, what serializers and file formats put around JSON text, or instead of it.

use crate::encoding::Encoding;
use crate::redact;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// A Schema Registry's wire format: a zero, the schema's id in 4 bytes (big-endian), the data. That of its JSON serializer is
/// JSON text.
const REGISTRY_BYTES: usize = 5;

/// The JSON text in `bytes`: without a byte order mark, and without the framing of a Schema Registry's JSON serializer.
pub(super) fn without(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    match bytes {
        [0, rest @ ..] if rest.len() > REGISTRY_BYTES - 1 => {
            let data = &rest[REGISTRY_BYTES - 1..];
            // No text begins with a zero, and neither Avro nor Protobuf is read as a whole JSON document.
            let is_json = matches!(data.trim_ascii_start().first(), Some(b'{' | b'"' | b'['));
            if is_json { data } else { bytes }
        }
        _ => bytes,
    }
}

/// In words that follow "found"; `None` if the bytes may be text.
pub(super) fn of(bytes: &[u8]) -> Option<String> {
    if let Some(encoding) = Encoding::of(bytes) {
        return Some(format!("{encoding} text"));
    }
    let kind = match bytes {
        [0x1F, 0x8B, ..] => "gzip-compressed data",
        [0x28, 0xB5, 0x2F, 0xFD, ..] => "zstd-compressed data",
        [0x04, 0x22, 0x4D, 0x18, ..] => "lz4-compressed data",
        [0xFF, 0x06, 0, 0, b's', b'N', ..] | [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, ..] => {
            "Snappy-compressed data"
        }
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => "bzip2-compressed data",
        [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => "xz-compressed data",
        [b'P', b'K', 3, 4, ..] => "a ZIP archive",
        [0x78, 0x01 | 0x5E | 0x9C | 0xDA, ..] if has_controls(bytes) => "zlib-compressed data",
        [b'O', b'b', b'j', 1, ..] => "an Avro container file",
        [0xC3, 0x01, ..] if bytes.len() > 10 => "Avro's single-object encoding",
        [b'P', b'A', b'R', b'1', ..] => "a Parquet file",
        [0xAC, 0xED, 0, 5, ..] => "a serialised Java object",
        [0x80, 2..=5, .., b'.'] => "a Python pickle",
        [3, 0 | 5, rest @ ..] if rest.len() >= 16 => "the framing of the AWS Glue Schema Registry",
        [0xFF, 0xD8, 0xFF, ..] | [0x89, b'P', b'N', b'G', ..] | [b'G', b'I', b'F', b'8', ..] => {
            "a picture itself; send its URL"
        }
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "a picture itself; send its URL",
        [0xD9, 0xD9, 0xF7, ..] | [0xA1..=0xB7, 0x60..=0x7B, ..] | [0xBF, 0x60..=0x7B, ..] => "what looks like CBOR",
        [0x81..=0x8F, 0xA0..=0xBF | 0xD9, ..] | [0xDE, _, _, ..] | [0xDF, _, _, _, _, ..] => {
            "what looks like MessagePack"
        }
        _ if is_bson(bytes) => "BSON",
        [0, rest @ ..] if rest.len() > REGISTRY_BYTES - 1 => return Some(registry(rest)),
        [b'e', b'y', b'J', ..] => "base64 of JSON",
        [b'%', b'7', b'B' | b'b', ..] => "percent-encoded JSON",
        [b'<', ..] => "XML or HTML",
        // Text with any content.
        [b'{' | b'[' | b'"', ..] => return None,
        _ if is_protobuf(bytes) => "what looks like Protobuf",
        _ if has_controls(bytes) => "binary data",
        _ => return None,
    };
    Some(kind.to_owned())
}

fn registry(rest: &[u8]) -> String {
    let id = rest[..4].iter().fold(0_u32, |id, byte| id << 8 | u32::from(*byte));
    let data = &rest[4..];
    let behind = match data.trim_ascii_start().first() {
        Some(b'{' | b'"' | b'[') => "with JSON behind it".to_owned(),
        _ => {
            let shown = redact::excerpt(&String::from_utf8_lossy(&data[..data.len().min(16)]), 40);
            format!("with no JSON behind it ({shown}): Avro and Protobuf are not read, use a JSON serializer")
        }
    };
    format!("the framing of a Schema Registry (a zero byte, schema id {id}), {behind}")
}

/// Bytes that no text has.
fn has_controls(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(256)];
    head.iter().any(|b| matches!(b, 0..=8 | 11 | 14..=26 | 28..=31))
}

/// Its own length in the first four bytes (little-endian), a zero at the end.
fn is_bson(bytes: &[u8]) -> bool {
    let Some((length, _)) = bytes.split_first_chunk::<4>() else { return false };
    usize::try_from(u32::from_le_bytes(*length)) == Ok(bytes.len()) && bytes.last() == Some(&0)
}

/// Whether all of it is a sequence of Protobuf's fields, which text hardly ever is.
fn is_protobuf(bytes: &[u8]) -> bool {
    let varint = |at: &mut usize| {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *bytes.get(*at)?;
            *at += 1;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    };
    let (mut at, mut fields) = (0, 0);
    while at < bytes.len() {
        let Some(tag) = varint(&mut at).filter(|tag| (8..1 << 32).contains(tag)) else { return false };
        let skipped = match tag & 7 {
            0 => varint(&mut at).map(|_| 0),
            1 => Some(8),
            2 => varint(&mut at),
            5 => Some(4),
            _ => None,
        };
        let Some(skipped) = skipped.and_then(|bytes| usize::try_from(bytes).ok()) else { return false };
        at = at.saturating_add(skipped);
        fields += 1;
    }
    at == bytes.len() && fields > 0 && (bytes[0] == b'\n' || has_controls(bytes))
}
