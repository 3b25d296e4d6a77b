//! The layouts as a table: where each tower's graph is, and what may say how to preprocess. A new one is a new row.

use std::path::{Path, PathBuf};

use super::files::entries;
use super::preprocess::{HUGGING_FACE, OPEN_CLIP, OPEN_CLIP_HUB};
use crate::clip::ClipError;
use crate::domain::Precision;

pub(super) struct Layout {
    pub(super) name: &'static str,
    image: Place,
    text: Place,
    /// File names, by preference, looked for beside the image tower and in the directory itself.
    preprocess: &'static [&'static str],
    /// Whether preprocessing and tokenizer may be left out: the export had them in its code.
    bare: bool,
}

/// Where a graph is: a folder, and the file's name without its precision and `.onnx`.
struct Place {
    /// Its name, or what its name ends in after a `-`. Empty: the directory itself.
    folder: &'static str,
    stem: &'static str,
}

const fn at(folder: &'static str, stem: &'static str) -> Place {
    Place { folder, stem }
}

/// In the order in which they are tried. A directory may have split and combined graphs: the split ones are taken.
pub(super) const LAYOUTS: [Layout; 8] = [
    Layout {
        name: "Immich",
        image: at("visual", "model"),
        text: at("textual", "model"),
        preprocess: &[OPEN_CLIP],
        bare: false,
    },
    Layout {
        name: "FastEmbed pair",
        image: at("vision", "model"),
        text: at("text", "model"),
        preprocess: &[HUGGING_FACE],
        bare: false,
    },
    Layout {
        name: "Optimum",
        image: at("onnx", "vision_model"),
        text: at("onnx", "text_model"),
        preprocess: &[HUGGING_FACE, OPEN_CLIP],
        bare: false,
    },
    Layout {
        name: "flat Optimum",
        image: at("", "vision_model"),
        text: at("", "text_model"),
        preprocess: &[HUGGING_FACE, OPEN_CLIP],
        bare: false,
    },
    Layout {
        name: "open_clip_inference",
        image: at("", "visual"),
        text: at("", "text"),
        preprocess: &[OPEN_CLIP_HUB, OPEN_CLIP],
        bare: false,
    },
    Layout {
        name: "clip-as-service",
        image: at("", "visual"),
        text: at("", "textual"),
        preprocess: &[OPEN_CLIP, OPEN_CLIP_HUB, HUGGING_FACE],
        bare: true,
    },
    Layout {
        name: "combined Optimum",
        image: at("onnx", "model"),
        text: at("onnx", "model"),
        preprocess: &[HUGGING_FACE, OPEN_CLIP],
        bare: false,
    },
    Layout {
        name: "flat combined Optimum",
        image: at("", "model"),
        text: at("", "model"),
        preprocess: &[HUGGING_FACE, OPEN_CLIP],
        bare: false,
    },
];

/// The files of one layout in one directory, as far as they are there.
pub(super) struct Candidate {
    pub(super) layout: &'static Layout,
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

impl Layout {
    /// # Errors
    /// Several folders that might each be the one of a tower.
    pub(super) fn look(&'static self, directory: &Path) -> Result<Candidate, ClipError> {
        let (image, text) = (folder(directory, self.image.folder)?, folder(directory, self.text.folder)?);
        let graph = |place: &Place, folder: &Option<PathBuf>, precision: Precision| {
            let folder = folder.as_ref()?;
            let files = precision.suffixes().iter().map(|suffix| folder.join(format!("{}{suffix}.onnx", place.stem)));
            files.into_iter().find(|file| file.is_file())
        };
        let (mut graphs, mut has_image, mut has_text) = (Vec::new(), false, false);
        for precision in Precision::ALL {
            let pair = [graph(&self.image, &image, precision), graph(&self.text, &text, precision)];
            has_image |= pair[0].is_some();
            has_text |= pair[1].is_some();
            if let [Some(image), Some(text)] = pair {
                graphs.push((precision, [image, text]));
            }
        }
        let beside = |folder: &Option<PathBuf>, name: &str| {
            let places = [folder.as_deref(), Some(directory)];
            places.into_iter().flatten().map(|p| p.join(name)).find(|file| file.is_file())
        };
        let preprocess = self.preprocess.iter().find_map(|name| beside(&image, name));
        let tokenizer = beside(&text, "tokenizer.json");

        let shown = |folder: &str, name: &str| if folder.is_empty() { name.into() } else { format!("{folder}/{name}") };
        let expected = [
            (has_image, shown(self.image.folder, &format!("{}.onnx", self.image.stem))),
            (preprocess.is_some() || self.bare, shown(self.image.folder, self.preprocess[0])),
            (has_text, shown(self.text.folder, &format!("{}.onnx", self.text.stem))),
            (tokenizer.is_some() || self.bare, shown(self.text.folder, "tokenizer.json")),
        ];
        let mut missing: Vec<_> = expected.into_iter().filter(|(there, _)| !there).map(|(_, file)| file).collect();
        if has_image && has_text && graphs.is_empty() {
            missing.push("a precision that both towers have".to_owned());
        }
        missing.dedup();
        let count = |all: [bool; 2]| all.into_iter().filter(|there| *there).count();
        let (present, beside) = (count([has_image, has_text]), count([preprocess.is_some(), tokenizer.is_some()]));
        let text_folder = text.unwrap_or_else(|| directory.to_owned());
        Ok(Candidate { layout: self, graphs, preprocess, tokenizer, text_folder, missing, present, beside })
    }
}

/// The one folder of this name, or whose name ends in it after a `-`.
fn folder(directory: &Path, name: &str) -> Result<Option<PathBuf>, ClipError> {
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
        return Err(ClipError::load(
            "model_ambiguous",
            format!(
                "{} are alike; expected one folder *-{name}; give each model a directory of its own",
                names.join(", ")
            ),
        ));
    }
    Ok(found.pop())
}
