//! Dead letters in a JSON Lines file or on standard error.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};

use super::letter::text;
use super::{DeadLetter, DeadLetterError, DeadLetters, Sent, unavailable};
use crate::domain::Failure;

/// Dead letters as JSON Lines: in a file, each one synced to disk before `send` returns, or on standard error.
///
/// `{"topic", "partition", "offset", "timestamp_ms", "key", "value", "headers": [[name, value]], "stage", "class",
/// "reason", "message", "attempts", "failed_at"}`, and "requests" if the message brought several: the numbers, from 1, of
/// those that failed. Key, value and header values are strings, null if missing, and `{"base64": "…"}` if they are not UTF-8.
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
    /// `path`: appended to, and created if missing; `None`: standard error.
    ///
    /// # Errors
    /// If the file cannot be opened for appending.
    pub fn new(path: Option<&Path>) -> Result<Self, DeadLetterError> {
        let Some(path) = path else { return Ok(Self { target: Target::StandardError }) };
        let file = open(path).map_err(|error| unwritable(path, error))?;
        Ok(Self { target: Target::File { path: path.to_owned(), file: Arc::new(Mutex::new(file)) } })
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Read access is needed for the last byte of a regular file. A pipe must not be opened for reading: it would never lack a
    // reader.
    let is_special = path.metadata().is_ok_and(|found| !found.is_file());
    let is_new = !path.exists();
    let file = OpenOptions::new().create(true).append(true).read(!is_special).open(path)?;
    if is_new && let Some(folder) = path.parent() {
        // The file's name must survive a power failure as well. Not every system can sync a folder.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
            tracing::debug!(%error, "the folder of the dead-letter file is not synced");
        }
    }
    Ok(file)
}

/// Whether `path` no longer names the open file, for example after a log rotation.
#[cfg(unix)]
fn was_moved(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |found: io::Result<std::fs::Metadata>| found.ok().map(|found| (found.dev(), found.ino()));
    identity(path.metadata()) != identity(file.metadata())
}

/// On this system an open file can be neither moved nor removed.
#[cfg(not(unix))]
fn was_moved(_: &Path, _: &File) -> bool {
    false
}

fn unwritable(path: &Path, error: io::Error) -> DeadLetterError {
    let path = path.to_string_lossy();
    unavailable(format!("the dead-letter file {path:?} cannot be written: {error}"))
        .hint("check dead_letter.file")
        .caused_by(error)
}

#[async_trait]
impl DeadLetters for FileDeadLetters {
    async fn send(&self, letter: &DeadLetter) -> Result<Sent, DeadLetterError> {
        let mut line = describe(letter).to_string();
        line.push('\n');
        let target = self.target.clone();
        let written = tokio::task::spawn_blocking(move || match target {
            Target::StandardError => io::stderr().lock().write_all(line.as_bytes()).map_err(|error| {
                unavailable(format!("a dead letter cannot be written to standard error: {error}"))
                    .hint("set dead_letter.file")
            }),
            Target::File { path, file } => {
                // A panic while the lock was held does not affect the file.
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                let written = (|| {
                    if was_moved(&path, &file) {
                        *file = open(&path)?;
                    }
                    append(&mut file, line.as_bytes())
                })();
                written.map_err(|error| unwritable(&path, error))
            }
        });
        let failed = |error| Err(unavailable(format!("writing a dead letter failed: {error}")));
        written.await.unwrap_or_else(failed).map(|()| Sent::DeadLetter)
    }
}

/// Writes and syncs the whole line, or nothing. Starts a new line even if a crash left the last one incomplete.
fn append(file: &mut File, line: &[u8]) -> io::Result<()> {
    if !file.metadata()?.is_file() {
        // Pipes and terminals cannot be synced and need not be.
        return file.write_all(line);
    }
    // Other workers may use the same file.
    file.lock()?;
    let written = append_locked(file, line);
    let unlocked = file.unlock();
    written.and(unlocked)
}

fn append_locked(file: &mut File, line: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    let mut last = [b'\n'];
    if before > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    let whole: Cow<'_, [u8]> = if last == [b'\n'] { line.into() } else { [b"\n", line].concat().into() };
    let result = file.write_all(&whole).and_then(|()| file.sync_data());
    if result.is_err() {
        // The first error is the relevant one.
        let _ = file.set_len(before);
    }
    result
}

fn describe(letter: &DeadLetter) -> Value {
    let (message, Failure { stage, fault }) = (&letter.message, &letter.failure);
    let headers = message.headers.iter().map(|(name, value)| json!([name, text(value.as_deref())]));
    let mut line = json!({
        "topic": &*message.position.topic,
        "partition": message.position.partition,
        "offset": message.position.offset,
        "timestamp_ms": message.timestamp_ms,
        "key": text(message.key.as_deref()),
        "value": text(message.value.as_deref()),
        "headers": headers.collect::<Vec<_>>(),
        "stage": stage.as_str(),
        "class": fault.class.as_str(),
        "reason": fault.reason.as_str(),
        "message": fault.to_string(),
        "attempts": letter.attempts,
        "failed_at": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
    });
    if !letter.requests.is_empty() {
        line["requests"] = letter.requests.iter().map(|index| index + 1).collect();
    }
    line
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::{DecodeReason, Fault, Message, Position, Stage};

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
                leader_epoch: None,
                retry: None,
                suspicion: None,
            },
            failure: Fault::new(DecodeReason::MessageInvalid, "expected an object").at(Stage::Decode),
            attempts: 1,
            requests: Vec::new(),
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
        assert_eq!(lines[0]["reason"], "message_invalid");
        assert_eq!(lines[2]["value"]["base64"], "/w==");
        assert_eq!(lines[2]["headers"][0][1]["base64"], "/g==");
        assert_eq!(lines[2]["key"], Value::Null);
    }

    /// Lines are truncated by power failures, full disks and killed processes.
    #[tokio::test]
    async fn a_torn_last_line_does_not_swallow_the_next_letter() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("dead.jsonl");
        let whole = describe(&letter(0, Some(b"first"))).to_string();
        for cut in [1, whole.len() / 2, whole.len()] {
            std::fs::write(&path, &whole[..cut]).expect("the file is written");
            let letters = FileDeadLetters::new(Some(&path)).expect("the file opens");
            letters.send(&letter(1, Some(b"second"))).await.expect("the letter is written");
            // Truncated by another process while it is open.
            OpenOptions::new().append(true).open(&path).and_then(|mut f| f.write_all(b"{\"att")).expect("torn");
            letters.send(&letter(2, Some(b"third"))).await.expect("the letter is written");
            let text = std::fs::read_to_string(&path).expect("the file is there");
            let offsets: Vec<Option<i64>> = text
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).ok().and_then(|line| line["offset"].as_i64()))
                .collect();
            let first = (cut == whole.len()).then_some(0);
            assert_eq!(offsets, [first, Some(1), None, Some(2)], "cut at {cut}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_that_was_rotated_away_is_opened_anew() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, old) = (folder.path().join("dead.jsonl"), folder.path().join("dead.jsonl.1"));
        let letters = FileDeadLetters::new(Some(&path)).expect("the file opens");
        let lines = |path: &Path| std::fs::read_to_string(path).map_or(0, |text| text.lines().count());
        letters.send(&letter(0, None)).await.expect("the letter is written");
        std::fs::rename(&path, &old).expect("the file is renamed");
        letters.send(&letter(1, None)).await.expect("the letter is written");
        assert_eq!((lines(&old), lines(&path)), (1, 1));
        std::fs::remove_file(&path).expect("the file is removed");
        letters.send(&letter(2, None)).await.expect("the letter is written");
        assert_eq!(lines(&path), 1);
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
