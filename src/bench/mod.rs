//! Benchmarks. Results are ratios within one run, because absolute times on shared machines mean little.

mod catalog;
mod embed;
mod neighbours;
mod peer;
mod photo;
mod pipeline;
mod preprocess;
mod store;
mod store_alone;
mod tokenize;

pub use embed::{EmbedBench, EmbedReport};
pub use neighbours::{Disturbed, NeighboursBench, NeighboursReport};
pub use pipeline::{PipelineBench, PipelineReport, ProcessorReport, ReplayReport};
pub use preprocess::{Agreement, Peer, PreprocessBench, PreprocessReport, PreprocessSet, Times};
pub use store::{Rates, StoreBench, StoreReport};
pub use tokenize::{TokenizeBench, TokenizeReport, TokenizerPeer, TokenizerRates};

use std::path::Path;
use std::sync::Arc;

use crate::api::EmbedError;
use crate::clip::ClipError;
use crate::dead_letter::FileDeadLetters;
use crate::domain::{Explain, Finding};
use crate::pipeline::Progress;
use crate::shutdown::Shutdown;
use crate::source::LinesSource;
use crate::worker::{Worker, WorkerError};

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("{0}")]
    Input(Finding),
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
            Self::Input(finding) => finding.clone(),
            Self::Io { .. } | Self::Stopped => Finding::new(self.to_string()),
        }
    }
}

/// What a benchmark cannot work with, without a next step.
fn input(message: impl Into<String>) -> BenchError {
    BenchError::Input(Finding::new(message))
}

fn read(file: &Path) -> Result<Vec<u8>, BenchError> {
    std::fs::read(file).map_err(|source| BenchError::Io { what: format!("cannot read {}", file.display()), source })
}

/// A temporary folder.
fn scratch() -> Result<tempfile::TempDir, BenchError> {
    tempfile::tempdir()
        .map_err(|source| BenchError::Io { what: "cannot create a folder for the benchmark".to_owned(), source })
}

/// Indexes `lines`, `messages` of them, all of which must succeed: messages per second, from the first taken to the last settled.
async fn messages_per_s(
    worker: &Worker,
    lines: Vec<u8>,
    messages: usize,
    shutdown: &Shutdown,
    progress: Arc<Progress>,
) -> Result<f64, BenchError> {
    let source = LinesSource::new("bench", std::io::Cursor::new(lines));
    let letters = Arc::new(FileDeadLetters::new(None).map_err(WorkerError::from)?);
    let summary = worker.ingest(Box::new(source), letters, shutdown.clone(), progress.clone()).await?;
    if shutdown.is_requested() {
        return Err(BenchError::Stopped);
    }
    if summary.dead_lettered > 0 || summary.settled < messages as u64 {
        let finding = Finding::new(format!(
            "{} of {messages} messages settled, {} dead letters; expected all to be indexed",
            summary.settled, summary.dead_lettered
        ));
        return Err(BenchError::Input(finding.hint("the lines before this one say why")));
    }
    Ok(messages as f64 / progress.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
