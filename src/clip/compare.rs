//! Compares an open model with the golden inputs of its directory.

use super::ClipError;
use super::open::{Model, Texts};
use super::opener::{Opener, Towers};
use super::probes::Probes;
use super::providers::Active;
use super::tower::{ImageTower, TextTower, Tower as _};
use crate::domain::{Decoding, Fault, Modality, ModelReason, Orientation, Precision};
use crate::model::{Compared, Golden, GoldenImage};
use crate::picture::Pixels;
use crate::tokenize::Tokenizer;

/// Golden pictures are small; a larger one was not written by the export tool.
const PIXELS_MAX: u64 = 16 * 1024 * 1024;

/// Golden inputs run at every start: enough to detect a wrong graph, tokenizer or preprocessing of any model.
const START_TEXTS: usize = 2;
const START_IMAGES: usize = 1;

/// The lowest accepted cosine for an open tower. Providers that round internally (`tensorrt.fp16`, `cuda.tf32`) are held to
/// half precision's floor, whatever the graph's precision.
pub(super) fn floor(golden: &Golden, model: &Model, active: &Active) -> f32 {
    let floor = golden.cosine_min(model.opener.files.precision);
    if model.opener.settings().is_exact(active.first()) { floor } else { floor.min(golden.cosine_min(Precision::Fp16)) }
}

/// Runs the first `count` golden pictures through the image tower.
///
/// # Errors
/// The tower fails, or gives no valid vector (NaN, or all zeros).
pub(super) fn images(
    golden: &Golden,
    model: &Model,
    tower: &mut ImageTower,
    count: usize,
) -> Result<Vec<Compared>, ClipError> {
    let pixels = pixels(golden, model, count)?;
    let batch_max = model.opener.settings().image_batch_max;
    let vectors = tower.run_in_batches(&pixels.iter().collect::<Vec<_>>(), batch_max)?;
    let compared = golden
        .images
        .iter()
        .zip(vectors)
        .map(|(image, vector)| Ok(golden.compared(Modality::Image, &image.name, vector?, &image.vector, None)?));
    compared.collect()
}

/// Runs the first `count` golden texts through the text tower.
///
/// # Errors
/// The tower fails, or gives no valid vector (NaN, or all zeros).
pub(super) fn texts(
    golden: &Golden,
    model: &Model,
    tower: &mut TextTower,
    tokenizer: &Tokenizer,
    count: usize,
) -> Result<Vec<Compared>, ClipError> {
    let tokens: Vec<_> = golden.texts.iter().take(count).map(|text| tokenizer.encode(&text.text)).collect();
    let batch_max = model.opener.settings().text_batch_max;
    let vectors = tower.run_in_batches(&tokens.iter().collect::<Vec<_>>(), batch_max)?;
    let compared = golden.texts.iter().zip(&tokens).zip(vectors).map(|((text, found), vector)| {
        let differ = (*found != text.tokens).then(|| format!("found {found:?}, expected {:?}", text.tokens));
        Ok(golden.compared(Modality::Text, &text.text, vector?, &text.vector, differ)?)
    });
    compared.collect()
}

/// Tests an image tower, and returns the inputs that each of its sessions must always reproduce. Without golden inputs, whatever
/// the tower gives now is right.
///
/// # Errors
/// Its vectors are not OpenCLIP's.
pub(super) fn prove_images(
    golden: Option<&Golden>,
    model: &Model,
    opened: &mut Towers<ImageTower>,
) -> Result<Probes<Pixels>, ClipError> {
    let tower = opened.towers.first_mut().ok_or_else(ClipError::stopped)?;
    let Some(golden) = golden else {
        let picture = tower.trial_picture();
        return Probes::of_start(tower, vec![picture]);
    };
    let floor = floor(golden, model, &opened.active);
    refuse_others(golden, &images(golden, model, tower, START_IMAGES)?, floor)?;
    let inputs = pixels(golden, model, START_IMAGES)?.into_iter().zip(&golden.images);
    Ok(Probes::golden(inputs.map(|(pixels, image)| (pixels, image.vector.clone())).collect(), floor))
}

/// The same for a text tower.
///
/// # Errors
/// Its vectors are not OpenCLIP's.
pub(super) fn prove_texts(
    golden: Option<&Golden>,
    model: &Model,
    opened: &mut Texts,
) -> Result<Probes<Vec<i64>>, ClipError> {
    let Texts { towers, tokenizer } = opened;
    let tower = towers.towers.first_mut().ok_or_else(ClipError::stopped)?;
    let Some(golden) = golden else { return Probes::of_start(tower, Opener::probes(tokenizer)) };
    let floor = floor(golden, model, &towers.active);
    refuse_others(golden, &texts(golden, model, tower, tokenizer, START_TEXTS)?, floor)?;
    let inputs = golden.texts.iter().take(START_TEXTS);
    Ok(Probes::golden(inputs.map(|text| (tokenizer.encode(&text.text), text.vector.clone())).collect(), floor))
}

fn refuse_others(golden: &Golden, compared: &[Compared], floor: f32) -> Result<(), ClipError> {
    let Some(problem) = compared.iter().find_map(|c| c.problem(floor)) else { return Ok(()) };
    let message = format!("the model does not give OpenCLIP's vectors ({}): {problem}", golden.path.display());
    Err(Fault::new(ModelReason::GoldenMismatch, message)
        .hint("see clipstream models verify, and pull or export the model again")
        .into())
}

fn pixels(golden: &Golden, model: &Model, count: usize) -> Result<Vec<Pixels>, ClipError> {
    // As OpenCLIP does it, whatever the settings do to other pictures.
    let preprocess = model.preprocess.clone().with(Orientation::default(), Decoding::default());
    let pixels = |image: &GoldenImage| {
        preprocess.decode(&image.file, PIXELS_MAX).map_err(|e| {
            let message = format!("{}: picture {:?}: {}", golden.path.display(), image.name, e.message);
            ClipError::from(Fault::new(ModelReason::GoldenUnusable, message))
        })
    };
    golden.images.iter().take(count).map(pixels).collect()
}
