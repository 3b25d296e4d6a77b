//! Weights outside of the graph's file (`TensorProto.external_data`): files that must be there, and long enough.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::file::unusable;
use super::proto::TensorProto;
use crate::model::ModelError;

/// One file of external weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExternalFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// The files that `tensors` of `graph` refer to, by name, each checked.
///
/// # Errors
/// A file is missing, shorter than its tensors need, or outside of the graph's folder.
pub(super) fn files<'a>(
    graph: &Path,
    tensors: impl Iterator<Item = &'a TensorProto>,
) -> Result<Vec<ExternalFile>, ModelError> {
    let mut needed: BTreeMap<&str, u64> = BTreeMap::new();
    for tensor in tensors.filter(|t| t.is_external()) {
        let entries = tensor.external();
        let corrupt = |what: String| {
            unusable(graph, format!("is corrupt: external tensor {:?} {what}", tensor.name), "fetch it again")
        };
        let number = |key: &str| match entries.get(key) {
            None => Ok(None),
            Some(text) => text.parse::<u64>().map(Some).map_err(|_| corrupt(format!("has {key} {text:?}"))),
        };
        let location = *entries.get("location").ok_or_else(|| corrupt("names no file".to_owned()))?;
        // ONNX Runtime refuses such a file as well: it might be any file of this machine.
        let inside = Path::new(location).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if location.is_empty() || !inside {
            return Err(corrupt(format!("is in {location:?}, expected a file beside the graph or below it")));
        }
        let expected = tensor.data_bytes();
        let length = number("length")?.or(expected).ok_or_else(|| corrupt("has no size".to_owned()))?;
        if expected.is_some_and(|expected| expected != length) {
            return Err(corrupt(format!("has {length} bytes, its shape needs {}", expected.unwrap_or(0))));
        }
        let end = number("offset")?.unwrap_or(0).saturating_add(length);
        let most = needed.entry(location).or_default();
        *most = (*most).max(end);
    }
    let folder = graph.parent().unwrap_or(Path::new("."));
    needed.into_iter().map(|(location, needed)| file(graph, &folder.join(location), needed)).collect()
}

fn file(graph: &Path, path: &Path, needed: u64) -> Result<ExternalFile, ModelError> {
    let graph_name = graph.file_name().unwrap_or_default().to_string_lossy();
    let found = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        Ok(_) => {
            return Err(unusable(path, format!("is not a file; {graph_name} has weights in it"), "fetch it again"));
        }
        Err(e) => {
            return Err(unusable(
                path,
                format!("cannot be read: {e}; {graph_name} has {needed} bytes of weights in it"),
                format!("fetch it into the folder of {graph_name}, under this very name"),
            ));
        }
    };
    if found < needed {
        return Err(unusable(
            path,
            format!("is truncated: found {found} bytes, {graph_name} expects at least {needed}"),
            "fetch it again",
        ));
    }
    Ok(ExternalFile { path: path.to_owned(), bytes: found })
}
