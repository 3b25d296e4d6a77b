//! Benchmark: the pipeline against the model alone, against what its parts need of the cores, and a replay.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde_json::json;

use super::{BenchError, catalog, messages_per_s, scratch, store_alone};
use crate::api::{Embedder, Needs, needs_alone};
use crate::config::{Settings, StoreKind, cores};
use crate::domain::Modality;
use crate::pipeline::Progress;
use crate::shutdown::Shutdown;
use crate::telemetry::{Health, Metrics};
use crate::worker::Worker;

/// Measures pictures and captions of a catalog through the embedded pipeline, and the parts of the work alone, in one run; then the
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
    pub cores: usize,
    /// Pictures and captions per second, from message to stored point.
    pub items_per_s: f64,
    /// Pictures and captions per second through the towers alone, one tower after the other with all cores.
    pub model_items_per_s: f64,
    /// `items_per_s` over `model_items_per_s`.
    pub ratio: f64,
    /// Pictures and captions per second that the cores can do: their number over the processor seconds of all parts below.
    pub bound_items_per_s: f64,
    /// `items_per_s` over `bound_items_per_s`.
    pub bound_ratio: f64,
    pub processor_ms: ProcessorReport,
    pub replay: ReplayReport,
    /// The rate with `pipeline.skip_unchanged` divided by the rate without it, into an empty store.
    pub recall_ratio: f64,
}

/// Milliseconds of one processor that each part of the work takes for one item, measured alone.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ProcessorReport {
    /// A picture's file to pixels.
    pub decode: f64,
    pub image_tower: f64,
    pub text_tower: f64,
    /// One point with both vectors.
    pub store: f64,
}

impl ProcessorReport {
    fn new(needs: &Needs, store_s: f64) -> Self {
        Self {
            decode: 1e3 * needs.decode.processor_s,
            image_tower: 1e3 * needs.image.processor_s,
            text_tower: 1e3 * needs.text.processor_s,
            store: 1e3 * store_s,
        }
    }
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
    /// `watch` is called at the start of each part: with its name, and where messages are indexed, with their number and the growing
    /// counts.
    pub async fn run(
        self,
        mut settings: Settings,
        shutdown: Shutdown,
        mut watch: impl FnMut(&'static str, Option<(u64, Arc<Progress>)>),
    ) -> Result<PipelineReport, BenchError> {
        let items = catalog::read(&self.catalog)?;
        // One model only: further models would share its cores and would not be counted.
        settings.clip.models.truncate(1);
        settings.store.kind = StoreKind::Embedded;
        settings.media.allow_file_roots = vec![self.catalog.display().to_string()];
        let scratch = scratch()?;
        settings.store.path = scratch.path().join("first");
        settings.pipeline.skip_unchanged = true;
        watch("loading the model", None);
        let metrics = Arc::<Metrics>::default();
        let worker = Worker::assemble(&settings, Health::new(), metrics.clone()).await?;
        worker.open_towers(&Modality::ALL).await?;
        let items_per_s = self.index(&worker, &items, &shutdown, "the pipeline", &mut watch).await?;
        let found_unchanged = metrics.unchanged_pictures();
        let replay_per_s = self.index(&worker, &items, &shutdown, "the same messages again", &mut watch).await?;
        let replay = ReplayReport {
            items_per_s: replay_per_s,
            speedup: replay_per_s / items_per_s,
            images_not_embedded: (metrics.unchanged_pictures() - found_unchanged) as f64 / self.messages as f64,
        };

        watch("decoder and model alone", None);
        let (clip, collection) = &worker.models()[0];
        let embedder = Embedder::new(clip.clone(), worker.media().clone(), &settings)?;
        let used = || items.iter().take(self.messages);
        let pictures = used().map(|(image, _)| self.catalog.join(image)).collect();
        let texts = used().map(|(_, text)| text.clone()).collect();
        let needs = needs_alone(&embedder, &settings, pictures, texts, &shutdown).await?.ok_or(BenchError::Stopped)?;

        settings.store.path = scratch.path().join("second");
        settings.pipeline.skip_unchanged = false;
        let unaware = worker.with_settings(&settings).await?;
        let unaware_per_s = self.index(&unaware, &items, &shutdown, "without skip_unchanged", &mut watch).await?;
        unaware.store().close().await?;

        watch("the store alone", None);
        settings.store.path = scratch.path().join("third");
        let alone = worker.with_settings(&settings).await?;
        let (from, to) = ((worker.store(), collection.as_str()), (alone.store(), collection.as_str()));
        let store_s = store_alone::needs(from, to, &settings.store, &shutdown).await?.ok_or(BenchError::Stopped)?;
        alone.store().close().await?;
        worker.store().close().await?;

        let (cores, model_items_per_s) = (cores(), needs.model_items_per_s());
        let bound_items_per_s = needs.bound_items_per_s(cores, store_s);
        Ok(PipelineReport {
            messages: self.messages as u64,
            cores,
            items_per_s,
            model_items_per_s,
            ratio: items_per_s / model_items_per_s,
            bound_items_per_s,
            bound_ratio: items_per_s / bound_items_per_s,
            processor_ms: ProcessorReport::new(&needs, store_s),
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
        what: &'static str,
        watch: &mut impl FnMut(&'static str, Option<(u64, Arc<Progress>)>),
    ) -> Result<f64, BenchError> {
        let progress = Arc::new(Progress::default());
        watch(what, Some((self.messages as u64, progress.clone())));
        // Every message has a picture and a caption.
        Ok(2.0 * messages_per_s(worker, self.messages(items), self.messages, shutdown, progress).await?)
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
