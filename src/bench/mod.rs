//! Benchmarks. Results are ratios within one run, because absolute times on shared machines mean little.

mod catalog;
mod embed;
mod neighbours;
mod photo;
mod pipeline;
mod preprocess;
mod store;
mod store_alone;

pub use embed::{EmbedBench, EmbedReport};
pub use neighbours::{Disturbed, NeighboursBench, NeighboursReport};
pub use pipeline::{PipelineBench, PipelineReport, ProcessorReport, ReplayReport};
pub use preprocess::{Agreement, Peer, PreprocessBench, PreprocessReport, PreprocessSet, Times};
pub use store::{Rates, StoreBench, StoreReport};

use std::path::Path;

use crate::api::EmbedError;
use crate::clip::ClipError;
use crate::domain::{Explain, Finding};
use crate::worker::WorkerError;

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("{0}")]
    Input(String),
    #[error("stopped before the end; nothing is reported")]
    Stopped,
    #[error(transparent)]
    Model(#[from] ClipError),
    #[error(transparent)]
    Worker(#[from] WorkerError),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    #[error(transparent)]
    Embed(#[from] EmbedError),
}

impl Explain for BenchError {
    fn explain(&self) -> Finding {
        match self {
            Self::Model(error) => error.explain(),
            Self::Worker(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Embed(error) => error.explain(),
            Self::Io { .. } | Self::Input(_) | Self::Stopped => Finding::new(self.to_string()),
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, BenchError> {
    std::fs::read(file).map_err(|source| BenchError::Io { what: format!("cannot read {}", file.display()), source })
}

/// A temporary folder.
fn scratch() -> Result<tempfile::TempDir, BenchError> {
    tempfile::tempdir()
        .map_err(|source| BenchError::Io { what: "cannot create a folder for the benchmark".to_owned(), source })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
