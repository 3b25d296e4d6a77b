//! What the two graphs of a model are, read without running them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::ModelError;
use super::combined::{check_part, combined_output};
use super::directory::{ModelFiles, sha256};
use super::layouts::TOKENIZER_CONFIG;
use super::onnx::{GraphFacts, Onnx};
use crate::domain::{Activation, Fingerprint, Modality, ModelId};
use crate::picture::Preprocess;
use crate::tokenize::{TokenizerSettings, open_clip};

/// Both towers.
pub(crate) struct ModelFacts {
    pub(crate) image: GraphFacts,
    pub(crate) text: GraphFacts,
    /// Graphs and their external weights, image tower first; each once.
    graph_files: Vec<PathBuf>,
    /// Size of them all.
    pub(crate) size_bytes: u64,
    sha256: OnceLock<String>,
}

impl ModelFacts {
    /// Reads both graphs, and checks that they are whole and that their external weights are there. Milliseconds,
    /// whatever the size.
    pub(crate) fn read(files: &ModelFiles) -> Result<Self, ModelError> {
        let onnx = Onnx::open(&files.image_graph)?;
        let mut all = onnx.files();
        let (image, text) = if files.is_combined() {
            let [image, text] = [Modality::Image, Modality::Text].map(|m| combined_output(&onnx, m));
            let (image, text) = (onnx.facts(Some(&image?)), onnx.facts(Some(&text?)));
            check_part(&files.image_graph, &image, Modality::Image)?;
            check_part(&files.text_graph, &text, Modality::Text)?;
            (image, text)
        } else {
            let text = Onnx::open(&files.text_graph)?;
            let others = text.files().into_iter().filter(|(file, _)| !all.iter().any(|(known, _)| known == file));
            all.extend(others.collect::<Vec<_>>());
            (onnx.facts(None), text.facts(None))
        };
        Ok(Self {
            image,
            text,
            size_bytes: all.iter().map(|(_, bytes)| bytes).sum(),
            graph_files: all.into_iter().map(|(file, _)| file).collect(),
            sha256: OnceLock::new(),
        })
    }

    pub(crate) fn tower(&self, modality: Modality) -> &GraphFacts {
        match modality {
            Modality::Image => &self.image,
            Modality::Text => &self.text,
        }
    }

    /// Values of a vector, where the graphs say so and agree.
    pub(crate) fn dimension(&self) -> Option<usize> {
        let written = |facts: &GraphFacts| facts.embedding.as_ref()?.axes.last()?.parse::<usize>().ok();
        written(&self.image).filter(|dimension| written(&self.text) == Some(*dimension))
    }

    /// Whether the image tower normalises by itself: it takes 8-bit pixels.
    pub(crate) fn takes_bytes(&self) -> bool {
        self.image.inputs.iter().any(|input| input.element == "u8" && input.axes.len() == 4)
    }

    /// SHA-256 (hex) over all files. Reading a large model takes seconds: the first call does it.
    pub(crate) fn sha256(&self) -> Result<&str, ModelError> {
        if let Some(known) = self.sha256.get() {
            return Ok(known);
        }
        let digest = sha256(&self.graph_files)?;
        Ok(self.sha256.get_or_init(|| digest))
    }

    /// What makes the model's vectors comparable.
    pub(crate) fn fingerprint(
        &self,
        id: &ModelId,
        dimension: usize,
        preprocess: &Preprocess,
        files: &ModelFiles,
    ) -> Result<Fingerprint, ModelError> {
        Ok(Fingerprint {
            variant: id.variant.clone(),
            checkpoint: id.checkpoint.clone(),
            dimension,
            preprocessing: preprocess.canonical(),
            tokenizer: tokenizer_sha256(files)?,
            graph: self.sha256()?.to_owned(),
            activation: self.activation(),
            precision: Some(files.precision),
        })
    }

    /// For the fingerprint: `gelu`, or each tower's where they differ; none where no activation is recognised.
    pub(crate) fn activation(&self) -> Option<String> {
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

/// SHA-256 (hex) of the tokenizer's file; where a configuration names the tokenizer, of that digest and what else makes its ids.
fn tokenizer_sha256(files: &ModelFiles) -> Result<String, ModelError> {
    let Some(file) = &files.tokenizer else { return Ok(format!("{:x}", Sha256::digest(open_clip::VOCABULARY))) };
    let digest = sha256(std::slice::from_ref(file))?;
    match &files.tokenizer_settings {
        TokenizerSettings::OfFile => Ok(digest),
        TokenizerSettings::HuggingFace(settings) => {
            let language = settings.source_language.as_deref().unwrap_or_default();
            let (cleaning, strips) = (settings.cleaning.as_str(), settings.strip_separator);
            let mut all = format!("{digest}\n{cleaning}\nstrip_sep_token {strips}\nsrc_lang {language}\n");
            // It names the padding, and NLLB's language.
            let config = file.with_file_name(TOKENIZER_CONFIG);
            if config.is_file() {
                all.push_str(&format!("{TOKENIZER_CONFIG} {}\n", sha256(&[config])?));
            }
            Ok(format!("{:x}", Sha256::digest(all)))
        }
    }
}
