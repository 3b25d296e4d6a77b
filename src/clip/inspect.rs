//! Describes a model's directory without running the model.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::ClipError;
use super::open::Model;
use crate::config::{ClipSettings, ModelEntry};
use crate::domain::{Activation, Fingerprint, Modality, Precision};
use crate::model::{Known, ModelFacts, ModelFiles, Port, find};
use crate::picture::Preprocess;

/// A model's files and what its graphs say.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    pub model: String,
    pub directory: PathBuf,
    pub layout: &'static str,
    /// Precision of the described graphs.
    pub precision: Precision,
    /// All available precisions.
    pub precisions: Vec<Precision>,
    pub image: TowerInspection,
    pub text: TowerInspection,
    /// Weights of both towers.
    pub parameters: u64,
    /// Graphs and external weights of both towers.
    pub size_bytes: u64,
    /// Tokens, from the directory or CLIP's default.
    pub context_length: usize,
    /// Canonical text of the preprocessing; `None` if nothing defines it, see `problems`.
    pub preprocessing: Option<String>,
    /// Whether there are golden vectors to verify it with.
    pub golden: bool,
    /// Identifies comparable vectors; `None` if the model cannot be loaded, see `problems`.
    pub fingerprint: Option<Fingerprint>,
    /// Why loading would refuse it.
    pub problems: Vec<String>,
}

/// One tower's graph.
#[derive(Clone, Debug, Serialize)]
pub struct TowerInspection {
    pub file: PathBuf,
    /// Each as `name type[axes]`; an axis is a size, or the name of a free one.
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// Version of ONNX's own operators.
    pub opset: i64,
    /// Other operators' domains and versions.
    pub domains: BTreeMap<String, i64>,
    pub ir_version: i64,
    pub producer: String,
    /// How often the graph computes each; empty if none is recognised.
    pub activations: BTreeMap<Activation, usize>,
    /// Whether the graph itself normalises vectors. clipstream always does.
    pub normalised: bool,
    pub quantised: bool,
    pub parameters: u64,
    /// Weights by element type.
    pub weights: BTreeMap<&'static str, u64>,
    /// Size of a text tower's token embedding.
    pub vocabulary: Option<u64>,
    /// Nodes by operator.
    pub operators: BTreeMap<String, usize>,
}

/// Reads a model's directory. Blocks: the fingerprint reads every byte, and if the graph does not state the dimension,
/// the model runs once.
///
/// # Errors
/// There is no model, or a file is not an ONNX graph, is truncated, or its external weights are missing. Other reasons
/// to refuse the model are in [`Inspection::problems`].
pub fn inspect(entry: &ModelEntry, settings: &ClipSettings, precision: Precision) -> Result<Inspection, ClipError> {
    let settings = &ClipSettings { precision, ..settings.clone() };
    let directory = settings.model_directory(entry);
    let files = find(&entry.id, &directory, precision)?;
    let facts = ModelFacts::read(&files)?;
    let known = Known::of(&entry.id, &files)?;
    let mut problems: Vec<String> = known.activation_problem(&facts).into_iter().collect();
    let preprocess = known
        .preprocess(&files)
        .and_then(|found| known.check_preprocessing(&files, &found).map(|()| found))
        .map(|found| found.with(settings.orientation, settings.decoding))
        .map_err(|e| problems.push(e.to_string()))
        .ok();
    let fingerprint = match fingerprint(entry, settings, &files, &facts, preprocess.as_ref()) {
        Ok(fingerprint) => fingerprint,
        Err(e) => {
            problems.push(e.to_string());
            None
        }
    };
    Ok(Inspection {
        model: entry.id.to_string(),
        layout: files.layout,
        precision,
        image: tower(&files, &facts, Modality::Image),
        text: tower(&files, &facts, Modality::Text),
        parameters: facts.image.parameters() + facts.text.parameters(),
        size_bytes: facts.size_bytes,
        context_length: files.text_input.context_length,
        preprocessing: preprocess.map(|p| p.canonical()),
        golden: files.golden.is_some(),
        precisions: files.precisions,
        fingerprint,
        problems,
        directory,
    })
}

fn fingerprint(
    entry: &ModelEntry,
    settings: &ClipSettings,
    files: &ModelFiles,
    facts: &ModelFacts,
    preprocess: Option<&Preprocess>,
) -> Result<Option<Fingerprint>, ClipError> {
    let Some(preprocess) = preprocess else { return Ok(None) };
    match facts.dimension() {
        Some(dimension) => Ok(Some(facts.fingerprint(&entry.id, dimension, preprocess, files)?)),
        None => {
            let model = Model::read(entry, settings)?;
            let (images, texts) = (model.open_images(), model.open_texts());
            images.and(texts.map(drop)).map_err(|e| model.named(e))?;
            model.fingerprint().cloned().map(Some)
        }
    }
}

fn tower(files: &ModelFiles, facts: &ModelFacts, modality: Modality) -> TowerInspection {
    let facts = facts.tower(modality);
    let others = facts.opsets.iter().filter(|(domain, _)| !domain.is_empty());
    TowerInspection {
        file: if modality == Modality::Image { files.image_graph.clone() } else { files.text_graph.clone() },
        inputs: facts.inputs.clone(),
        outputs: facts.outputs.clone(),
        opset: facts.opset(),
        domains: others.cloned().collect(),
        ir_version: facts.ir_version,
        producer: facts.producer.clone(),
        activations: facts.activations.clone(),
        normalised: facts.normalised,
        quantised: facts.quantised,
        parameters: facts.parameters(),
        weights: facts.weights.clone(),
        vocabulary: facts.vocabulary,
        operators: facts.operators.clone(),
    }
}
