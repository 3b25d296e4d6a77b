//! Methods of Python's `str` that OpenCLIP and ftfy use, where Rust's differ.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization as _;

/// Characters that Python 3.11, which knows Unicode 14, takes for unassigned: they have no case and compose with nothing.
static NEWER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[^\p{Age=14.0}]+").expect("a constant pattern"));

/// The properties of neighbours that the rule of the final sigma tests. U+1171E stopped being a mark in Unicode 15.
static CASED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\p{Cased}").expect("a constant pattern"));
static CASE_IGNORABLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[\p{Case_Ignorable}\x{1171E}]").expect("a constant pattern"));

/// `str.split()`: the words between white space.
pub(crate) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// `str.isspace` of one character. Rust leaves out the four separators U+001C to U+001F.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// `str.lower()`.
pub(crate) fn lower(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Cow::Owned(text.to_ascii_lowercase());
        }
        return Cow::Borrowed(text);
    }
    Cow::Owned(between_newer(text, |known, out| {
        for (at, c) in known.char_indices() {
            match c {
                'Σ' => out.push(small_sigma(&known[..at], &known[at + c.len_utf8()..])),
                c => out.extend(c.to_lowercase()),
            }
        }
    }))
}

/// Σ in lower case: final behind a letter, unless a letter follows (`handle_capital_sigma` of Python's `unicodeobject.c`).
fn small_sigma(before: &str, after: &str) -> char {
    let is = |property: &Regex, c: char| property.is_match(c.encode_utf8(&mut [0; 4]));
    let letter = |next: Option<char>| next.is_some_and(|c| is(&CASED, c));
    let behind = letter(before.chars().rev().find(|&c| !is(&CASE_IGNORABLE, c)));
    let ahead = letter(after.chars().find(|&c| !is(&CASE_IGNORABLE, c)));
    if behind && !ahead { 'ς' } else { 'σ' }
}

/// `unicodedata.normalize("NFC", text)`.
pub(super) fn nfc(text: &str) -> Cow<'_, str> {
    // What comes before U+0300 is composed already, and nothing there composes.
    if text.chars().all(|c| c < '\u{300}') {
        return Cow::Borrowed(text);
    }
    Cow::Owned(between_newer(text, |known, out| out.extend(known.nfc())))
}

/// Appends what `change` makes of the parts between newer characters, which stay. Nothing reaches across one: it is not a
/// combining mark, and ends the context of a final sigma as a space does.
fn between_newer(text: &str, mut change: impl FnMut(&str, &mut String)) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for newer in NEWER.find_iter(text) {
        change(&text[from..newer.start()], &mut out);
        out.push_str(newer.as_str());
        from = newer.end();
    }
    change(&text[from..], &mut out);
    out
}
