//! Benchmark: the pipeline against the model alone, and a replay.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::{BenchError, catalog, scratch};
use crate::api::{Embedder, rate_alone};
use crate::config::{Settings, StoreKind};
use crate::dead_letter::FileDeadLetters;
use crate::pipeline::Progress;
use crate::shutdown::Shutdown;
use crate::source::LinesSource;
use crate::telemetry::{Health, Metrics};
use crate::worker::{Worker, WorkerError};

/// Measures pictures and captions of a catalog, through the embedded pipeline and through the model alone, in one run; then the
/// same messages again, and into an empty store without reading records. Uses the first of several models.
pub struct PipelineBench {
    /// A folder with `catalog.jsonl`, whose items have an `image` below that folder and a `text`.
    pub catalog: PathBuf,
    /// Number of messages; the catalog is repeated under new ids as needed.
    pub messages: usize,
}

/// The field names are the keys of `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct PipelineReport {
    pub messages: u64,
    /// Pictures and captions per second, from message to stored point.
    pub items_per_s: f64,
    /// Pictures and captions per second through the towers alone, in the same batches and threads.
    pub model_items_per_s: f64,
    pub ratio: f64,
    pub replay: ReplayReport,
    /// The rate with `pipeline.skip_unchanged` divided by the rate without it, into an empty store.
    pub recall_ratio: f64,
}

/// The same messages again, with their points already stored.
#[derive(Clone, Debug, Serialize)]
pub struct ReplayReport {
    pub items_per_s: f64,
    /// Divided by the rate of the first run.
    pub speedup: f64,
    /// Share of the pictures; 1: all.
    pub images_not_embedded: f64,
}

impl PipelineBench {
    /// `watch` is called at the start of each of the three runs.
    pub async fn run(
        self,
        mut settings: Settings,
        shutdown: Shutdown,
        mut watch: impl FnMut(u64, Arc<Progress>),
    ) -> Result<PipelineReport, BenchError> {
        let items = catalog::read(&self.catalog)?;
        // One model only: further models would share its cores and would not be counted.
        settings.clip.models.truncate(1);
        settings.store.kind = StoreKind::Embedded;
        settings.media.allow_file_roots = vec![self.catalog.display().to_string()];
        let scratch = scratch()?;
        settings.store.path = scratch.path().join("first");
        settings.pipeline.skip_unchanged = true;
        let metrics = Arc::<Metrics>::default();
        let worker = Worker::assemble(&settings, Health::new(), metrics.clone()).await?;
        let items_per_s = self.index(&worker, &items, &shutdown, &mut watch).await?;
        let found_unchanged = metrics.unchanged_pictures();
        let replay_per_s = self.index(&worker, &items, &shutdown, &mut watch).await?;
        let replay = ReplayReport {
            items_per_s: replay_per_s,
            speedup: replay_per_s / items_per_s,
            images_not_embedded: (metrics.unchanged_pictures() - found_unchanged) as f64 / self.messages as f64,
        };
        worker.store().close().await?;

        settings.store.path = scratch.path().join("second");
        settings.pipeline.skip_unchanged = false;
        let unaware = Worker::assemble(&settings, Health::new(), Arc::default()).await?;
        let unaware_per_s = self.index(&unaware, &items, &shutdown, &mut watch).await?;
        unaware.store().close().await?;
        drop(unaware);

        let (clip, _) = &worker.models()[0];
        let embedder = Embedder::new(clip.clone(), worker.media().clone(), &settings)?;
        let pictures = items.iter().map(|(image, _)| self.catalog.join(image)).collect();
        let texts = items.into_iter().map(|(_, text)| text).collect();
        let model_items_per_s = rate_alone(&embedder, &settings, pictures, texts).await?;
        Ok(PipelineReport {
            messages: self.messages as u64,
            items_per_s,
            model_items_per_s,
            ratio: items_per_s / model_items_per_s,
            replay,
            recall_ratio: items_per_s / unaware_per_s,
        })
    }

    /// Pictures and captions per second.
    async fn index(
        &self,
        worker: &Worker,
        items: &[(String, String)],
        shutdown: &Shutdown,
        watch: &mut impl FnMut(u64, Arc<Progress>),
    ) -> Result<f64, BenchError> {
        let progress = Arc::new(Progress::default());
        watch(self.messages as u64, progress.clone());
        let source = LinesSource::new("bench", std::io::Cursor::new(self.messages(items)));
        let letters = Arc::new(FileDeadLetters::new(None).map_err(WorkerError::from)?);
        let summary = worker.ingest(Box::new(source), letters, shutdown.clone(), progress.clone()).await?;
        if summary.dead_lettered > 0 || summary.settled < self.messages as u64 {
            return Err(BenchError::Input(format!(
                "{} of {} messages settled, {} dead letters; expected all to be indexed",
                summary.settled, self.messages, summary.dead_lettered
            )));
        }
        // Every message has a picture and a caption.
        Ok(2.0 * self.messages as f64 / progress.elapsed().as_secs_f64())
    }

    fn messages(&self, items: &[(String, String)]) -> Vec<u8> {
        let mut lines = Vec::new();
        for (number, (image, text)) in items.iter().cycle().take(self.messages).enumerate() {
            let line = json!({ "id": format!("{number}"), "image": image, "text": text });
            lines.extend_from_slice(line.to_string().as_bytes());
            lines.push(b'\n');
        }
        lines
    }
}
