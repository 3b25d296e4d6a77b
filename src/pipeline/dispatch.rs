//! The loop that owns all order: takes messages while there is room, starts at most one job per asset, settles what
//! has ended, commits the watermark, and answers assignments and revocations.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use super::PipelineError;
use super::attempts::GaveUp;
use super::flood::{Flood, FloodGate};
use super::keys::{Job, Keys};
use super::watermark::Watermarks;
use crate::config::PipelineSettings;
use crate::dead_letter::DeadLetter;
use crate::domain::{Failure, IngestRequest, Message, Outcome, TopicPartition};
use crate::shutdown::Shutdown;
use crate::source::{Demand, Revocation, Source, SourceError, SourceEvent};
use crate::telemetry::{Health, Metrics};

/// How often progress, or an outage that goes on, is mentioned in the log.
const REPORT: Duration = Duration::from_secs(60);

/// What is done with one message. The stages implement it; tests have their own.
pub trait Handler: Send + Sync + 'static {
    fn decode(&self, message: &Message) -> Result<IngestRequest, Failure>;

    /// Takes the request as far as it gets, retries included.
    fn process(
        &self,
        request: &IngestRequest,
        message: &Message,
    ) -> impl Future<Output = Result<Outcome, GaveUp>> + Send;

    /// Why no more work can be done, if so: something that all messages need has panicked.
    fn broken(&self) -> Option<String>;

    /// Returns once the letter is safe, however long that takes.
    fn bury(&self, letter: &DeadLetter) -> impl Future<Output = ()> + Send;
}

/// Counts for progress bars and summaries, shared with whoever watches.
#[derive(Debug, Default)]
pub struct Progress {
    settled: AtomicU64,
    dead_lettered: AtomicU64,
    first_taken: OnceLock<Instant>,
    last_settled: Mutex<Option<Instant>>,
}

impl Progress {
    /// From the first message taken to the last one settled: what a rate is over, waiting for partitions left out.
    pub fn elapsed(&self) -> Duration {
        let last = *self.last_settled.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.first_taken.get(), last) {
            (Some(first), Some(last)) => last.duration_since(*first),
            _ => Duration::ZERO,
        }
    }

    /// Messages that are done, dead letters included.
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    pub fn dead_lettered(&self) -> u64 {
        self.dead_lettered.load(Ordering::Relaxed)
    }
}

/// How a run ended that was not cut short by an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub settled: u64,
    pub dead_lettered: u64,
    /// Messages that were still in flight at the drain deadline. They are not committed and will be delivered again.
    pub abandoned: u64,
}

pub struct Dispatcher<H> {
    source: Box<dyn Source>,
    handler: Arc<H>,
    settings: PipelineSettings,
    shutdown: Shutdown,
    health: Health,
    metrics: Arc<Metrics>,
    progress: Arc<Progress>,
    watermarks: Watermarks,
    keys: Keys,
    tasks: JoinSet<Ended>,
    revocations: Vec<Revocation>,
    in_flight: usize,
    in_flight_bytes: usize,
    flood_gate: FloodGate,
    reported: Instant,
    reported_settled: u64,
}

/// A task's last words.
enum Ended {
    Job {
        job: Box<Job>,
        end: End,
    },
    /// Never became a job: it could not be decoded.
    Rejected {
        message: Message,
        outcome: Outcome,
    },
}

enum End {
    Outcome(Outcome),
    /// The partition belongs to others now; the message is theirs to process.
    Fenced,
}

impl<H: Handler> Dispatcher<H> {
    pub fn new(
        source: Box<dyn Source>,
        handler: Arc<H>,
        settings: PipelineSettings,
        shutdown: Shutdown,
        health: Health,
        metrics: Arc<Metrics>,
        progress: Arc<Progress>,
    ) -> Self {
        let flood_gate = FloodGate::new(&settings);
        Self {
            source,
            handler,
            settings,
            shutdown,
            health,
            metrics,
            progress,
            watermarks: Watermarks::default(),
            keys: Keys::default(),
            tasks: JoinSet::new(),
            revocations: Vec::new(),
            in_flight: 0,
            in_flight_bytes: 0,
            flood_gate,
            reported: Instant::now(),
            reported_settled: 0,
        }
    }

    /// Runs until the source ends, a stop is requested and drained, or something is beyond repair.
    pub async fn run(mut self) -> Result<Summary, PipelineError> {
        let ended = self.take_until_stopped().await;
        // Whatever happened: what is settled is safe to commit, and the source wants to leave in order.
        self.tasks.abort_all();
        self.commit().await;
        let closed = self.source.close().await;
        ended?;
        closed?;
        Ok(Summary {
            settled: self.progress.settled(),
            dead_lettered: self.progress.dead_lettered(),
            abandoned: self.in_flight as u64,
        })
    }

    async fn take_until_stopped(&mut self) -> Result<(), PipelineError> {
        let shutdown = self.shutdown.clone();
        let mut tick = tokio::time::interval(Duration::from_millis(self.settings.commit_interval_ms));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut source_ended = false;
        let mut drain_by: Option<tokio::time::Instant> = None;
        let mut flooded: Option<Flood> = None;
        loop {
            self.complete_revocations();
            let stopping = source_ended || drain_by.is_some();
            if stopping && self.tasks.is_empty() {
                // What failed while draining counts too.
                return flooded
                    .map_or(Ok(()), |found| Err(PipelineError::Flood(self.flood_gate.flood().unwrap_or(found))));
            }
            let demand = if stopping || !self.has_room() { Demand::ControlOnly } else { Demand::Messages };
            tokio::select! {
                biased;
                () = shutdown.forced() => return Err(PipelineError::Forced),
                () = shutdown.requested(), if drain_by.is_none() => drain_by = Some(self.drain_deadline()),
                () = sleep_until(drain_by) => {
                    tracing::warn!(in_flight = self.in_flight, "drain deadline passed, leaving work for redelivery");
                    return Ok(());
                }
                Some(ended) = self.tasks.join_next() => {
                    self.on_ended(ended)?;
                    if flooded.is_none() {
                        flooded = self.flood_gate.flood();
                        drain_by = drain_by.or_else(|| flooded.map(|_| self.drain_deadline()));
                    }
                }
                _ = tick.tick() => {
                    self.on_tick().await;
                    if let Some(why) = self.handler.broken() {
                        return Err(PipelineError::Broken(why));
                    }
                }
                event = self.source.next(demand), if !source_ended => match event {
                    Ok(SourceEvent::End) => source_ended = true,
                    Ok(event) => self.on_event(event),
                    Err(SourceError::Fatal(why)) => return Err(SourceError::Fatal(why).into()),
                    Err(SourceError::Temporary(why)) => tracing::warn!("source: {why}"),
                },
            }
        }
    }

    fn drain_deadline(&self) -> tokio::time::Instant {
        tokio::time::Instant::now() + Duration::from_millis(self.settings.drain_deadline_ms)
    }

    fn has_room(&self) -> bool {
        let bytes_max = usize::try_from(self.settings.media_in_flight_bytes_max).unwrap_or(usize::MAX);
        self.in_flight < self.settings.in_flight_max && self.in_flight_bytes < bytes_max
    }

    fn on_event(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Assigned { epoch, partitions } => {
                partitions.into_iter().for_each(|partition| self.watermarks.assign(partition, epoch));
            }
            SourceEvent::Message(message) => self.on_message(message),
            SourceEvent::Revoking(revocation) => self.revocations.push(revocation),
            SourceEvent::Lost { partitions } => drop(self.watermarks.release(&partitions)),
            SourceEvent::End => {}
        }
    }

    fn on_message(&mut self, message: Message) {
        let Some(fence) = self.watermarks.take(&message) else {
            tracing::debug!(position = %message.position, "dropped: its assignment is over");
            return;
        };
        self.progress.first_taken.get_or_init(Instant::now);
        self.in_flight += 1;
        self.in_flight_bytes += message.bytes();
        match self.handler.decode(&message) {
            Ok(request) => {
                if let Some(job) = self.keys.enter(Job { message, request, fence, superseded: Vec::new() }) {
                    self.start(job);
                }
            }
            Err(failure) => {
                self.metrics.failed(failure.stage, failure.class, failure.reason);
                let handler = self.handler.clone();
                self.tasks.spawn(async move {
                    let letter = DeadLetter { message, failure, attempts: 1 };
                    handler.bury(&letter).await;
                    Ended::Rejected { message: letter.message, outcome: Outcome::DeadLettered(letter.failure) }
                });
            }
        }
    }

    fn start(&mut self, job: Job) {
        let handler = self.handler.clone();
        self.tasks.spawn(async move {
            let fence = job.fence.clone();
            let end = fence.run_until_cancelled(outcome(&*handler, &job)).await;
            Ended::Job { job: Box::new(job), end: end.map_or(End::Fenced, End::Outcome) }
        });
    }

    fn on_ended(&mut self, ended: Result<Ended, JoinError>) -> Result<(), PipelineError> {
        match ended.map_err(|e| PipelineError::Broken(e.to_string()))? {
            Ended::Rejected { message, outcome } => self.settle(&message, &outcome),
            Ended::Job { job, end } => {
                let Job { message, request, superseded, .. } = *job;
                let mut revived = Vec::new();
                match end {
                    End::Outcome(outcome) => {
                        if matches!(outcome, Outcome::DeadLettered(_)) {
                            revived = superseded;
                        } else {
                            superseded.iter().for_each(|older| self.settle(&older.message, &Outcome::Superseded));
                        }
                        self.settle(&message, &outcome);
                    }
                    End::Fenced => {
                        self.forget(&message);
                        revived = superseded;
                    }
                }
                while let Some(next) = self.keys.leave(request.point_id(), std::mem::take(&mut revived)) {
                    if !next.fence.is_cancelled() {
                        self.start(next);
                        break;
                    }
                    self.forget(&next.message);
                    revived = next.superseded;
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, message: &Message, outcome: &Outcome) {
        self.forget(message);
        self.flood_gate.settled(outcome);
        if let Outcome::DeadLettered(failure) = outcome {
            self.progress.dead_lettered.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(position = %message.position, stage = %failure.stage, class = %failure.class,
                reason = failure.reason, "dead letter: {}", failure.message);
        }
        self.progress.settled.fetch_add(1, Ordering::Relaxed);
        *self.progress.last_settled.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.metrics.settled(outcome);
        self.watermarks.settle(message);
    }

    fn forget(&mut self, message: &Message) {
        self.in_flight -= 1;
        self.in_flight_bytes -= message.bytes();
    }

    fn complete_revocations(&mut self) {
        let (drained, waiting) =
            std::mem::take(&mut self.revocations).into_iter().partition(|r| self.watermarks.drained(&r.partitions));
        self.revocations = waiting;
        for revocation in drained {
            let offsets = self.watermarks.release(&revocation.partitions);
            revocation.complete(offsets);
        }
    }

    async fn on_tick(&mut self) {
        let (abandoned, waiting) =
            std::mem::take(&mut self.revocations).into_iter().partition(Revocation::is_abandoned);
        self.revocations = waiting;
        for revocation in abandoned {
            tracing::warn!(partitions = %list(&revocation.partitions), "released before they were drained");
            self.watermarks.release(&revocation.partitions);
        }
        self.commit().await;
        self.metrics.queue_depth("in_flight", self.in_flight);
        let lag = self.source.lag();
        for (partition, messages) in &lag {
            self.metrics.lag(partition, *messages);
        }
        if self.reported.elapsed() >= REPORT {
            self.report(lag.iter().map(|(_, messages)| messages).sum());
        }
    }

    /// One line a minute: how it goes while there is work, and what is in the way while there is an outage.
    fn report(&mut self, lag: i64) {
        let (settled, seconds) = (self.progress.settled(), self.reported.elapsed().as_secs_f64());
        let (new, in_flight) = (settled - self.reported_settled, self.in_flight);
        (self.reported, self.reported_settled) = (Instant::now(), settled);
        if new > 0 || in_flight > 0 {
            let per_second = (new as f64 / seconds * 10.0).round() / 10.0;
            tracing::info!(
                settled,
                per_second,
                dead_lettered = self.progress.dead_lettered(),
                in_flight,
                lag,
                "progress"
            );
        }
        for (component, why) in self.health.reasons() {
            tracing::warn!(component, in_flight, "still unready: {why}");
        }
    }

    async fn commit(&mut self) {
        let offsets = self.watermarks.committable();
        if offsets.is_empty() {
            return;
        }
        match self.source.commit(offsets.clone()).await {
            Ok(()) => self.metrics.committed(),
            Err(why) => {
                tracing::warn!("commit failed, will be repeated: {why}");
                self.watermarks.not_committed(&offsets);
            }
        }
    }
}

/// The job's fate. Whatever fails for good becomes a dead letter, and counts as settled only once that is safe.
async fn outcome<H: Handler>(handler: &H, job: &Job) -> Outcome {
    match handler.process(&job.request, &job.message).await {
        Ok(outcome) => outcome,
        Err(GaveUp { failure, attempts }) => {
            let letter = DeadLetter { message: job.message.clone(), failure, attempts };
            handler.bury(&letter).await;
            Outcome::DeadLettered(letter.failure)
        }
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn list(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "dispatch_tests.rs"]
mod tests;
