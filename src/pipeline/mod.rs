//! From a message to a point, and back to a committed offset.
//!
//! ```text
//!            Source                                  (floor 2: Kafka, JSON Lines, a directory)
//!              │ messages, while there is room: in_flight_max messages, media_in_flight_bytes_max bytes
//!              ▼
//!   dispatch ─ decode ─ keys                         one task owns all order
//!              │ one task per message in flight; at most one per asset
//!              ▼
//!            fetch                                   per-host limits, media byte budget
//!              ▼
//!            embed                                   decode + preprocess: preprocess_threads pictures at once;
//!              │                                     towers: threads of their own, batches from what is waiting
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
//! towers' threads are joined when the last lane is dropped.

mod attempts;
mod decode;
mod dispatch;
mod embed;
mod fetch;
mod keys;
mod purge;
mod settle;
mod upsert;
mod watermark;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

pub use dispatch::{Progress, Summary};
pub use embed::{Embed, Embedded};

use crate::clip::Clip;
use crate::config::{PipelineSettings, StoreSettings};
use crate::dead_letter::{DeadLetter, DeadLetters};
use crate::domain::{Failure, IngestRequest, Message, Op, Outcome, Stage};
use crate::media::MediaClient;
use crate::shutdown::Shutdown;
use crate::source::{Source, SourceError};
use crate::store::{Store, Written};
use crate::telemetry::{Health, Metrics};

use attempts::{Attempts, GaveUp};
use dispatch::{Dispatcher, Handler};
use upsert::Lane;

/// Why a pipeline stopped that was not asked to, or not in time.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A stage is broken for good; what was in flight is not committed and will be delivered again.
    #[error("a stage broke: {0}; this is a bug, please report it with the log lines before it")]
    Broken(String),
    #[error(
        "{in_row} messages in a row failed permanently, which looks like a wrong topic or a changed format; \
         see the dead letters, then start again (limit: pipeline.permanent_failures_in_row_max)"
    )]
    Flood { in_row: u64 },
    #[error("stopped by a second signal before work in flight was drained")]
    Forced,
}

/// Everything a pipeline is made of.
pub struct Parts {
    pub settings: PipelineSettings,
    pub store_settings: StoreSettings,
    /// Default `op` by topic; `upsert` where a topic is not listed.
    pub topic_ops: BTreeMap<String, Op>,
    /// Pictures that are decoded and preprocessed at once.
    pub preprocess_threads: usize,
    pub pixels_max: u64,
    /// Each model with the collection that it fills.
    pub models: Vec<(Arc<Clip>, String)>,
    pub media: MediaClient,
    pub store: Arc<dyn Store>,
    pub dead_letters: Arc<dyn DeadLetters>,
    pub shutdown: Shutdown,
    pub health: Health,
    pub metrics: Arc<Metrics>,
    pub progress: Arc<Progress>,
}

/// Runs until `source` ends, a stop is requested and drained, or something is beyond repair.
pub async fn run(source: Box<dyn Source>, parts: Parts) -> Result<Summary, PipelineError> {
    let attempts = Attempts::new(&parts.settings, parts.health.clone(), parts.metrics.clone());
    let lane = |(clip, collection)| Lane::new(clip, collection, &parts.store, &parts.store_settings, &parts.metrics);
    let stages = Stages {
        topic_ops: parts.topic_ops,
        lanes: parts.models.into_iter().map(lane).collect(),
        media: parts.media,
        embed: Embed::new(parts.preprocess_threads, parts.pixels_max)
            .map_err(|e| PipelineError::Broken(format!("no threads to preprocess on: {e}")))?,
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

/// The stages in order, as the dispatcher sees them.
struct Stages {
    topic_ops: BTreeMap<String, Op>,
    lanes: Vec<Lane>,
    media: MediaClient,
    embed: Embed,
    dead_letters: Arc<dyn DeadLetters>,
    attempts: Attempts,
}

impl Handler for Stages {
    fn decode(&self, message: &Message) -> Result<IngestRequest, Failure> {
        let default_op = self.topic_ops.get(&*message.position.topic).copied().unwrap_or(Op::Upsert);
        let request = decode::decode(message, default_op)?;
        // Asked for now, so that a request is either possible for all of its models or refused before any work.
        self.lanes_of(&request)?;
        Ok(request)
    }

    async fn process(&self, request: &IngestRequest, message: &Message) -> Result<Outcome, GaveUp> {
        let lanes = self.lanes_of(request).map_err(|failure| GaveUp { failure, attempts: 1 })?;
        let started = Instant::now();
        let media = match &request.image {
            Some(url) => Some(self.attempts.run(Stage::Fetch, || fetch::fetch(&self.media, url)).await?),
            None => None,
        };
        let fetched_at = Instant::now();
        let clips: Vec<_> = lanes.iter().map(|lane| lane.clip().clone()).collect();
        let embedded = self
            .attempts
            .run(Stage::Embed, || self.embed.embed(&clips, media.as_ref(), request.text.as_deref()))
            .await?;
        drop(media);
        let writes = upsert::writes(request, message, embedded, lanes.len());
        let embedded_at = Instant::now();
        let written = self.attempts.run(Stage::Upsert, || upsert::write(&lanes, &writes)).await?;
        tracing::debug!(
            position = %message.position,
            fetch_ms = (fetched_at - started).as_millis() as u64,
            embed_ms = (embedded_at - fetched_at).as_millis() as u64,
            upsert_ms = embedded_at.elapsed().as_millis() as u64,
            "processed"
        );
        Ok(match (written, request.op) {
            (Written::Stale, _) => Outcome::Stale,
            (_, Op::Delete) => Outcome::Deleted,
            (_, _) => Outcome::Indexed,
        })
    }

    async fn bury(&self, letter: &DeadLetter) {
        settle::bury(&self.attempts, &*self.dead_letters, letter).await;
    }

    fn broken(&self) -> Option<String> {
        self.lanes.iter().find_map(Lane::broken)
    }
}

impl Stages {
    fn lanes_of(&self, request: &IngestRequest) -> Result<Vec<&Lane>, Failure> {
        let Some(models) = &request.models else { return Ok(self.lanes.iter().collect()) };
        let find = |model| {
            self.lanes.iter().find(|lane| lane.clip().id() == model).ok_or_else(|| {
                let known: Vec<String> = self.lanes.iter().map(|lane| lane.clip().id().to_string()).collect();
                let message = format!(
                    "field \"models\" asks for {model}, which this worker does not have; it has {}",
                    known.join(", ")
                );
                Failure::permanent(Stage::Decode, "model_not_configured", message)
            })
        };
        models.iter().map(find).collect()
    }
}
