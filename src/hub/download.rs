//! Downloads one file: resumes where an earlier attempt or process stopped, verifies it, and only then renames it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use reqwest::{Response, StatusCode};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::listing::Checksum;
use super::select::Wanted;
use super::{Hub, HubError};
use crate::domain::{Class, HubReason};
use crate::redact;

/// Suffix of an incomplete file; the file with [`ETAG_SUFFIX`] has its version.
pub(super) const PART_SUFFIX: &str = ".part";
pub(super) const ETAG_SUFFIX: &str = ".part.etag";

/// Downloads to `to`, whose folder must exist. `position` is set to the number of bytes on the disk.
///
/// # Errors
/// A refusal by the hub, `hub_checksum_wrong`, `hub_size_wrong`, or a disk error. Downloaded bytes are kept for the next
/// attempt, unless they are wrong.
pub(super) async fn download(
    hub: &Hub,
    wanted: &Wanted<'_>,
    to: &Path,
    position: &AtomicU64,
    note: &(dyn Fn(&str) + Sync),
) -> Result<(), HubError> {
    let mut part = Part::open(to, wanted, position).await?;
    let mut checked_before = false;
    loop {
        hub.retrying(async || part.attempt(hub, wanted).await, || position.load(Ordering::Relaxed), note).await?;
        match part.check(wanted) {
            Ok(()) => return part.finish(to).await,
            // A part of another version, or a corrupted transfer: try once more, from the start.
            Err(error) if !checked_before => {
                checked_before = true;
                note(&format!("{}; downloading it again", error.message));
                part.restart().await?;
            }
            Err(error) => {
                part.remove().await;
                return Err(error);
            }
        }
    }
}

/// Whether `path` has the content that the hub announced; `false` if the checksum is unknown.
pub(super) async fn is_intact(path: &Path, wanted: &Wanted<'_>) -> bool {
    let Some(checksum) = &wanted.file.checksum else { return false };
    let Ok(mut file) = tokio::fs::File::open(path).await else { return false };
    let Ok(metadata) = file.metadata().await else { return false };
    if wanted.file.bytes.is_some_and(|bytes| bytes != metadata.len()) {
        return false;
    }
    let mut sum = Sum::new(Some(checksum), metadata.len());
    sum.read(&mut file).await.is_ok() && sum.hex().as_deref() == Some(hex_of(checksum))
}

struct Part<'a> {
    file: tokio::fs::File,
    path: PathBuf,
    etag_path: PathBuf,
    etag: Option<String>,
    bytes: &'a AtomicU64,
    sum: Sum,
    checksum: Option<Checksum>,
    bytes_expected: Option<u64>,
}

impl<'a> Part<'a> {
    /// Opens the part that an earlier process left, or an empty one.
    async fn open(to: &Path, wanted: &Wanted<'_>, bytes: &'a AtomicU64) -> Result<Self, HubError> {
        let path = with_suffix(to, PART_SUFFIX);
        let file = tokio::fs::File::options().create(true).truncate(false).read(true).write(true).open(&path).await;
        let etag_path = with_suffix(to, ETAG_SUFFIX);
        let mut part = Self {
            file: file.map_err(|e| HubError::disk(&path, &e))?,
            etag: tokio::fs::read_to_string(&etag_path).await.ok().filter(|etag| is_strong(etag)),
            path,
            etag_path,
            bytes,
            sum: Sum::new(wanted.file.checksum.as_ref(), wanted.file.bytes.unwrap_or(0)),
            checksum: wanted.file.checksum.clone(),
            bytes_expected: wanted.file.bytes,
        };
        let loaded = part.sum.read(&mut part.file).await.map_err(|e| HubError::disk(&part.path, &e))?;
        bytes.store(loaded, Ordering::Relaxed);
        let too_long = part.bytes_expected.is_some_and(|expected| loaded > expected);
        // Without a version or a checksum, a rest that belongs to another file would go unnoticed.
        if too_long || (loaded > 0 && part.etag.is_none() && part.checksum.is_none()) {
            part.restart().await?;
        }
        Ok(part)
    }

    /// Downloads the rest in one request.
    async fn attempt(&mut self, hub: &Hub, wanted: &Wanted<'_>) -> Result<(), HubError> {
        let loaded = self.bytes.load(Ordering::Relaxed);
        if self.bytes_expected == Some(loaded) && loaded > 0 {
            return Ok(());
        }
        let segments = wanted.repository.split('/').chain(["resolve", wanted.commit]);
        let url = hub.url(segments.chain(wanted.file.path.split('/')));
        let what = format!("{} of {}", wanted.file.path, wanted.repository);
        let mut headers = HeaderMap::new();
        if loaded > 0
            && let Ok(range) = HeaderValue::try_from(format!("bytes={loaded}-"))
        {
            headers.insert(RANGE, range);
            if let Some(etag) = self.etag.as_deref().and_then(|etag| HeaderValue::from_str(etag).ok()) {
                headers.insert(IF_RANGE, etag);
            }
        }
        let (mut response, linked) = match hub.get(url.clone(), headers, &what).await {
            Err(error) if error.reason == HubReason::RangeInvalid => {
                self.restart().await?;
                return Err(error);
            }
            answer => answer?,
        };
        self.begin(&response, &what).await?;
        if let (None, Some(sha256), 0) = (&self.checksum, linked, self.bytes.load(Ordering::Relaxed)) {
            self.checksum = Some(Checksum::Sha256(sha256));
            self.sum = Sum::new(self.checksum.as_ref(), 0);
        }
        loop {
            let chunk = response.chunk().await.map_err(|error| hub.unreachable(&url, &error));
            match chunk {
                Ok(Some(chunk)) => self.push(&chunk, &what).await?,
                Ok(None) => break,
                Err(error) => {
                    self.flush().await?;
                    return Err(error);
                }
            }
        }
        self.flush().await?;
        let loaded = self.bytes.load(Ordering::Relaxed);
        match self.bytes_expected {
            Some(expected) if loaded < expected => {
                let message = format!("{what}: ended after {loaded} bytes, expected {expected}");
                let ended = HubError::new(HubReason::SizeWrong, message);
                Err(ended.class(Class::Transient).hint("run it again, it resumes"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the answer continues the existing part; otherwise starts over.
    async fn begin(&mut self, response: &Response, what: &str) -> Result<(), HubError> {
        let header = |name| response.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok());
        if let Some(encoding) = header(CONTENT_ENCODING).filter(|e| !matches!(e.trim(), "" | "identity")) {
            let message = format!("{what}: Content-Encoding {}, expected identity", redact::cut(encoding, 40));
            return Err(HubError::new(HubReason::Encoding, message));
        }
        let loaded = self.bytes.load(Ordering::Relaxed);
        let starts_at = match response.status() {
            StatusCode::PARTIAL_CONTENT => header(CONTENT_RANGE).and_then(start_of_range),
            _ => Some(0),
        };
        if starts_at == Some(loaded) {
            if loaded == 0 {
                self.keep_etag(header(ETAG)).await?;
            }
            return Ok(());
        }
        let from_start = starts_at == Some(0);
        let etag = header(ETAG).map(str::to_owned);
        self.restart().await?;
        if from_start {
            return self.keep_etag(etag.as_deref()).await;
        }
        let message = format!("{what}: the hub sent another part than requested; starting over");
        Err(HubError::new(HubReason::RangeInvalid, message))
    }

    async fn push(&mut self, chunk: &[u8], what: &str) -> Result<(), HubError> {
        let loaded = self.bytes.load(Ordering::Relaxed) + chunk.len() as u64;
        if let Some(expected) = self.bytes_expected.filter(|expected| loaded > *expected) {
            self.restart().await?;
            let message = format!("{what}: more than the announced {expected} bytes");
            return Err(HubError::new(HubReason::SizeWrong, message).hint("check hub.endpoint"));
        }
        self.file.write_all(chunk).await.map_err(|e| HubError::disk(&self.path, &e))?;
        self.sum.update(chunk);
        self.bytes.store(loaded, Ordering::Relaxed);
        Ok(())
    }

    async fn keep_etag(&mut self, etag: Option<&str>) -> Result<(), HubError> {
        self.etag = etag.filter(|etag| is_strong(etag)).map(str::to_owned);
        match &self.etag {
            Some(etag) => {
                tokio::fs::write(&self.etag_path, etag).await.map_err(|e| HubError::disk(&self.etag_path, &e))
            }
            None => {
                remove_if_there(&self.etag_path).await;
                Ok(())
            }
        }
    }

    async fn restart(&mut self) -> Result<(), HubError> {
        let emptied = async {
            self.file.set_len(0).await?;
            self.file.rewind().await
        };
        emptied.await.map_err(|e| HubError::disk(&self.path, &e))?;
        self.bytes.store(0, Ordering::Relaxed);
        self.sum = Sum::new(self.checksum.as_ref(), self.bytes_expected.unwrap_or(0));
        self.keep_etag(None).await
    }

    fn check(&self, wanted: &Wanted<'_>) -> Result<(), HubError> {
        let (Some(checksum), Some(found)) = (&self.checksum, self.sum.hex()) else { return Ok(()) };
        let expected = hex_of(checksum);
        if found == expected {
            return Ok(());
        }
        Err(HubError::new(
            HubReason::ChecksumWrong,
            format!(
                "{} of {}: checksum {found}, expected {expected}; nothing was installed",
                wanted.file.path, wanted.repository
            ),
        ))
    }

    async fn flush(&mut self) -> Result<(), HubError> {
        self.file.flush().await.map_err(|e| HubError::disk(&self.path, &e))
    }

    /// Syncs before the rename, so that no crash leaves the name without the content.
    async fn finish(self, to: &Path) -> Result<(), HubError> {
        self.file.sync_all().await.map_err(|e| HubError::disk(&self.path, &e))?;
        tokio::fs::rename(&self.path, to).await.map_err(|e| HubError::disk(to, &e))?;
        remove_if_there(&self.etag_path).await;
        Ok(())
    }

    async fn remove(self) {
        remove_if_there(&self.path).await;
        remove_if_there(&self.etag_path).await;
    }
}

/// A running checksum, or none.
enum Sum {
    None,
    Sha256(Sha256),
    Sha1(Sha1),
}

impl Sum {
    /// `bytes`: the size of the whole file, which is part of git's id.
    fn new(kind: Option<&Checksum>, bytes: u64) -> Self {
        match kind {
            None => Self::None,
            Some(Checksum::Sha256(_)) => Self::Sha256(Sha256::new()),
            Some(Checksum::GitBlob(_)) => Self::Sha1(Sha1::new_with_prefix(format!("blob {bytes}\0"))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::None => {}
            Self::Sha256(digest) => digest.update(bytes),
            Self::Sha1(digest) => digest.update(bytes),
        }
    }

    /// Adds the rest of `file`; returns its length.
    async fn read(&mut self, file: &mut tokio::fs::File) -> std::io::Result<u64> {
        let mut buffer = vec![0; 1 << 20];
        let mut bytes = 0;
        loop {
            match file.read(&mut buffer).await? {
                0 => return Ok(bytes),
                n => {
                    self.update(&buffer[..n]);
                    bytes += n as u64;
                }
            }
        }
    }

    fn hex(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Sha256(digest) => Some(format!("{:x}", digest.clone().finalize())),
            Self::Sha1(digest) => Some(format!("{:x}", digest.clone().finalize())),
        }
    }
}

fn hex_of(checksum: &Checksum) -> &str {
    match checksum {
        Checksum::Sha256(hex) | Checksum::GitBlob(hex) => hex,
    }
}

/// RFC 9110 §13.1.5: `If-Range` accepts only strong ETags.
fn is_strong(etag: &str) -> bool {
    etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"')
}

/// `bytes 100-199/200` starts at 100.
fn start_of_range(header: &str) -> Option<u64> {
    header.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

async fn remove_if_there(path: &Path) {
    // A remaining file is removed by the next pull.
    let _ = tokio::fs::remove_file(path).await;
}
