//! Text in other encodings than UTF-8: detected from its first bytes, and converted to UTF-8 while it is read.

use std::fmt;

/// Encodings of JSON text other than UTF-8 (RFC 4627, section 3). PowerShell's `>` writes the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Utf16Le,
    Utf16Be,
    Utf32Le,
    Utf32Be,
}

impl Encoding {
    /// Detects the encoding by the byte order mark, or by the zero bytes between the first characters of JSON text. `None`: UTF-8,
    /// or not text.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let starts_json = |b: u8| matches!(b, b'{' | b'[' | b'"' | b' ' | b'\t' | b'\r' | b'\n');
        match *bytes {
            [0xFF, 0xFE, 0, 0, ..] => Some(Self::Utf32Le),
            [0, 0, 0xFE, 0xFF, ..] => Some(Self::Utf32Be),
            [0xFF, 0xFE, ..] => Some(Self::Utf16Le),
            [0xFE, 0xFF, ..] => Some(Self::Utf16Be),
            [a, 0, 0, 0, b, 0, 0, 0, ..] if starts_json(a) && b != 0 => Some(Self::Utf32Le),
            [0, 0, 0, a, 0, 0, 0, b, ..] if starts_json(a) && b != 0 => Some(Self::Utf32Be),
            [a, 0, b, 0, ..] if starts_json(a) && b != 0 => Some(Self::Utf16Le),
            [0, a, 0, b, ..] if starts_json(a) && b != 0 => Some(Self::Utf16Be),
            _ => None,
        }
    }

    fn unit_bytes(self) -> usize {
        match self {
            Self::Utf16Le | Self::Utf16Be => 2,
            Self::Utf32Le | Self::Utf32Be => 4,
        }
    }

    fn unit(self, bytes: &[u8]) -> u32 {
        let value = |sum: u32, byte: &u8| sum << 8 | u32::from(*byte);
        match self {
            Self::Utf16Le | Self::Utf32Le => bytes.iter().rev().fold(0, value),
            Self::Utf16Be | Self::Utf32Be => bytes.iter().fold(0, value),
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Utf16Le => "UTF-16 (little-endian)",
            Self::Utf16Be => "UTF-16 (big-endian)",
            Self::Utf32Le => "UTF-32 (little-endian)",
            Self::Utf32Be => "UTF-32 (big-endian)",
        })
    }
}

/// Converts text in pieces to UTF-8. Invalid input (an unpaired surrogate, an incomplete end) becomes invalid UTF-8, so that the
/// reader detects the damage.
#[derive(Debug)]
pub struct Transcoder {
    encoding: Encoding,
    /// Bytes of an incomplete code unit.
    rest: Vec<u8>,
    /// A pending high surrogate.
    high: Option<u32>,
}

impl Transcoder {
    pub fn new(encoding: Encoding) -> Self {
        Self { encoding, rest: Vec::new(), high: None }
    }

    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            self.rest.push(*byte);
            if self.rest.len() == self.encoding.unit_bytes() {
                let unit = self.encoding.unit(&self.rest);
                self.rest.clear();
                self.unit(unit, out);
            }
        }
    }

    fn unit(&mut self, unit: u32, out: &mut Vec<u8>) {
        if let Some(high) = self.high.take() {
            if (0xDC00..0xE000).contains(&unit) {
                return encode(0x1_0000 + ((high - 0xD800) << 10 | (unit - 0xDC00)), out);
            }
            encode(high, out);
        }
        let is_high = self.encoding.unit_bytes() == 2 && (0xD800..0xDC00).contains(&unit);
        if is_high { self.high = Some(unit) } else { encode(unit, out) }
    }

    /// Call it at the end of the text.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.high.take().into_iter().for_each(|high| encode(high, out));
        if !self.rest.is_empty() {
            self.rest.clear();
            out.push(0xFF);
        }
    }
}

/// A whole text as UTF-8, without a byte order mark.
///
/// # Errors
/// A description, if the encoding is unknown.
pub fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    let mut text = match Encoding::of(&bytes) {
        None => bytes,
        Some(encoding) => {
            let (mut transcoder, mut text) = (Transcoder::new(encoding), Vec::with_capacity(bytes.len()));
            transcoder.push(&bytes, &mut text);
            transcoder.finish(&mut text);
            text
        }
    };
    if text.starts_with("\u{feff}".as_bytes()) {
        text.drain(..3);
    }
    String::from_utf8(text).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("the byte 0x{:02X} at {at} is not UTF-8", error.as_bytes()[at])
    })
}

fn encode(point: u32, out: &mut Vec<u8>) {
    match char::from_u32(point) {
        Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        // Encoded as three bytes, which are not valid UTF-8.
        None if point < 0x1_0000 => {
            let low = |shift: u32| 0x80 | (point >> shift & 0x3F) as u8;
            out.extend_from_slice(&[0xE0 | (point >> 12) as u8, low(6), low(0)]);
        }
        None => out.push(0xFF),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{\"id\": \"ü 🦀\"}\n";

    fn encoded(encoding: Encoding) -> Vec<u8> {
        match encoding {
            Encoding::Utf16Le => TEXT.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            Encoding::Utf16Be => TEXT.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            Encoding::Utf32Le => TEXT.chars().flat_map(|c| (c as u32).to_le_bytes()).collect(),
            Encoding::Utf32Be => TEXT.chars().flat_map(|c| (c as u32).to_be_bytes()).collect(),
        }
    }

    #[test]
    fn every_encoding_is_detected_and_read_in_pieces_of_any_size() {
        for encoding in [Encoding::Utf16Le, Encoding::Utf16Be, Encoding::Utf32Le, Encoding::Utf32Be] {
            let bytes = encoded(encoding);
            assert_eq!(Encoding::of(&bytes), Some(encoding), "by its zeros");
            for size in [1, 3, 1000] {
                let (mut transcoder, mut out) = (Transcoder::new(encoding), Vec::new());
                bytes.chunks(size).for_each(|piece| transcoder.push(piece, &mut out));
                transcoder.finish(&mut out);
                assert_eq!(std::str::from_utf8(&out), Ok(TEXT), "{encoding}");
            }
        }
        assert_eq!(Encoding::of(TEXT.as_bytes()), None);
        assert_eq!(Encoding::of(b"\xFF\xFE{\0"), Some(Encoding::Utf16Le));
        assert_eq!(Encoding::of(b"\0\0\0\0\x07{\"id"), None, "a Schema Registry's framing");
    }

    #[test]
    fn what_is_no_character_stays_none() {
        for (bytes, expected) in
            [(&b"\x3d\xd8a\0"[..], &b"\xed\xa0\xbda"[..]), (b"\x00\xdc", b"\xed\xb0\x80"), (b"a\0b", b"a\xff")]
        {
            let (mut transcoder, mut out) = (Transcoder::new(Encoding::Utf16Le), Vec::new());
            transcoder.push(bytes, &mut out);
            transcoder.finish(&mut out);
            assert_eq!(out, expected);
            assert!(std::str::from_utf8(&out).is_err());
        }
    }
}
