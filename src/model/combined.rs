//! Graphs that have both towers.

use std::path::Path;

use super::ModelError;
use super::onnx::{Onnx, extract};
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
