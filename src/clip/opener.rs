//! From a model's files to towers that have run once: as many as configured, on every device.

use std::sync::Arc;

use super::ClipError;
use super::graph::{self, Source};
use super::providers::{Active, ImageShapes, Providers, TextShapes, Tried, image_profiles, text_profiles};
use super::tower::{ImageTower, TextTower, Tolerance};
use crate::config::ClipSettings;
use crate::domain::registry::TokenizerKind;
use crate::domain::{Embedding, Fault, Modality, ModelReason, Precision};
use crate::model::{ModelFiles, check_kind, check_vocabulary};
use crate::tokenize::{TOKENIZER_CONFIG, Tokenizer};

/// Texts for the text tower's trial, of several lengths, longest last. For each, the padded vector is compared with the
/// one at real length.
const PROBES: [&str; 3] =
    ["", "a photo of a red shoe", "two brown dogs run over a wet green field while a man in a blue coat looks on"];

/// Opens further sessions of the same model.
pub(super) struct Opener {
    pub(super) files: ModelFiles,
    pub(super) providers: Providers,
    /// `[height, width]` of preprocessed pictures.
    pub(super) image_size: [usize; 2],
    /// Rows of the text tower's token embedding, if the graph tells.
    pub(super) vocabulary: Option<u64>,
    /// The checkpoint's, if it is OpenCLIP's.
    pub(super) tokenizer_kind: Option<TokenizerKind>,
}

/// A tower's sessions on all devices.
pub(super) struct Towers<T> {
    pub(super) towers: Vec<T>,
    pub(super) active: Active,
    /// Length of a vector.
    pub(super) dimension: usize,
}

impl Opener {
    pub(super) fn source(&self, modality: Modality) -> Source<'_> {
        let file = match modality {
            Modality::Image => &self.files.image_graph,
            Modality::Text => &self.files.text_graph,
        };
        let part = self.files.is_combined().then_some(modality);
        Source { file, part, shapes_vary: modality == Modality::Text }
    }

    pub(super) fn settings(&self) -> &ClipSettings {
        self.providers.settings()
    }

    pub(super) fn image_towers(&self) -> Result<Towers<ImageTower>, ClipError> {
        let mut dimension = 0;
        let (towers, active) = self.on_all_devices(|device, first| {
            let (tried, found) = self.image_tower(device, first)?;
            dimension = found;
            Ok(tried)
        })?;
        Ok(Towers { towers, active, dimension })
    }

    pub(super) fn text_towers(&self) -> Result<(Towers<TextTower>, Arc<Tokenizer>), ClipError> {
        let (mut dimension, mut tokenizer) = (0, None);
        let (towers, active) = self.on_all_devices(|device, first| {
            let (tried, found) = self.text_tower(device, first, &mut tokenizer)?;
            dimension = found;
            Ok(tried)
        })?;
        let tokenizer = tokenizer.ok_or_else(ClipError::stopped)?;
        Ok((Towers { towers, active, dimension }, tokenizer))
    }

    /// Opens another image tower with the same providers, on the device of the tower at `place`.
    pub(super) fn another_image_tower(&self, active: &Active, place: usize) -> Result<ImageTower, ClipError> {
        Ok(self.image_tower(self.device(active, place), Some(active))?.0.tower)
    }

    /// Opens another text tower.
    pub(super) fn another_text_tower(
        &self,
        active: &Active,
        place: usize,
        tokenizer: &Arc<Tokenizer>,
    ) -> Result<TextTower, ClipError> {
        Ok(self.text_tower(self.device(active, place), Some(active), &mut Some(tokenizer.clone()))?.0.tower)
    }

    /// The device of the tower at `place`: devices in order, as [`Self::on_all_devices`] opens them.
    fn device(&self, active: &Active, place: usize) -> u32 {
        let place = place / self.settings().sessions.max(1);
        active.devices.get(place).or(active.devices.first()).copied().unwrap_or(0)
    }

    /// Tokens of the trial texts.
    pub(super) fn probes(tokenizer: &Tokenizer) -> Vec<Vec<i64>> {
        PROBES.map(|text| tokenizer.encode(text)).into()
    }

    /// The first session determines which providers are available; the others must use the same ones.
    fn on_all_devices<T>(
        &self,
        mut open: impl FnMut(u32, Option<&Active>) -> Result<Tried<T>, ClipError>,
    ) -> Result<(Vec<T>, Active), ClipError> {
        let device_ids = &self.settings().device_ids;
        let first = device_ids.first().copied().unwrap_or(0);
        let Tried { tower, mut active } = open(first, None)?;
        active.devices = if active.first().has_device_ids() { device_ids.clone() } else { vec![first] };
        let mut towers = vec![tower];
        let places =
            active.devices.iter().flat_map(|device| std::iter::repeat_n(*device, self.settings().sessions.max(1)));
        for device in places.skip(1) {
            towers.push(open(device, Some(&active))?.tower);
        }
        Ok((towers, active))
    }

    fn image_tower(&self, device: u32, first: Option<&Active>) -> Result<(Tried<ImageTower>, usize), ClipError> {
        let mut dimension = 0;
        let tried = self.providers.open(
            self.source(Modality::Image),
            device,
            first,
            |session| Ok(image_profiles(&graph::image_signature(session)?, self.image_size, self.settings())),
            |session, provider| {
                let signature = graph::image_signature(&session)?;
                ImageTower::new(session, signature, self.image_size, ImageShapes::new(provider, self.settings()))
            },
            |tower, _| {
                dimension = tower.embed(&[tower.trial_picture()])?.first().map_or(0, Embedding::dimension);
                Ok(())
            },
        )?;
        Ok((tried, dimension))
    }

    /// The first call creates the tokenizer, for the graph's context length.
    fn text_tower(
        &self,
        device: u32,
        first: Option<&Active>,
        tokenizer: &mut Option<Arc<Tokenizer>>,
    ) -> Result<(Tried<TextTower>, usize), ClipError> {
        let input = self.files.text_input;
        let mut dimension = 0;
        let tried = self.providers.open(
            self.source(Modality::Text),
            device,
            first,
            |session| Ok(text_profiles(&graph::text_signature(session)?, input.context_length, self.settings())),
            |session, provider| {
                let signature = graph::text_signature(&session)?;
                let shapes = TextShapes::new(provider, self.settings(), input.context_length);
                TextTower::new(session, signature, input, shapes)
            },
            |tower, provider| {
                let tokenizer = match tokenizer {
                    Some(tokenizer) => tokenizer.clone(),
                    None => tokenizer.insert(Arc::new(self.tokenizer(tower.context_length())?)).clone(),
                };
                self.check_mask(tower, &tokenizer)?;
                tower.pad_with(self.files.padding_id(&tokenizer));
                let probes = PROBES.map(|text| tokenizer.encode(text));
                let is_exact = self.settings().precision == Precision::Fp32 && self.settings().is_exact(provider);
                let tolerance = if is_exact { Tolerance::Exact } else { Tolerance::Rounded };
                let vectors = tower.prove_real_length(
                    &probes.iter().collect::<Vec<_>>(),
                    self.settings().text_batch_max,
                    tolerance,
                )?;
                dimension = vectors.first().map_or(0, Embedding::dimension);
                Ok(())
            },
        )?;
        Ok((tried, dimension))
    }

    /// Whether the tokenizer has the mask that the graph takes. With one of our own, padding that the model was trained with would be
    /// masked, and the vectors would be others.
    fn check_mask(&self, tower: &TextTower, tokenizer: &Tokenizer) -> Result<(), ClipError> {
        let Some(mask) = tower.mask().filter(|_| !tokenizer.has_mask()) else { return Ok(()) };
        let graph = self.files.text_graph.display();
        let message = format!(
            "{graph} takes {mask}, and {TOKENIZER_CONFIG} gives texts no mask (model_input_names); expected both or none"
        );
        Err(Fault::new(ModelReason::TokenizerMismatch, message).hint("take both files from the same export").into())
    }

    fn tokenizer(&self, context_length: usize) -> Result<Tokenizer, ClipError> {
        let tokenizer = match &self.files.tokenizer {
            Some(file) => Tokenizer::from_file(file, &self.files.tokenizer_settings, context_length),
            None => Tokenizer::of_clip(context_length),
        }
        .map_err(|found| Fault::found(ModelReason::TokenizerUnusable, found))?;
        check_kind(&self.files, &tokenizer, self.tokenizer_kind)?;
        check_vocabulary(&self.files, &tokenizer, self.vocabulary)?;
        Ok(tokenizer)
    }
}
