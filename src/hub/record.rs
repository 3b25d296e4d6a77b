//! `pulled.json`, in the model's directory: what was put there, and where it came from.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::HubError;
use crate::domain::Precision;

const NAME: &str = "pulled.json";
const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// The model's id.
    pub model: String,
    pub sources: Vec<SourceRecord>,
    /// `fp32`, `fp16`, `int8`: those that are there.
    pub precisions: Vec<String>,
    /// By path below the directory: size in bytes.
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

    /// None where there is no record that this version understands.
    pub fn read(directory: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(directory.join(NAME)).ok()?;
        serde_json::from_str(&text).ok().filter(|record: &Self| record.format == FORMAT)
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

    /// Whether every file is there in its size.
    pub fn is_whole(&self, directory: &Path) -> bool {
        self.files.iter().all(|(path, bytes)| {
            std::fs::metadata(directory.join(path)).is_ok_and(|found| found.is_file() && found.len() == *bytes)
        })
    }
}
