//! The files of a model directory, as they are found on the hub.
//!
//! | layout | image tower | text tower | beside them |
//! |---|---|---|---|
//! | Immich, and our own exports | `visual/model.onnx` | `textual/model.onnx` | `visual/preprocess_cfg.json`, `textual/tokenizer.json` |
//! | FastEmbed pair | `*-vision/model.onnx` | `*-text/model.onnx` | `*-vision/preprocessor_config.json`, `*-text/tokenizer.json` |
//! | Optimum, as Xenova's | `onnx/vision_model.onnx` | `onnx/text_model.onnx` | `preprocessor_config.json`, `tokenizer.json` |
//! | combined Optimum | `onnx/model.onnx` | the same | `preprocessor_config.json`, `tokenizer.json` |
//! | open_clip_inference | `visual.onnx` | `text.onnx` | `open_clip_config.json`, `tokenizer.json` |
//! | clip-as-service | `visual.onnx` | `textual.onnx` | nothing |
//!
//! Optimum's two are also taken without the folder `onnx`. A FastEmbed pair is two repositories (for example
//! `Qdrant/clip-ViT-B-32-vision` and `-text`) below one directory; folders that are just `vision` and `text` are taken
//! too. Other precisions are beside the graph of single precision: `model_fp16.onnx`; `model_int8.onnx`,
//! `model_quantized.onnx` or `model_uint8.onnx`; `model_q4.onnx`, `model_bnb4.onnx` or `model_q4f16.onnx`. Sizes of a model are folders with a pair each, and share the
//! `tokenizer.json` at the root (`onnx/s0`, `onnx/s2`). `config.json`, beside the towers or the tokenizer, may give the context
//! length and the tokenizer. In the directory itself, `golden.json` has vectors to compare with, and `clipstream.json` says what
//! was exported, and how.

mod candidates;
mod files;
mod preprocess;
mod text;
mod tokenizer;

use std::path::{Path, PathBuf};

pub(crate) use files::{json_of, sha256, text_of};
pub(crate) use preprocess::PreprocessFile;
pub(crate) use text::{PaddingBy, Pooling, TextInput};

use self::candidates::Candidate;
use self::files::listing;
use super::ModelError;
use super::layouts::{CONFIG, GOLDEN, LAYOUTS, MANIFEST, OPEN_CLIP_HUB};
use crate::domain::registry::Checkpoint;
use crate::domain::{ModelId, ModelReason, Precision, registry};
use crate::tokenize::{Tokenizer, TokenizerSettings};

/// Where the files of one model are. All exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModelFiles {
    pub(crate) layout: &'static str,
    pub(crate) image_graph: PathBuf,
    /// The same file as `image_graph` where one graph has both towers.
    pub(crate) text_graph: PathBuf,
    pub(crate) precision: Precision,
    /// All that both towers are there in.
    pub(crate) precisions: Vec<Precision>,
    /// None: the layout has none, and CLIP's own vocabulary is meant.
    pub(crate) tokenizer: Option<PathBuf>,
    /// Which tokenizer its configuration names.
    pub(crate) tokenizer_settings: TokenizerSettings,
    pub(crate) text_input: TextInput,
    /// What the model was made with, in OpenCLIP's or Hugging Face's words.
    pub(crate) config: Option<PathBuf>,
    /// None: the layout has none, and the checkpoint's own is meant.
    pub(crate) preprocess: Option<PreprocessFile>,
    /// Vectors that OpenCLIP gave, to compare with.
    pub(crate) golden: Option<PathBuf>,
    /// `clipstream.json`, what our export tool says of its files.
    pub(crate) manifest: Option<PathBuf>,
}

impl ModelFiles {
    /// Whether one graph has both towers.
    pub(crate) fn is_combined(&self) -> bool {
        self.image_graph == self.text_graph
    }

    /// What fills a row of ids behind its text, where `tokenizer` made them.
    pub(crate) fn padding_id(&self, tokenizer: &Tokenizer) -> i64 {
        let of_files = tokenizer.padding_id().filter(|_| match self.text_input.padding_by {
            PaddingBy::OpenClip => false,
            PaddingBy::Transformers => tokenizer.names_padding(),
            PaddingBy::Nobody => true,
        });
        of_files.unwrap_or(self.text_input.padding_id)
    }
}

/// Finds the layout of `directory` and its files, with the graphs of `precision`. What the directory does not say of the text tower, the
/// registry says of `id`.
///
/// # Errors
/// No layout is there as a whole; or one is, but not in `precision`: the error lists those that are.
pub(crate) fn find(id: &ModelId, directory: &Path, precision: Precision) -> Result<ModelFiles, ModelError> {
    let candidates = LAYOUTS.iter().map(|layout| Candidate::look(layout, directory)).collect::<Result<Vec<_>, _>>()?;
    let has = |candidate: &&Candidate| candidate.graphs.iter().any(|(p, _)| *p == precision);
    let whole = candidates.iter().filter(|c| c.missing.is_empty());
    if let Some(candidate) = whole.clone().find(has) {
        return read(candidate, directory, precision, registry::find(id));
    }
    if let Some(other) = whole.clone().next() {
        let there: Vec<_> = other.graphs.iter().map(|(p, _)| p.as_str()).collect();
        let message = format!(
            "{} ({} layout) has no {precision} graphs; there is {}",
            directory.display(),
            other.layout.name,
            there.join(", "),
        );
        return Err(ModelError::new(ModelReason::PrecisionMissing, message)
            .hint(format!("set clip.precision to one of these, or export the model in {precision}")));
    }
    let pull = registry::find(id).map_or(String::new(), |_| format!("run clipstream models pull {id}, or "));
    Err(ModelError::new(ModelReason::Missing, missing(directory, &candidates))
        .hint(format!("{pull}correct clip.models")))
}

/// What is wrong with a directory that has no layout as a whole: the nearest one and what it lacks, if anything of one is there.
fn missing(directory: &Path, candidates: &[Candidate]) -> String {
    let shown = directory.display();
    if !directory.exists() {
        return format!("no model in {shown}: there is no such directory");
    }
    if !directory.is_dir() {
        return format!("no model in {shown}: it is a file, expected a directory");
    }
    let there = listing(directory);
    // The first of those that are alike, as when they are tried.
    let nearest = candidates.iter().rev().max_by_key(|c| (c.present, c.beside));
    match nearest.filter(|c| c.present > 0) {
        Some(nearest) => {
            let (name, files) = (nearest.layout.name, nearest.missing.join(", "));
            format!("no model in {shown}: nearest is the {name} layout, without {files}; there is {there}")
        }
        None => {
            format!("no model in {shown}: no graph of a layout that is known (docs/model-files.md); there is {there}")
        }
    }
}

fn read(
    candidate: &Candidate,
    directory: &Path,
    precision: Precision,
    row: Option<&Checkpoint>,
) -> Result<ModelFiles, ModelError> {
    let precisions = candidate.graphs.iter().map(|(p, _)| *p).collect();
    let graphs = candidate.graphs.iter().find(|(p, _)| *p == precision).map(|(_, graphs)| graphs.clone());
    let Some([image_graph, text_graph]) = graphs else {
        let message = format!("{} has no {precision} graphs", directory.display());
        return Err(ModelError::new(ModelReason::PrecisionMissing, message));
    };
    let configs = [directory.join(CONFIG), candidate.text_folder.join(CONFIG), directory.join(OPEN_CLIP_HUB)];
    let there = || configs.iter().map(PathBuf::as_path).filter(|c| c.is_file());
    let own = |name: &str| Some(directory.join(name)).filter(|file| file.is_file());
    let manifest = own(MANIFEST);
    let text_input = TextInput::read(manifest.as_deref().into_iter().chain(there()), row)?;
    let tokenizer_settings = tokenizer::read(there(), row)?;
    let config = configs.into_iter().find(|c| c.is_file());
    Ok(ModelFiles {
        layout: candidate.layout.name,
        image_graph,
        text_graph,
        precision,
        precisions,
        tokenizer: candidate.tokenizer.clone(),
        tokenizer_settings,
        text_input,
        config,
        preprocess: candidate.preprocess.as_deref().map(PreprocessFile::read).transpose()?,
        golden: own(GOLDEN),
        manifest,
    })
}

#[cfg(test)]
mod tests;
