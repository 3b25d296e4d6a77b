//! The files of a repository at one commit: `GET /api/models/{owner}/{name}/revision/{revision}?blobs=true`, and, for mirrors
//! that omit sizes and checksums there, `GET /api/models/{owner}/{name}/tree/{commit}?recursive=true`.

use serde::Deserialize;

use super::hex::hex;
use super::{Hub, HubError};
use crate::domain::registry::Pin;
use crate::domain::{Class, HubReason};
use crate::redact;

/// The expected checksum of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    /// For files in large file storage: SHA-256 of the content, in hex.
    Sha256(String),
    /// For other files: git's object id, SHA-1 of `blob SIZE\0` and the content, in hex.
    GitBlob(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RemoteFile {
    /// Relative, with `/` between its parts; verified to stay below its target folder.
    pub path: String,
    /// `None` if a mirror does not report it.
    pub bytes: Option<u64>,
    pub checksum: Option<Checksum>,
}

/// The files of a repository at one commit, without those whose names would leave their folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listing {
    /// `owner/name`.
    pub repository: String,
    pub commit: String,
    /// As the repository's card has it.
    pub licence: Option<String>,
    pub files: Vec<RemoteFile>,
}

#[derive(Deserialize)]
struct Answer {
    /// Mirrors that serve a snapshot may not know it.
    sha: Option<String>,
    /// `license:NAME` among others.
    #[serde(default)]
    tags: Vec<String>,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

/// A file or folder of the tree.
#[derive(Deserialize)]
struct Entry {
    path: String,
    size: Option<u64>,
    oid: Option<String>,
    lfs: Option<EntryLfs>,
}

#[derive(Deserialize)]
struct EntryLfs {
    oid: Option<String>,
    size: Option<u64>,
}

impl Listing {
    /// Makes every pinned file be verified against its pin.
    ///
    /// # Errors
    /// `hub_pin_differs` if the hub already announces another checksum.
    pub(super) fn hold_to(&mut self, pin: &Pin) -> Result<(), HubError> {
        for file in &mut self.files {
            let Some(pinned) = pin.sha256(&file.path) else { continue };
            if let Some(Checksum::Sha256(announced)) = &file.checksum
                && announced != pinned
            {
                let message = format!(
                    "{} at {}: {} has the SHA-256 {announced}, this release expects {pinned}: the content of this commit was \
                    changed, or hub.endpoint is not a mirror of the pinned hub",
                    self.repository, self.commit, file.path
                );
                return Err(HubError::new(HubReason::PinDiffers, message));
            }
            file.checksum = Some(Checksum::Sha256(pinned.to_owned()));
        }
        Ok(())
    }
}

impl Hub {
    /// # Errors
    /// `hub_offline` if that is set; a refusal by the hub; `hub_answer_invalid` for an answer that is not a listing.
    pub(super) async fn list(
        &self,
        repository: &str,
        revision: &str,
        note: &(dyn Fn(&str) + Sync),
    ) -> Result<Listing, HubError> {
        validate_repository(repository)?;
        if self.offline {
            return Err(HubError::new(
                HubReason::Offline,
                format!("{repository} is needed and hub.offline (or HF_HUB_OFFLINE) is set"),
            ));
        }
        let segments = ["api", "models"].into_iter().chain(repository.split('/')).chain(["revision", revision]);
        let mut url = self.url(segments);
        url.set_query(Some("blobs=true"));
        let what = format!("{repository} at {}", redact::cut(revision, 80));
        let answer = self.retrying(async || self.json(url.clone(), &what).await, || 0, note).await?;
        let invalid = |why: String| {
            let shown = redact::url(url.as_str());
            HubError::new(HubReason::AnswerInvalid, format!("{shown}: {why}"))
        };
        let answer: Answer =
            serde_json::from_value(answer).map_err(|e| invalid(format!("not a listing of a repository ({e})")))?;
        let commit = answer.sha.unwrap_or_else(|| revision.to_owned());
        if commit != revision && (commit.is_empty() || !commit.bytes().all(|b| b.is_ascii_alphanumeric())) {
            return Err(invalid(format!("names the commit {:?}, expected a hash", redact::cut(&commit, 80))));
        }
        if commit != revision && hex(revision, 40).is_some() {
            return Err(invalid(format!("names the commit {commit}, but {revision} was requested")));
        }
        // A model needs no files with other names, so they are ignored.
        let safe = answer.siblings.into_iter().filter(|sibling| is_safe(&sibling.rfilename));
        let files = safe.map(RemoteFile::from).collect();
        let licence = answer.tags.iter().find_map(|tag| tag.strip_prefix("license:"));
        let licence = licence.map(|name| redact::cut(name, 40));
        let mut listing = Listing { repository: repository.to_owned(), commit, licence, files };
        if listing.files.iter().any(|file| file.bytes.is_none() || file.checksum.is_none()) {
            self.complete(&mut listing, note).await?;
        }
        Ok(listing)
    }

    /// Adds sizes and checksums from the tree. A mirror without a tree adds nothing.
    async fn complete(&self, listing: &mut Listing, note: &(dyn Fn(&str) + Sync)) -> Result<(), HubError> {
        let segments = ["api", "models"].into_iter().chain(listing.repository.split('/'));
        let mut url = self.url(segments.chain(["tree", listing.commit.as_str()]));
        url.set_query(Some("recursive=true"));
        let what = format!("the files of {}", listing.repository);
        let tree = match self.retrying(async || self.json(url.clone(), &what).await, || 0, note).await {
            Err(error) if error.class == Class::Permanent => return Ok(()),
            answer => answer?,
        };
        let entries: Vec<Entry> = serde_json::from_value(tree).unwrap_or_default();
        for file in &mut listing.files {
            if let Some(entry) = entries.iter().find(|entry| entry.path == file.path) {
                let (bytes, checksum) = match &entry.lfs {
                    Some(lfs) => known(lfs.size.or(entry.size), lfs.oid.as_deref(), None),
                    None => known(entry.size, None, entry.oid.as_deref()),
                };
                file.bytes = file.bytes.or(bytes);
                file.checksum = file.checksum.take().or(checksum);
            }
        }
        Ok(())
    }
}

/// A size and its checksum. For a file in large file storage, git's id is that of the pointer and not of the content, so it is
/// used only without a SHA-256. It depends on the size, so it is used only with one.
fn known(bytes: Option<u64>, sha256: Option<&str>, git: Option<&str>) -> (Option<u64>, Option<Checksum>) {
    let sha256 = sha256.and_then(|sha| hex(sha, 64)).map(Checksum::Sha256);
    let git = || git.filter(|_| bytes.is_some()).and_then(|id| hex(id, 40)).map(Checksum::GitBlob);
    (bytes, sha256.or_else(git))
}

impl From<Sibling> for RemoteFile {
    fn from(sibling: Sibling) -> Self {
        let (bytes, checksum) = match &sibling.lfs {
            Some(lfs) => known(lfs.size.or(sibling.size), lfs.sha256.as_deref(), None),
            None => known(sibling.size, None, sibling.blob_id.as_deref()),
        };
        Self { path: sibling.rfilename, bytes, checksum }
    }
}

/// A relative path of ordinary names, on every system.
pub(super) fn is_safe(path: &str) -> bool {
    let part_ok = |part: &str| !matches!(part, "" | "." | "..");
    path.split('/').all(part_ok) && !path.contains(['\\', ':']) && !path.chars().any(char::is_control)
}

/// # Errors
/// `hub_repository_invalid` if it is not `owner/name`.
fn validate_repository(repository: &str) -> Result<(), HubError> {
    let part_ok = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    match repository.split_once('/') {
        Some((owner, name)) if part_ok(owner) && part_ok(name) => Ok(()),
        _ => Err(HubError::new(
            HubReason::RepositoryInvalid,
            format!("{:?} is not a repository; expected OWNER/NAME", redact::cut(repository, 100)),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_their_folder_are_told() {
        for safe in ["model.onnx", "visual/model.onnx", "a b/c..d/.gitattributes"] {
            assert!(is_safe(safe), "{safe}");
        }
        for unsafe_ in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/.", "C:\\x", "a\\..\\b", "c:x", "a\nb"] {
            assert!(!is_safe(unsafe_), "{unsafe_}");
        }
    }

    #[test]
    fn repositories_have_an_owner_and_a_name() {
        assert!(validate_repository("immich-app/ViT-B-32__openai").is_ok());
        for bad in ["model", "a/b/c", "../x", "a/..", "a/b?x", "/b", "a b/c"] {
            assert_eq!(validate_repository(bad).unwrap_err().reason, HubReason::RepositoryInvalid, "{bad}");
        }
    }

    #[test]
    fn checksums_are_those_of_the_content() {
        let of = |json: &str| RemoteFile::from(serde_json::from_str::<Sibling>(json).unwrap());
        let sha = "A".repeat(64);
        let large = of(&format!(
            r#"{{"rfilename": "m", "size": 9, "blobId": "{}", "lfs": {{"sha256": "{sha}", "size": 9, "pointerSize": 1}}}}"#,
            "b".repeat(40)
        ));
        assert_eq!(large.checksum, Some(Checksum::Sha256("a".repeat(64))));
        let small = of(&format!(r#"{{"rfilename": "m", "size": 3, "blobId": "{}"}}"#, "b".repeat(40)));
        assert_eq!((small.bytes, small.checksum), (Some(3), Some(Checksum::GitBlob("b".repeat(40)))));
        let bare = of(r#"{"rfilename": "m"}"#);
        assert_eq!((bare.bytes, bare.checksum), (None, None));
    }
}
