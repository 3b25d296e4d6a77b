//! The scripts in `bench/peers/` that a benchmark runs beside itself.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;

use super::BenchError;
use crate::domain::Finding;

/// What `script` prints, a line of JSON. It runs in a process of its own, on one thread.
pub(super) fn result<T: DeserializeOwned>(python: &Path, script: &str, arguments: &[&OsStr]) -> Result<T, BenchError> {
    let output = Command::new(python)
        .arg(script)
        .args(arguments)
        .env("OMP_NUM_THREADS", "1")
        .env("TOKENIZERS_PARALLELISM", "false")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| BenchError::Io { what: format!("cannot run {}", python.display()), source })?;
    let no_peer = |found: String| {
        let finding = Finding::new(format!("{} {script} {found}; expected a Python with OpenCLIP", python.display()));
        BenchError::Input(finding.hint("make export-env prints one; run from the project's folder"))
    };
    if !output.status.success() {
        return Err(no_peer(format!("ended with {}", output.status)));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| no_peer(format!("printed an unreadable result ({e})")))
}
