//! What the parts of a pipeline need of the processor, each measured by itself: what a pipeline's rate is held against.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::{EmbedError, Embedder};
use crate::clip::{ClipError, ModelAlone};
use crate::config::Settings;
use crate::picture::Pixels;
use crate::shutdown::Shutdown;

/// Pictures held in memory as pixels, at most: 150 MB at 224 pixels square.
const PICTURES_MAX: usize = 256;
/// Texts that are run, at most.
const TEXTS_MAX: usize = 1024;
/// Enough for a steady rate; each part stops here, after the batch under way.
const PART_MAX: Duration = Duration::from_secs(15);

/// What one item takes of one part of the work, alone and with all cores.
#[derive(Clone, Copy, Debug, Default)]
pub struct Need {
    /// Seconds from item to item.
    pub wall_s: f64,
    /// Seconds of one processor.
    pub processor_s: f64,
}

/// The parts that every picture and text goes through before it is stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// From a picture's file to the image tower's input.
    pub decode: Need,
    pub image: Need,
    pub text: Need,
}

impl Needs {
    /// Pictures and texts per second through the towers alone, one after the other with all cores: nothing that runs these graphs is
    /// faster.
    pub fn model_items_per_s(&self) -> f64 {
        2.0 / (self.image.wall_s + self.text.wall_s)
    }

    /// Pictures and texts per second that `cores` can do where every picture comes with one text and all else is free;
    /// `other_s`: processor seconds that a pair takes elsewhere.
    pub fn bound_items_per_s(&self, cores: usize, other_s: f64) -> f64 {
        let pair_s = self.decode.processor_s + self.image.processor_s + self.text.processor_s + other_s;
        2.0 * cores as f64 / pair_s
    }
}

/// Measures decoding and both towers, one after the other, with the model and the settings of `embedder`, on up to 256 of the
/// pictures and 1024 of the texts, for up to 15 seconds each. `None`: `shutdown` was requested.
///
/// # Errors
/// A picture cannot be read or decoded, or a tower fails.
pub async fn needs_alone(
    embedder: &Embedder,
    settings: &Settings,
    mut pictures: Vec<PathBuf>,
    mut texts: Vec<String>,
    shutdown: &Shutdown,
) -> Result<Option<Needs>, EmbedError> {
    pictures.truncate(PICTURES_MAX);
    texts.truncate(TEXTS_MAX);
    let (embedder, settings, shutdown) = (embedder.clone(), settings.clone(), shutdown.clone());
    let measured = move || {
        let files = pictures.iter().map(|path| {
            let bytes = std::fs::read(path);
            bytes.map_err(|e| EmbedError::Input(format!("cannot read {}: {e}", path.display())))
        });
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let (decode, pixels) = decoded(&embedder, &settings, &pictures, &files, &shutdown)?;
        let mut model = ModelAlone::open(embedder.clip(), &settings.clip)?;
        // The first run of a shape plans its memory.
        model.run_images(&pixels[..pixels.len().min(settings.clip.image_batch_max)], || false)?;
        let image = timed(&shutdown, |enough| model.run_images(&pixels, enough))?;
        let tokens = model.tokens(&texts);
        let text = timed(&shutdown, |enough| model.run_texts(&tokens, enough))?;
        Ok((!shutdown.is_requested()).then_some(Needs { decode, image, text }))
    };
    tokio::task::spawn_blocking(measured).await.map_err(|_| ClipError::stopped())?
}

/// Decodes and preprocesses the files on as many threads as the pipeline does.
fn decoded(
    embedder: &Embedder,
    settings: &Settings,
    names: &[PathBuf],
    files: &[Vec<u8>],
    shutdown: &Shutdown,
) -> Result<(Need, Vec<Pixels>), EmbedError> {
    let (next, made) = (AtomicUsize::new(0), Mutex::new(Ok(Vec::new())));
    let preprocess = embedder.clip().preprocess();
    let need = timed(shutdown, |enough| {
        std::thread::scope(|scope| {
            for _ in 0..settings.clip.preprocess_threads() {
                scope.spawn(|| {
                    while !enough() {
                        let place = next.fetch_add(1, Ordering::Relaxed);
                        let (Some(file), Some(name)) = (files.get(place), names.get(place)) else { return };
                        let pixels = preprocess.decode(file, settings.media.pixels_max);
                        let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
                        match (pixels, made.as_mut()) {
                            (Ok(pixels), Ok(made)) => made.push(pixels),
                            (Err(error), Ok(_)) => {
                                *made = Err(EmbedError::from(ClipError::from(error.about(name.display()))));
                                return;
                            }
                            (_, Err(_)) => return,
                        }
                    }
                });
            }
        });
        let made = made.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(made.as_ref().map_or(0, Vec::len))
    })?;
    Ok((need, made.into_inner().unwrap_or_else(PoisonError::into_inner)?))
}

/// The time that each item of `work` takes. `work` returns how many it has done, and stops when its argument returns true.
fn timed(
    shutdown: &Shutdown,
    work: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> Result<usize, ClipError>,
) -> Result<Need, ClipError> {
    let (start, before) = (Instant::now(), processor_time());
    let items = work(&|| shutdown.is_requested() || start.elapsed() > PART_MAX)?.max(1) as f64;
    let processor = processor_time().saturating_sub(before);
    Ok(Need { wall_s: start.elapsed().as_secs_f64() / items, processor_s: processor.as_secs_f64() / items })
}

/// What this process has used of all cores so far.
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}
