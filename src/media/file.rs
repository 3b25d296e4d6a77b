//! `file://`, only below the folders that configuration allows.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use futures::TryStreamExt as _;
use tokio_util::io::ReaderStream;
use url::Url;

use super::body::{Announced, Body, Bounds};
use super::deadline::Deadline;
use super::http_error;
use super::unpack::Unpacker;
use super::{Fetched, MediaError, Validators};
use crate::budget::Budget;
use crate::domain::MediaReason;
use crate::redact;

const READ_BYTES: usize = 256 * 1024;

#[derive(Clone, Debug)]
pub(super) struct FileFetcher {
    /// Canonical.
    roots: Vec<PathBuf>,
    budget: Budget,
    bounds: Bounds,
}

impl FileFetcher {
    /// # Errors
    /// `media_settings_invalid` for a missing root.
    pub(super) fn new(roots: &[String], budget: Budget, bounds: Bounds) -> Result<Self, MediaError> {
        let canonical = |root: &String| {
            std::fs::canonicalize(root).map_err(|error| {
                let message = format!(
                    "media.allow_file_roots has \"{}\", which cannot be opened ({error}); expected a folder that exists",
                    redact::cut(root, 200)
                );
                MediaError::new(MediaReason::SettingsInvalid, message)
            })
        };
        Ok(Self { roots: roots.iter().map(canonical).collect::<Result<_, _>>()?, budget, bounds })
    }

    /// The URL of a path relative to the first root; `None` if there is no root or the path is absolute.
    pub(super) fn resolve(&self, path: &str) -> Option<String> {
        let root = self.roots.first().filter(|_| !path.is_empty() && !path.starts_with('/'))?;
        Url::from_file_path(root.join(path)).ok().map(String::from)
    }

    /// Like [`FileFetcher::resolve`], but only for an existing file.
    pub(super) async fn existing(&self, path: &str) -> Option<String> {
        let root = self.roots.first().filter(|_| !path.starts_with('/'))?;
        let file = tokio::fs::metadata(root.join(path)).await.ok().filter(std::fs::Metadata::is_file);
        file.and_then(|_| self.resolve(path))
    }

    pub(super) async fn fetch(&self, url: &str, deadline: &mut Deadline) -> Result<Fetched, MediaError> {
        let shown = redact::url(url);
        if self.roots.is_empty() {
            return Err(MediaError::new(MediaReason::FileForbidden, format!("{shown}: file:// is not allowed"))
                .hint("add the folder to media.allow_file_roots, or use http(s) or s3"));
        }
        let path = Url::parse(url).ok().and_then(|u| u.to_file_path().ok()).ok_or_else(|| {
            MediaError::new(MediaReason::UrlInvalid, format!("{shown}: not a local path; expected file:///path"))
        })?;
        let path = deadline.run(&shown, "finding the file", self.locate(&shown, &path)).await??;
        deadline
            .run(&shown, "opening the file", tokio::fs::metadata(&path))
            .await?
            .map_err(|e| failed(&shown, &e))
            .and_then(
                // Opening a pipe or a device could block or have side effects.
                |found| if found.is_file() { Ok(()) } else { Err(not_a_file(&shown)) },
            )?;
        let file = deadline
            .run(&shown, "opening the file", tokio::fs::File::open(&path))
            .await?
            .map_err(|e| failed(&shown, &e))?;
        let announced = file.metadata().await.map_err(|e| failed(&shown, &e))?.len();
        let announced = Announced { bytes: Some(announced), unpacker: Unpacker::new(std::iter::empty()) };
        let body = Body::begin(&shown, None, announced, self.bounds, &self.budget, deadline).await?;
        let content = ReaderStream::with_capacity(file, READ_BYTES).map_err(|error| failed(&shown, &error));
        let (bytes, reservation) = body.read(deadline, content).await?;
        Ok(Fetched { bytes, validators: Validators::default(), reservation })
    }

    /// The file behind `path` with all symbolic links resolved, if it is below a root. Anything else is forbidden,
    /// existing or not, so that errors do not reveal which files exist.
    async fn locate(&self, shown: &str, path: &Path) -> Result<PathBuf, MediaError> {
        let below = |path: &Path| self.roots.iter().any(|root| path.starts_with(root));
        let found = tokio::fs::canonicalize(path).await;
        if below(found.as_deref().unwrap_or(path)) {
            return found.map_err(|error| failed(shown, &error));
        }
        let message = format!("{shown}: outside of media.allow_file_roots (links resolved)");
        Err(MediaError::new(MediaReason::FileForbidden, message).hint("add its folder there"))
    }
}

fn not_a_file(shown: &str) -> MediaError {
    MediaError::new(MediaReason::FileNotRegular, format!("{shown}: not a regular file; expected a picture"))
}

fn failed(shown: &str, error: &std::io::Error) -> MediaError {
    let message = format!("{shown}: {error}");
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => MediaError::new(MediaReason::FileNotFound, message),
        ErrorKind::PermissionDenied => MediaError::new(MediaReason::FileForbidden, message),
        // A NUL, or a name that is too long: no later attempt can succeed.
        ErrorKind::InvalidInput | ErrorKind::InvalidFilename => MediaError::new(MediaReason::UrlInvalid, message),
        _ => http_error::of_process(shown, error).unwrap_or_else(|| MediaError::new(MediaReason::FileFailed, message)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::Class;

    async fn get(fetcher: &FileFetcher, path: &Path) -> Result<Vec<u8>, MediaError> {
        let url = Url::from_file_path(path).unwrap();
        let mut deadline = Deadline::after(Duration::from_secs(5));
        fetcher.fetch(url.as_str(), &mut deadline).await.map(|f| f.bytes.to_vec())
    }

    fn fetcher(roots: &[&Path]) -> FileFetcher {
        let roots: Vec<String> = roots.iter().map(|r| r.to_str().unwrap().to_owned()).collect();
        FileFetcher::new(&roots, Budget::new(1 << 20), Bounds::new(100, Duration::from_secs(5))).unwrap()
    }

    #[tokio::test]
    async fn only_regular_files_below_a_root() {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("in side"), folder.path().join("out"));
        std::fs::create_dir(&root).unwrap();
        std::fs::write(&outside, b"secret").unwrap();
        std::fs::write(root.join("a b.jpg"), b"picture").unwrap();
        std::fs::write(root.join("empty"), b"").unwrap();
        std::fs::write(root.join("large"), [0; 101]).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("link-out")).unwrap();
        std::os::unix::fs::symlink(root.join("a b.jpg"), root.join("link-in")).unwrap();
        let fetcher = fetcher(&[&root]);

        assert_eq!(get(&fetcher, &root.join("a b.jpg")).await.unwrap(), b"picture");
        assert_eq!(get(&fetcher, &root.join("link-in")).await.unwrap(), b"picture");
        let cases = [
            (outside.clone(), MediaReason::FileForbidden),
            (folder.path().join("absent"), MediaReason::FileForbidden),
            (root.join("link-out"), MediaReason::FileForbidden),
            (root.join("../out"), MediaReason::FileForbidden),
            (root.join("absent"), MediaReason::FileNotFound),
            (root.clone(), MediaReason::FileNotRegular),
            (root.join("empty"), MediaReason::Empty),
            (root.join("large"), MediaReason::TooLarge),
        ];
        for (path, reason) in cases {
            let error = get(&fetcher, &path).await.unwrap_err();
            assert_eq!((error.reason, error.class), (reason, Class::Permanent), "{}", path.display());
        }
    }

    #[tokio::test]
    async fn refused_without_roots_and_roots_must_exist() {
        let folder = tempfile::tempdir().unwrap();
        let error = get(&fetcher(&[]), &folder.path().join("x")).await.unwrap_err();
        assert!(error.to_string().contains("media.allow_file_roots"), "{}", error.message);
        let absent = folder.path().join("absent").to_str().unwrap().to_owned();
        let error = FileFetcher::new(&[absent], Budget::new(1), Bounds::new(1, Duration::ZERO)).unwrap_err();
        assert!(error.to_string().contains("/absent\""), "{}", error.message);
    }
}
