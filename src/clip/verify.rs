//! Verifies that a model gives OpenCLIP's vectors for all golden inputs, and that its files match their digests.

use std::path::PathBuf;

use serde::Serialize;

use super::open::{Model, Texts};
use super::{ClipError, compare};
use crate::config::{ActivationMismatch, ClipSettings, ModelEntry};
use crate::domain::{Explain as _, Finding, Modality, Precision};
use crate::model::{Compared, Golden, Manifest, find};

/// The result of [`verify`].
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    pub model: String,
    pub directory: PathBuf,
    pub precision: Precision,
    /// Whether everything was compared without a difference.
    pub ok: bool,
    /// The lowest cosine to OpenCLIP's vectors. `None`: nothing could be compared, see `problems`.
    pub cosine_min: Option<f32>,
    /// The lowest accepted cosine.
    pub cosine_floor: Option<f32>,
    /// For other precisions, the lowest cosine to the vectors of the fp32 graphs, if those are present.
    pub cosine_to_fp32_min: Option<f32>,
    /// What made the golden vectors.
    pub made_with: Option<String>,
    pub cases: Vec<Case>,
    /// Files that match their digest in `clipstream.json`.
    pub files_checked: usize,
    pub problems: Vec<String>,
    /// What to do about `problems`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
}

/// One golden input.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    pub modality: &'static str,
    /// The picture's name, or the beginning of the text.
    pub input: String,
    pub cosine: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cosine_to_fp32: Option<f32>,
    /// Whether a text's tokens are OpenCLIP's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_equal: Option<bool>,
}

/// Runs all golden inputs of a model through its graphs of `precision`, and checks its files. Blocks, up to minutes for
/// large models. Problems of the model are in the result.
///
/// # Errors
/// There is no model in this precision, or ONNX Runtime is missing.
pub fn verify(entry: &ModelEntry, settings: &ClipSettings, precision: Precision) -> Result<Verification, ClipError> {
    let directory = settings.model_directory(entry);
    let settings = &ClipSettings { precision, ..settings.clone() };
    let files = find(&entry.id, &directory, precision)?;
    super::load_runtime(settings)?;
    let mut result = Verification {
        model: entry.id.to_string(),
        directory: directory.clone(),
        precision,
        ok: false,
        cosine_min: None,
        cosine_floor: None,
        cosine_to_fp32_min: None,
        made_with: None,
        cases: Vec::new(),
        files_checked: 0,
        problems: Vec::new(),
        next_step: None,
    };
    if let Some(manifest) = files.manifest.as_deref().map(Manifest::read).transpose()? {
        result.problems = manifest.problems(&directory);
        result.files_checked = manifest.file_count() - result.problems.len();
    }
    match &files.golden {
        Some(golden) => {
            if let Err(e) = result.compare(entry, settings, &Golden::read(golden)?, precision) {
                let Finding { message, hint } = e.explain();
                result.problems.push(message);
                result.next_step = hint.map(Into::into);
            }
        }
        None => {
            result.problems.push(format!(
                "it cannot be verified: there are no golden vectors (golden.json) in {}",
                directory.display()
            ));
            let step = "export it with tools/export_openclip.py, which writes OpenCLIP's own vectors beside the graphs";
            result.next_step = Some(step.to_owned());
        }
    }
    result.ok = result.problems.is_empty();
    if !result.ok && result.next_step.is_none() {
        result.next_step = Some("pull the model again, or export it again with tools/export_openclip.py".to_owned());
    }
    Ok(result)
}

impl Verification {
    fn compare(
        &mut self,
        entry: &ModelEntry,
        settings: &ClipSettings,
        golden: &Golden,
        precision: Precision,
    ) -> Result<(), ClipError> {
        // One session is enough. A wrong activation is reported, but still measured.
        let measured =
            ClipSettings { sessions: 1, activation_mismatch: ActivationMismatch::Accept, ..settings.clone() };
        let model = Model::read(entry, &measured)?;
        if settings.activation_mismatch == ActivationMismatch::Refuse {
            self.problems.extend(model.activation_problem.clone());
        }
        let (compared, floor) = compared(golden, &model)?;
        let has_fp32 = precision != Precision::Fp32 && model.opener.files.precisions.contains(&Precision::Fp32);
        drop(model);
        let mut reference = Vec::new();
        if has_fp32 {
            let measured = ClipSettings { precision: Precision::Fp32, ..measured };
            reference = self::compared(golden, &Model::read(entry, &measured)?)?.0;
        }
        self.problems.extend(compared.iter().filter_map(|c| c.problem(floor)));
        self.cases = (0..compared.len()).filter_map(|n| Some(case(compared.get(n)?, reference.get(n)))).collect();
        // `f32::min` ignores NaN; such a case is a separate problem.
        self.cosine_min = self.cases.iter().map(|c| c.cosine).reduce(f32::min);
        self.cosine_to_fp32_min = self.cases.iter().filter_map(|c| c.cosine_to_fp32).reduce(f32::min);
        self.cosine_floor = Some(floor);
        self.made_with = Some(golden.made_with.clone());
        Ok(())
    }
}

/// All golden inputs, and the lowest accepted cosine.
fn compared(golden: &Golden, model: &Model) -> Result<(Vec<Compared>, f32), ClipError> {
    let compare = || {
        let mut images = model.open_images()?;
        let Texts { towers: mut texts, tokenizer } = model.open_texts()?;
        let floors = [&images.active, &texts.active].map(|active| compare::floor(golden, model, active));
        let (Some(image), Some(text)) = (images.towers.first_mut(), texts.towers.first_mut()) else {
            return Err(ClipError::stopped());
        };
        let mut compared = compare::images(golden, model, image, golden.images.len())?;
        compared.extend(compare::texts(golden, model, text, &tokenizer, golden.texts.len())?);
        Ok((compared, floors[0].min(floors[1])))
    };
    compare().map_err(|e| model.named(e))
}

fn case(compared: &Compared, reference: Option<&Compared>) -> Case {
    Case {
        modality: compared.modality.as_str(),
        input: compared.input.clone(),
        cosine: compared.cosine,
        cosine_to_fp32: reference.map(|r| r.vector.cosine(&compared.vector)),
        tokens_equal: (compared.modality == Modality::Text).then_some(compared.tokens_differ.is_none()),
    }
}
