//! How an argument names a model: by its name, by `ID=DIRECTORY`, or by a directory.

use std::path::{Path, PathBuf};

use crate::cli::{CliError, Exit};
use crate::clip::ClipError;
use crate::config::{ClipSettings, ModelEntry};
use crate::domain::registry::{self, UnknownModel};
use crate::domain::{ModelId, Precision};
use crate::model::model_of;

/// Selects the graphs of a model.
#[derive(Debug, clap::Args)]
pub(super) struct Graphs {
    /// A model, a directory, or both as ID=DIRECTORY; default: the first of clip.models
    model: Option<String>,
    /// Precision of its graphs: fp32, fp16, int8 or int4; default: clip.precision
    #[arg(long, value_name = "PRECISION")]
    precision: Option<Precision>,
}

impl Graphs {
    /// Runs `look` on them on a blocking thread.
    pub(super) async fn read<T: Send + 'static>(
        self,
        settings: ClipSettings,
        look: fn(&ModelEntry, &ClipSettings, Precision) -> Result<T, ClipError>,
    ) -> Result<T, CliError> {
        let entry = entry(self.model.as_deref(), &settings)?;
        let precision = self.precision.unwrap_or(settings.precision);
        let done = tokio::task::spawn_blocking(move || look(&entry, &settings, precision)).await;
        Ok(done.map_err(|e| CliError::new(Exit::Failed, format!("reading the model failed: {e}")))??)
    }
}

/// The model that `text` names; `None`: the first of clip.models.
fn entry(text: Option<&str>, settings: &ClipSettings) -> Result<ModelEntry, CliError> {
    let Some(text) = text else {
        let none = || CliError::new(Exit::Usage, "no model is configured").hint("name one: a model or a directory");
        return settings.entry(None).cloned().ok_or_else(none);
    };
    if let Some((id, directory)) = text.split_once('=') {
        return Ok(ModelEntry { id: model(id)?, directory: Some(directory.into()) });
    }
    if let Ok(id) = registry::resolve(text) {
        return Ok(settings.entry(Some(&id)).cloned().unwrap_or_else(|| id.into()));
    }
    if let Some(entry) = settings.models.iter().find(|entry| entry.id.to_string() == text) {
        return Ok(entry.clone());
    }
    let directory = Path::new(text);
    if directory.is_dir() {
        let of_settings = settings.models.iter().find(|e| same(&settings.model_directory(e), directory));
        return Ok(of_settings.cloned().unwrap_or_else(|| of_directory(directory)));
    }
    Ok(model(text)?.into())
}

fn model(text: &str) -> Result<ModelId, CliError> {
    registry::resolve_or_custom(text.trim()).map_err(|unknown| {
        let UnknownModel { found, nearest } = unknown;
        let near = nearest.map_or_else(String::new, |nearest| format!("did you mean {nearest}? Otherwise "));
        CliError::new(Exit::Usage, format!("{found:?} is not a known model, and there is no such directory"))
            .hint(format!("{near}name a model (clipstream models list), a model's directory, or both as ID=DIRECTORY"))
    })
}

/// A directory without an id: the id in `clipstream.json`, or the directory's name if that is a model's, as Immich names its
/// exports (`ViT-B-32__openai`); otherwise the name stands for an unknown model.
fn of_directory(directory: &Path) -> ModelEntry {
    let path = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let unknown = || {
        let slug = ModelId::slug(name);
        let variant = if slug.is_empty() { "model".to_owned() } else { slug };
        ModelId { variant, checkpoint: "local".to_owned(), dimension: None }
    };
    let id = model_of(directory).or_else(|| registry::resolve(name).ok()).unwrap_or_else(unknown);
    ModelEntry { id, directory: Some(PathBuf::from(directory)) }
}

fn same(a: &Path, b: &Path) -> bool {
    a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_named_by_id_by_directory_or_by_both() {
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = root.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let settings = ClipSettings::default();
        let named = |text: &str| entry(Some(text), &settings).unwrap();
        assert_eq!(entry(None, &settings).unwrap(), settings.models[0]);
        assert_eq!(named("demo-emoji/v1"), settings.models[0]);
        assert_eq!(named("ViT-B/32").id.to_string(), "ViT-B-32/openai");
        assert_eq!(named("mine/v2").directory, None);
        assert_eq!(named("mine/v2=some/where").directory, Some("some/where".into()));

        let immich = folder("ViT-L-14__laion2b_s32b_b82k");
        assert_eq!(named(&immich).id.to_string(), "ViT-L-14/laion2b_s32b_b82k");
        let other = folder("My model");
        assert_eq!(
            (named(&other).id.to_string().as_str(), named(&other).directory),
            ("my-model/local", Some(other.into()))
        );

        let error = entry(Some("no-such-thing"), &settings).unwrap_err();
        assert_eq!(error.code, Exit::Usage);
        assert!(error.message.ends_with("and there is no such directory"), "{}", error.message);
    }
}
