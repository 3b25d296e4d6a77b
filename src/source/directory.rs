//! Source: the pictures below a directory.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::mpsc::{self, Receiver, Sender};
use url::Url;
use walkdir::{DirEntry, WalkDir};

use super::lines::{EPOCH, advance, assigned};
use super::{Demand, Source, SourceError, SourceEvent};
use crate::domain::{Message, Position, SourceReason, TopicPartition};

/// Files with these extensions count as pictures whatever their content; if one is not, its message fails.
const PICTURE_EXTENSIONS: [&str; 12] =
    ["jpg", "jpeg", "jpe", "jfif", "pjpeg", "png", "webp", "avif", "gif", "bmp", "tif", "tiff"];
/// System files and folders: thumbnails of NAS boxes and Windows, trash folders, resource forks of macOS archives. In lower
/// case. Names that begin with a dot are hidden as well.
const HIDDEN: [&str; 10] = [
    "@eadir",
    "@recycle",
    "@tmp",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "__macosx",
    "desktop.ini",
    "system volume information",
    "thumbs.db",
];
/// How much of a file without a picture's extension is inspected.
const HEAD_BYTES: u64 = 1024;
/// Paths that the walk may be ahead of the pipeline.
const AHEAD_MAX: usize = 256;

/// Options of a walk.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Include hidden files and folders.
    pub hidden: bool,
    /// Whether a file that begins with these bytes is a supported picture; otherwise what it is, in words.
    pub sniff: fn(&[u8]) -> Result<(), &'static str>,
}

/// Every picture below a directory, ordered by name, as an upsert whose id is the relative path.
/// Offset = number of the picture from 0. Symbolic links are followed, except loops.
///
/// A file is a picture by its extension or by its content. Hidden files and folders are skipped: names that begin with a dot,
/// and system files (`HIDDEN`).
#[derive(Debug)]
pub struct DirectorySource {
    name: Arc<str>,
    root: PathBuf,
    pictures: Receiver<PathBuf>,
    number: i64,
    announced: bool,
    ended: bool,
    skipped: SkippedFiles,
    committed: Arc<AtomicI64>,
}

impl DirectorySource {
    /// Starts the walk; call it within a tokio runtime.
    ///
    /// # Errors
    /// If `root` is not a readable directory.
    pub fn new(root: &Path, walk: Walk) -> Result<Self, SourceError> {
        let fatal = |why: String| {
            SourceError::new(SourceReason::FileUnreadable, format!("{:?}: {why}", root.to_string_lossy()))
                .hint("give a readable directory")
        };
        let absolute = root.canonicalize().map_err(|error| fatal(error.to_string()))?;
        std::fs::read_dir(&absolute).map_err(|error| fatal(error.to_string()))?;
        let (send, pictures) = mpsc::channel(AHEAD_MAX);
        let skipped = SkippedFiles::default();
        let walker = Walker { root: absolute.clone(), walk, skipped: skipped.clone() };
        tokio::task::spawn_blocking(move || walker.run(&send));
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

    /// The skipped files. They are still counted after the source is handed over.
    pub fn skipped(&self) -> SkippedFiles {
        self.skipped.clone()
    }

    /// The number of the first unsettled picture. It is still updated after the source is handed over.
    pub fn committed(&self) -> Arc<AtomicI64> {
        self.committed.clone()
    }
}

struct Walker {
    root: PathBuf,
    walk: Walk,
    skipped: SkippedFiles,
}

impl Walker {
    /// Ends early when the receiver is dropped.
    fn run(&self, send: &Sender<PathBuf>) {
        let mut entries = WalkDir::new(&self.root).follow_links(true).sort_by_file_name().into_iter();
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.failed(&error);
                    continue;
                }
            };
            let is_folder = entry.file_type().is_dir();
            if !self.walk.hidden && entry.depth() > 0 && is_hidden(&entry) {
                self.skipped.add("hidden", self.shown(entry.path(), is_folder));
                if is_folder {
                    entries.skip_current_dir();
                }
                continue;
            }
            if is_folder {
                continue;
            }
            let kind = if entry.file_type().is_file() { self.kind(entry.path()) } else { Err("not a regular file") };
            match kind {
                Ok(()) => {
                    if send.blocking_send(entry.into_path()).is_err() {
                        return;
                    }
                }
                Err(kind) => self.skipped.add(kind, self.shown(entry.path(), false)),
            }
        }
    }

    /// Whether a file is a picture; otherwise what it is.
    fn kind(&self, path: &Path) -> Result<(), &'static str> {
        let extension = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
        if extension.is_some_and(|e| PICTURE_EXTENSIONS.contains(&e.as_str())) {
            return Ok(());
        }
        let mut head = Vec::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head));
        read.map_err(|_| SkippedFiles::UNREADABLE)?;
        (self.walk.sniff)(&head)
    }

    /// Link loops, dangling links, unreadable folders.
    fn failed(&self, error: &walkdir::Error) {
        let path = error.path().unwrap_or(&self.root);
        let is_dangling = || path.is_symlink() && !path.exists();
        let kind = match error.loop_ancestor() {
            Some(_) => "link to a folder above it",
            None if is_dangling() => "dangling link",
            None => SkippedFiles::UNREADABLE,
        };
        tracing::warn!(%error, "skipped");
        self.skipped.add(kind, self.shown(path, false));
    }

    fn shown(&self, path: &Path, is_folder: bool) -> String {
        let id = asset_id(path.strip_prefix(&self.root).unwrap_or(path));
        if is_folder { format!("{id}/") } else { id }
    }
}

fn is_hidden(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let is_listed = name.to_str().is_some_and(|name| HIDDEN.contains(&name.to_lowercase().as_str()));
    name.as_encoded_bytes().first() == Some(&b'.') || is_listed
}

/// What a walk has skipped, by kind. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SkippedFiles(Arc<Mutex<Vec<SkippedFileKind>>>);

/// Files and folders (each counts as one) that were skipped for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedFileKind {
    /// `hidden`, [`SkippedFiles::UNREADABLE`], or what the file is.
    pub kind: &'static str,
    pub count: u64,
    /// The first ones, as paths relative to the directory.
    pub examples: Vec<String>,
}

impl SkippedFiles {
    /// May be a picture, but could not be read.
    pub const UNREADABLE: &str = "unreadable";
    const EXAMPLES_MAX: usize = 3;

    fn add(&self, kind: &'static str, path: String) {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kinds.iter().position(|k| k.kind == kind).unwrap_or_else(|| {
            kinds.push(SkippedFileKind { kind, count: 0, examples: Vec::new() });
            kinds.len() - 1
        });
        kinds[at].count += 1;
        if kinds[at].examples.len() < Self::EXAMPLES_MAX {
            kinds[at].examples.push(path);
        }
    }

    /// The kinds so far, the most frequent first.
    pub fn kinds(&self) -> Vec<SkippedFileKind> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        kinds.sort_by(|a, b| b.count.cmp(&a.count).then(a.kind.cmp(b.kind)));
        kinds
    }
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
                self.skipped.add(SkippedFiles::UNREADABLE, picture.display().to_string());
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
                leader_epoch: None,
                retry: None,
                suspicion: None,
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

    const WALK: Walk = Walk {
        hidden: false,
        sniff: |head| if head.starts_with(b"\xFF\xD8\xFF") { Ok(()) } else { Err("plain text") },
    };

    fn ids(messages: &[serde_json::Value]) -> Vec<&str> {
        messages.iter().map(|m| m["id"].as_str().unwrap_or_default()).collect()
    }

    fn skipped(source: &DirectorySource) -> Vec<(&'static str, u64, String)> {
        let kinds = source.skipped().kinds();
        kinds.into_iter().map(|k| (k.kind, k.count, k.examples.join(" "))).collect()
    }

    #[tokio::test]
    async fn pictures_come_in_order_and_the_rest_is_counted_by_kind() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        fs::create_dir_all(root.join("b/c d")).expect("a folder");
        for name in ["b/c d/ü.JPG", "a.png", "z.webp", "notes.txt", "no_extension", "b/1.tiff", "12:30.jfif", "x.JPE"]
        {
            fs::write(root.join(name), b"x").expect("a file");
        }
        for name in ["photo", "photo.orig", "photo.heic"] {
            fs::write(root.join(name), b"\xFF\xD8\xFF\xE0").expect("a file");
        }
        // A link back up (a loop) and a dangling one.
        std::os::unix::fs::symlink(root, root.join("b/up")).expect("a link");
        std::os::unix::fs::symlink(root.join("nowhere"), root.join("dangling.png")).expect("a link");
        let mut source = DirectorySource::new(root, WALK).expect("the folder is there");
        let messages = drain(&mut source).await;
        let expected =
            ["12:30.jfif", "a.png", "b/1.tiff", "b/c d/ü.JPG", "photo", "photo.heic", "photo.orig", "x.JPE", "z.webp"];
        assert_eq!(ids(&messages), expected);
        let url = Url::parse(messages[3]["image"].as_str().unwrap_or_default()).expect("a URL");
        let path = url.to_file_path().expect("a path");
        assert_eq!(fs::read(path).expect("the picture is found through its URL"), b"x");
        let expected = [
            ("plain text", 2, "no_extension notes.txt"),
            ("dangling link", 1, "dangling.png"),
            ("link to a folder above it", 1, "b/up"),
        ];
        assert_eq!(skipped(&source), expected.map(|(kind, count, examples)| (kind, count, examples.to_owned())));
    }

    #[tokio::test]
    async fn what_systems_keep_beside_pictures_is_hidden() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join(".pictures");
        let hidden = [
            "._a.jpg",
            ".DS_Store",
            ".hidden/a.jpg",
            ".trashed-17-a.jpg",
            "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg",
            "#recycle/a.jpg",
            "b/Thumbs.db",
            "b/@eaDir/c.jpg",
        ];
        for name in hidden.into_iter().chain(["a.jpg", "b/c.jpg", "eaDir/d.jpg"]) {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, b"\xFF\xD8\xFF\xE0").expect("a file");
        }
        let mut source = DirectorySource::new(&root, WALK).expect("the folder is there");
        assert_eq!(ids(&drain(&mut source).await), ["a.jpg", "b/c.jpg", "eaDir/d.jpg"]);
        assert_eq!(skipped(&source), [("hidden", 8, "#recycle/ .DS_Store ._a.jpg".to_owned())]);

        let mut source = DirectorySource::new(&root, Walk { hidden: true, ..WALK }).expect("the folder is there");
        assert_eq!(drain(&mut source).await.len(), 11);
        assert_eq!(skipped(&source), []);
    }

    #[tokio::test]
    async fn what_is_no_directory_is_named() {
        match DirectorySource::new(Path::new("/no/such/folder"), WALK) {
            Err(error) => assert!(error.to_string().contains("/no/such/folder"), "{error}"),
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
