//! Source: JSON Lines from a file or a pipe.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use tokio::io::AsyncBufRead;

use super::line_reader::{Line, LineReader};
use super::{Demand, Source, SourceError, SourceEvent};
use crate::domain::{Message, Position, TopicPartition};

/// Finite sources have a single assignment.
pub(super) const EPOCH: u64 = 1;

/// JSON Lines from a file or a pipe: one message per line, without key; blank lines are skipped.
/// Offset = line number from 0. A line that is too long becomes a message that cannot be decoded, with its beginning as value.
pub struct LinesSource {
    name: Arc<str>,
    lines: LineReader,
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
        Self::of(name, LineReader::new(name, reader))
    }

    fn of(name: &str, lines: LineReader) -> Self {
        Self { name: name.into(), lines, announced: false, state: State::Reading, committed: Arc::default() }
    }

    /// # Errors
    /// If the file cannot be opened, or its beginning is not lines of text.
    pub async fn open(path: &Path) -> Result<Self, SourceError> {
        let mut lines = LineReader::open(path).await?;
        lines.begin().await?;
        Ok(Self::of(&path.to_string_lossy(), lines))
    }

    /// Reads nothing yet.
    pub fn stdin() -> Self {
        Self::of("stdin", LineReader::stdin())
    }

    /// The number of the first unsettled line. It is still updated after the source is handed over.
    pub fn committed(&self) -> Arc<AtomicI64> {
        self.committed.clone()
    }

    /// The next line that is not blank; `None` at the end.
    async fn next_line(&mut self) -> Result<Option<Message>, SourceError> {
        let line = self.lines.next().await?;
        Ok(line.map(|Line { number, text }| Message {
            position: Position { topic: self.name.clone(), partition: 0, offset: number },
            epoch: EPOCH,
            key: None,
            value: Some(text.into()),
            headers: Vec::new(),
            timestamp_ms: None,
            topic_id: None,
            leader_epoch: None,
            retry: None,
            suspicion: None,
        }))
    }
}

/// The one partition of a finite source.
pub(super) fn assigned(name: &Arc<str>) -> SourceEvent {
    let partitions = vec![TopicPartition { topic: name.clone(), partition: 0 }];
    SourceEvent::Assigned { epoch: EPOCH, partitions }
}

/// Stores the highest offset.
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

    #[tokio::test]
    async fn one_message_per_line_and_the_line_number_as_offset() {
        let mut source = LinesSource::new("test", &b"{\"id\":\"a\"}\r\n\n{\"id\":\"b\"}"[..]);
        assert!(matches!(source.next(Demand::Messages).await, Ok(SourceEvent::Assigned { epoch: EPOCH, .. })));
        for (offset, text) in [(0, "{\"id\":\"a\"}"), (2, "{\"id\":\"b\"}")] {
            let Ok(SourceEvent::Message(message)) = source.next(Demand::Messages).await else { panic!("a message") };
            assert!(message.key.is_none() && message.epoch == EPOCH);
            assert_eq!((message.position.offset, message.value.as_deref()), (offset, Some(text.as_bytes())));
        }
        assert!(matches!(source.next(Demand::Messages).await, Ok(SourceEvent::End)));
        assert!(futures::poll!(source.next(Demand::Messages)).is_pending(), "waits for ever after the end");
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
            Err(error) => assert!(error.to_string().contains("/no/such/file.jsonl"), "{error}"),
            _ => panic!("a missing file was opened"),
        }
    }
}
