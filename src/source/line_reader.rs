//! Reads lines of text as UTF-8. Accepts byte order marks, UTF-16 and UTF-32, and all line endings. A file that is not text
//! is refused, and the error says what it is.

use std::io;
use std::path::Path;
use std::pin::Pin;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use super::SourceError;
use crate::domain::SourceReason;
use crate::encoding::{Encoding, Transcoder};
use crate::redact;

/// Longer lines are not read into memory.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How much of such a line is kept.
const LINE_BYTES_KEPT: usize = 4 * 1024;
/// How much of the beginning is inspected before the first line is returned. Less if a line ends before.
const HEAD_BYTES: usize = 256;

/// Bytes needed to detect the encoding.
const ENCODING_BYTES: usize = 8;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// One line with its number, from 0.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    pub number: i64,
    /// Without its line ending; not blank. A line that is too long is cut, with a note.
    pub text: Vec<u8>,
}

/// Cancel-safe: nothing is lost when a read is dropped.
pub struct LineReader {
    name: String,
    reader: Pin<Box<dyn AsyncBufRead + Send>>,
    pub(super) line_bytes_max: usize,
    /// Text that is not split into lines yet, from `taken` on. UTF-8.
    text: Vec<u8>,
    taken: usize,
    /// Whether the beginning was inspected.
    begun: bool,
    at_end: bool,
    transcoder: Option<Transcoder>,
    line: Vec<u8>,
    /// Bytes of the line that were dropped.
    left_out: usize,
    /// The previous line ended with a carriage return, so a line feed may follow.
    after_return: bool,
    number: i64,
}

impl LineReader {
    /// `name`: the input's name in errors.
    pub fn new(name: &str, reader: impl AsyncBufRead + Send + 'static) -> Self {
        Self {
            name: name.to_owned(),
            reader: Box::pin(reader),
            line_bytes_max: LINE_BYTES_MAX,
            text: Vec::new(),
            taken: 0,
            begun: false,
            at_end: false,
            transcoder: None,
            line: Vec::new(),
            left_out: 0,
            after_return: false,
            number: 0,
        }
    }

    /// # Errors
    /// When the file cannot be opened.
    pub async fn open(path: &Path) -> Result<Self, SourceError> {
        let name = path.to_string_lossy();
        let file = tokio::fs::File::open(path).await.map_err(|error| unreadable(&name, error))?;
        Ok(Self::new(&name, BufReader::with_capacity(64 * 1024, file)))
    }

    pub fn stdin() -> Self {
        Self::new("stdin", BufReader::new(tokio::io::stdin()))
    }

    /// Inspects the beginning, unless it was inspected.
    ///
    /// # Errors
    /// If the input cannot be read, or is not lines of text, such as a compressed file.
    pub async fn begin(&mut self) -> Result<(), SourceError> {
        while !self.begun {
            let (chunk, name) = (self.reader.fill_buf().await, &self.name);
            let chunk = chunk.map_err(|error| unreadable(name, error))?;
            let (is_end, length) = (chunk.is_empty(), chunk.len());
            self.text.extend_from_slice(chunk);
            self.reader.as_mut().consume(length);
            self.at_end = is_end;
            let is_known = self.text.len() >= ENCODING_BYTES && first_line(&self.text).is_some();
            if !is_end && self.text.len() < HEAD_BYTES && !is_known {
                continue;
            }
            self.begun = true;
            if let Some(encoding) = Encoding::of(&self.text) {
                self.transcoder = Some(Transcoder::new(encoding));
                let raw = std::mem::take(&mut self.text);
                self.transcode(&raw);
            }
            if self.text.starts_with(BOM) {
                self.taken = BOM.len();
            }
            if let Some((kind, next)) = no_lines(&self.text[self.taken..]) {
                let message = format!("{:?} is {kind}; expected JSON Lines, one message per line", self.name);
                return Err(SourceError::new(SourceReason::FileUnreadable, message).hint(next));
            }
        }
        Ok(())
    }

    fn transcode(&mut self, raw: &[u8]) {
        let Some(transcoder) = &mut self.transcoder else { return self.text.extend_from_slice(raw) };
        transcoder.push(raw, &mut self.text);
        if self.at_end {
            transcoder.finish(&mut self.text);
        }
    }

    /// Reads more text once all of it is split.
    async fn fill(&mut self) -> Result<(), SourceError> {
        self.begin().await?;
        if self.taken < self.text.len() || self.at_end {
            return Ok(());
        }
        let (chunk, name) = (self.reader.fill_buf().await, &self.name);
        let raw = chunk.map_err(|error| unreadable(name, error))?.to_vec();
        self.reader.as_mut().consume(raw.len());
        self.text.clear();
        self.taken = 0;
        self.at_end = raw.is_empty();
        self.transcode(&raw);
        Ok(())
    }

    /// The next line that is not blank; `None` at the end.
    ///
    /// # Errors
    /// As [`LineReader::begin`].
    pub async fn next(&mut self) -> Result<Option<Line>, SourceError> {
        loop {
            self.fill().await?;
            if self.taken == self.text.len() && !self.at_end {
                // An incomplete character of another encoding.
                continue;
            }
            let at_end = self.at_end && self.taken == self.text.len();
            if std::mem::take(&mut self.after_return) && self.text.get(self.taken) == Some(&b'\n') {
                self.taken += 1;
                continue;
            }
            let chunk = &self.text[self.taken..];
            let end = chunk.iter().position(|b| matches!(b, b'\n' | b'\r'));
            let part = &chunk[..end.unwrap_or(chunk.len())];
            if self.left_out > 0 || self.line.len() + part.len() > self.line_bytes_max {
                let kept = LINE_BYTES_KEPT.saturating_sub(self.line.len());
                self.line.extend_from_slice(part.get(..kept).unwrap_or(part));
                self.left_out += part.len().max(1);
                self.line.truncate(LINE_BYTES_KEPT);
                self.line.shrink_to_fit();
            } else {
                self.line.extend_from_slice(part);
            }
            self.after_return = end.is_some_and(|end| chunk[end] == b'\r');
            self.taken += part.len() + usize::from(end.is_some());
            if end.is_none() && !at_end {
                continue;
            }
            let mut text = std::mem::take(&mut self.line);
            if std::mem::take(&mut self.left_out) > 0 {
                // The cut line is no longer JSON: decoding rejects it, and the dead letter shows why.
                text.extend_from_slice(format!("… (cut: longer than {} bytes)", self.line_bytes_max).as_bytes());
            }
            let number = self.number;
            self.number += 1;
            if !text.trim_ascii().is_empty() {
                return Ok(Some(Line { number, text }));
            }
            if at_end {
                return Ok(None);
            }
        }
    }
}

fn unreadable(name: &str, error: io::Error) -> SourceError {
    SourceError::new(SourceReason::FileUnreadable, format!("{name:?} cannot be read: {error}"))
        .hint("check the path and its permissions")
        .caused_by(error)
}

/// The kind of a file that cannot be one message per line, by its beginning, and a hint.
fn no_lines(head: &[u8]) -> Option<(String, &'static str)> {
    let unpack = "unpack it, for example gzip -dc FILE | clipstream index -";
    let pictures = "give the folder of the pictures";
    let (kind, next) = match head {
        [0x1F, 0x8B, ..] => ("gzip-compressed", unpack),
        [0x28, 0xB5, 0x2F, 0xFD, ..] => {
            ("zstd-compressed", "unpack it, for example zstd -dc FILE | clipstream index -")
        }
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => ("bzip2-compressed", "unpack it"),
        [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => ("xz-compressed", "unpack it"),
        [0x04, 0x22, 0x4D, 0x18, ..] => ("lz4-compressed", "unpack it"),
        [0xFF, 0x06, 0, 0, b's', b'N', ..] => ("Snappy-compressed", "unpack it"),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => ("a ZIP archive", "unpack it"),
        [b'O', b'b', b'j', 1, ..] => ("an Avro container file", "export it as JSON Lines"),
        [b'P', b'A', b'R', b'1', ..] => ("a Parquet file", "export it as JSON Lines"),
        [b'S', b'Q', b'L', b'i', b't', b'e', b' ', ..] => ("an SQLite database", "export it as JSON Lines"),
        [b'%', b'P', b'D', b'F', ..] => ("a PDF file", pictures),
        [0xFF, 0xD8, 0xFF, ..] | [0x89, b'P', b'N', b'G', ..] | [b'G', b'I', b'F', b'8', ..] => ("a picture", pictures),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => ("a picture", pictures),
        _ => {
            let list = "jq -c '.[]' FILE | clipstream index -";
            let object = "jq -c . FILE | clipstream index -";
            return match first_line(head)? {
                b"[" | b"[{" => Some(("one JSON list over several lines".to_owned(), list)),
                b"{" => Some(("one JSON document over several lines".to_owned(), object)),
                line if line.starts_with(b"<?xml") || line.starts_with(b"<!DOCTYPE") => Some((
                    format!("XML or HTML ({})", redact::excerpt(&String::from_utf8_lossy(line), 40)),
                    "export it as JSON Lines",
                )),
                _ => None,
            };
        }
    };
    Some((kind.to_owned(), next))
}

/// The first line that is not blank, if it is complete.
fn first_line(head: &[u8]) -> Option<&[u8]> {
    let mut lines = head.split(|b| matches!(b, b'\n' | b'\r')).map(<[u8]>::trim_ascii);
    let line = lines.find(|line| !line.is_empty())?;
    // The text after the last line ending may be incomplete.
    lines.next().map(|_| line)
}

#[cfg(test)]
#[path = "line_reader_tests.rs"]
mod tests;
