//! The loop that owns all order: takes messages while there is room, starts at most one job per asset, settles what
//! has ended, commits the watermark, and answers assignments and revocations.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use super::PipelineError;
use super::attempts::GaveUp;
use super::flood::{Flood, FloodGate};
use super::keys::{Job, Keys};
use super::progress::{Progress, Summary};
use super::stuck::Stuck;
use super::watermark::{Assignment, Taken, Watermarks};
use crate::config::PipelineSettings;
use crate::dead_letter::{DeadLetter, Sent};
use crate::domain::{Failure, IngestRequest, Message, Outcome, TopicPartition};
use crate::shutdown::Shutdown;
use crate::source::{Demand, Revocation, Source, SourceError, SourceEvent};
use crate::telemetry::{Health, Metrics, Pulse};

/// How often progress is mentioned in the log.
const REPORT: Duration = Duration::from_secs(60);

/// How often the loop shows that it goes round, whatever else happens.
const ALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// What is done with one message. The stages implement it; tests have their own.
pub trait Handler: Send + Sync + 'static {
    fn decode(&self, message: &Message) -> Result<IngestRequest, Failure>;

    /// Bytes that the request holds in memory on its way, its message left out.
    fn memory_bytes(&self, request: &IngestRequest) -> usize;

    /// Takes the request as far as it gets, retries included.
    fn process(
        &self,
        request: &IngestRequest,
        message: &Message,
    ) -> impl Future<Output = Result<Outcome, GaveUp>> + Send;

    /// Why no more work can be done, if so: something that all messages need has panicked, or does not work any more.
    fn broken(&self) -> Option<PipelineError>;

    /// Returns once the letter is safe, however long that takes.
    fn bury(&self, letter: &DeadLetter) -> impl Future<Output = Sent> + Send;
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
    revocations: Vec<Leaving>,
    stuck: Stuck,
    pulse: Pulse,
    in_flight: usize,
    in_flight_bytes: usize,
    flood_gate: FloodGate,
    reported: Instant,
    reported_settled: u64,
}

/// Partitions that others will get, as they were assigned when we were told.
struct Leaving {
    revocation: Revocation,
    assignments: Vec<Assignment>,
}

/// A task's last words.
#[expect(clippy::large_enum_variant, reason = "moved once; most are jobs, and a box for the others saves nothing")]
enum Ended {
    Job {
        job: Box<Job>,
        end: End,
    },
    /// Never became a job: it could not be decoded.
    Rejected {
        message: Message,
        end: End,
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
        let pulse = Pulse::new("the dispatcher");
        health.watch(pulse.clone());
        let stuck = Stuck::new(Duration::from_millis(settings.stalled_after_ms), health.clone());
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
            stuck,
            pulse,
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
        self.pulse.rest();
        // Whatever happened: what is settled is safe to commit, and the source wants to leave in order.
        self.tasks.abort_all();
        self.commit().await;
        // Of the messages, one may be the reason: whoever takes them next is to know that they were here.
        let is_broken = matches!(ended, Err(PipelineError::Broken(_) | PipelineError::Model(_)));
        if is_broken || self.health.live().is_err() {
            self.source.failed();
        }
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
        let mut alive = tokio::time::interval(ALIVE_INTERVAL);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.pulse.beat();
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
                        return Err(why);
                    }
                }
                _ = alive.tick() => {}
                event = self.source.next(demand), if !source_ended => match event {
                    Ok(SourceEvent::End) => source_ended = true,
                    Ok(event) => self.on_event(event)?,
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

    fn on_event(&mut self, event: SourceEvent) -> Result<(), PipelineError> {
        match event {
            SourceEvent::Assigned { epoch, partitions } => {
                partitions.into_iter().for_each(|partition| self.watermarks.assign(partition, epoch));
            }
            SourceEvent::Message(message) => self.on_message(message)?,
            SourceEvent::Revoking(revocation) => {
                let assignments = self.watermarks.current(&revocation.partitions);
                self.revocations.push(Leaving { revocation, assignments });
            }
            SourceEvent::Lost { partitions } => {
                let assignments = self.watermarks.current(&partitions);
                self.watermarks.release(&assignments);
            }
            SourceEvent::End => {}
        }
        Ok(())
    }

    fn on_message(&mut self, message: Message) -> Result<(), PipelineError> {
        let flight = match self.watermarks.take(&message) {
            Taken::InFlight(flight) => flight,
            Taken::Over => {
                tracing::debug!(position = %message.position, "dropped: its assignment is over");
                return Ok(());
            }
            Taken::Unannounced => {
                let (position, epoch) = (&message.position, message.epoch);
                return Err(PipelineError::Broken(format!(
                    "{position} came in epoch {epoch}, which was not announced"
                )));
            }
        };
        self.progress.take();
        self.in_flight += 1;
        let mut bytes = message.memory_bytes();
        let decoded = self.handler.decode(&message);
        bytes += decoded.as_ref().map_or(0, |request| self.handler.memory_bytes(request));
        self.in_flight_bytes += bytes;
        match decoded {
            Ok(request) => {
                if let Some(job) = self.keys.enter(Job { message, request, flight, bytes, superseded: Vec::new() }) {
                    self.start(job);
                }
            }
            Err(failure) => {
                self.metrics.failed(failure.stage, failure.class, failure.reason);
                let handler = self.handler.clone();
                self.tasks.spawn(async move {
                    let letter = DeadLetter { message, failure, attempts: 1 };
                    let end = match flight.carry(handler.bury(&letter)).await {
                        Some(sent) => End::Outcome(failed(sent, letter.failure)),
                        None => End::Fenced,
                    };
                    Ended::Rejected { message: letter.message, end }
                });
            }
        }
        Ok(())
    }

    fn start(&mut self, job: Job) {
        let handler = self.handler.clone();
        self.tasks.spawn(async move {
            let flight = job.flight.clone();
            let end = flight.carry(outcome(&*handler, &job)).await;
            Ended::Job { job: Box::new(job), end: end.map_or(End::Fenced, End::Outcome) }
        });
    }

    fn on_ended(&mut self, ended: Result<Ended, JoinError>) -> Result<(), PipelineError> {
        match ended.map_err(|e| PipelineError::Broken(e.to_string()))? {
            Ended::Rejected { message, end: End::Outcome(outcome) } => {
                self.settle(&message, message.memory_bytes(), &outcome);
            }
            Ended::Rejected { message, end: End::Fenced } => self.forget(message.memory_bytes()),
            Ended::Job { job, end } => {
                let Job { message, request, bytes, superseded, .. } = *job;
                let mut revived = Vec::new();
                match end {
                    End::Outcome(outcome) => {
                        if matches!(outcome, Outcome::DeadLettered(_) | Outcome::PutOff(_)) {
                            revived = superseded;
                        } else {
                            for older in &superseded {
                                self.settle(&older.message, older.bytes, &Outcome::Superseded);
                            }
                        }
                        self.settle(&message, bytes, &outcome);
                    }
                    End::Fenced => {
                        self.forget(bytes);
                        revived = superseded;
                    }
                }
                while let Some(next) = self.keys.leave(request.point_id(), std::mem::take(&mut revived)) {
                    if !next.flight.fence.is_cancelled() {
                        self.start(next);
                        break;
                    }
                    self.forget(next.bytes);
                    revived = next.superseded;
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, message: &Message, bytes: usize, outcome: &Outcome) {
        self.forget(bytes);
        self.flood_gate.settled(outcome);
        if let Outcome::DeadLettered(failure) = outcome {
            tracing::warn!(position = %message.position, stage = %failure.stage, class = %failure.class,
                reason = failure.reason, "dead letter: {}", failure.message);
        }
        if let Outcome::PutOff(failure) = outcome {
            tracing::debug!(position = %message.position, stage = %failure.stage, reason = failure.reason,
                "put off: {}", failure.message);
        }
        self.progress.settle(matches!(outcome, Outcome::DeadLettered(_)));
        self.metrics.settled(outcome);
        self.watermarks.settle(message);
    }

    fn forget(&mut self, bytes: usize) {
        self.in_flight -= 1;
        self.in_flight_bytes -= bytes;
    }

    fn complete_revocations(&mut self) {
        let (drained, waiting) =
            std::mem::take(&mut self.revocations).into_iter().partition(|l| self.watermarks.drained(&l.assignments));
        self.revocations = waiting;
        for Leaving { revocation, assignments } in drained {
            let offsets = self.watermarks.release(&assignments);
            revocation.complete(offsets);
        }
    }

    async fn on_tick(&mut self) {
        let (abandoned, waiting) =
            std::mem::take(&mut self.revocations).into_iter().partition(|l| l.revocation.is_abandoned());
        self.revocations = waiting;
        for Leaving { revocation, assignments } in abandoned {
            tracing::warn!(partitions = %list(&revocation.partitions), "released before they were drained");
            self.watermarks.release(&assignments);
        }
        self.commit().await;
        self.metrics.queue_depth("in_flight", self.in_flight);
        let lag = self.source.lag();
        for (partition, messages) in &lag {
            self.metrics.lag(partition, *messages);
        }
        self.stuck.look(&self.watermarks, Instant::now());
        self.health.remind(self.in_flight, self.progress.settled());
        if self.reported.elapsed() >= REPORT {
            self.report(lag.iter().map(|(_, messages)| messages).sum());
        }
    }

    /// One line a minute while there is work: how it goes. During an outage its reminder says that.
    fn report(&mut self, lag: i64) {
        let (settled, seconds) = (self.progress.settled(), self.reported.elapsed().as_secs_f64());
        let (new, in_flight) = (settled - self.reported_settled, self.in_flight);
        (self.reported, self.reported_settled) = (Instant::now(), settled);
        if (new > 0 || in_flight > 0) && self.health.is_ready() {
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
    }

    async fn commit(&mut self) {
        let offsets = self.watermarks.committable();
        if offsets.is_empty() {
            return;
        }
        match self.source.commit(offsets.clone()).await {
            Ok(()) => {
                self.metrics.committed();
                self.health.over("commit");
            }
            Err(why) => {
                self.health.outage("commit", "commit_failed", why.to_string());
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
            failed(handler.bury(&letter).await, letter.failure)
        }
    }
}

fn failed(sent: Sent, failure: Failure) -> Outcome {
    match sent {
        Sent::DeadLetter => Outcome::DeadLettered(failure),
        Sent::PutOff => Outcome::PutOff(failure),
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
