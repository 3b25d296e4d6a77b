//! `fix_encoding`: finds text that was decoded in the wrong encoding, and decodes it in the right one (`ftfy/__init__.py`).

use std::borrow::Cow;

use super::badness::{is_bad, mojibake};
use super::pages::{self, Page};
use super::{ROUNDS_BYTES_MAX, utf8};
use crate::tokenize::clean::windows_1252::{c1_as_windows_1252, is_c1};

/// Bytes that windows-1252 leaves unassigned; Python's own codec refuses them.
const UNASSIGNED_1252: [char; 5] = ['\u{81}', '\u{8d}', '\u{8f}', '\u{90}', '\u{9d}'];

/// `fix_encoding_and_explain`: one step after the other, as long as one changes something.
pub(super) fn fixed(text: Cow<'_, str>) -> Cow<'_, str> {
    let mut text = text;
    let mut bytes = 0;
    while bytes < ROUNDS_BYTES_MAX {
        bytes += text.len();
        match step(&text) {
            Some(next) if next != text => text = Cow::Owned(next),
            _ => break,
        }
    }
    text
}

/// `_fix_encoding_one_step_and_explain`.
fn step(text: &str) -> Option<String> {
    if text.is_ascii() || !is_bad(text) {
        return None;
    }
    let possible = pages::possible(text);
    // Most often it was UTF-8, decoded in an encoding of one byte a character.
    for page in pages::ALL.iter().filter(|page| possible.has(page)) {
        if let Some(decoded) = decoded(text, page) {
            return Some(decoded);
        }
    }
    let repaired = inconsistent_utf8_decoded(text);
    if repaired != text {
        return Some(repaired);
    }
    // Latin-1 that was meant as windows-1252. (ftfy asks here whether "windows-1252" was possible, but has only its sloppy
    // variant in the list, so that the answer is always no.)
    if text.chars().all(|c| c <= '\u{ff}') && !text.contains(UNASSIGNED_1252) {
        let repaired: String = text.chars().map(c1_as_windows_1252).collect();
        if repaired != text {
            return Some(repaired);
        }
    }
    text.contains(is_c1).then(|| text.chars().map(c1_as_windows_1252).collect())
}

/// Encodes `text` with `page` and decodes it as UTF-8, which repairs text that was decoded with the wrong encoding. `None` if that
/// fails.
fn decoded(text: &str, page: &Page) -> Option<String> {
    let mut bytes = pages::encode(text, page)?;
    if page.restores_byte_a0 {
        bytes = utf8::with_byte_a0_restored(bytes);
    }
    if page.is_sloppy {
        bytes = utf8::with_lossy_sequences_replaced(bytes);
    }
    utf8::decode(bytes)
}

/// `decode_inconsistent_utf8` (`ftfy/fixes.py`): what distinctly looks like UTF-8 mojibake is repaired on its own.
fn inconsistent_utf8_decoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for range in mojibake(text) {
        let part = &text[range.clone()];
        // Shorter than the whole, so that this comes to an end.
        if part.len() < text.len() && is_bad(part) {
            out.push_str(&text[from..range.start]);
            out.push_str(&fixed(Cow::Borrowed(part)));
            from = range.end;
        }
    }
    out.push_str(&text[from..]);
    out
}
