use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};

use super::letter::text;
use super::{DeadLetter, DeadLetterError, DeadLetters, Sent};

/// Dead letters as JSON Lines: in a file, each one synced to disk before `send` returns, or on standard error.
///
/// `{"topic", "partition", "offset", "timestamp_ms", "key", "value", "headers": [[name, value]], "stage", "class",
/// "reason", "message", "attempts", "failed_at"}`. Key, value and header values are strings, null where there is none,
/// and `{"base64": "…"}` where they are not UTF-8.
#[derive(Clone, Debug)]
pub struct FileDeadLetters {
    target: Target,
}

#[derive(Clone, Debug)]
enum Target {
    File { path: PathBuf, file: Arc<Mutex<File>> },
    StandardError,
}

impl FileDeadLetters {
    /// `path`: appended to, created where missing; `None`: standard error.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn new(path: Option<&Path>) -> Result<Self, DeadLetterError> {
        let Some(path) = path else { return Ok(Self { target: Target::StandardError }) };
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(|error| unwritable(path, &error))?;
        Ok(Self { target: Target::File { path: path.to_owned(), file: Arc::new(Mutex::new(file)) } })
    }
}

fn unwritable(path: &Path, error: &io::Error) -> DeadLetterError {
    let path = path.to_string_lossy();
    DeadLetterError(format!("the dead-letter file {path:?} cannot be written: {error}; check dead_letter.file"))
}

#[async_trait]
impl DeadLetters for FileDeadLetters {
    async fn send(&self, letter: &DeadLetter) -> Result<Sent, DeadLetterError> {
        let mut line = describe(letter).to_string();
        line.push('\n');
        let target = self.target.clone();
        let written = tokio::task::spawn_blocking(move || match target {
            Target::StandardError => io::stderr().lock().write_all(line.as_bytes()).map_err(|error| {
                DeadLetterError(format!(
                    "a dead letter cannot be written to standard error: {error}; set dead_letter.file"
                ))
            }),
            Target::File { path, file } => {
                // A panic while the lock was held left the file as the last write left it.
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                append(&mut file, line.as_bytes()).map_err(|error| unwritable(&path, &error))
            }
        });
        let failed = |error| Err(DeadLetterError(format!("writing a dead letter failed: {error}")));
        written.await.unwrap_or_else(failed).map(|()| Sent::DeadLetter)
    }
}

/// The whole line, on disk, or nothing of it: a torn line would swallow the next one.
fn append(file: &mut File, line: &[u8]) -> io::Result<()> {
    let before = file.metadata()?;
    let result = file.write_all(line).and_then(|()| file.sync_data());
    if result.is_err() && before.is_file() {
        // The first error says what is wrong; a second one would not say more.
        let _ = file.set_len(before.len());
    }
    // Pipes and terminals cannot be synced, and need not be.
    match result {
        Err(error) if !before.is_file() && error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

fn describe(letter: &DeadLetter) -> Value {
    let (message, failure) = (&letter.message, &letter.failure);
    let headers = message.headers.iter().map(|(name, value)| json!([name, text(value.as_deref())]));
    json!({
        "topic": &*message.position.topic,
        "partition": message.position.partition,
        "offset": message.position.offset,
        "timestamp_ms": message.timestamp_ms,
        "key": text(message.key.as_deref()),
        "value": text(message.value.as_deref()),
        "headers": headers.collect::<Vec<_>>(),
        "stage": failure.stage.as_str(),
        "class": failure.class.as_str(),
        "reason": failure.reason,
        "message": failure.message,
        "attempts": letter.attempts,
        "failed_at": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::{Failure, Message, Position, Stage};

    fn letter(offset: i64, value: Option<&'static [u8]>) -> DeadLetter {
        DeadLetter {
            message: Message {
                position: Position { topic: "lines.jsonl".into(), partition: 0, offset },
                epoch: 1,
                key: None,
                value: value.map(Bytes::from_static),
                headers: vec![("h".into(), Some(Bytes::from_static(b"\xfe")))],
                timestamp_ms: None,
                topic_id: None,
                retry: None,
            },
            failure: Failure::permanent(Stage::Decode, "bad_json", "expected an object"),
            attempts: 1,
        }
    }

    #[tokio::test]
    async fn letters_are_appended_one_per_line() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("dead.jsonl");
        for offset in 0..2 {
            let letters = FileDeadLetters::new(Some(&path)).expect("the file opens");
            letters.send(&letter(offset, Some(b"not \n json"))).await.expect("the letter is written");
        }
        let letters = FileDeadLetters::new(Some(&path)).expect("the file opens");
        letters.send(&letter(2, Some(b"\xff"))).await.expect("the letter is written");
        let text = std::fs::read_to_string(&path).expect("the file is there");
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[1]["offset"], 1);
        assert_eq!(lines[0]["value"], "not \n json");
        assert_eq!(lines[0]["reason"], "bad_json");
        assert_eq!(lines[2]["value"]["base64"], "/w==");
        assert_eq!(lines[2]["headers"][0][1]["base64"], "/g==");
        assert_eq!(lines[2]["key"], Value::Null);
    }

    #[tokio::test]
    async fn a_full_disk_leaves_no_torn_line() {
        // The kernel's own full device.
        let letters = FileDeadLetters::new(Some(Path::new("/dev/full"))).expect("the device opens");
        let error = letters.send(&letter(0, None)).await.expect_err("there is no space");
        assert!(error.to_string().contains("/dev/full"), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let error = FileDeadLetters::new(Some(Path::new("/no/such/folder/dead.jsonl"))).expect_err("no folder");
        assert!(error.to_string().contains("/no/such/folder/dead.jsonl"), "{error}");
    }
}
