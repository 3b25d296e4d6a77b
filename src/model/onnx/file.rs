//! The bytes of an ONNX file, and why they cannot be used.

use std::borrow::Cow;
use std::fmt::Display;
use std::fs::File;
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;
use prost::Message;

use super::proto::ModelProto;
use crate::domain::ModelReason;
use crate::model::ModelError;

/// `ModelProto`'s fields that a file begins with; another number there is some other file. Behind it, protobuf wants fields skipped
/// that a reader does not know.
const FIRST_FIELDS: [u64; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26];

/// Maps the file, so that only the parts that are used are read, and gigabytes of weights cost nothing.
pub(super) fn map(path: &Path) -> Result<Bytes, ModelError> {
    let cannot = |e: std::io::Error| unusable(path, format!("cannot be read: {e}"), "fetch it again");
    let file = File::open(path).map_err(cannot)?;
    if file.metadata().map_err(cannot)?.len() == 0 {
        return Err(unusable(path, "is empty", "fetch it again"));
    }
    // SAFETY: the bytes must not change while they are mapped. Nothing here writes to a model's files, and a pull
    // replaces a file by renaming a new one over it, which leaves the mapped one as it is. ONNX Runtime maps the
    // same files for as long as the model is loaded, so this adds no condition to those an operator already has.
    let map = unsafe { Mmap::map(&file) }.map_err(cannot)?;
    Ok(Bytes::from_owner(map))
}

/// Decodes the file's protobuf message.
pub(super) fn decode(path: &Path, bytes: &Bytes) -> Result<ModelProto, ModelError> {
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(unusable(path, "is Git LFS's pointer to the file", "run git lfs pull, or fetch it again"));
    }
    let not_a_model = |why: String| {
        unusable(path, format!("is not an ONNX model: {why}"), "fetch it again, or take the graph's own file")
    };
    match extent(bytes) {
        Extent::Whole => {}
        Extent::Needs(needed) => {
            let found = bytes.len();
            return Err(unusable(
                path,
                format!("is truncated: found {found} bytes, expected at least {needed}"),
                "fetch it again",
            ));
        }
        Extent::Foreign => return Err(not_a_model("it does not begin as one".to_owned())),
    }
    let model = ModelProto::decode(bytes.clone()).map_err(|e| not_a_model(format!("it is corrupt ({e})")))?;
    if !model.graph.as_ref().is_some_and(|g| !g.node.is_empty() && !g.output.is_empty()) {
        return Err(not_a_model("it has no graph".to_owned()));
    }
    if model.opset_import.is_empty() {
        return Err(not_a_model("it names no operator set, which comes after the graph: it is truncated".to_owned()));
    }
    Ok(model)
}

pub(super) fn unusable(path: &Path, found: impl Display, hint: impl Into<Cow<'static, str>>) -> ModelError {
    ModelError::new(ModelReason::Unusable, format!("{} {found}", path.display())).hint(hint)
}

/// What the outermost fields say about the file's length.
#[derive(Debug, PartialEq, Eq)]
enum Extent {
    Whole,
    /// The last field ends beyond the file, at this many bytes.
    Needs(u64),
    /// These are not a model's fields.
    Foreign,
}

fn extent(bytes: &[u8]) -> Extent {
    let mut at = 0u64;
    let length = bytes.len() as u64;
    while at < length {
        let Some((key, after)) = varint(bytes, at) else { return Extent::Needs(length + 1) };
        if at == 0 && !FIRST_FIELDS.contains(&(key >> 3)) {
            return Extent::Foreign;
        }
        let end = match key & 7 {
            0 => match varint(bytes, after) {
                Some((_, after)) => after,
                None => return Extent::Needs(length + 1),
            },
            2 => match varint(bytes, after) {
                Some((size, after)) => after.saturating_add(size),
                None => return Extent::Needs(length + 1),
            },
            1 => after + 8,
            5 => after + 4,
            // Groups, which ONNX does not use, and numbers that are not wire types.
            _ => return Extent::Foreign,
        };
        if end > length {
            return Extent::Needs(end);
        }
        at = end;
    }
    Extent::Whole
}

/// The value at `at`, and where it ends.
fn varint(bytes: &[u8], at: u64) -> Option<(u64, u64)> {
    let bytes = bytes.get(usize::try_from(at).ok()?..)?;
    let mut value = 0;
    for (n, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * n).min(63);
        if byte & 0x80 == 0 {
            return Some((value, at + n as u64 + 1));
        }
    }
    None
}
