//! Hexadecimal digests.

/// `text` in lower case, if it has exactly this number of hexadecimal digits.
pub(super) fn hex(text: &str, digits: usize) -> Option<String> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| text.to_ascii_lowercase())
}
