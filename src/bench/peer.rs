//! The scripts in `bench/peers/` that a benchmark runs beside itself.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::de::DeserializeOwned;

use super::BenchError;

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
    let expected = "a Python with OpenCLIP (make export-env prints one), run from the project's folder";
    let python = python.display();
    if !output.status.success() {
        let status = output.status;
        return Err(BenchError::Input(format!("{python} {script} ended with {status}; expected {expected}")));
    }
    serde_json::from_slice(&output.stdout).map_err(|e| {
        BenchError::Input(format!("{python} {script} printed an unreadable result ({e}); expected {expected}"))
    })
}
