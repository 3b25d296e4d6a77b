//! The stages of one request, from its records to its points.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::PipelineError;
use super::attempts::{Attempts, GaveUp, Stop, Tried};
use super::embed::{Embed, Embedded, Target};
use super::handler::Handler;
use super::label::{self, Labelled};
use super::recall::{self, Recall};
use super::tenants::{self, Tenants};
use super::upsert::{self, CollectionWriter};
use super::{fetch, settle};
use crate::dead_letter::{DeadLetter, DeadLetters, Sent};
use crate::domain::{
    DecodeReason, Failure, Fault, Guard, IngestRequest, Labelling, Message, ModelId, Op, Outcome, PipelineReason,
    PointId, Recorded, Stage, Stamp,
};
use crate::format::{LookUp, Read, Reader};
use crate::media::{MediaClient, Standing};
use crate::redact;
use crate::store::{Store, StoreError, Written};
use crate::telemetry::Metrics;

/// How often a stale message's newer write is looked for before it is taken to be a patch.
const READS_OF_NEWER_MAX: usize = 5;

/// One model's way through the stages.
pub struct Route {
    pub collection: String,
    pub recall: Recall,
    pub writer: CollectionWriter,
    /// What pictures are labelled with.
    pub labelling: Option<Arc<Labelling>>,
}

/// The stages in order, as the dispatcher sees them.
pub struct Stages {
    pub reader: Reader,
    pub tenants: Tenants,
    pub store: Arc<dyn Store>,
    pub routes: Vec<Route>,
    /// If false, everything is embedded, whatever the collections have.
    pub skip_unchanged: bool,
    pub retries: bool,
    pub guard: Guard,
    pub metrics: Arc<Metrics>,
    pub media: MediaClient,
    pub embed: Embed,
    pub dead_letters: Arc<dyn DeadLetters>,
    pub attempts: Attempts,
}

impl Handler for Stages {
    fn decode(&self, message: &Message) -> Result<Read, Failure> {
        // Before anything else of the message is read.
        if let Some(failure) = message.suspicion.as_ref().and_then(|suspicion| suspicion.verdict.clone()) {
            return Err(failure);
        }
        let requests = match self.reader.read(message)? {
            Read::Requests(requests) => requests,
            needs @ Read::Needs(_) => return Ok(needs),
        };
        let check = |request: IngestRequest| {
            self.tenants.note(message, &request)?;
            // Checked here, so that a request is refused before any work unless all of its models exist.
            self.routes_of(&request)?;
            Ok(request)
        };
        Ok(Read::Requests(requests.into_iter().map(|request| request.and_then(check)).collect()))
    }

    async fn look_up(&self, needed: &dyn LookUp) -> Result<(), GaveUp> {
        self.attempts.run(Stage::Decode, || needed.run()).await
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

    async fn process(
        &self,
        request: &IngestRequest,
        index: usize,
        message: &Message,
        tried: &mut Tried,
    ) -> Result<Outcome, Stop> {
        let routes = self.routes_of(request).map_err(|failure| GaveUp { failure, attempts: 1 })?;
        if self.tenants.is_open(message) {
            self.require_no_tenants(&routes, request).await?;
        }
        let mine = Stamp { version: request.version, origin: Some(message.origin_of(index)) };
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
            let clip = route.writer.clip();
            let given_up =
                || Some(PipelineError::Model(format!("model {} does not work: {}", clip.id(), clip.given_up()?)));
            let reader = || format!("the reader of {} is gone", clip.id());
            let gone = route.writer.broken().or_else(|| route.recall.is_broken().then(reader));
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
        // Without content nothing is embedded, so no records are needed.
        let mut known = match request.has_content() && self.skip_unchanged {
            true => self.recall(routes, request.point_id()).await?,
            false => vec![Recorded::default(); routes.len()],
        };
        if recall::is_stale(&known, mine, self.guard) {
            return Ok(Outcome::Stale);
        }
        loop {
            if let Some(outcome) = self.index(routes, &known, request, message, mine, tried).await? {
                return Ok(outcome);
            }
            // With empty records nothing is relied on, so this happens at most once.
            tracing::debug!(position = %message.position, "the point has changed since its record was read; embedding everything");
            known.fill(Recorded::default());
        }
    }

    /// What each collection records about the asset.
    async fn recall(&self, routes: &[&Route], id: PointId) -> Result<Vec<Recorded>, GaveUp> {
        let ask = || futures::future::try_join_all(routes.iter().map(|route| route.recall.recall(id)));
        self.attempts.run(Stage::Recall, ask).await
    }

    /// For a tombstone without a tenant: it would not delete the points that tenants have of the asset.
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

    /// For a stale message from a retry topic. A newer write of the whole asset makes it unnecessary. A newer patch
    /// does not: the message's content is missing and can no longer be written beneath the patch.
    async fn require_replaced(&self, routes: &[&Route], request: &IngestRequest, mine: &Stamp) -> Result<(), GaveUp> {
        let (id, reads) = (request.point_id(), AtomicUsize::new(0));
        let ask = || async {
            let known = futures::future::try_join_all(routes.iter().map(|route| route.recall.recall(id))).await?;
            let replaced = known.iter().all(|known| known.replaced(mine));
            // If no newer write shows, a lagging replica answered, or another topic has written since: read again.
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

    /// Fetches, embeds and writes, except for what is `known`. `None`: a point that this relied on has changed.
    async fn index(
        &self,
        routes: &[&Route],
        known: &[Recorded],
        request: &IngestRequest,
        message: &Message,
        mine: &Stamp,
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
        let target = |(route, known): (&&Route, &Recorded)| Target::new(route.writer.clip().clone(), known);
        let targets: Vec<Target> = routes.iter().zip(known).map(target).collect();
        let embed = || self.embed.embed(&targets, picture.as_ref(), request.text.as_deref());
        let mut embedded = self.attempts.run(Stage::Embed, embed).await?;
        drop(picture);
        if !self.label(routes, known, request.point_id(), &mut embedded).await? {
            return Ok(None);
        }
        let kept = embedded.kept();
        let writes = upsert::writes(request, mine.clone(), message.timestamp_ms, embedded, self.retries);
        let embedded_at = Instant::now();
        let writers: Vec<&CollectionWriter> = routes.iter().map(|route| &route.writer).collect();
        let write = || upsert::write(&writers, &writes);
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

    /// Adds the labels of pictures. False: a point that this relied on has changed.
    async fn label(
        &self,
        routes: &[&Route],
        known: &[Recorded],
        id: PointId,
        embedded: &mut Embedded,
    ) -> Result<bool, GaveUp> {
        if embedded.media.is_none() || routes.iter().all(|route| route.labelling.is_none()) {
            return Ok(true);
        }
        let targets: Vec<Labelled<'_>> = routes
            .iter()
            .zip(known)
            .map(|(route, known)| Labelled {
                collection: &route.collection,
                labelling: route.labelling.as_ref(),
                known,
            })
            .collect();
        let made: &Embedded = embedded;
        let found = || label::labels(&targets, made, id, &*self.store);
        let Some(labels) = self.attempts.run(Stage::Recall, found).await? else { return Ok(false) };
        embedded.targets.iter_mut().zip(labels).for_each(|(vectors, labels)| vectors.labels = labels);
        Ok(true)
    }

    fn routes_of(&self, request: &IngestRequest) -> Result<Vec<&Route>, Failure> {
        let Some(models) = &request.models else { return Ok(self.routes.iter().collect()) };
        let find = |model: &ModelId| {
            self.routes.iter().find(|route| route.writer.clip().id() == model).ok_or_else(|| {
                let known: Vec<String> = self.routes.iter().map(|route| route.writer.clip().id().to_string()).collect();
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

#[cfg(all(test, feature = "embedded"))]
#[path = "stages_tests.rs"]
mod tests;
