//! The loop that owns all order. It takes messages while there is room, makes a job of each request (`intake`), starts
//! at most one job per asset, settles ended tasks (`ended`), commits the watermark (`ticks`), and handles rebalances.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::PipelineError;
use super::attempts::{Aside, GaveUp, Stop, Tried};
use super::flight::Turn;
use super::flood::{Flood, FloodGate};
use super::handler::Handler;
use super::keys::{Job, Keys};
use super::lane::Name;
use super::lookups::Lookups;
use super::pauses::Pauses;
use super::progress::{Progress, Summary};
use super::stuck::Stuck;
use super::turns::Turns;
use super::watermark::{Assignment, Watermarks};
use super::whole::Whole;
use crate::config::PipelineSettings;
use crate::dead_letter::Sent;
use crate::domain::{Class, Failure, Outcome, PointId};
use crate::shutdown::Shutdown;
use crate::source::{Demand, Revocation, Source, SourceEvent};
use crate::telemetry::{Health, Metrics, Pulse};

/// Requests with nothing to embed that take one place together.
const LIGHT_PER_PLACE: usize = 4;
/// How often the loop reports that it is alive, even when idle.
const ALIVE_INTERVAL: Duration = Duration::from_secs(1);

pub struct Dispatcher<H> {
    pub(super) source: Box<dyn Source>,
    pub(super) handler: Arc<H>,
    pub(super) settings: PipelineSettings,
    shutdown: Shutdown,
    pub(super) health: Health,
    pub(super) metrics: Arc<Metrics>,
    pub(super) progress: Arc<Progress>,
    pub(super) watermarks: Watermarks,
    pub(super) pauses: Pauses,
    /// Messages that cannot be decoded yet.
    pub(super) lookups: Lookups,
    pub(super) keys: Keys,
    /// The jobs that do not run, except those that wait behind another job of their asset.
    pub(super) turns: Turns,
    turns_back: (mpsc::UnboundedSender<Name>, mpsc::UnboundedReceiver<Name>),
    /// Running tasks, in at most `in_flight_max` places.
    pub(super) tasks: JoinSet<Ended>,
    /// Bytes of the messages and requests that tasks work on.
    running_bytes: usize,
    pub(super) revocations: Vec<Leaving>,
    /// Waiting jobs may belong to partitions that this process no longer owns.
    pub(super) is_to_sweep: bool,
    pub(super) is_draining: bool,
    /// Something that all messages need has an outage.
    pub(super) is_out: bool,
    pub(super) stuck: Stuck,
    pulse: Pulse,
    /// Messages taken and not settled.
    pub(super) in_flight: usize,
    /// Requests of those messages that are not done, running or not.
    pub(super) jobs: usize,
    /// Those of `tasks` with nothing to embed.
    pub(super) light: usize,
    /// Those of `tasks` that send a dead letter.
    pub(super) letters: usize,
    /// Assets that wait for a dead letter.
    pub(super) held: Vec<Held>,
    pub(super) in_flight_bytes: usize,
    /// Messages dropped while draining.
    pub(super) left: u64,
    pub(super) flood_gate: FloodGate,
    pub(super) reported: Instant,
    pub(super) reported_settled: u64,
}

/// An asset whose next job runs once a dead letter is safe.
pub(super) struct Held {
    pub whole: Arc<Whole>,
    pub asset: PointId,
    /// Jobs that the failed one had superseded. They go before the next one.
    pub revived: Vec<Job>,
}

/// Partitions that are being revoked, as they were assigned when the revocation came.
pub(super) struct Leaving {
    pub revocation: Revocation,
    pub assignments: Vec<Assignment>,
}

/// What a task reports when it ends.
pub(super) enum Ended {
    Job {
        job: Box<Job>,
        end: End,
    },
    /// The look-up for the first waiting message of a partition. `None`: it was cancelled.
    LookUp {
        assignment: Assignment,
        found: Option<Result<(), GaveUp>>,
    },
    /// The dead letter of a message. `sent` is `None` if the partition is no longer assigned.
    Letter {
        whole: Arc<Whole>,
        failure: Failure,
        sent: Option<Sent>,
    },
}

pub(super) enum End {
    Done(Outcome),
    GaveUp(GaveUp),
    /// It is run again later.
    Aside(Aside),
    /// The partition is no longer assigned; its new owner processes the message.
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
        let standings = handler.clone();
        let turns = Turns::new(&settings, move |host| standings.standing(host));
        Self {
            source,
            handler,
            settings,
            shutdown,
            health,
            metrics,
            progress,
            watermarks: Watermarks::default(),
            pauses: Pauses::default(),
            lookups: Lookups::default(),
            keys: Keys::default(),
            turns,
            turns_back: mpsc::unbounded_channel(),
            tasks: JoinSet::new(),
            running_bytes: 0,
            revocations: Vec::new(),
            is_to_sweep: false,
            is_draining: false,
            is_out: false,
            stuck,
            pulse,
            in_flight: 0,
            jobs: 0,
            light: 0,
            letters: 0,
            held: Vec::new(),
            in_flight_bytes: 0,
            left: 0,
            flood_gate,
            reported: Instant::now(),
            reported_settled: 0,
        }
    }

    /// Runs until the source ends, a requested stop has drained, or something is beyond repair.
    pub async fn run(mut self) -> Result<Summary, PipelineError> {
        let ended = self.take_until_stopped().await;
        self.pulse.rest();
        // In every case, settled offsets are safe to commit, and the source must leave its group cleanly.
        self.tasks.abort_all();
        self.commit().await;
        // A message may be the cause: the process that takes these next must know that they were in flight.
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
            abandoned: self.in_flight as u64 + self.left,
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
            self.is_draining = drain_by.is_some();
            self.start_ready();
            self.complete_revocations();
            let stopping = source_ended || self.is_draining;
            if stopping && self.tasks.is_empty() && self.turns.is_empty() {
                // Dead letters during the drain count too.
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
                    self.on_ended(ended.map_err(|e| PipelineError::Broken(e.to_string()))?);
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
                _ = alive.tick() => self.look_at_distances(),
                Some(host) = self.turns_back.1.recv() => self.turns.passed(&host, true, Instant::now()),
                () = sleep_until(self.turns.due().map(Into::into)) => self.turns.wake(Instant::now()),
                event = self.source.next(demand), if !source_ended => match event {
                    Ok(SourceEvent::End) => source_ended = true,
                    Ok(event) => self.on_event(event)?,
                    Err(error) if error.class == Class::Transient => tracing::warn!("source: {error}"),
                    Err(error) => return Err(error.into()),
                },
            }
        }
    }

    fn drain_deadline(&self) -> tokio::time::Instant {
        tokio::time::Instant::now() + Duration::from_millis(self.settings.drain_deadline_ms)
    }

    fn has_room(&self) -> bool {
        let PipelineSettings { in_flight_max, held_messages_max, .. } = self.settings;
        let bytes_max = usize::try_from(self.settings.media_in_flight_bytes_max).unwrap_or(usize::MAX);
        // Waiting messages leave room for running ones.
        let held_bytes = self.in_flight_bytes.saturating_sub(self.running_bytes);
        let may_wait = self.waiting() < held_messages_max
            && self.turns.waiting_in_peace() < (held_messages_max / 2).max(1)
            && held_bytes < bytes_max / 2;
        // With all places taken, another message helps only if it may belong to a tenant with too few places.
        let may_run = self.places_taken() < in_flight_max || (self.turns.is_crowded() && !self.is_out);
        may_wait && may_run && self.in_flight_bytes < bytes_max && !self.pauses.is_all(self.watermarks.len())
    }

    /// Places taken, of `in_flight_max`. A request with nothing to embed waits only for the next write: several of them share a place,
    /// so that writes are as large as the store takes them.
    fn places_taken(&self) -> usize {
        self.tasks.len().saturating_sub(self.light) + self.light / LIGHT_PER_PLACE
    }

    /// Requests taken and not running. A message that is not decoded yet counts as one.
    pub(super) fn waiting(&self) -> usize {
        (self.jobs + self.letters + self.lookups.messages()).saturating_sub(self.tasks.len())
    }

    fn on_event(&mut self, event: SourceEvent) -> Result<(), PipelineError> {
        match event {
            SourceEvent::Assigned { epoch, partitions } => {
                partitions.into_iter().for_each(|partition| self.watermarks.assign(partition, epoch));
                self.is_to_sweep = true;
            }
            SourceEvent::Message(message) => self.on_message(message)?,
            SourceEvent::Revoking(revocation) => {
                let assignments = self.watermarks.current(&revocation.partitions);
                self.revocations.push(Leaving { revocation, assignments });
                self.is_to_sweep = true;
            }
            SourceEvent::Lost { partitions } => {
                let assignments = self.watermarks.current(&partitions);
                self.watermarks.release(&assignments);
                self.is_to_sweep = true;
            }
            SourceEvent::End => {}
        }
        Ok(())
    }

    /// Starts jobs while there are places, and drops jobs that must not run here.
    fn start_ready(&mut self) {
        while let Ok(host) = self.turns_back.1.try_recv() {
            self.turns.passed(&host, true, Instant::now());
        }
        self.turns.wake(Instant::now());
        while self.places_taken() < self.settings.in_flight_max
            && let Some(job) = self.turns.next()
        {
            self.start(job);
        }
        if self.is_draining || self.is_to_sweep {
            self.sweep();
        }
    }

    /// A task starts on a message: on a request of `bytes`, or on its dead letter, which has no bytes of its own.
    pub(super) fn begin(&mut self, whole: &Whole, bytes: usize) {
        self.running_bytes += bytes + if whole.start() { whole.bytes } else { 0 };
    }

    /// That task has ended.
    pub(super) fn end(&mut self, whole: &Whole, bytes: usize) {
        self.running_bytes -= bytes + if whole.stop() { whole.bytes } else { 0 };
    }

    fn start(&mut self, mut job: Box<Job>) {
        if let Some(host) = job.lane.host.clone() {
            job.flight.give(Turn { host, back: self.turns_back.0.clone() });
        }
        self.begin(&job.whole, job.bytes);
        self.light += usize::from(!job.request.has_content());
        let handler = self.handler.clone();
        self.tasks.spawn(async move {
            let flight = job.flight.clone();
            let end = flight.carry(Box::pin(end(&*handler, &mut job))).await;
            Ended::Job { job, end: end.unwrap_or(End::Fenced) }
        });
    }
}

async fn end<H: Handler>(handler: &H, job: &mut Job) -> End {
    match handler.process(&job.request, job.index, &job.whole.message, &mut job.tried).await {
        Ok(outcome) => End::Done(outcome),
        Err(Stop::Aside(aside)) => End::Aside(aside),
        Err(Stop::GaveUp(gave_up)) => {
            // Releases the hold: a job that has given up must not keep a stage in outage.
            job.tried = Tried::default();
            End::GaveUp(gave_up)
        }
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "dispatch_tests.rs"]
mod tests;
