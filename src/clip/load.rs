//! From a model's entry in the settings to a [`Clip`]: opens the model, tests it, and starts its threads.

use std::sync::Arc;
use std::time::Duration;

use super::engine::Engine;
use super::open::{Opened, named};
use super::opener::Opener;
use super::probes::Probes;
use super::session::{Recovery, Reopen, Sessions};
use super::tower::{ImageTower, TextTower};
use super::{Clip, ClipError, Runs, compare};
use crate::config::{ClipSettings, ModelEntry};
use crate::domain::ModelId;
use crate::model::Golden;
use crate::picture::Pixels;
use crate::telemetry::Metrics;

impl Clip {
    /// Finds ONNX Runtime and the model's files, opens the sessions and runs each tower once. Blocks, up to seconds:
    /// call it off the async threads. No error is an item's fault.
    pub fn load(entry: &ModelEntry, settings: &ClipSettings, metrics: Arc<Metrics>) -> Result<Self, ClipError> {
        let mut opened = Opened::open(entry, settings)?;
        self_test(&mut opened, &entry.id)?;
        let fingerprint = opened.fingerprint(&entry.id)?;
        let (probe_images, probe_texts) = probes(&mut opened, &entry.id)?;
        let Opened { directory, opener, preprocess, tokenizer, images, texts, .. } = opened;
        let runs = Runs { precision: settings.precision, image: images.active, text: texts.active };
        let name = entry.id.to_string();
        tracing::info!(
            model = name, directory = %directory.display(), layout = opener.files.layout, dimension = images.dimension,
            precision = %runs.precision, providers = %runs, intra_op_threads = settings.intra_op_threads(),
            sessions = images.towers.len(), "model loaded"
        );
        metrics.model(&name, &runs.info());
        let opener = Arc::new(opener);
        let recovery_max = Duration::from_millis(settings.recovery_max_ms);
        let reopen_image: Reopen<ImageTower> = {
            let (opener, active) = (opener.clone(), runs.image.clone());
            Arc::new(move |place| opener.another_image_tower(&active, place))
        };
        let reopen_text: Reopen<TextTower> = {
            let (opener, active, tokenizer) = (opener.clone(), runs.text.clone(), tokenizer.clone());
            Arc::new(move |place| opener.another_text_tower(&active, place, &tokenizer))
        };
        let image = Recovery { probes: Arc::new(probe_images), reopen: reopen_image, recovery_max };
        let text = Recovery { probes: Arc::new(probe_texts), reopen: reopen_text, recovery_max };
        let image = Sessions { towers: images.towers, recovery: image };
        let text = Sessions { towers: texts.towers, recovery: text };
        Ok(Self {
            id: entry.id.clone(),
            fingerprint,
            runs,
            preprocess,
            tokenizer,
            image_size: opener.image_size,
            image: Engine::start(&name, image, settings.image_batch_max, &metrics)?,
            text: Engine::start(&name, text, settings.text_batch_max, &metrics)?,
            opener,
        })
    }
}

/// Runs a few golden inputs, if the directory has any. Refuses the model if it fails them.
fn self_test(opened: &mut Opened, id: &ModelId) -> Result<(), ClipError> {
    let Some(path) = opened.opener.files.golden.clone() else {
        tracing::info!(
            model = %id, directory = %opened.directory.display(),
            "not verified: the model has no golden vectors (golden.json) to compare its own with"
        );
        return Ok(());
    };
    let tested = Golden::read(&path).map_err(ClipError::from).and_then(|golden| compare::self_test(&golden, opened));
    tested.map_err(|e| named(id, &opened.directory, e))
}

/// Inputs that every session must always reproduce: the golden ones, otherwise those of the trial run.
fn probes(opened: &mut Opened, id: &ModelId) -> Result<(Probes<Pixels>, Probes<Vec<i64>>), ClipError> {
    let probes = match &opened.opener.files.golden {
        Some(path) => Golden::read(path).map_err(ClipError::from).and_then(|golden| compare::probes(&golden, opened)),
        None => probes_of_start(opened),
    };
    probes.map_err(|e| named(id, &opened.directory, e))
}

fn probes_of_start(opened: &mut Opened) -> Result<(Probes<Pixels>, Probes<Vec<i64>>), ClipError> {
    let (Some(image), Some(text)) = (opened.images.towers.first_mut(), opened.texts.towers.first_mut()) else {
        return Err(ClipError::stopped());
    };
    let picture = image.trial_picture();
    Ok((Probes::of_start(image, vec![picture])?, Probes::of_start(text, Opener::probes(&opened.tokenizer))?))
}
