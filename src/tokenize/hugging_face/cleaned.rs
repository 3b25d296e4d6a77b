//! `get_clean_fn` of OpenCLIP's `tokenizer.py`, for only as much of a text as is needed.

use crate::domain::TextCleaning;
use crate::tokenize::clean::{Lines, python};

/// Most bytes of a character.
const CHARACTER_BYTES_MAX: usize = 4;

/// A text, cleaned a line at a time: nothing looks across white space, which becomes single spaces.
pub(super) struct Cleaned<'a> {
    lines: Lines<'a>,
    cleaning: TextCleaning,
    /// The words of the line that is being taken, and how much of it has been.
    words: String,
    taken: usize,
    has_begun: bool,
}

impl<'a> Cleaned<'a> {
    pub(super) fn of(text: &'a str, cleaning: TextCleaning) -> Self {
        Self { lines: Lines::of(text), cleaning, words: String::new(), taken: 0, has_begun: false }
    }

    /// Appends more of the text to `out`, until that has `bytes` bytes or more. False: the text has ended.
    pub(super) fn extend(&mut self, out: &mut String, bytes: usize) -> bool {
        while out.len() < bytes {
            if self.taken == self.words.len() && !self.next_line() {
                return false;
            }
            let rest = &self.words[self.taken..];
            let cut = rest.floor_char_boundary((bytes - out.len()).max(CHARACTER_BYTES_MAX));
            out.push_str(&rest[..cut]);
            self.taken += cut;
        }
        true
    }

    /// Takes the next line that has words.
    fn next_line(&mut self) -> bool {
        self.words.clear();
        self.taken = 0;
        while let Some(line) = self.lines.next() {
            match self.cleaning {
                TextCleaning::Whitespace => self.push_words(&line, false),
                TextCleaning::Lower => self.push_words(&line, true),
                TextCleaning::Canonicalize => self.push_words(&without_punctuation(&line), true),
            }
            if !self.words.is_empty() {
                return true;
            }
        }
        false
    }

    /// `" ".join(text.split())`. Words in lower case one by one: white space ends what `str.lower` looks at.
    fn push_words(&mut self, line: &str, in_lower_case: bool) {
        for word in python::split(line) {
            if std::mem::replace(&mut self.has_begun, true) {
                self.words.push(' ');
            }
            if in_lower_case {
                self.words.push_str(&python::lower(word));
            } else {
                self.words.push_str(word);
            }
        }
    }
}

/// `canonicalize_text`: without Python's `string.punctuation`, which is ASCII's; `_` is a space.
fn without_punctuation(line: &str) -> String {
    let kept = line.chars().map(|c| if c == '_' { ' ' } else { c });
    kept.filter(|c| !c.is_ascii_punctuation()).collect()
}
