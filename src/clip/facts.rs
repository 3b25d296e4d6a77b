//! What the two graphs of a model are, read without running them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::ClipError;
use super::directory::{ModelFiles, sha256};
use super::graph::combined_output;
use super::onnx::{GraphFacts, Onnx};
use crate::domain::{Activation, Modality};

/// Both towers.
pub(super) struct ModelFacts {
    pub(super) image: GraphFacts,
    pub(super) text: GraphFacts,
    /// Graphs and their external weights, image tower first; each once.
    pub(super) graph_files: Vec<PathBuf>,
    /// Size of them all.
    pub(super) size_bytes: u64,
}

impl ModelFacts {
    /// Reads both graphs, and checks that they are whole and that their external weights are there. Milliseconds,
    /// whatever the size.
    pub(super) fn read(files: &ModelFiles) -> Result<Self, ClipError> {
        let image = Onnx::open(&files.image_graph)?;
        if files.is_combined() {
            let [image_output, text_output] = [Modality::Image, Modality::Text].map(|m| combined_output(&image, m));
            return Ok(Self {
                image: image.facts(Some(&image_output?)),
                text: image.facts(Some(&text_output?)),
                size_bytes: image.files().iter().map(|(_, bytes)| bytes).sum(),
                graph_files: image.files().into_iter().map(|(file, _)| file).collect(),
            });
        }
        let text = Onnx::open(&files.text_graph)?;
        let mut all = image.files();
        all.extend(text.files().into_iter().filter(|(file, _)| !image.files().iter().any(|(other, _)| other == file)));
        Ok(Self {
            image: image.facts(None),
            text: text.facts(None),
            size_bytes: all.iter().map(|(_, bytes)| bytes).sum(),
            graph_files: all.into_iter().map(|(file, _)| file).collect(),
        })
    }

    pub(super) fn tower(&self, modality: Modality) -> &GraphFacts {
        match modality {
            Modality::Image => &self.image,
            Modality::Text => &self.text,
        }
    }

    /// SHA-256 (hex) over all files.
    pub(super) fn sha256(&self) -> Result<String, ClipError> {
        sha256(&self.graph_files)
    }

    /// For the fingerprint: `gelu`, or each tower's where they differ; none where no activation is recognised.
    pub(super) fn activation(&self) -> Option<String> {
        let all: BTreeSet<Activation> =
            [&self.image, &self.text].into_iter().flat_map(|t| t.activations.keys().copied()).collect();
        let list =
            |kinds: &mut dyn Iterator<Item = Activation>| kinds.map(Activation::as_str).collect::<Vec<_>>().join("+");
        match all.len() {
            0 => None,
            1 => Some(list(&mut all.into_iter())),
            _ => {
                let tower = |facts: &GraphFacts| list(&mut facts.activations.keys().copied());
                Some(format!("image {}, text {}", tower(&self.image), tower(&self.text)))
            }
        }
    }
}
