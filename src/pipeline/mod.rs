//! From a message to a point, and back to a committed offset.
//!
//! ```text
//!            Source                                  (floor 3: Kafka, JSON Lines, a directory)
//!              │ messages, while there is room: held_messages_max messages, media_in_flight_bytes_max bytes
//!              ▼
//!   dispatch ─ format ─ keys ─ turns                 one task owns all order; messages wait here for a turn, or behind
//!              │                                     a message whose format has to look something up
//!              │ one task per request that runs: in_flight_max, at most one per asset
//!              ▼
//!            recall                                  reads what the collections record, batches from what is waiting
//!              ▼
//!            fetch                                   per-host limits, media byte budget; only what may have changed
//!              ▼
//!            embed                                   decode + preprocess: preprocess_threads pictures at once;
//!              │                                     towers: threads of their own, batches from what is waiting
//!              │                                     label: dot products with the vectors of labels, if there are some
//!              ▼
//!            upsert                                  writes_in_flight_max writes per collection, batches likewise
//!              ▼
//!            settle                                  dead letter confirmed, or point written
//!              │
//!   dispatch ◄─┘ watermark ─ commit                  only the contiguous prefix of settled offsets
//! ```
//!
//! Nothing here waits on a timer to fill a batch, and every queue is bounded by the messages in flight. Dropping is in
//! the order of the arrows: when the dispatcher ends, its tasks are aborted, the writers' queues close, and the
//! towers' threads are joined when the last writer is dropped.

mod attempts;
mod dispatch;
mod embed;
mod ended;
mod fetch;
mod flight;
mod flood;
mod handler;
mod holds;
mod intake;
mod keys;
mod label;
mod lane;
mod lookups;
mod pauses;
mod progress;
mod purge;
mod recall;
mod settle;
mod stages;
mod stuck;
mod tenants;
mod ticks;
mod trial;
mod turns;
mod upsert;
mod watermark;
mod whole;
mod write_pacing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use embed::{Embed, Embedded, Picture, Target};
pub use flood::{Flood, FloodOf};
pub use progress::{Progress, Summary};
pub use trial::{Step, Trial};

use crate::clip::{Clip, PicturePool};
use crate::config::{PipelineSettings, StoreSettings};
use crate::dead_letter::DeadLetters;
use crate::domain::{Explain, Finding, Labelling, ModelId};
use crate::format::Reader;
use crate::media::MediaClient;
use crate::shutdown::Shutdown;
use crate::source::{Source, SourceError};
use crate::store::Store;
use crate::telemetry::{Health, Metrics};

use attempts::Attempts;
use dispatch::Dispatcher;
use recall::Recall;
use stages::{Route, Stages};
use tenants::Tenants;
use upsert::CollectionWriter;

/// Why a pipeline stopped without being asked to, or not in time.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A stage is broken for good; what was in flight is not committed and will be delivered again.
    #[error("{}", self.explain())]
    Broken(String),
    /// A model's sessions do not work any more; what was in flight is not committed and will be delivered again.
    #[error("{}", self.explain())]
    Model(String),
    #[error("{0}")]
    Flood(Flood),
    #[error("{}", self.explain())]
    Forced,
}

impl Explain for PipelineError {
    fn explain(&self) -> Finding {
        match self {
            Self::Source(error) => error.explain(),
            Self::Broken(why) => Finding::new(format!("a stage broke: {why}"))
                .hint("this is a bug, please report it with the log lines before it"),
            Self::Model(why) => Finding::new(format!("{why}; what is in flight is delivered again to the next worker"))
                .hint(
                    "see the log for the first of these errors, and the device or the memory that the model runs on \
                     (limit: clip.recovery_max_ms)",
                ),
            Self::Flood(flood) => flood.explain(),
            Self::Forced => Finding::new("stopped by a second signal before work in flight was drained"),
        }
    }
}

/// Everything a pipeline is made of.
pub struct Parts {
    pub settings: PipelineSettings,
    pub store_settings: StoreSettings,
    pub reader: Reader,
    /// Whether messages may come back later, from retry topics.
    pub retries: bool,
    /// Decodes and preprocesses pictures.
    pub pictures: Arc<PicturePool>,
    /// Each model with the collection that it fills.
    pub models: Vec<(Arc<Clip>, String)>,
    /// What pictures are labelled with, by model.
    pub labels: BTreeMap<ModelId, Arc<Labelling>>,
    pub media: MediaClient,
    pub store: Arc<dyn Store>,
    pub dead_letters: Arc<dyn DeadLetters>,
    pub shutdown: Shutdown,
    pub health: Health,
    pub metrics: Arc<Metrics>,
    pub progress: Arc<Progress>,
}

/// Runs until `source` ends, a requested stop has drained, or something is beyond repair.
pub async fn run(source: Box<dyn Source>, parts: Parts) -> Result<Summary, PipelineError> {
    let attempts = Attempts::new(&parts.settings, parts.health.clone(), parts.metrics.clone());
    let pause_max = Duration::from_millis(parts.settings.backoff_cap_ms);
    let route = |(clip, collection): (Arc<Clip>, String)| {
        let labelling = parts.labels.get(clip.id()).cloned();
        let recall = Recall::new(collection.clone(), parts.store.clone(), parts.store_settings.batch_points_max);
        let writer = CollectionWriter::new(
            clip,
            collection.clone(),
            &parts.store,
            &parts.store_settings,
            pause_max,
            &parts.metrics,
        );
        Route { collection, writer, recall, labelling }
    };
    parts.pictures.pulses().iter().for_each(|pulse| parts.health.watch(pulse.clone()));
    let stages = Stages {
        tenants: Tenants::new(&parts.reader.keys),
        reader: parts.reader,
        store: parts.store.clone(),
        routes: parts.models.into_iter().map(route).collect(),
        skip_unchanged: parts.settings.skip_unchanged,
        retries: parts.retries,
        guard: parts.store_settings.guard,
        metrics: parts.metrics.clone(),
        media: parts.media,
        embed: Embed::new(parts.pictures),
        dead_letters: parts.dead_letters,
        attempts,
    };
    let dispatcher = Dispatcher::new(
        source,
        Arc::new(stages),
        parts.settings,
        parts.shutdown,
        parts.health,
        parts.metrics,
        parts.progress,
    );
    dispatcher.run().await
}
