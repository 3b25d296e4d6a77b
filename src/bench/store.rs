//! Benchmark: messages with nothing to embed through the pipeline, against the same writes given straight to the store.

use std::sync::Arc;
use std::time::Instant;

use chrono::{SecondsFormat, Utc};
use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use serde_json::json;

use super::{BenchError, input, median, messages_per_s, scratch};
use crate::config::{Settings, StoreKind};
use crate::domain::{
    AssetId, Finding, Guard, ModelId, Origin, Patch, Payload, PointId, Position, Record, Vectors, Write,
};
use crate::pipeline::Progress;
use crate::shutdown::Shutdown;
use crate::store::{CollectionDefinition, CollectionSpec, Store, Written};
use crate::telemetry::{Health, Metrics};
use crate::worker::Worker;

/// Writes at once that are tried without the pipeline; the fastest counts.
const STREAMS: [usize; 4] = [1, 2, 4, 8];

/// Measures patches of payload (no picture, no text), of new assets and then of the same ones again. The embedded store is one in a
/// temporary folder; of a server, new collections are used, which stay there.
pub struct StoreBench {
    /// Patches in each measurement.
    pub messages: usize,
    /// Number of rounds; medians are reported.
    pub rounds: usize,
}

/// The field names are the keys of `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct StoreReport {
    pub messages: usize,
    /// Patches of assets that the store does not have.
    pub new: Rates,
    /// Patches of the same assets.
    pub existing: Rates,
    /// Collections that were made on a server.
    pub left_behind: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Rates {
    /// Through the pipeline.
    pub messages_per_s: f64,
    /// The same writes in full batches, with the best number of them at once.
    pub store_per_s: f64,
    pub streams: usize,
    pub ratio: f64,
}

impl StoreBench {
    /// `watch` is called at the start of each run through the pipeline.
    pub async fn run(
        self,
        mut settings: Settings,
        shutdown: Shutdown,
        mut watch: impl FnMut(u64, Arc<Progress>),
    ) -> Result<StoreReport, BenchError> {
        settings.clip.models.truncate(1);
        let scratch = scratch()?;
        settings.store.path = scratch.path().join("store");
        settings.store.catalog = format!("bench-{}", uuid::Uuid::new_v4().simple());
        let worker = Worker::assemble(&settings, Health::new(), Arc::<Metrics>::default()).await?;
        let (clip, collection) = &worker.models()[0];
        let definition = match &settings.store.collection_definition {
            Some(path) => CollectionDefinition::from_file(path)?,
            None => CollectionDefinition::built_in(),
        };
        let bare = Bare {
            store: worker.store().clone(),
            collection: format!("{collection}-bare"),
            points_max: settings.store.batch_points_max,
            guard: settings.store.guard,
        };
        let fingerprint = clip.fingerprint()?.clone();
        bare.store.ensure(&CollectionSpec { name: bare.collection.clone(), fingerprint, definition }).await?;
        let mut pipeline = [Vec::new(), Vec::new()];
        let mut alone = [0, 1].map(|_| STREAMS.map(|_| Vec::new()));
        for round in 0..self.rounds.max(1) {
            for (price, (pipeline, alone)) in pipeline.iter_mut().zip(&mut alone).enumerate() {
                let lines = self.lines(round, price);
                pipeline.push(self.ingest(&worker, lines, &shutdown, &mut watch).await?);
                for (streams, rates) in STREAMS.into_iter().zip(alone) {
                    rates.push(bare.write(self.writes(&format!("{round}-{streams}"), price)?, streams).await?);
                }
            }
        }
        let left_behind = match settings.store.kind {
            StoreKind::Qdrant => {
                vec![collection.clone(), bare.collection.clone(), ModelId::slug(&settings.store.catalog)]
            }
            StoreKind::Embedded => Vec::new(),
        };
        worker.close().await?;
        let [new, existing] = pipeline;
        let [new_alone, existing_alone] = alone;
        Ok(StoreReport {
            messages: self.messages,
            new: rates(new, new_alone),
            existing: rates(existing, existing_alone),
            left_behind,
        })
    }

    /// Messages per second.
    async fn ingest(
        &self,
        worker: &Worker,
        lines: Vec<u8>,
        shutdown: &Shutdown,
        watch: &mut impl FnMut(u64, Arc<Progress>),
    ) -> Result<f64, BenchError> {
        let progress = Arc::new(Progress::default());
        watch(self.messages as u64, progress.clone());
        messages_per_s(worker, lines, self.messages, shutdown, progress).await
    }

    /// A patch of the same assets has another offset: what comes again at the same place is the same message.
    fn lines(&self, round: usize, price: usize) -> Vec<u8> {
        let mut lines = vec![b'\n'; price];
        for number in 0..self.messages {
            let payload = json!({ "price": price, "shop": "bench" });
            let line = json!({ "op": "patch", "id": format!("{round}-{number}"), "payload": payload });
            lines.extend_from_slice(line.to_string().as_bytes());
            lines.push(b'\n');
        }
        lines
    }

    /// As the pipeline makes them of [`Self::lines`].
    fn writes(&self, prefix: &str, price: usize) -> Result<Vec<Write>, BenchError> {
        let indexed_at = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        let one = |number: usize| {
            let asset = AssetId::new(format!("{prefix}-{number}")).map_err(|error| input(error.to_string()))?;
            let position = Position { topic: "bench".into(), partition: 0, offset: (price + number) as i64 };
            let origin = Origin {
                position,
                request: 0,
                topic_id: None,
                leader_epoch: None,
                successor: None,
                timestamp_ms: None,
            };
            let record = Record {
                asset: asset.clone(),
                tenant: None,
                source: Some(origin),
                version: None,
                media: None,
                text_sha256: None,
                labels: None,
                deleted_at: None,
                base: None,
                indexed_at: indexed_at.clone(),
            };
            let payload = Payload::from_iter([("price".to_owned(), price.into()), ("shop".to_owned(), "bench".into())]);
            let (id, vectors, kept) = (PointId::of(None, &asset), Vectors::default(), Vec::new());
            Ok(Write::Patch(Patch { id, vectors, kept, payload, record }))
        };
        (0..self.messages).map(one).collect()
    }
}

/// A store without the pipeline.
struct Bare {
    store: Arc<dyn Store>,
    collection: String,
    points_max: usize,
    guard: Guard,
}

impl Bare {
    /// Writes per second.
    async fn write(&self, writes: Vec<Write>, streams: usize) -> Result<f64, BenchError> {
        let begun = Instant::now();
        let batches = futures::stream::iter(writes.chunks(self.points_max));
        let write = |batch| self.store.write(&self.collection, batch, self.guard);
        let written: Vec<Vec<Written>> = batches.map(write).buffer_unordered(streams).try_collect().await?;
        let took = begun.elapsed();
        if written.into_iter().flatten().any(|written| written != Written::Applied) {
            let finding = Finding::new("the store did not take every write");
            return Err(BenchError::Input(finding.hint("stop other programs that write to the same collections")));
        }
        Ok(writes.len() as f64 / took.as_secs_f64())
    }
}

fn rates(pipeline: Vec<f64>, alone: [Vec<f64>; STREAMS.len()]) -> Rates {
    let messages_per_s = median(pipeline);
    let alone = STREAMS.into_iter().zip(alone.map(median));
    let (streams, store_per_s) = alone.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, f64::NAN));
    Rates { messages_per_s, store_per_s, streams, ratio: messages_per_s / store_per_s }
}
