//! `pulled.json` in the model's directory: what was installed, and its source.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::HubError;
use super::listing::is_safe;
use crate::domain::Precision;

/// The file's name.
pub(super) const NAME: &str = "pulled.json";
const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// The model's id.
    pub model: String,
    pub sources: Vec<SourceRecord>,
    /// The installed precisions: `fp32`, `fp16`, `int8`, `int4`.
    pub precisions: Vec<String>,
    /// Size in bytes, by path below the directory.
    pub files: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    pub repository: String,
    pub commit: String,
}

impl Record {
    pub(super) fn new(model: String, sources: Vec<SourceRecord>) -> Self {
        Self { format: FORMAT, model, sources, precisions: Vec::new(), files: BTreeMap::new() }
    }

    /// `None` if there is no record that this version understands, or it names files outside of the directory.
    pub fn read(directory: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(directory.join(NAME)).ok()?;
        serde_json::from_str(&text).ok().filter(|record: &Self| {
            let has_sources = matches!(record.sources.len(), 1 | 2);
            record.format == FORMAT && has_sources && record.files.keys().all(|path| is_safe(path))
        })
    }

    pub(super) fn write(&self, directory: &Path) -> Result<(), HubError> {
        let path = directory.join(NAME);
        let write = || {
            let text = serde_json::to_string_pretty(self).map_err(std::io::Error::other)?;
            let mut file = std::fs::File::create(&path)?;
            file.write_all((text + "\n").as_bytes())?;
            file.sync_all()
        };
        write().map_err(|e| HubError::disk(&path, &e))
    }

    pub fn has(&self, precision: Precision) -> bool {
        self.precisions.iter().any(|p| p == precision.as_str())
    }

    /// Whether every file exists with its size.
    pub fn is_whole(&self, directory: &Path) -> bool {
        self.files.iter().all(|(path, bytes)| {
            std::fs::metadata(directory.join(path)).is_ok_and(|found| found.is_file() && found.len() == *bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_leaves_its_directory_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let source = SourceRecord { repository: "a/b".into(), commit: "c0".into() };
        let mut record = Record::new("ours/v1".into(), vec![source]);
        record.files.insert("visual/model.onnx".into(), 1);
        record.write(folder.path()).unwrap();
        assert_eq!(Record::read(folder.path()).as_ref(), Some(&record));
        for outside in ["../x", "/etc/passwd"] {
            let mut record = record.clone();
            record.files.insert(outside.into(), 1);
            record.write(folder.path()).unwrap();
            assert_eq!(Record::read(folder.path()), None, "{outside}");
        }
        Record::new("ours/v1".into(), Vec::new()).write(folder.path()).unwrap();
        assert_eq!(Record::read(folder.path()), None, "from nowhere");
    }
}
