//! Repositories of the hub, and how they lay out the files of a model.

use std::fmt;

/// How a repository lays out its files; `clip` loads all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `visual/model.onnx` and `textual/model.onnx`, each with what belongs to it. Immich's, and that of our own exports.
    Immich,
    /// Two repositories, one per tower, each with `model.onnx` at its root.
    FastEmbedPair,
    /// `onnx/vision_model.onnx` and `onnx/text_model.onnx`, one file per precision. Xenova's, and that of Optimum's exports.
    Xenova,
    /// `onnx/model.onnx` with both towers: Jina's, and that of Optimum's exports that are not split.
    Combined,
}

impl Layout {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Immich => "immich",
            Self::FastEmbedPair => "fastembed",
            Self::Xenova => "xenova",
            Self::Combined => "combined",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A place on the hub that has a model's ONNX graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub layout: Layout,
    /// `owner/name`. In [`Layout::FastEmbedPair`] the one of the image tower.
    pub repository: &'static str,
    /// The text tower's, in [`Layout::FastEmbedPair`]; none in the others.
    pub text_repository: Option<&'static str>,
}

impl Source {
    pub(super) const fn immich(repository: &'static str) -> Self {
        Self { layout: Layout::Immich, repository, text_repository: None }
    }

    pub(super) const fn pair(repository: &'static str, text_repository: &'static str) -> Self {
        Self { layout: Layout::FastEmbedPair, repository, text_repository: Some(text_repository) }
    }

    pub(super) const fn xenova(repository: &'static str) -> Self {
        Self { layout: Layout::Xenova, repository, text_repository: None }
    }

    /// One, or two of a pair.
    pub fn repositories(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.repository).chain(self.text_repository)
    }
}
