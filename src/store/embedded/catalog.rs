//! Data that the engine does not store: the fingerprint of each collection, and the aliases. One JSON file, replaced
//! atomically.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::domain::{Fingerprint, StoreReason};
use crate::store::StoreError;

const CATALOG_FILE: &str = "store.json";
const LOCK_FILE: &str = "store.lock";
/// Increased when an older clipstream can no longer read the folder.
const FORMAT: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Catalog {
    format: u32,
    pub collections: BTreeMap<String, Entry>,
    /// Alias to collection.
    pub aliases: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub fingerprint: Fingerprint,
}

impl Catalog {
    pub fn read(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(CATALOG_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { format: FORMAT, collections: BTreeMap::new(), aliases: BTreeMap::new() });
            }
            Err(e) => return Err(unusable(&path, "read", &e)),
        };
        let catalog: Self = serde_json::from_str(&text).map_err(|e| unusable(&path, "read", &e))?;
        if catalog.format != FORMAT {
            let message = format!("{}: found format {}, expected {FORMAT}", path.display(), catalog.format);
            return Err(StoreError::new(StoreReason::FormatUnknown, message));
        }
        Ok(catalog)
    }

    /// Durable on return: written beside, synced, renamed, and the folder synced.
    pub fn write(&self, folder: &Path) -> Result<(), StoreError> {
        let path = folder.join(CATALOG_FILE);
        let beside = folder.join(format!("{CATALOG_FILE}.new"));
        let written = || -> std::io::Result<()> {
            let mut file = File::create(&beside)?;
            file.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            sync_folder(folder)
        };
        written().map_err(|e| unusable(&path, "write", &e))
    }

    /// The collection with this name or alias.
    pub fn resolve<'a>(&'a self, name: &'a str) -> Result<&'a str, StoreError> {
        let resolved =
            if self.collections.contains_key(name) { Some(name) } else { self.aliases.get(name).map(String::as_str) };
        resolved.filter(|name| self.collections.contains_key(*name)).ok_or_else(|| StoreError::collection_missing(name))
    }
}

/// Makes created and renamed entries of `folder` durable. Folders can be opened only on Unix; on other systems the rename
/// has to be enough.
pub(super) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Locks the folder for this process, because the engine's files must have one owner. The system releases the lock when the
/// process ends for any reason.
pub(super) fn lock(folder: &Path) -> Result<File, StoreError> {
    fs::create_dir_all(folder).map_err(|e| unusable(folder, "create", &e))?;
    let path = folder.join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| unusable(&path, "open", &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let message = format!("the store in {} is in use by another process", folder.display());
            Err(StoreError::new(StoreReason::Locked, message))
        }
        Err(TryLockError::Error(e)) => Err(unusable(&path, "lock", &e)),
    }
}

pub(super) fn unusable(path: &Path, verb: &str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::new(StoreReason::FilesUnusable, format!("cannot {verb} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_is_found_again_and_aliases_resolve() {
        let folder = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::read(folder.path()).unwrap();
        let fingerprint = Fingerprint {
            variant: "v".into(),
            checkpoint: "c".into(),
            dimension: 4,
            preprocessing: "p".into(),
            tokenizer: "t".into(),
            graph: "g".into(),
            activation: None,
            precision: None,
        };
        catalog.collections.insert("a".into(), Entry { fingerprint });
        catalog.aliases.insert("alias".into(), "a".into());
        catalog.aliases.insert("dangling".into(), "gone".into());
        catalog.write(folder.path()).unwrap();
        let found = Catalog::read(folder.path()).unwrap();
        assert_eq!(found.resolve("alias").unwrap(), "a");
        assert_eq!(found.resolve("a").unwrap(), "a");
        assert_eq!(found.resolve("dangling").unwrap_err().reason, StoreReason::CollectionMissing);
    }

    #[test]
    fn a_newer_format_and_garbage_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CATALOG_FILE);
        fs::write(&path, r#"{"format": 2, "collections": {}, "aliases": {}}"#).unwrap();
        assert_eq!(Catalog::read(folder.path()).unwrap_err().reason, StoreReason::FormatUnknown);
        fs::write(&path, "{").unwrap();
        assert!(Catalog::read(folder.path()).unwrap_err().to_string().contains("store.json"));
    }
}
