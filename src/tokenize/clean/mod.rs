//! `basic_clean` of OpenCLIP's `tokenizer.py`, a line at a time: `ftfy.fix_text`, then `html.unescape` twice. Every tokenizer of
//! OpenCLIP begins with it.

mod entities;
mod ftfy;
pub(super) mod python;
mod windows_1252;

use std::borrow::Cow;

/// A text cleaned in parts that end where a line ends, so that a long text is cleaned no further than its first tokens
/// need. Nothing that follows looks across white space.
pub(super) struct Lines<'a> {
    segments: ftfy::Segments<'a>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { segments: ftfy::Segments::of(text) }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Cow<'a, str>;

    fn next(&mut self) -> Option<Cow<'a, str>> {
        let mut line = self.segments.next()?;
        // A segment may end within a line, and mojibake may take the line's end with it.
        while !line.ends_with('\n') {
            match self.segments.next() {
                Some(more) => line.to_mut().push_str(&more),
                None => break,
            }
        }
        if !line.contains('&') {
            return Some(line);
        }
        let once = entities::unescape(&line);
        Some(Cow::Owned(entities::unescape(&once).into_owned()))
    }
}

#[cfg(test)]
mod tests;
