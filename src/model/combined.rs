//! Graphs that have both towers.
//!
//! Each tower is cut out of them. The other way, to run the whole with a dummy of the other side, costs a run of the image tower for
//! every batch of texts, since ONNX Runtime computes the whole graph, and a batch of each side of the same size where the graph
//! compares them.

use std::path::Path;

use super::ModelError;
use super::onnx::{GraphFacts, Onnx, Port, extract};
use super::outputs::OUTPUT_NAMES;
use crate::domain::{Modality, ModelReason};

/// One tower of a combined graph's file, as a graph of its own.
///
/// # Errors
/// The file is not an ONNX model, or has no output that is the tower's vector.
pub(crate) fn tower_of(file: &Path, modality: Modality) -> Result<Vec<u8>, ModelError> {
    let onnx = Onnx::open(file)?;
    extract(&onnx, &combined_output(&onnx, modality)?)
}

/// Checks that a part of a combined graph is a tower of its own.
///
/// # Errors
/// It takes what belongs to the other tower, so that there is nothing to cut.
pub(super) fn check_part(file: &Path, part: &GraphFacts, modality: Modality) -> Result<(), ModelError> {
    let is_of_other = |input: &&Port| (input.axes.len() == 4) != (modality == Modality::Image);
    let Some(other) = part.inputs.iter().find(is_of_other) else { return Ok(()) };
    let message = format!(
        "{}: the {modality} vector needs the input {other} as well, expected two towers that have nothing in common",
        file.display()
    );
    Err(ModelError::new(ModelReason::Unusable, message).hint("export the two towers apart"))
}

/// The output of a graph with both towers that is one tower's embedding.
pub(super) fn combined_output(onnx: &Onnx, modality: Modality) -> Result<String, ModelError> {
    let outputs = onnx.outputs();
    let words: &[&str] = match modality {
        Modality::Image => &["image", "vision", "visual"],
        Modality::Text => &["text"],
    };
    let is_embedding = |name: &str| !["logits", "hidden", "pooler"].iter().any(|word| name.contains(word));
    let of_tower = |name: &str| words.iter().any(|word| name.contains(word));
    let mut found = outputs.iter().filter(|o| o.axes.len() == 2 && of_tower(&o.name) && is_embedding(&o.name));
    let preferred = OUTPUT_NAMES.iter().find_map(|name| outputs.iter().find(|o| o.name == *name && of_tower(name)));
    match (preferred, found.next(), found.next()) {
        (Some(output), ..) | (None, Some(output), None) => Ok(output.name.clone()),
        _ => {
            let found: Vec<_> = outputs.iter().map(ToString::to_string).collect();
            let message = format!(
                "the graph's outputs are {}; expected one that is the {} embedding, [batch, dimension], for example {}",
                found.join(", "),
                modality.as_str(),
                if modality == Modality::Image { "image_embeds" } else { "text_embeds" },
            );
            Err(ModelError::new(ModelReason::Unusable, message).hint("export the two towers apart"))
        }
    }
}
