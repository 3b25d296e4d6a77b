//! From a model's entry in the settings to a [`Clip`]: reads and checks its files, and opens its towers, at once or when they
//! are needed.

use std::sync::Arc;
use std::time::Duration;

use super::engine::Engine;
use super::open::{Model, Texts};
use super::opener::Towers;
use super::providers::Active;
use super::session::{Recovery, Reopen, Sessions};
use super::slot::Slot;
use super::tower::{ImageTower, TextTower, Tower};
use super::{Clip, ClipError, compare};
use crate::config::{ClipSettings, ModelEntry, Provider};
use crate::domain::Modality;
use crate::telemetry::{Metrics, Pulse};
use crate::tokenize::Tokenizer;

/// A running image tower.
pub(super) struct ImageSide {
    pub(super) engine: Engine<ImageTower>,
    pub(super) active: Active,
}

/// A running text tower.
pub(super) struct TextSide {
    pub(super) engine: Engine<TextTower>,
    pub(super) active: Active,
    pub(super) tokenizer: Arc<Tokenizer>,
}

/// Opens one tower of a model.
struct Opening {
    model: Arc<Model>,
    metrics: Arc<Metrics>,
    /// Beats while the tower is opened, which may hang in a driver.
    opening: Pulse,
    /// Of the tower's threads.
    pulses: Vec<Pulse>,
}

impl Clip {
    /// Finds ONNX Runtime and the model's files, and opens both towers. Blocks, up to seconds: call it off the async
    /// threads. No error is an item's fault.
    pub fn load(entry: &ModelEntry, settings: &ClipSettings, metrics: Arc<Metrics>) -> Result<Self, ClipError> {
        let clip = Self::prepare(entry, settings, metrics)?;
        clip.open_both()?;
        clip.fingerprint()?;
        Ok(clip)
    }

    /// The same, except that a tower is opened when it is first needed. If providers other than the CPU are configured, both are
    /// opened at once: nothing else tells whether the providers are available.
    pub fn prepare(entry: &ModelEntry, settings: &ClipSettings, metrics: Arc<Metrics>) -> Result<Self, ClipError> {
        Self::prepare_with(entry, settings, metrics, &[])
    }

    /// The same for all of `clip.models`. Those of one checkpoint and directory, of whose vectors different parts are kept, have
    /// their towers in common. Metrics and messages name such towers after the first of them.
    pub fn prepare_all(settings: &ClipSettings, metrics: &Arc<Metrics>) -> Result<Vec<Arc<Self>>, ClipError> {
        let mut all = Vec::with_capacity(settings.models.len());
        for entry in &settings.models {
            all.push(Arc::new(Self::prepare_with(entry, settings, metrics.clone(), &all)?));
        }
        Ok(all)
    }

    fn prepare_with(
        entry: &ModelEntry,
        settings: &ClipSettings,
        metrics: Arc<Metrics>,
        others: &[Arc<Self>],
    ) -> Result<Self, ClipError> {
        let model = Model::read(entry, settings)?;
        if let Some(other) = others.iter().find(|other| other.model.has_towers_of(&model)) {
            let clip = Self {
                // Its threads are the other's.
                pulses: Vec::new(),
                image: other.image.clone(),
                text: other.text.clone(),
                model: Arc::new(model.beside(&other.model)?),
            };
            metrics.model(&clip.id().to_string(), &clip.runs().info());
            return Ok(clip);
        }
        let model = Arc::new(model);
        if model.opener.files.golden.is_none() {
            tracing::info!(
                model = %model.id, directory = %model.directory.display(),
                "not verified: the model has no golden vectors (golden.json) to compare its own with"
            );
        }
        let recovery_max = Duration::from_millis(settings.recovery_max_ms);
        let image = Opening::new::<ImageTower>(&model, &metrics);
        let text = Opening::new::<TextTower>(&model, &metrics);
        let clip = Self {
            pulses: image.all_pulses().chain(text.all_pulses()).cloned().collect(),
            image: Arc::new(Slot::new(recovery_max, move || image.images())),
            text: Arc::new(Slot::new(recovery_max, move || text.texts())),
            model,
        };
        if settings.providers.iter().any(|entry| entry.provider != Provider::Cpu) || clip.model.dimension().is_none() {
            clip.open_both()?;
        }
        metrics.model(&clip.id().to_string(), &clip.runs().info());
        Ok(clip)
    }

    /// Opens the towers that are not open yet, both at the same time.
    pub(super) fn open_both(&self) -> Result<(&ImageSide, &TextSide), ClipError> {
        std::thread::scope(|scope| {
            let image = scope.spawn(|| self.image.get_now());
            let text = self.text.get_now();
            let image = image.join().unwrap_or_else(|_| Err(ClipError::stopped()))?;
            Ok((image, text?))
        })
    }

    /// Opens towers that are not open yet, so that no item waits for them. Blocks, up to seconds.
    pub fn open(&self, towers: &[Modality]) -> Result<(), ClipError> {
        match (towers.contains(&Modality::Image), towers.contains(&Modality::Text)) {
            (true, true) => self.open_both().map(drop),
            (true, false) => self.image.get_now().map(drop),
            (false, true) => self.text.get_now().map(drop),
            (false, false) => Ok(()),
        }
    }

    /// Tests the towers that are not open yet: opens each and closes it again, one after the other. Blocks, up to seconds.
    ///
    /// # Errors
    /// One cannot be opened, or its vectors are not OpenCLIP's.
    pub fn prove(&self) -> Result<(), ClipError> {
        self.image.prove()?;
        self.text.prove()
    }
}

impl Opening {
    fn new<T: Tower>(model: &Arc<Model>, metrics: &Arc<Metrics>) -> Self {
        let settings = model.opener.settings();
        // Those of which no thread comes to be always rest.
        let places = settings.sessions.max(1) * settings.device_ids.len().max(1);
        let name = format!("the {} tower of {}", T::MODALITY, model.id);
        Self {
            model: model.clone(),
            metrics: metrics.clone(),
            opening: Pulse::new(format!("the opening of {name}")),
            pulses: (0..places).map(|_| Pulse::new(name.clone())).collect(),
        }
    }

    fn all_pulses(&self) -> impl Iterator<Item = &Pulse> {
        std::iter::once(&self.opening).chain(&self.pulses)
    }

    fn images(&self) -> Result<ImageSide, ClipError> {
        let _opening = self.opening.work();
        let open = || {
            let golden = self.model.golden()?;
            let mut images = self.model.open_images()?;
            let probes = Arc::new(compare::prove_images(golden.as_ref(), &self.model, &mut images)?);
            let Towers { towers, active, .. } = images;
            let reopen: Reopen<ImageTower> = {
                let (model, active) = (self.model.clone(), active.clone());
                Arc::new(move |place| model.opener.another_image_tower(&active, place))
            };
            let recovery = Recovery { probes, reopen, recovery_max: self.recovery_max() };
            let batch_max = self.model.opener.settings().image_batch_max;
            let engine = self.engine(Sessions { towers, recovery }, batch_max, &active)?;
            Ok(ImageSide { engine, active })
        };
        open().map_err(|e| self.model.named(e))
    }

    fn texts(&self) -> Result<TextSide, ClipError> {
        let _opening = self.opening.work();
        let open = || {
            let golden = self.model.golden()?;
            let mut texts = self.model.open_texts()?;
            let probes = Arc::new(compare::prove_texts(golden.as_ref(), &self.model, &mut texts)?);
            let Texts { towers: Towers { towers, active, .. }, tokenizer } = texts;
            let reopen: Reopen<TextTower> = {
                let (model, active, tokenizer) = (self.model.clone(), active.clone(), tokenizer.clone());
                Arc::new(move |place| model.opener.another_text_tower(&active, place, &tokenizer))
            };
            let recovery = Recovery { probes, reopen, recovery_max: self.recovery_max() };
            let batch_max = self.model.opener.settings().text_batch_max;
            let engine = self.engine(Sessions { towers, recovery }, batch_max, &active)?;
            Ok(TextSide { engine, active, tokenizer })
        };
        open().map_err(|e| self.model.named(e))
    }

    fn engine<T: Tower>(
        &self,
        sessions: Sessions<T>,
        batch_max: usize,
        active: &Active,
    ) -> Result<Engine<T>, ClipError> {
        let settings = self.model.opener.settings();
        tracing::info!(
            model = %self.model.id, modality = %T::MODALITY, directory = %self.model.directory.display(),
            layout = self.model.opener.files.layout, precision = %settings.precision, providers = %active,
            intra_op_threads = settings.intra_op_threads(), sessions = sessions.towers.len(), "tower opened"
        );
        Engine::start(&self.model.id.to_string(), sessions, batch_max, &self.pulses, &self.metrics)
    }

    fn recovery_max(&self) -> Duration {
        Duration::from_millis(self.model.opener.settings().recovery_max_ms)
    }
}
