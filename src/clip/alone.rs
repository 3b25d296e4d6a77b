use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tower::{ImageTower, TextTower, Tower};
use super::{Clip, ClipError, Pixels, Tokenizer};
use crate::config::ClipSettings;

/// The model alone: towers of its own with the settings of the loaded model, driven without queue or pipeline. What a
/// bench holds the pipeline against.
pub struct ModelAlone {
    image: ImageTower,
    text: TextTower,
    tokenizer: Arc<Tokenizer>,
    image_batch: usize,
    text_batch: usize,
}

impl ModelAlone {
    /// Opens two more sessions. Blocking, up to seconds.
    pub fn open(clip: &Clip, settings: &ClipSettings) -> Result<Self, ClipError> {
        Ok(Self {
            image: clip.opener.image_tower()?,
            text: clip.opener.text_tower()?,
            tokenizer: clip.tokenizer.clone(),
            image_batch: settings.image_batch_max.max(1),
            text_batch: settings.text_batch_max.max(1),
        })
    }

    /// How long both towers take for `pictures` and `texts`, on a thread each as in the pipeline, in full batches.
    /// Tokenizing is not counted.
    pub fn time(&mut self, pictures: &[Pixels], texts: &[String]) -> Result<Duration, ClipError> {
        let tokens: Vec<_> = texts.iter().map(|text| self.tokenizer.encode(text)).collect();
        let (image, text) = (&mut self.image, &mut self.text);
        let (image_batch, text_batch) = (self.image_batch, self.text_batch);
        let start = Instant::now();
        let (images, texts) = std::thread::scope(|scope| {
            let images = scope.spawn(|| run_all(image, pictures, image_batch));
            let texts = run_all(text, &tokens, text_batch);
            (images.join().unwrap_or(Err(ClipError::Stopped)), texts)
        });
        images.and(texts)?;
        Ok(start.elapsed())
    }
}

fn run_all<T: Tower>(tower: &mut T, items: &[T::Item], batch: usize) -> Result<(), ClipError> {
    for items in items.chunks(batch) {
        for result in tower.run(&items.iter().collect::<Vec<_>>())? {
            result?;
        }
    }
    Ok(())
}
