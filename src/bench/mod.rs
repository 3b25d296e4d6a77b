//! How fast this machine is, as ratios measured in one run: absolute times on shared machines mean little.

mod catalog;
mod embed;
mod photo;
mod pipeline;
mod preprocess;

pub use embed::{EmbedBench, EmbedReport};
pub use pipeline::{PipelineBench, PipelineReport};
pub use preprocess::{Agreement, Peer, PreprocessBench, PreprocessReport, PreprocessSet, Times};

use crate::api::EmbedError;
use crate::clip::ClipError;
use crate::worker::WorkerError;

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("{0}")]
    Input(String),
    #[error(transparent)]
    Model(#[from] ClipError),
    #[error(transparent)]
    Worker(#[from] WorkerError),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    #[error(transparent)]
    Embed(#[from] EmbedError),
}
