//! HTML entities, as Python's `html.unescape` and ftfy's `unescape_html` resolve them.

use std::borrow::Cow;

use htmlize::ENTITIES;

use super::windows_1252::c1_as_windows_1252;

/// Longest name of an entity that the two look at, in characters.
const NAME_CHARS_MAX: usize = 32;
const CLOSED_NAME_CHARS_MAX: usize = 24;

/// Python's `html.unescape`: a browser's reading, in which `&ampamp` is `&amp`.
pub(super) fn unescape(text: &str) -> Cow<'_, str> {
    replaced(text, |reference, out| {
        if reference.starts_with("&#") {
            let (code, length) = number(reference)?;
            out.extend(character(code));
            return Some(length);
        }
        let name: usize = reference[1..]
            .chars()
            .take(NAME_CHARS_MAX)
            .take_while(|c| !matches!(c, '\t' | '\n' | '\u{c}' | ' ' | '<' | '&' | '#' | ';'))
            .map(char::len_utf8)
            .sum();
        if name == 0 {
            return None;
        }
        let end = 1 + name;
        let end = if reference[end..].starts_with(';') { end + 1 } else { end };
        let reference = &reference[..end];
        // Otherwise the longest name that it begins with, of two characters at least.
        let shorter = reference.char_indices().map(|(at, _)| at).skip(3).collect::<Vec<_>>();
        let known = std::iter::once(end).chain(shorter.into_iter().rev());
        let found = known.into_iter().find_map(|end| Some((named(&reference[..end])?, end)));
        let (value, used) = found.unwrap_or((reference, end));
        out.push_str(value);
        out.push_str(&reference[used..]);
        Some(end)
    })
}

/// ftfy's `unescape_html` (`ftfy/fixes.py`): only what ends with a semicolon, and names in upper case too where that is
/// not ambiguous.
pub(super) fn unescape_closed(text: &str) -> Cow<'_, str> {
    replaced(text, |reference, out| {
        let body = reference[1..].strip_prefix('#').unwrap_or(&reference[1..]);
        let length = body.bytes().take(CLOSED_NAME_CHARS_MAX).take_while(u8::is_ascii_alphanumeric).count();
        if length == 0 || !body[length..].starts_with(';') {
            return None;
        }
        let end = reference.len() - body.len() + length + 1;
        let reference = &reference[..end];
        if !reference.starts_with("&#") {
            match named(reference) {
                Some(value) => out.push_str(value),
                None => out.push_str(&shouted(reference)?),
            }
            return Some(end);
        }
        match number(reference) {
            // ftfy takes a semicolon in the result for one that was not consumed.
            Some((code, length)) if length == end && code != u32::from(b';') => out.extend(character(code)),
            _ => return None,
        }
        Some(end)
    })
}

/// Calls `replace` for each `&` of `text`, with everything that follows. It appends the replacement of the reference and
/// returns the reference's length in bytes, or `None`, which leaves the `&` as it is.
fn replaced<'a>(text: &'a str, replace: impl Fn(&str, &mut String) -> Option<usize>) -> Cow<'a, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let length = out.len();
        let used = replace(&rest[at..], &mut out).unwrap_or_else(|| {
            out.truncate(length);
            out.push('&');
            1
        });
        rest = &rest[at + used..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The characters of a reference by name, `&` and, where it has one, `;` included.
fn named(reference: &str) -> Option<&'static str> {
    ENTITIES.get(reference.as_bytes()).and_then(|value| std::str::from_utf8(value).ok())
}

/// The upper-case letter of `&EACUTE;`: `_build_html_entities` in `ftfy/chardata.py`.
fn shouted(reference: &str) -> Option<String> {
    if reference.bytes().any(|byte| byte.is_ascii_lowercase()) || unescape(reference) != reference {
        return None;
    }
    named(&reference.to_ascii_lowercase()).map(str::to_uppercase)
}

/// Code point and length of a numeric reference at the start of `text`. What does not fit is a code point that no
/// character has.
fn number(text: &str) -> Option<(u32, usize)> {
    let digits = text.strip_prefix("&#")?;
    let (digits, radix) = digits.strip_prefix(['x', 'X']).map_or((digits, 10), |digits| (digits, 16));
    let count = digits.chars().take_while(|c| c.is_digit(radix)).count();
    if count == 0 {
        return None;
    }
    let code = digits[..count].chars().filter_map(|c| c.to_digit(radix));
    let code = code.fold(0, |code: u32, digit| code.saturating_mul(radix).saturating_add(digit));
    let end = text.len() - digits.len() + count;
    Some((code, if text[end..].starts_with(';') { end + 1 } else { end }))
}

/// The character that a numeric reference stands for (`_replace_charref` of Python's `html/__init__.py`); `None` for control
/// characters and noncharacters.
fn character(code: u32) -> Option<char> {
    match code {
        0 => Some('\u{fffd}'),
        0x80..=0x9f => char::from_u32(code).map(c1_as_windows_1252),
        0x1..=0x8 | 0xb | 0xe..=0x1f | 0x7f | 0xfdd0..=0xfdef => None,
        _ if code & 0xfffe == 0xfffe && code <= 0x10_ffff => None,
        _ => Some(char::from_u32(code).unwrap_or('\u{fffd}')),
    }
}
