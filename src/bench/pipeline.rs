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
use crate::telemetry::Health;
use crate::worker::{Worker, WorkerError};

/// Pictures and captions of a catalog, through the embedded path and through the model alone, in one run. Of several
/// models the first one.
pub struct PipelineBench {
    /// A folder with `catalog.jsonl`, whose items have an `image` below that folder and a `text`.
    pub catalog: PathBuf,
    /// How many messages to index; the catalog is repeated under new ids as needed.
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
}

impl PipelineBench {
    pub async fn run(
        self,
        mut settings: Settings,
        shutdown: Shutdown,
        watch: impl FnOnce(u64, Arc<Progress>),
    ) -> Result<PipelineReport, BenchError> {
        let items = catalog::read(&self.catalog)?;
        let lines = self.messages(&items);
        // Against one model alone; more of them would share its cores and be counted as none.
        settings.clip.models.truncate(1);
        settings.store.kind = StoreKind::Embedded;
        let scratch = scratch()?;
        settings.store.path = scratch.path().to_owned();
        settings.media.allow_file_roots = vec![self.catalog.display().to_string()];
        let progress = Arc::new(Progress::default());
        let worker = Worker::assemble(&settings, Health::new(), Arc::default()).await?;
        watch(self.messages as u64, progress.clone());
        let source = LinesSource::new("bench", std::io::Cursor::new(lines));
        let letters = Arc::new(FileDeadLetters::new(None).map_err(WorkerError::from)?);
        let summary = worker.ingest(Box::new(source), letters, shutdown, progress.clone()).await?;
        if summary.dead_lettered > 0 || summary.settled < self.messages as u64 {
            return Err(BenchError::Input(format!(
                "{} of {} messages settled, {} dead letters; expected all to be indexed",
                summary.settled, self.messages, summary.dead_lettered
            )));
        }
        // Every message has a picture and a caption.
        let items_per_s = 2.0 * self.messages as f64 / progress.elapsed().as_secs_f64();
        let (clip, _) = &worker.models()[0];
        let embedder = Embedder::new(clip.clone(), worker.media().clone(), &settings)?;
        let pictures = items.iter().map(|(image, _)| self.catalog.join(image)).collect();
        let texts = items.into_iter().map(|(_, text)| text).collect();
        let model_items_per_s = rate_alone(&embedder, &settings, pictures, texts).await?;
        worker.store().close().await?;
        Ok(PipelineReport {
            messages: summary.settled,
            items_per_s,
            model_items_per_s,
            ratio: items_per_s / model_items_per_s,
        })
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
