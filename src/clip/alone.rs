//! The model without queue and pipeline, for `bench`: what the pipeline is compared with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::load::{ImageSide, TextSide};
use super::tower::{ImageTower, TextTower, Tower};
use super::{Clip, ClipError};
use crate::config::ClipSettings;
use crate::domain::Embedding;
use crate::picture::Pixels;
use crate::tokenize::Tokenizer;

/// The model alone, for benches: its own towers with the settings of the loaded model, driven without queue or
/// pipeline. Compare the pipeline with it.
pub struct ModelAlone {
    image: ImageTower,
    text: TextTower,
    tokenizer: Arc<Tokenizer>,
    image_batch: usize,
    text_batch: usize,
}

impl ModelAlone {
    /// Opens two more sessions. Blocks, up to seconds.
    pub fn open(clip: &Clip, settings: &ClipSettings) -> Result<Self, ClipError> {
        let (ImageSide { active: on_image, .. }, TextSide { active: on_text, tokenizer, .. }) = clip.open_both()?;
        let opener = &clip.model.opener;
        Ok(Self {
            image: opener.another_image_tower(on_image, 0)?,
            text: opener.another_text_tower(on_text, 0, tokenizer)?,
            tokenizer: tokenizer.clone(),
            image_batch: settings.image_batch_max.max(1),
            text_batch: settings.text_batch_max.max(1),
        })
    }

    /// Runs the image tower over `pictures` in full batches, and stops early between two of them once `enough` says so. Returns how many
    /// pictures have run.
    pub fn run_images(&mut self, pictures: &[Pixels], enough: impl Fn() -> bool) -> Result<usize, ClipError> {
        run_until(&mut self.image, pictures, self.image_batch, enough)
    }

    /// The same for the text tower. Tokenize first ([`Self::tokens`]): it is another part of the work.
    pub fn run_texts(&mut self, tokens: &[Vec<i64>], enough: impl Fn() -> bool) -> Result<usize, ClipError> {
        run_until(&mut self.text, tokens, self.text_batch, enough)
    }

    /// Time of ONNX Runtime itself for pictures and for texts, in batches of `batch`: each run is repeated over the
    /// inputs already in place, and only the repetition is timed.
    pub fn time_of_runs(
        &mut self,
        pictures: &[Pixels],
        texts: &[String],
        batch: usize,
    ) -> Result<(Duration, Duration), ClipError> {
        let tokens = self.tokens(texts);
        Ok((runs(&mut self.image, pictures, batch)?, runs(&mut self.text, &tokens, batch)?))
    }

    /// Embeds pictures and texts.
    pub fn embed(&mut self, pictures: &[Pixels], texts: &[String]) -> Result<Vectors, ClipError> {
        let tokens = self.tokens(texts);
        let images = self.image.run_in_batches(&pictures.iter().collect::<Vec<_>>(), self.image_batch)?;
        let texts = self.text.run_in_batches(&tokens.iter().collect::<Vec<_>>(), self.text_batch)?;
        Ok((images.into_iter().collect::<Result<_, _>>()?, texts.into_iter().collect::<Result<_, _>>()?))
    }

    /// Whether texts run at their real length.
    pub fn is_at_real_length(&self) -> bool {
        self.text.is_at_real_length()
    }

    /// From now on, runs texts at the whole context length.
    pub fn pad_texts(&mut self) {
        self.text.pad_always();
    }

    /// The token ids of texts, as the text tower takes them.
    pub fn tokens(&self, texts: &[String]) -> Vec<Vec<i64>> {
        texts.iter().map(|text| self.tokenizer.encode(text)).collect()
    }
}

/// Of the pictures, and of the texts.
type Vectors = (Vec<Embedding>, Vec<Embedding>);

fn runs<T: Tower>(tower: &mut T, items: &[T::Item], batch: usize) -> Result<Duration, ClipError> {
    let mut took = Duration::ZERO;
    in_groups(tower, items, batch, |tower, group| {
        // Only the last run can be repeated, so each group must be one run.
        for piece in group.chunks(tower.fixed_rows().unwrap_or(group.len()).max(1)) {
            run(tower, piece)?;
            let start = Instant::now();
            tower.run_again()?;
            took += start.elapsed();
        }
        Ok(())
    })?;
    Ok(took)
}

fn run_until<T: Tower>(
    tower: &mut T,
    items: &[T::Item],
    batch: usize,
    enough: impl Fn() -> bool,
) -> Result<usize, ClipError> {
    let mut done = 0;
    for items in items.chunks(batch.max(1)) {
        if enough() {
            break;
        }
        in_groups(tower, items, batch, run)?;
        done += items.len();
    }
    Ok(done)
}

/// Batches of `items` in the groups that the queue makes of them.
fn in_groups<T: Tower>(
    tower: &mut T,
    items: &[T::Item],
    batch: usize,
    mut each: impl FnMut(&mut T, &[&T::Item]) -> Result<(), ClipError>,
) -> Result<(), ClipError> {
    for items in items.chunks(batch.max(1)) {
        let items: Vec<&T::Item> = items.iter().collect();
        for group in tower.groups(&items) {
            let group: Vec<&T::Item> = group.into_iter().map(|place| items[place]).collect();
            each(tower, &group)?;
        }
    }
    Ok(())
}

fn run<T: Tower>(tower: &mut T, items: &[&T::Item]) -> Result<(), ClipError> {
    tower.run(items)?.into_iter().try_for_each(|result| result.map(drop))
}
