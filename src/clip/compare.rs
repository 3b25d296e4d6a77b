//! Compares an open model with the golden inputs of its directory.

use super::ClipError;
use super::open::Opened;
use super::probes::Probes;
use super::providers::Active;
use super::tower::Tower as _;
use crate::domain::{Decoding, Fault, Modality, ModelReason, Orientation, Precision};
use crate::model::{Compared, Golden, GoldenImage};
use crate::picture::Pixels;

/// Golden pictures are small; a larger one was not written by the export tool.
const PIXELS_MAX: u64 = 16 * 1024 * 1024;

/// Golden inputs run at every start: enough to detect a wrong graph, tokenizer or preprocessing of any model.
const START_TEXTS: usize = 2;
const START_IMAGES: usize = 1;

/// The lowest accepted cosine for an open model. Providers that round internally (`tensorrt.fp16`, `cuda.tf32`) are
/// held to half precision's floor, whatever the graph's precision.
pub(super) fn floor(golden: &Golden, model: &Opened) -> f32 {
    let floor = golden.cosine_min(model.opener.files.precision);
    let is_exact = |active: &Active| model.opener.settings().is_exact(active.first());
    if is_exact(&model.images.active) && is_exact(&model.texts.active) {
        floor
    } else {
        floor.min(golden.cosine_min(Precision::Fp16))
    }
}

/// Runs every input through the model.
///
/// # Errors
/// A tower fails, or gives no valid vector (NaN, or all zeros).
pub(super) fn compare(golden: &Golden, model: &mut Opened) -> Result<Vec<Compared>, ClipError> {
    compare_first(golden, model, golden.images.len(), golden.texts.len())
}

/// Refuses a model whose vectors are not OpenCLIP's, by its first golden inputs.
pub(super) fn self_test(golden: &Golden, model: &mut Opened) -> Result<(), ClipError> {
    let floor = floor(golden, model);
    let compared = compare_first(golden, model, START_IMAGES, START_TEXTS)?;
    match compared.iter().find_map(|c| c.problem(floor)) {
        None => Ok(()),
        Some(problem) => {
            let message = format!("the model does not give OpenCLIP's vectors ({}): {problem}", golden.path.display());
            Err(Fault::new(ModelReason::GoldenMismatch, message)
                .hint("see clipstream models verify, and pull or export the model again")
                .into())
        }
    }
}

/// The first golden inputs with their vectors, which a session must always reproduce.
pub(super) fn probes(golden: &Golden, model: &Opened) -> Result<(Probes<Pixels>, Probes<Vec<i64>>), ClipError> {
    let floor = floor(golden, model);
    let pixels = pixels(golden, model, START_IMAGES)?.into_iter();
    let images = pixels.zip(&golden.images).map(|(pixels, image)| (pixels, image.vector.clone())).collect();
    let texts = golden.texts.iter().take(START_TEXTS).map(|t| (model.tokenizer.encode(&t.text), t.vector.clone()));
    Ok((Probes::golden(images, floor), Probes::golden(texts.collect(), floor)))
}

fn pixels(golden: &Golden, model: &Opened, images: usize) -> Result<Vec<Pixels>, ClipError> {
    // Like OpenCLIP, regardless of the picture settings.
    let preprocess = model.preprocess.clone().with(Orientation::default(), Decoding::default());
    let pixels = |image: &GoldenImage| {
        preprocess.decode(&image.file, PIXELS_MAX).map_err(|e| {
            let message = format!("{}: picture {:?}: {}", golden.path.display(), image.name, e.message);
            ClipError::from(Fault::new(ModelReason::GoldenUnusable, message))
        })
    };
    golden.images.iter().take(images).map(pixels).collect()
}

fn compare_first(golden: &Golden, model: &mut Opened, images: usize, texts: usize) -> Result<Vec<Compared>, ClipError> {
    let pixels = pixels(golden, model, images)?;
    let tokens: Vec<_> = golden.texts.iter().take(texts).map(|t| model.tokenizer.encode(&t.text)).collect();

    let (Some(images), Some(texts)) = (model.images.towers.first_mut(), model.texts.towers.first_mut()) else {
        return Err(ClipError::stopped());
    };
    let settings = model.opener.settings();
    let image_vectors = images.run_in_batches(&pixels.iter().collect::<Vec<_>>(), settings.image_batch_max)?;
    let text_vectors = texts.run_in_batches(&tokens.iter().collect::<Vec<_>>(), settings.text_batch_max)?;
    let mut compared = Vec::new();
    for (image, vector) in golden.images.iter().zip(image_vectors) {
        compared.push(golden.compared(Modality::Image, &image.name, vector?, &image.vector, None)?);
    }
    for ((text, found), vector) in golden.texts.iter().zip(&tokens).zip(text_vectors) {
        let differ = (*found != text.tokens).then(|| format!("found {found:?}, expected {:?}", text.tokens));
        compared.push(golden.compared(Modality::Text, &text.text, vector?, &text.vector, differ)?);
    }
    Ok(compared)
}
