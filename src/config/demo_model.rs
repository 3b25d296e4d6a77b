//! The default model: this project's small demo model, which is not published. It is meant for a first test.

use std::path::{Path, PathBuf};

use crate::domain::ModelId;

pub(super) fn id() -> ModelId {
    ModelId { variant: "demo-emoji".into(), checkpoint: "v1".into(), dimension: None }
}

/// The first folder that contains it: `installed`, the sources that this binary was built from, the working directory. So the
/// verbs work from any folder, also with a binary that `cargo install` moved.
pub(super) fn find(installed: Option<&Path>) -> Option<PathBuf> {
    let installed = installed.map(|models| models.join(id().directory_name()));
    let sources = [env!("CARGO_MANIFEST_DIR"), "."].map(|folder| Path::new(folder).join("demo").join("model"));
    installed.into_iter().chain(sources).find(|directory| directory.is_dir())
}

/// `../share/clipstream/models`, relative to the binary's folder: where packages install models.
pub(super) fn installed() -> Option<PathBuf> {
    let binary = std::env::current_exe().ok()?;
    Some(binary.parent()?.parent()?.join("share").join("clipstream").join("models"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installed_one_comes_first_and_that_of_the_sources_is_found_from_any_folder() {
        let models = tempfile::tempdir().unwrap();
        let of_sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/model");
        assert_eq!(find(Some(models.path())).as_deref(), Some(of_sources.as_path()));
        assert_eq!(find(None).as_deref(), Some(of_sources.as_path()));
        let installed = models.path().join("demo-emoji__v1");
        std::fs::create_dir(&installed).unwrap();
        assert_eq!(find(Some(models.path())), Some(installed));
    }
}
