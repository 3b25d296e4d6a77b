//! What a directory has of each layout.

use std::path::{Path, PathBuf};

use super::files::entries;
use crate::domain::{ModelReason, Precision};
use crate::model::ModelError;
use crate::model::layouts::{DirectoryLayout, Place, TOKENIZER};

/// The files of one layout in one directory, as far as they are there.
pub(super) struct Candidate {
    pub(super) layout: &'static DirectoryLayout,
    /// Both towers' graphs, for each precision that has both; the same file twice where it is combined.
    pub(super) graphs: Vec<(Precision, [PathBuf; 2])>,
    pub(super) preprocess: Option<PathBuf>,
    pub(super) tokenizer: Option<PathBuf>,
    /// The text tower's folder.
    pub(super) text_folder: PathBuf,
    /// What is expected and not there, relative to the directory.
    pub(super) missing: Vec<String>,
    /// How many of the towers' graphs are there, and of preprocessing and tokenizer.
    pub(super) present: usize,
    pub(super) beside: usize,
}

impl Candidate {
    /// # Errors
    /// Several folders that might each be the one of a tower.
    pub(super) fn look(layout: &'static DirectoryLayout, directory: &Path) -> Result<Self, ModelError> {
        let (image, text) = (folder(directory, layout.image.folder)?, folder(directory, layout.text.folder)?);
        let graph = |place: &Place, folder: &Option<PathBuf>, precision: Precision| {
            let folder = folder.as_ref()?;
            let files = precision.suffixes().iter().map(|suffix| folder.join(format!("{}{suffix}.onnx", place.stem)));
            files.into_iter().find(|file| file.is_file())
        };
        let (mut graphs, mut has_image, mut has_text) = (Vec::new(), false, false);
        for precision in Precision::ALL {
            let pair = [graph(&layout.image, &image, precision), graph(&layout.text, &text, precision)];
            has_image |= pair[0].is_some();
            has_text |= pair[1].is_some();
            if let [Some(image), Some(text)] = pair {
                graphs.push((precision, [image, text]));
            }
        }
        // Sizes of one model share what is at the repository's root: its `onnx/s0` is a directory, and so is its `onnx/s2`.
        let root = directory.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "onnx"));
        let root = root.and_then(Path::parent);
        let beside = |folder: &Option<PathBuf>, name: &str| {
            let places = [folder.as_deref(), Some(directory), root];
            places.into_iter().flatten().map(|p| p.join(name)).find(|file| file.is_file())
        };
        let preprocess = layout.preprocess.iter().find_map(|name| beside(&image, name));
        let tokenizer = beside(&text, TOKENIZER);

        let shown = |folder: &str, name: &str| if folder.is_empty() { name.into() } else { format!("{folder}/{name}") };
        let expected = [
            (has_image, shown(layout.image.folder, &format!("{}.onnx", layout.image.stem))),
            (preprocess.is_some() || layout.bare, shown(layout.image.folder, layout.preprocess[0])),
            (has_text, shown(layout.text.folder, &format!("{}.onnx", layout.text.stem))),
            (tokenizer.is_some() || layout.bare, shown(layout.text.folder, TOKENIZER)),
        ];
        let mut missing: Vec<_> = expected.into_iter().filter(|(there, _)| !there).map(|(_, file)| file).collect();
        if has_image && has_text && graphs.is_empty() {
            missing.push("a precision that both towers have".to_owned());
        }
        missing.dedup();
        let count = |all: [bool; 2]| all.into_iter().filter(|there| *there).count();
        let (present, beside) = (count([has_image, has_text]), count([preprocess.is_some(), tokenizer.is_some()]));
        let text_folder = text.unwrap_or_else(|| directory.to_owned());
        Ok(Self { layout, graphs, preprocess, tokenizer, text_folder, missing, present, beside })
    }
}

/// The one folder of this name, or whose name ends in it after a `-`.
fn folder(directory: &Path, name: &str) -> Result<Option<PathBuf>, ModelError> {
    if name.is_empty() {
        return Ok(Some(directory.to_owned()));
    }
    let exact = directory.join(name);
    if exact.is_dir() {
        return Ok(Some(exact));
    }
    let ends_in = |path: &PathBuf| {
        let file_name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        path.is_dir() && file_name.strip_suffix(name).is_some_and(|n| n.ends_with('-'))
    };
    let mut found: Vec<_> = entries(directory).into_iter().filter(ends_in).collect();
    if found.len() > 1 {
        let names: Vec<_> = found.iter().map(|p| p.display().to_string()).collect();
        let message = format!("{} are alike; expected one folder *-{name}", names.join(", "));
        return Err(ModelError::new(ModelReason::Ambiguous, message));
    }
    Ok(found.pop())
}
