//! From a message to a point, and back to a committed offset.
//!
//! ```text
//!            Source                                  (floor 3: Kafka, JSON Lines, a directory)
//!              │ messages, while there is room: held_messages_max messages, media_in_flight_bytes_max bytes
//!              ▼
//!   dispatch ─ format ─ keys ─ turns                 one task owns all order; what waits for a neighbour waits here
//!              │ one task per request that runs: in_flight_max, at most one per asset
//!              ▼
//!            recall                                  reads what the collections record, batches from what is waiting
//!              ▼
//!            fetch                                   per-host limits, media byte budget; only what may have changed
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
mod dispatch;
mod embed;
mod ended;
mod fetch;
mod flight;
mod flood;
mod holds;
mod keys;
mod lane;
mod pace;
mod pauses;
mod progress;
mod purge;
mod recall;
mod settle;
mod stuck;
mod tenants;
mod ticks;
mod trial;
mod turns;
mod upsert;
mod watermark;
mod whole;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub use embed::{Embed, Embedded, Picture, Target};
pub use flood::{Flood, FloodOf};
pub use progress::{Progress, Summary};
pub use trial::Trial;

use crate::clip::{Clip, PicturePool};
use crate::config::{PipelineSettings, StoreSettings};
use crate::dead_letter::{DeadLetter, DeadLetters, Sent};
use crate::domain::{
    DecodeReason, Explain, Failure, Fault, Finding, Guard, IngestRequest, Message, ModelId, Op, Outcome,
    PipelineReason, PointId, Recorded, Stage, Stamp,
};
use crate::format::{Reader, Requests};
use crate::media::{MediaClient, Standing};
use crate::redact;
use crate::shutdown::Shutdown;
use crate::source::{Source, SourceError};
use crate::store::{Store, StoreError, Written};
use crate::telemetry::{Health, Metrics};

use attempts::{Attempts, GaveUp, Stop, Tried};
use dispatch::{Dispatcher, Handler};
use recall::Recall;
use tenants::Tenants;
use upsert::Lane;

/// How often what made a message stale is looked for before it is believed to be a patch.
const READS_OF_NEWER_MAX: usize = 5;

/// Why a pipeline stopped that was not asked to, or not in time.
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
    /// Whether messages may come back late, from retry topics.
    pub retries: bool,
    /// What decodes and preprocesses pictures.
    pub pictures: Arc<PicturePool>,
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
    let pause_max = Duration::from_millis(parts.settings.backoff_cap_ms);
    let route = |(clip, collection): (_, String)| {
        let recall = Recall::new(collection.clone(), parts.store.clone(), parts.store_settings.batch_points_max);
        let lane = Lane::new(clip, collection.clone(), &parts.store, &parts.store_settings, pause_max, &parts.metrics);
        Route { collection, lane, recall }
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

/// One model's way through the stages.
struct Route {
    collection: String,
    recall: Recall,
    lane: Lane,
}

/// The stages in order, as the dispatcher sees them.
struct Stages {
    reader: Reader,
    tenants: Tenants,
    store: Arc<dyn Store>,
    routes: Vec<Route>,
    /// Otherwise everything is embedded, whatever the collections have.
    skip_unchanged: bool,
    retries: bool,
    guard: Guard,
    metrics: Arc<Metrics>,
    media: MediaClient,
    embed: Embed,
    dead_letters: Arc<dyn DeadLetters>,
    attempts: Attempts,
}

impl Handler for Stages {
    fn decode(&self, message: &Message) -> Result<Requests, Failure> {
        // Before anything else of it is looked at.
        if let Some(failure) = message.suspicion.as_ref().and_then(|suspicion| suspicion.verdict.clone()) {
            return Err(failure);
        }
        let requests = self.reader.read(message)?;
        let check = |request: IngestRequest| {
            self.tenants.note(message, &request)?;
            // Asked for now, so that a request is either possible for all of its models or refused before any work.
            self.routes_of(&request)?;
            Ok(request)
        };
        Ok(requests.into_iter().map(|request| request.and_then(check)).collect())
    }

    fn memory_bytes(&self, request: &IngestRequest) -> usize {
        // The request, and for each model a write and its copy in the writer's queue.
        request.memory_bytes() * (1 + 2 * self.routes.len())
    }

    fn host(&self, request: &IngestRequest) -> Option<String> {
        request.image.as_ref().and_then(|url| self.media.host_of(url))
    }

    fn standing(&self, host: &str) -> Standing {
        self.media.standing(host)
    }

    async fn process(&self, request: &IngestRequest, message: &Message, tried: &mut Tried) -> Result<Outcome, Stop> {
        let routes = self.routes_of(request).map_err(|failure| GaveUp { failure, attempts: 1 })?;
        if self.tenants.is_open(message) {
            self.require_no_tenants(&routes, request).await?;
        }
        let mine = Stamp { version: request.version, origin: Some(message.origin()) };
        let outcome = self.apply(&routes, request, message, &mine, tried).await?;
        if outcome == Outcome::Stale && message.retry.is_some() {
            self.require_replaced(&routes, request, &mine).await?;
        }
        Ok(outcome)
    }

    async fn send_dead_letter(&self, letter: &DeadLetter) -> Sent {
        settle::send_dead_letter(&self.attempts, &*self.dead_letters, letter).await
    }

    fn broken(&self) -> Option<PipelineError> {
        let broken = |route: &Route| {
            let clip = route.lane.clip();
            let given_up =
                || Some(PipelineError::Model(format!("model {} does not work: {}", clip.id(), clip.given_up()?)));
            let reader = || format!("the reader of {} is gone", clip.id());
            let gone = route.lane.broken().or_else(|| route.recall.is_broken().then(reader));
            gone.map(PipelineError::Broken).or_else(given_up)
        };
        self.routes.iter().find_map(broken)
    }
}

impl Stages {
    /// From the records to the written points.
    async fn apply(
        &self,
        routes: &[&Route],
        request: &IngestRequest,
        message: &Message,
        mine: &Stamp,
        tried: &mut Tried,
    ) -> Result<Outcome, Stop> {
        // Nobody is asked for a message that brings nothing to embed.
        let has_content = request.image.is_some() || request.text.is_some();
        let mut known = match has_content && self.skip_unchanged {
            true => self.recall(routes, request.point_id()).await?,
            false => vec![Recorded::default(); routes.len()],
        };
        if recall::is_stale(&known, mine, self.guard) {
            return Ok(Outcome::Stale);
        }
        loop {
            if let Some(outcome) = self.index(routes, &known, request, message, tried).await? {
                return Ok(outcome);
            }
            // Without memory nothing is relied on, so this happens once.
            tracing::debug!(position = %message.position, "the point is another one by now, embedding everything");
            known.fill(Recorded::default());
        }
    }

    /// What each collection records about the asset.
    async fn recall(&self, routes: &[&Route], id: PointId) -> Result<Vec<Recorded>, GaveUp> {
        let ask = || futures::future::try_join_all(routes.iter().map(|route| route.recall.recall(id)));
        self.attempts.run(Stage::Recall, ask).await
    }

    /// For a tombstone that tells no tenant: it would delete nothing of an asset that tenants have.
    async fn require_no_tenants(&self, routes: &[&Route], request: &IngestRequest) -> Result<(), GaveUp> {
        let ask = || async {
            let counts = routes.iter().map(|route| self.store.count_of_tenants(&route.collection, &request.asset));
            futures::future::try_join_all(counts).await.map_err(|error| error.at(Stage::Recall))
        };
        let counts = self.attempts.run(Stage::Recall, ask).await?;
        if counts.into_iter().all(|count| count == 0) {
            return Ok(());
        }
        let failure = tenants::unknown(request, "the collection has the asset of a tenant");
        Err(GaveUp { failure, attempts: 1 })
    }

    /// For a message that came back from a retry topic and is stale. A newer write of the whole asset makes it needless. A
    /// newer patch does not: what the message brings is missing, and cannot be put beneath the patch any more.
    async fn require_replaced(&self, routes: &[&Route], request: &IngestRequest, mine: &Stamp) -> Result<(), GaveUp> {
        let (id, reads) = (request.point_id(), AtomicUsize::new(0));
        let ask = || async {
            let known = futures::future::try_join_all(routes.iter().map(|route| route.recall.recall(id))).await?;
            let replaced = known.iter().all(|known| known.replaced(mine));
            // What was newer shows, or a replica that lags behind was asked; or another topic has written since.
            let shows = known.iter().all(|known| self.guard.refuses(mine, &known.stamp));
            if replaced || shows || reads.fetch_add(1, Ordering::Relaxed) >= READS_OF_NEWER_MAX {
                return Ok(replaced);
            }
            Err(StoreError::conflict(id, "(all of them)").at(Stage::Recall))
        };
        if self.attempts.run(Stage::Recall, ask).await? {
            return Ok(());
        }
        let message = "a newer patch of the asset was written while this message waited in a retry topic";
        let failure = Fault::new(PipelineReason::Overtaken, message).at(Stage::Upsert);
        Err(GaveUp { failure, attempts: 1 })
    }

    /// Fetches, embeds and writes, except for what is `known`. `None`: a point has changed that this relied on.
    async fn index(
        &self,
        routes: &[&Route],
        known: &[Recorded],
        request: &IngestRequest,
        message: &Message,
        tried: &mut Tried,
    ) -> Result<Option<Outcome>, Stop> {
        let started = Instant::now();
        let picture = match &request.image {
            Some(url) => {
                let fetch = || fetch::fetch(&self.media, url, recall::media(known));
                Some(self.attempts.attempt(Stage::Fetch, tried, fetch).await?)
            }
            None => None,
        };
        let fetched_at = Instant::now();
        let target = |(route, known): (&&Route, &Recorded)| Target::new(route.lane.clip().clone(), known);
        let targets: Vec<Target> = routes.iter().zip(known).map(target).collect();
        let embed = || self.embed.embed(&targets, picture.as_ref(), request.text.as_deref());
        let embedded = self.attempts.run(Stage::Embed, embed).await?;
        drop(picture);
        let kept = embedded.kept();
        let writes = upsert::writes(request, message, embedded, self.retries);
        let embedded_at = Instant::now();
        let lanes: Vec<&Lane> = routes.iter().map(|route| &route.lane).collect();
        let write = || upsert::write(&lanes, &writes);
        let Some(written) = self.attempts.run(Stage::Upsert, write).await? else { return Ok(None) };
        tracing::debug!(
            position = %message.position,
            fetch_ms = (fetched_at - started).as_millis() as u64,
            embed_ms = (embedded_at - fetched_at).as_millis() as u64,
            upsert_ms = embedded_at.elapsed().as_millis() as u64,
            "processed"
        );
        if written == Written::Stale {
            return Ok(Some(Outcome::Stale));
        }
        kept.into_iter().for_each(|(by, models)| self.metrics.unchanged(by, models));
        Ok(Some(if request.op == Op::Delete { Outcome::Deleted } else { Outcome::Indexed }))
    }

    fn routes_of(&self, request: &IngestRequest) -> Result<Vec<&Route>, Failure> {
        let Some(models) = &request.models else { return Ok(self.routes.iter().collect()) };
        let find = |model: &ModelId| {
            self.routes.iter().find(|route| route.lane.clip().id() == model).ok_or_else(|| {
                let known: Vec<String> = self.routes.iter().map(|route| route.lane.clip().id().to_string()).collect();
                let message = format!(
                    "field \"models\" asks for {}, which this worker does not have; it has {}",
                    redact::excerpt(&model.to_string(), 80),
                    known.join(", ")
                );
                Fault::new(DecodeReason::ModelNotConfigured, message).at(Stage::Decode)
            })
        };
        models.iter().map(find).collect()
    }
}
