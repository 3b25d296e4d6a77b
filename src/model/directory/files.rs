//! Reads a model's files. Errors name the file.

use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::domain::ModelReason;
use crate::model::ModelError;
use crate::redact;

pub(crate) fn text_of(file: &Path) -> Result<String, ModelError> {
    std::fs::read_to_string(file).map_err(|e| unreadable(file, e))
}

pub(crate) fn json_of(file: &Path) -> Result<Value, ModelError> {
    serde_json::from_str(&text_of(file)?).map_err(|e| unreadable(file, e))
}

fn unreadable(file: &Path, error: impl Error + Send + Sync + 'static) -> ModelError {
    ModelError::new(ModelReason::Unusable, format!("{} cannot be read: {error}", file.display()))
        .hint("fetch it again")
        .caused_by(error)
}

/// What is in a directory, by name.
pub(super) fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let mut paths: Vec<_> = entries.map(|e| e.path()).collect();
    paths.sort();
    paths
}

/// The same for an error, cut.
pub(super) fn listing(directory: &Path) -> String {
    if !directory.is_dir() {
        return "no such directory".to_owned();
    }
    let names: Vec<_> = entries(directory)
        .iter()
        .filter_map(|p| Some(format!("{}{}", p.file_name()?.to_str()?, if p.is_dir() { "/" } else { "" })))
        .collect();
    if names.is_empty() { "nothing in it".to_owned() } else { redact::cut(&names.join(", "), 300) }
}

/// SHA-256 (hex) of the files' contents, one after the other: `cat FILES | sha256sum`.
pub(crate) fn sha256(files: &[PathBuf]) -> Result<String, ModelError> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for file in files {
        let mut reader = std::fs::File::open(file).map_err(|e| unreadable(file, e))?;
        loop {
            match reader.read(&mut buffer).map_err(|e| unreadable(file, e))? {
                0 => break,
                n => digest.update(&buffer[..n]),
            }
        }
    }
    Ok(format!("{:x}", digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_files_have_the_digest_of_their_concatenation() {
        let root = tempfile::tempdir().unwrap();
        let files: Vec<_> = ["a", "b", "c"].iter().map(|n| root.path().join(n)).collect();
        for (file, content) in files.iter().zip(["a", "b", "c"]) {
            std::fs::write(file, content).unwrap();
        }
        // sha256sum of "abc", from FIPS 180-4.
        assert_eq!(sha256(&files).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let error = sha256(&[root.path().join("d")]).unwrap_err().to_string();
        assert!(error.contains("/d cannot be read") && error.ends_with("; fetch it again"), "{error}");
    }
}
