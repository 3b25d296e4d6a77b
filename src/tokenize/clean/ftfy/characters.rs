//! Fixes of single characters (`ftfy/fixes.py`): controls, ligatures, widths, quotes and line breaks.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization as _;

use crate::tokenize::clean::windows_1252::c1_as_windows_1252;

/// `ANSI_RE`; its `\d` are the decimal digits of Unicode 14, Python 3.11's.
static TERMINAL_ESCAPE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\x1B\[[[\d&&\p{Age=14.0}];]*[a-zA-Z]").expect("a constant pattern"));

/// All of them, in ftfy's order: `fix_c1_controls`, `fix_latin_ligatures`, `fix_character_width`, `uncurl_quotes`,
/// `fix_line_breaks`, `remove_terminal_escapes`, `remove_control_chars`.
pub(super) fn fixed(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | 0xc)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().map(c1_as_windows_1252).peekable();
    while let Some(c) = characters.next() {
        match c {
            '\r' => {
                characters.next_if_eq(&'\n');
                out.push('\n');
            }
            '\u{3000}' => out.push(' '),
            '\u{ff01}'..='\u{ffef}' => out.extend(std::iter::once(c).nfkc().map(straight)),
            _ => match ligature(c) {
                Some(letters) => out.extend(letters.chars().map(straight)),
                None => out.push(straight(c)),
            },
        }
    }
    if out.contains('\x1b') {
        out = TERMINAL_ESCAPE.replace_all(&out, "").into_owned();
    }
    out.retain(|c| !is_removed(c));
    Cow::Owned(out)
}

/// `uncurl_quotes`, and the line breaks that are one character.
fn straight(c: char) -> char {
    match c {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        '\u{2028}' | '\u{2029}' | '\u{85}' => '\n',
        _ => c,
    }
}

/// `LIGATURES` of `ftfy/chardata.py`.
fn ligature(c: char) -> Option<&'static str> {
    Some(match c {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        'ŉ' => "ʼn",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        _ => return None,
    })
}

/// `CONTROL_CHARS` of `ftfy/chardata.py`.
fn is_removed(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}'
    )
}
