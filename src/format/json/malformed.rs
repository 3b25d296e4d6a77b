//! Where text stops being JSON, and why, in words for its author. `serde_json` says what it expected; this names common
//! mistakes: single quotes, `NaN`, one comma too many, half of an emoji.

use crate::redact;

/// Deeper text is left to the parser's own words.
const DEPTH_MAX: usize = 64;
const QUOTED_CHARS_MAX: usize = 40;

/// In words that follow "found"; `None` if the parser's message is better.
pub(super) fn cause(text: &[u8]) -> Option<String> {
    if text.is_empty() {
        return Some("an empty value, which is not a tombstone (a tombstone is null)".to_owned());
    }
    let mut scan = Scan { text, at: 0, keys: Vec::new(), last: Last::Start, in_value: false };
    let found = scan.run()?;
    let path = scan.path();
    Some(if scan.in_value && !path.is_empty() { format!("{found}, in field \"{path}\"") } else { found })
}

/// The token before.
#[derive(Clone, Copy, PartialEq)]
enum Last {
    Start,
    Open,
    Comma,
    Colon,
    Value,
}

struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    /// For each open object or list, what comes next in it: the last key of an object; `None` in lists and before the first key.
    keys: Vec<(Bracket, Option<&'a [u8]>)>,
    last: Last,
    /// What was found is within a string, or in place of a value.
    in_value: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Bracket {
    Object,
    List,
}

impl<'a> Scan<'a> {
    /// The first part that is not JSON.
    fn run(&mut self) -> Option<String> {
        loop {
            while self.peek().is_some_and(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')) {
                self.at += 1;
            }
            let Some(byte) = self.peek() else { return self.end() };
            if self.keys.is_empty() && self.last == Last::Value {
                return Some(match byte {
                    b',' => "a comma behind the object, as in a JSON list; expected one object per message and line"
                        .to_owned(),
                    b'{' | b'[' | b'"' => "more than one JSON value; expected one per message and line".to_owned(),
                    _ => format!("something behind the JSON value ({})", self.quoted()),
                });
            }
            match byte {
                b'{' | b'[' => {
                    if self.keys.len() == DEPTH_MAX {
                        return None;
                    }
                    self.keys.push((if byte == b'{' { Bracket::Object } else { Bracket::List }, None));
                    self.last = Last::Open;
                    self.at += 1;
                }
                b'}' | b']' => {
                    if self.last == Last::Comma {
                        return Some(format!("a trailing comma (before {})", char::from(byte)));
                    }
                    self.keys.pop();
                    self.last = Last::Value;
                    self.at += 1;
                }
                b',' | b':' => {
                    if byte == b',' && self.last == Last::Comma {
                        return Some("two commas in a row".to_owned());
                    }
                    self.last = if byte == b',' { Last::Comma } else { Last::Colon };
                    self.at += 1;
                }
                b'"' => {
                    if self.last == Last::Value {
                        return Some("no comma between two members".to_owned());
                    }
                    if let Some(found) = self.string() {
                        self.in_value = true;
                        return Some(found);
                    }
                    self.last = Last::Value;
                }
                b'-' | b'0'..=b'9' => self.number()?,
                _ => {
                    if let Some(found) = self.word(byte) {
                        self.in_value = !self.is_before_key();
                        return Some(found);
                    }
                }
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn is_before_key(&self) -> bool {
        let in_object = self.keys.last().is_some_and(|(bracket, _)| *bracket == Bracket::Object);
        in_object && matches!(self.last, Last::Open | Last::Comma)
    }

    fn end(&self) -> Option<String> {
        match self.keys.last() {
            Some((bracket, _)) => {
                let kind = if *bracket == Bracket::Object { "an object" } else { "a list" };
                Some(format!(
                    "the beginning of {kind} that does not end: cut, or spread over lines; expected one message per line"
                ))
            }
            None if self.last == Last::Start => Some("nothing but blanks".to_owned()),
            None => None,
        }
    }

    /// From the opening quote to behind the closing one.
    fn string(&mut self) -> Option<String> {
        let is_key = self.is_before_key();
        self.at += 1;
        let start = self.at;
        // A key that is broken is named as far as it goes.
        let name = |scan: &mut Self| {
            if is_key && let Some((_, key)) = scan.keys.last_mut() {
                *key = scan.text.get(start..scan.at);
            }
        };
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    name(self);
                    self.at += 1;
                    return None;
                }
                b'\\' => {
                    if let Some(found) = self.escape() {
                        name(self);
                        return Some(found);
                    }
                }
                0..=31 => {
                    let (what, escape) = match byte {
                        b'\n' => ("a line feed", "\\n"),
                        b'\r' => ("a carriage return", "\\r"),
                        b'\t' => ("a tab", "\\t"),
                        _ => ("a control character", "an escape such as \\u0001"),
                    };
                    return Some(format!("{what} within a string; expected it written as {escape}"));
                }
                32..=127 => self.at += 1,
                _ => match character(&self.text[self.at..]) {
                    Some(c) => self.at += c.len_utf8(),
                    None => return Some(no_utf8(&self.text[self.at..])),
                },
            }
        }
        Some("a string that does not end: cut, or a quote in it without a backslash".to_owned())
    }

    /// From a backslash to behind its escape.
    fn escape(&mut self) -> Option<String> {
        let code = |at: usize| {
            let digits = self.text.get(at..at + 6)?;
            let digits = std::str::from_utf8(digits.strip_prefix(b"\\u")?).ok()?;
            u32::from_str_radix(digits, 16).ok()
        };
        let half = |code: u32| {
            format!(
                "half of a surrogate pair (\\u{code:04x}): a text that was cut within a character such as an emoji; expected it \
                 cut between characters"
            )
        };
        match self.text.get(self.at + 1) {
            Some(b'u') => match code(self.at) {
                None => return Some("an escape \\u without four hexadecimal digits".to_owned()),
                Some(high @ 0xD800..=0xDBFF) => match code(self.at + 6) {
                    Some(0xDC00..=0xDFFF) => self.at += 12,
                    _ => return Some(half(high)),
                },
                Some(low @ 0xDC00..=0xDFFF) => return Some(half(low)),
                Some(_) => self.at += 6,
            },
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(other) if other.is_ascii_graphic() => {
                return Some(format!(
                    "the escape \\{}, which JSON has not; a backslash is written as \\\\",
                    char::from(*other)
                ));
            }
            _ => return Some("a backslash that escapes nothing".to_owned()),
        }
        None
    }

    /// `None`: it is not a number in JSON, as the parser reports.
    fn number(&mut self) -> Option<()> {
        let rest = &self.text[self.at..];
        let length = rest.iter().take_while(|b| matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')).count();
        if rest.starts_with(b"-I") || rest.starts_with(b"-N") {
            // To be named as a word.
            self.at += 1;
            return Some(());
        }
        let digits = std::str::from_utf8(&rest[..length]).ok()?;
        serde_json::from_str::<serde_json::Number>(digits).ok()?;
        self.at += length;
        self.last = Last::Value;
        Some(())
    }

    /// `None`: it is a word of JSON, and skipped.
    fn word(&mut self, byte: u8) -> Option<String> {
        let rest = &self.text[self.at..];
        let length = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$')).count();
        let word = std::str::from_utf8(&rest[..length]).unwrap_or_default();
        match word {
            "true" | "false" | "null" if !self.is_before_key() => {
                self.at += length;
                self.last = Last::Value;
                return None;
            }
            "NaN" | "Infinity" | "nan" | "inf" => {
                return Some(format!("{word}, which is not a number in JSON; expected null, or the member left out"));
            }
            "None" | "True" | "False" => return Some(format!("Python's {word}; expected JSON (json.dumps writes it)")),
            "undefined" => return Some("JavaScript's undefined; expected null, or the member left out".to_owned()),
            _ => {}
        }
        Some(match byte {
            b'\'' => "single quotes; expected double quotes (Python: json.dumps instead of str)".to_owned(),
            b'/' => "a comment, which JSON has not".to_owned(),
            b'#' => "a comment (#), which JSON has not".to_owned(),
            b'\\' => "a backslash outside of a string: JSON that was escaped once more".to_owned(),
            _ if !word.is_empty() && self.is_before_key() => {
                format!(
                    "a name without quotes ({}); expected it in double quotes",
                    redact::excerpt(word, QUOTED_CHARS_MAX)
                )
            }
            _ if !word.is_empty() && self.last == Last::Start => {
                return Some(format!("plain text ({})", self.quoted()));
            }
            _ if !word.is_empty() => format!("a word without quotes ({})", redact::excerpt(word, QUOTED_CHARS_MAX)),
            0..=127 => format!("{} outside of a string", redact::cut(&char::from(byte).to_string(), 10)),
            _ => match character(rest) {
                Some(c @ ('\u{201c}'..='\u{201f}' | '\u{2018}'..='\u{201b}' | '«' | '»')) => {
                    format!("the typographic quote {c} (U+{:04X}); expected \"", c as u32)
                }
                Some(c) if redact::is_invisible(c) => {
                    format!("the invisible character U+{:04X} outside of a string", c as u32)
                }
                Some(c) => format!("{c} (U+{:04X}) outside of a string", c as u32),
                None => no_utf8(rest),
            },
        })
    }

    /// What is there, for a quotation.
    fn quoted(&self) -> String {
        let rest = &self.text[self.at..];
        redact::excerpt(&String::from_utf8_lossy(&rest[..rest.len().min(4 * QUOTED_CHARS_MAX)]), QUOTED_CHARS_MAX)
    }

    /// Names from the outermost object to here.
    fn path(&self) -> String {
        let names = self.keys.iter().filter_map(|(_, key)| key.map(String::from_utf8_lossy));
        redact::excerpt(&names.collect::<Vec<_>>().join("."), QUOTED_CHARS_MAX)
    }
}

/// The first character, if the bytes begin with one.
fn character(bytes: &[u8]) -> Option<char> {
    (1..=bytes.len().min(4)).find_map(|n| std::str::from_utf8(&bytes[..n]).ok()).and_then(|text| text.chars().next())
}

fn no_utf8(bytes: &[u8]) -> String {
    match bytes {
        [0xED, 0xA0..=0xBF, ..] => {
            "half of a surrogate pair as bytes (CESU-8): a text that was cut within a character such as an emoji"
                .to_owned()
        }
        [byte, ..] => format!("the byte 0x{byte:02X}, which is not UTF-8 (Latin-1 or Windows-1252 text?)"),
        [] => "bytes that are not UTF-8".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_do_is_named_with_its_field() {
        let cases: [(&[u8], &str); 29] = [
            (b"", "an empty value"),
            (b" \n", "nothing but blanks"),
            (b"{\"id\": \"a\", \"text\": \"cut \\ud83d\"}", "half of a surrogate pair (\\ud83d)"),
            (b"{\"id\": \"a\", \"text\": \"cut \\ud83d\"}", ", in field \"text\""),
            (b"{\"payload\": {\"a\": [{\"b\": \"\\udc00\"}]}}", "in field \"payload.a.b\""),
            (b"{\"id\": \"a\xed\xa0\xbd\"}", "half of a surrogate pair as bytes"),
            (b"{\"id\": \"caf\xe9\"}", "byte 0xE9, which is not UTF-8"),
            (b"{'id': 'a'}", "single quotes"),
            (b"{\"id\": 'a'}", "single quotes"),
            (b"{\"a\": NaN}", "NaN, which is not a number"),
            (b"{\"a\": -Infinity}", "Infinity, which is not a number"),
            (b"{\"a\": None}", "Python's None"),
            (b"{\"a\": undefined}", "JavaScript's undefined"),
            (b"{\"a\": 1} // x", "something behind the JSON value"),
            (b"{\"a\": 1, // x\n}", "a comment"),
            (b"# x\n{}", "a comment (#)"),
            (b"/* x */ {}", "a comment"),
            (b"{\"a\": 1,}", "a trailing comma (before })"),
            (b"{\"a\": [1,]}", "a trailing comma (before ])"),
            (b"{\"a\": 1},", "a comma behind the object"),
            (b"{\"a\": 1} {\"a\": 1}", "more than one JSON value"),
            (b"{\"a\": 1", "an object that does not end"),
            (b"[", "a list that does not end"),
            (b"{\"a\": \"b", "a string that does not end"),
            (b"{\"a\": \"b\tc\"}", "a tab within a string"),
            (b"{a: 1}", "a name without quotes (a)"),
            ("{\u{201c}a\u{201d}: 1}".as_bytes(), "typographic quote"),
            ("{\u{200b}\"a\": 1}".as_bytes(), "the invisible character U+200B"),
            (b"{\\\"a\\\": 1}", "a backslash outside of a string"),
        ];
        for (text, part) in cases {
            let found = cause(text).unwrap_or_default();
            assert!(found.contains(part), "{}: {found}", String::from_utf8_lossy(text));
        }
        assert_eq!(
            cause(b"{\"a\": [1, true, null, {\"b\": \"\\ud83e\\udd80 \\n\"}], \"c\": -1.5e3}"),
            None,
            "it is JSON"
        );
        assert_eq!(cause("[".repeat(1_000_000).as_bytes()), None, "no deeper than it needs to");
    }
}
