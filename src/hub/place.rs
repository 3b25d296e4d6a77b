//! A model's directory, and the entries beside it during a pull: `.NAME.lock`, `.partial-NAME` (the download so far) and, during
//! the exchange, `.old-NAME`. A model's name never begins with a dot.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::{HubError, record};
use crate::domain::{HubReason, Precision};
use crate::model::layouts;

pub(super) struct Place {
    pub directory: PathBuf,
    pub partial: PathBuf,
    old: PathBuf,
    /// Held as long as the place; the operating system releases it when the process ends.
    _lock: File,
}

impl Place {
    /// `None` while another process pulls to the same directory.
    pub fn try_take(directory: &Path) -> Result<Option<Self>, HubError> {
        let name = directory.file_name().and_then(|n| n.to_str()).ok_or_else(|| {
            let message = format!("{}: expected a directory with a name", directory.display());
            HubError::new(HubReason::DirectoryInvalid, message)
        })?;
        let parent = directory.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let beside = |prefix: &str, suffix: &str| parent.join(format!(".{prefix}{name}{suffix}"));
        std::fs::create_dir_all(parent).map_err(|e| HubError::disk(parent, &e))?;
        let path = beside("", ".lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|e| HubError::disk(&path, &e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(HubError::disk(&path, &e)),
        }
        let place = Self {
            directory: directory.to_owned(),
            partial: beside("partial-", ""),
            old: beside("old-", ""),
            _lock: lock,
        };
        place.recover()?;
        Ok(Some(place))
    }

    /// Completes or reverts an exchange that was interrupted.
    fn recover(&self) -> Result<(), HubError> {
        if !self.old.exists() {
            return Ok(());
        }
        if self.directory.exists() {
            return remove(&self.old);
        }
        rename(&self.old, &self.directory)
    }

    /// Replaces the directory by `partial`. A reader finds the complete old directory, the complete new one or, between the two
    /// renames, none.
    pub fn exchange(&self) -> Result<(), HubError> {
        if self.directory.exists() {
            rename(&self.directory, &self.old)?;
        }
        rename(&self.partial, &self.directory)?;
        if self.old.exists() { remove(&self.old) } else { Ok(()) }
    }

    /// Links the directory's files into `partial`, except those for which `leave` returns true, by their path below it.
    pub fn keep(&self, leave: impl Fn(&str) -> bool) -> Result<(), HubError> {
        for entry in entries(&self.directory) {
            let (path, is_directory) = entry?;
            let inside = inside(&path, &self.directory);
            let to = self.partial.join(path.strip_prefix(&self.directory).unwrap_or(&path));
            if is_directory {
                std::fs::create_dir_all(&to).map_err(|e| HubError::disk(&to, &e))?;
            } else if !inside.is_some_and(|inside| leave(&inside)) {
                link(&path, &to)?;
            }
        }
        Ok(())
    }

    /// Removes files of an earlier pull from `partial`. `keep` says which paths below it stay.
    pub fn clean(&self, keep: impl Fn(&str) -> bool) -> Result<(), HubError> {
        std::fs::create_dir_all(&self.partial).map_err(|e| HubError::disk(&self.partial, &e))?;
        for entry in entries(&self.partial) {
            let (path, is_directory) = entry?;
            if !is_directory && !inside(&path, &self.partial).is_some_and(|inside| keep(&inside)) {
                std::fs::remove_file(&path).map_err(|e| HubError::disk(&path, &e))?;
            }
        }
        Ok(())
    }
}

/// Whether a directory is empty, or that of a model, complete or not. A directory with models in subfolders is not.
pub(super) fn is_model(directory: &Path) -> bool {
    let names = |folder: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let is_graph = |name: &String| {
        let Some(name) = name.strip_suffix(".onnx") else { return false };
        let mut suffixes = Precision::ALL.into_iter().flat_map(Precision::suffixes);
        let is_known = |stem: &str| layouts::places().any(|place| place.stem == stem);
        suffixes.any(|suffix| name.strip_suffix(suffix).is_some_and(is_known))
    };
    let has_graphs = |folder: &str| {
        let last = folder.rsplit_once('-').map_or(folder, |(_, last)| last);
        // The empty path is the directory itself.
        let is_known = !last.is_empty() && layouts::places().any(|place| place.folder == last);
        is_known && names(&directory.join(folder)).iter().any(is_graph)
    };
    let there = names(directory);
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
        || there
            .iter()
            .any(|name| name == record::NAME || name == layouts::MANIFEST || is_graph(name) || has_graphs(name))
}

/// All entries below `directory`, folders before their contents, and whether each is a folder.
fn entries(directory: &Path) -> impl Iterator<Item = Result<(PathBuf, bool), HubError>> {
    walkdir::WalkDir::new(directory).min_depth(1).into_iter().map(move |entry| {
        let entry = entry.map_err(|e| HubError::disk(directory, &std::io::Error::from(e)))?;
        let is_directory = entry.file_type().is_dir();
        Ok((entry.into_path(), is_directory))
    })
}

/// The path below `directory`, with `/` between its parts.
fn inside(path: &Path, directory: &Path) -> Option<String> {
    let inside = path.strip_prefix(directory).ok().and_then(Path::to_str);
    inside.map(|p| p.replace(std::path::MAIN_SEPARATOR, "/"))
}

/// Links the file, or copies it if the file system has no links.
fn link(from: &Path, to: &Path) -> Result<(), HubError> {
    // A dangling link also exists.
    if to.symlink_metadata().is_ok() {
        std::fs::remove_file(to).map_err(|e| HubError::disk(to, &e))?;
    }
    std::fs::hard_link(from, to).or_else(|_| std::fs::copy(from, to).map(drop)).map_err(|e| HubError::disk(to, &e))
}

fn rename(from: &Path, to: &Path) -> Result<(), HubError> {
    std::fs::rename(from, to).map_err(|e| HubError::disk(to, &e))
}

fn remove(directory: &Path) -> Result<(), HubError> {
    std::fs::remove_dir_all(directory).map_err(|e| HubError::disk(directory, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, content: &str) {
        std::fs::create_dir_all(directory).unwrap();
        std::fs::write(directory.join("f"), content).unwrap();
    }

    #[test]
    fn an_exchange_that_was_cut_is_put_right() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("m");
        let place = Place::try_take(&directory).unwrap().unwrap();
        assert!(Place::try_take(&directory).unwrap().is_none(), "one at a time");
        // Cut after the first of the two renames: the old one comes back.
        write(&place.old, "old");
        write(&place.partial, "new");
        place.recover().unwrap();
        assert_eq!(std::fs::read_to_string(directory.join("f")).unwrap(), "old");
        // Cut before the old one was removed.
        write(&place.old, "older");
        place.recover().unwrap();
        assert!(!place.old.exists());
        assert_eq!(std::fs::read_to_string(directory.join("f")).unwrap(), "old");
        place.exchange().unwrap();
        assert_eq!(std::fs::read_to_string(directory.join("f")).unwrap(), "new");
        assert!(!place.old.exists() && !place.partial.exists());
    }

    #[test]
    fn only_a_models_directory_is_one() {
        for (path, is) in [
            ("pulled.json", true),
            ("clipstream.json", true),
            ("visual/model_fp16.onnx", true),
            ("onnx/vision_model_quantized.onnx", true),
            ("clip-ViT-B-32-vision/model.onnx", true),
            ("textual.onnx", true),
            ("a.onnx", false),
            ("notes.txt", false),
            ("ViT-B-32__openai/pulled.json", false),
            ("ViT-B-32__openai/visual/model.onnx", false),
            ("ours__v1/visual.onnx", false),
        ] {
            let root = tempfile::tempdir().unwrap();
            assert!(is_model(root.path()), "an empty one");
            let file = root.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "").unwrap();
            assert_eq!(is_model(root.path()), is, "{path}");
            assert!(!is_model(&file));
        }
    }

    #[test]
    fn leftovers_go_and_what_is_wanted_stays() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::try_take(&root.path().join("m")).unwrap().unwrap();
        write(&place.partial.join("visual"), "x");
        write(&place.partial.join("other"), "y");
        place.clean(|path| path == "visual/f").unwrap();
        assert!(place.partial.join("visual/f").exists() && !place.partial.join("other/f").exists());
    }
}
