//! The marker segments of a JPEG file.

/// Marker segments from the start of the file: kind and body. That of a scan (0xDA) is all that follows; the walk ends
/// there, at the end of the image, and where the file is damaged.
pub(super) fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = bytes.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        loop {
            match *rest {
                // Markers without a body, and an escaped 0xFF astray.
                [0xFF, 0x00 | 0x01 | 0xD0..=0xD8, ..] => rest = &rest[2..],
                [0xFF, kind @ (0xD9 | 0xDA), ..] => {
                    let body = &rest[2..];
                    rest = &[];
                    return Some((kind, body));
                }
                // Fill bytes.
                [0xFF, 0xFF, ..] => rest = &rest[1..],
                [0xFF, kind, high, low, ..] => {
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    let body = rest.get(4..2 + length);
                    rest = rest.get(2 + length..).unwrap_or_default();
                    return Some((kind, body?));
                }
                // Stray bytes between segments: libjpeg skips them.
                [_, _, ..] => rest = &rest[1..],
                _ => return None,
            }
        }
    })
}
