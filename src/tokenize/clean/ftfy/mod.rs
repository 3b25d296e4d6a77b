//! `fix_text` of ftfy 6.3.1 with its default settings, step by step as `ftfy/__init__.py` has it.
//!
//! The files of this folder follow ftfy (by Robyn Speer, Apache License 2.0) so closely because OpenCLIP's ids depend on
//! each of its rules. Only steps that do nothing here are left out: a Rust string has no surrogates.

mod badness;
mod characters;
mod encoding;
mod pages;
mod utf8;

use std::borrow::Cow;

use super::{entities, python};

/// Longest part of a line that is fixed at once, in characters (`max_decode_length`).
const SEGMENT_CHARS_MAX: usize = 1_000_000;

/// Most bytes that all rounds over one segment may go through. A round takes one layer off a text that was escaped or wrongly
/// decoded over and over; ftfy has no limit, and takes a time that grows with the square of the length on a long
/// `&amp;amp;amp;…`. Enough for 5,000 layers.
const ROUNDS_BYTES_MAX: usize = 64 << 20;

/// The fixed segments of a text: its lines, each with its `\n`.
pub(super) struct Segments<'a> {
    rest: &'a str,
    /// False from the first segment on that has a `<`: then the text is HTML, whose entities are meant.
    unescape: bool,
}

impl<'a> Segments<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { rest: text, unescape: true }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Cow<'a, str>;

    fn next(&mut self) -> Option<Cow<'a, str>> {
        if self.rest.is_empty() {
            return None;
        }
        let line = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
        let end = match self.rest[..line].char_indices().nth(SEGMENT_CHARS_MAX) {
            Some((at, _)) if line > SEGMENT_CHARS_MAX => at,
            _ => line,
        };
        let (segment, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.unescape = self.unescape && !segment.contains('<');
        Some(if is_plain(segment) { Cow::Borrowed(segment) } else { Cow::Owned(fixed(segment, self.unescape)) })
    }
}

/// Whether no step changes anything that matters: ASCII without entities and control characters other than white space.
pub(super) fn is_plain(segment: &str) -> bool {
    segment.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r' | 0xc) && byte != b'&')
}

/// `fix_and_explain`: repeats all steps until nothing changes.
pub(super) fn fixed(segment: &str, unescape: bool) -> String {
    let mut text = segment.to_owned();
    let mut bytes = 0;
    while bytes < ROUNDS_BYTES_MAX {
        bytes += text.len();
        let resolved = if unescape { entities::unescape_closed(&text) } else { Cow::Borrowed(text.as_str()) };
        let decoded = encoding::fixed(resolved);
        let straight = characters::fixed(&decoded);
        let next = python::nfc(&straight);
        if next == text {
            break;
        }
        text = next.into_owned();
    }
    text
}
