use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::sync::mpsc::{self, Receiver, Sender};
use url::Url;
use walkdir::WalkDir;

use super::lines::{EPOCH, advance, assigned};
use super::{Demand, Source, SourceError, SourceEvent};
use crate::domain::{Message, Position, TopicPartition};

const PICTURE_EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];
/// Paths that the walk may be ahead of the pipeline.
const AHEAD_MAX: usize = 256;

/// Every picture below a directory, in the order of names, as an upsert whose id is the relative path.
/// Offset = number of the picture from 0. Symbolic links are followed, loops are not.
#[derive(Debug)]
pub struct DirectorySource {
    name: Arc<str>,
    root: PathBuf,
    pictures: Receiver<PathBuf>,
    number: i64,
    announced: bool,
    ended: bool,
    skipped: Arc<AtomicU64>,
    committed: Arc<AtomicI64>,
}

impl DirectorySource {
    /// Starts the walk; call it within a tokio runtime.
    ///
    /// # Errors
    /// `Fatal` when `root` is not a directory that can be read.
    pub fn new(root: &Path) -> Result<Self, SourceError> {
        let fatal = |why: String| {
            SourceError::Fatal(format!("{:?}: {why}; give a directory that can be read", root.to_string_lossy()))
        };
        let absolute = root.canonicalize().map_err(|error| fatal(error.to_string()))?;
        std::fs::read_dir(&absolute).map_err(|error| fatal(error.to_string()))?;
        let (send, pictures) = mpsc::channel(AHEAD_MAX);
        let skipped = Arc::new(AtomicU64::new(0));
        let (walked, counter) = (absolute.clone(), skipped.clone());
        tokio::task::spawn_blocking(move || walk(&walked, &send, &counter));
        Ok(Self {
            name: root.to_string_lossy().into(),
            root: absolute,
            pictures,
            number: 0,
            announced: false,
            ended: false,
            skipped,
            committed: Arc::default(),
        })
    }

    /// Files that are no pictures by their extension, and entries that could not be read; goes on counting after the
    /// source is handed over.
    pub fn skipped(&self) -> Arc<AtomicU64> {
        self.skipped.clone()
    }

    /// The number of the first picture that is not settled yet; goes on counting after the source is handed over.
    pub fn committed(&self) -> Arc<AtomicI64> {
        self.committed.clone()
    }
}

/// Ends early when nobody takes the pictures any more.
fn walk(root: &Path, send: &Sender<PathBuf>, skipped: &AtomicU64) {
    for entry in WalkDir::new(root).follow_links(true).sort_by_file_name() {
        match entry {
            Ok(entry) if entry.file_type().is_dir() => {}
            Ok(entry) if entry.file_type().is_file() && is_picture(entry.path()) => {
                if send.blocking_send(entry.into_path()).is_err() {
                    return;
                }
            }
            Ok(_) => {
                skipped.fetch_add(1, Ordering::AcqRel);
            }
            // Links in a circle, dangling links, folders that may not be read.
            Err(error) => {
                skipped.fetch_add(1, Ordering::AcqRel);
                tracing::warn!(%error, "skipped");
            }
        }
    }
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    extension.is_some_and(|e| PICTURE_EXTENSIONS.contains(&e.as_str()))
}

/// The relative path with `/`. Names that are not UTF-8 keep their bytes percent-encoded, so that no two become one.
fn asset_id(relative: &Path) -> String {
    let parts = relative.components().map(|part| {
        let part = part.as_os_str();
        part.to_str().map_or_else(
            || percent_encoding::percent_encode(part.as_encoded_bytes(), percent_encoding::CONTROLS).to_string(),
            str::to_owned,
        )
    });
    parts.collect::<Vec<_>>().join("/")
}

/// The message of one picture.
fn upsert(root: &Path, picture: &Path) -> Option<Vec<u8>> {
    let id = asset_id(picture.strip_prefix(root).ok()?);
    let image = Url::from_file_path(picture).ok()?;
    serde_json::to_vec(&serde_json::json!({ "id": id, "image": image.as_str() })).ok()
}

#[async_trait]
impl Source for DirectorySource {
    async fn next(&mut self, demand: Demand) -> Result<SourceEvent, SourceError> {
        if !std::mem::replace(&mut self.announced, true) {
            return Ok(assigned(&self.name));
        }
        while demand == Demand::Messages && !self.ended {
            let Some(picture) = self.pictures.recv().await else {
                self.ended = true;
                return Ok(SourceEvent::End);
            };
            let Some(value) = upsert(&self.root, &picture) else {
                // Cannot happen for what a walk from an absolute root finds; said rather than lost.
                self.skipped.fetch_add(1, Ordering::AcqRel);
                tracing::warn!(path = %picture.display(), "skipped: the path has no file URL");
                continue;
            };
            let offset = self.number;
            self.number += 1;
            return Ok(SourceEvent::Message(Message {
                position: Position { topic: self.name.clone(), partition: 0, offset },
                epoch: EPOCH,
                key: None,
                value: Some(value.into()),
                headers: Vec::new(),
                timestamp_ms: None,
                topic_id: None,
                retry: None,
            }));
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
    use std::fs;

    use super::*;

    async fn drain(source: &mut DirectorySource) -> Vec<serde_json::Value> {
        let mut out = Vec::new();
        assert!(matches!(source.next(Demand::Messages).await, Ok(SourceEvent::Assigned { .. })));
        loop {
            match source.next(Demand::Messages).await {
                Ok(SourceEvent::Message(m)) => {
                    assert_eq!(m.position.offset, out.len() as i64);
                    let value = m.value.expect("every picture has a message");
                    out.push(serde_json::from_slice(&value).expect("the message is JSON"));
                }
                Ok(SourceEvent::End) => return out,
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn pictures_come_in_order_and_the_rest_is_counted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        fs::create_dir_all(root.join("b/c d")).expect("a folder");
        for name in ["b/c d/ü.JPG", "a.png", "z.webp", "notes.txt", "no_extension", "b/1.tiff"] {
            fs::write(root.join(name), b"x").expect("a file");
        }
        // A link back up (a loop) and a dangling one.
        std::os::unix::fs::symlink(root, root.join("b/up")).expect("a link");
        std::os::unix::fs::symlink(root.join("nowhere"), root.join("dangling.png")).expect("a link");
        let mut source = DirectorySource::new(root).expect("the folder is there");
        let messages = drain(&mut source).await;
        let ids: Vec<_> = messages.iter().map(|m| m["id"].as_str().unwrap_or_default()).collect();
        assert_eq!(ids, ["a.png", "b/1.tiff", "b/c d/ü.JPG", "z.webp"]);
        let url = Url::parse(messages[2]["image"].as_str().unwrap_or_default()).expect("a URL");
        let path = url.to_file_path().expect("a path");
        assert_eq!(fs::read(path).expect("the picture is found through its URL"), b"x");
        assert_eq!(source.skipped().load(Ordering::Acquire), 4);
    }

    #[tokio::test]
    async fn what_is_no_directory_is_named() {
        match DirectorySource::new(Path::new("/no/such/folder")) {
            Err(SourceError::Fatal(text)) => assert!(text.contains("/no/such/folder"), "{text}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_that_are_not_utf8_stay_apart() {
        use std::os::unix::ffi::OsStrExt;
        let id = |bytes: &[u8]| asset_id(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(id(b"a/\xff.png"), "a/%FF.png");
        assert_ne!(id(b"\xff.png"), id(b"\xfe.png"));
    }
}
