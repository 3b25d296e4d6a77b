//! The rate of a model without the pipeline.

use std::path::PathBuf;

use super::{EmbedError, Embedder};
use crate::clip::{ClipError, ModelAlone};
use crate::config::Settings;

/// Pictures held in memory as pixels while the model alone is timed, at most.
const PICTURES_MAX: usize = 1024;

/// Pictures and texts per second through the model alone, with the batches and threads of `settings` and without a pipeline:
/// the upper bound of a pipeline's rate. Files are read, decoded and preprocessed beforehand.
pub async fn rate_alone(
    embedder: &Embedder,
    settings: &Settings,
    mut pictures: Vec<PathBuf>,
    mut texts: Vec<String>,
) -> Result<f64, EmbedError> {
    pictures.truncate(PICTURES_MAX);
    texts.truncate(PICTURES_MAX);
    let (clip, clip_settings, pixels_max) = (embedder.clip().clone(), settings.clip.clone(), settings.media.pixels_max);
    let timed = move || {
        let pixels = |path: &PathBuf| {
            let bytes =
                std::fs::read(path).map_err(|e| EmbedError::Input(format!("cannot read {}: {e}", path.display())))?;
            let pixels = clip.preprocess().decode(&bytes, pixels_max);
            pixels.map_err(|e| ClipError::from(e.about(path.display())).into())
        };
        let pixels = pictures.iter().map(pixels).collect::<Result<Vec<_>, EmbedError>>()?;
        let seconds = ModelAlone::open(&clip, &clip_settings)?.time(&pixels, &texts)?.as_secs_f64();
        Ok((pixels.len() + texts.len()) as f64 / seconds)
    };
    tokio::task::spawn_blocking(timed).await.map_err(|_| ClipError::stopped())?
}
