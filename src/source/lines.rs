use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use super::{Demand, Source, SourceError, SourceEvent};
use crate::domain::{Message, Position, TopicPartition};

/// A longer line is not read into memory. It becomes a message that cannot be decoded, with its beginning as value.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How much of such a line is kept.
const LINE_BYTES_KEPT: usize = 4 * 1024;
/// Finite sources have one assignment, for good.
pub(super) const EPOCH: u64 = 1;

/// JSON Lines from a file or a pipe: one message per line, without key; blank lines are skipped.
/// Offset = line number from 0.
pub struct LinesSource {
    name: Arc<str>,
    reader: Pin<Box<dyn AsyncBufRead + Send>>,
    line_bytes_max: usize,
    /// The line so far, so that a dropped `next` loses nothing.
    line: Vec<u8>,
    /// Bytes of the line that were not kept.
    left_out: usize,
    number: i64,
    announced: bool,
    state: State,
    committed: Arc<AtomicI64>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Reading,
    AtEnd,
    Ended,
}

impl LinesSource {
    /// `name`: the topic of its messages' positions, for example the file's path.
    pub fn new(name: &str, reader: impl AsyncBufRead + Send + 'static) -> Self {
        Self {
            name: name.into(),
            reader: Box::pin(reader),
            line_bytes_max: LINE_BYTES_MAX,
            line: Vec::new(),
            left_out: 0,
            number: 0,
            announced: false,
            state: State::Reading,
            committed: Arc::default(),
        }
    }

    /// # Errors
    /// `Fatal` when the file cannot be opened.
    pub async fn open(path: &Path) -> Result<Self, SourceError> {
        let file = tokio::fs::File::open(path).await.map_err(|error| unreadable(&path.to_string_lossy(), &error))?;
        Ok(Self::new(&path.to_string_lossy(), BufReader::with_capacity(64 * 1024, file)))
    }

    pub fn stdin() -> Self {
        Self::new("stdin", BufReader::new(tokio::io::stdin()))
    }

    /// The number of the first line that is not settled yet; goes on counting after the source is handed over.
    pub fn committed(&self) -> Arc<AtomicI64> {
        self.committed.clone()
    }

    /// The next line that is not blank; `None` at the end.
    async fn next_line(&mut self) -> Result<Option<Message>, SourceError> {
        loop {
            let chunk = self.reader.fill_buf().await.map_err(|error| unreadable(&self.name, &error))?;
            let at_end = chunk.is_empty();
            let newline = chunk.iter().position(|b| *b == b'\n');
            let part = &chunk[..newline.unwrap_or(chunk.len())];
            if self.left_out > 0 || self.line.len() + part.len() > self.line_bytes_max {
                self.line
                    .extend_from_slice(part.get(..LINE_BYTES_KEPT.saturating_sub(self.line.len())).unwrap_or(part));
                self.left_out += part.len().max(1);
                self.line.truncate(LINE_BYTES_KEPT);
                self.line.shrink_to_fit();
            } else {
                self.line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(newline.is_some());
            self.reader.as_mut().consume(used);
            if newline.is_none() && !at_end {
                continue;
            }
            let mut line = std::mem::take(&mut self.line);
            if std::mem::take(&mut self.left_out) > 0 {
                // Not JSON any more, whatever the beginning was: decoding names it, and the dead letter shows why.
                line.extend_from_slice(format!("… (cut: longer than {} bytes)", self.line_bytes_max).as_bytes());
            }
            let number = self.number;
            self.number += 1;
            if !line.trim_ascii().is_empty() {
                return Ok(Some(Message {
                    position: Position { topic: self.name.clone(), partition: 0, offset: number },
                    epoch: EPOCH,
                    key: None,
                    value: Some(line.into()),
                    headers: Vec::new(),
                    timestamp_ms: None,
                    topic_id: None,
                    retry: None,
                }));
            }
            if at_end {
                return Ok(None);
            }
        }
    }
}

fn unreadable(name: &str, error: &io::Error) -> SourceError {
    SourceError::Fatal(format!("{name:?} cannot be read: {error}; check the path and its permissions"))
}

/// The one partition of a finite source.
pub(super) fn assigned(name: &Arc<str>) -> SourceEvent {
    let partitions = vec![TopicPartition { topic: name.clone(), partition: 0 }];
    SourceEvent::Assigned { epoch: EPOCH, partitions }
}

/// Takes the highest offset over.
pub(super) fn advance(committed: &AtomicI64, offsets: &[(TopicPartition, i64)]) {
    for (_, offset) in offsets {
        committed.fetch_max(*offset, Ordering::AcqRel);
    }
}

#[async_trait]
impl Source for LinesSource {
    async fn next(&mut self, demand: Demand) -> Result<SourceEvent, SourceError> {
        if !std::mem::replace(&mut self.announced, true) {
            return Ok(assigned(&self.name));
        }
        if demand == Demand::Messages && self.state == State::Reading {
            match self.next_line().await? {
                Some(message) => return Ok(SourceEvent::Message(message)),
                None => self.state = State::AtEnd,
            }
        }
        if self.state == State::AtEnd {
            self.state = State::Ended;
            return Ok(SourceEvent::End);
        }
        std::future::pending().await
    }

    async fn commit(&mut self, offsets: Vec<(TopicPartition, i64)>) -> Result<(), SourceError> {
        advance(&self.committed, &offsets);
        Ok(())
    }

    async fn close(self: Box<Self>) -> Result<(), SourceError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn drain(mut source: LinesSource) -> Vec<(i64, String)> {
        let mut out = Vec::new();
        assert!(matches!(source.next(Demand::Messages).await, Ok(SourceEvent::Assigned { epoch: EPOCH, .. })));
        loop {
            match source.next(Demand::Messages).await {
                Ok(SourceEvent::Message(m)) => {
                    assert!(m.key.is_none() && m.epoch == EPOCH);
                    let value = m.value.unwrap_or_default();
                    out.push((m.position.offset, String::from_utf8_lossy(&value).into_owned()));
                }
                Ok(SourceEvent::End) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(futures::poll!(source.next(Demand::Messages)).is_pending(), "waits for ever after the end");
        out
    }

    #[tokio::test]
    async fn one_message_per_line_and_the_line_number_as_offset() {
        let text: &[u8] = b"{\"id\":\"a\"}\r\n\n  \n{\"id\":\"b\"}\nlast without newline";
        for capacity in [1, 3, 4096] {
            let lines = drain(LinesSource::new("test", BufReader::with_capacity(capacity, text))).await;
            let expected = [(0, "{\"id\":\"a\"}\r"), (3, "{\"id\":\"b\"}"), (4, "last without newline")];
            assert_eq!(lines, expected.map(|(n, s)| (n, s.to_owned())));
        }
        assert!(drain(LinesSource::new("test", &b""[..])).await.is_empty());
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_cut_and_the_next_one_is_whole() {
        let text = format!("{{\"id\":\"{}\"}}\n{{}}\n", "x".repeat(100_000)).into_bytes();
        for capacity in [7, 4096, 1 << 20] {
            let reader = BufReader::with_capacity(capacity, io::Cursor::new(text.clone()));
            let mut source = LinesSource::new("test", reader);
            source.line_bytes_max = 10_000;
            let lines = drain(source).await;
            assert_eq!(lines.len(), 2);
            assert!(lines[0].1.starts_with("{\"id\":\"xxx") && lines[0].1.ends_with("longer than 10000 bytes)"));
            assert_eq!(lines[0].1.chars().filter(|c| *c == 'x').count(), LINE_BYTES_KEPT - 7);
            assert_eq!(lines[1], (1, "{}".to_owned()));
        }
    }

    #[tokio::test]
    async fn commits_count_up_and_a_missing_file_is_named() {
        let mut source = LinesSource::new("test", &b"x"[..]);
        let committed = source.committed();
        let partition = TopicPartition { topic: "test".into(), partition: 0 };
        for offset in [3, 2] {
            source.commit(vec![(partition.clone(), offset)]).await.expect("a commit in memory succeeds");
        }
        assert_eq!(committed.load(Ordering::Acquire), 3);
        match LinesSource::open(Path::new("/no/such/file.jsonl")).await {
            Err(SourceError::Fatal(text)) => assert!(text.contains("/no/such/file.jsonl"), "{text}"),
            _ => panic!("a missing file was opened"),
        }
    }
}
