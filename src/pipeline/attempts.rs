//! Retries: a transient failure of one item a few times, an outage of something shared for as long as it lasts.
//!
//! An item that waits for one host only keeps no place in the pipeline. It is put aside ([`Attempts::attempt`]) and run
//! again when its time has come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::flight;
use super::holds::{Hold, Holds};
use crate::config::PipelineSettings;
use crate::domain::{AnyReason, Class, Failure, Stage, StoreReason};
use crate::retry::Backoff;
use crate::telemetry::{Health, Metrics};

/// Longest wait after a lost race for a point, in multiples of `pipeline.backoff_base_ms`. Another writer got ahead, so
/// nothing failed: a lost race is no attempt, and the next try may come soon. With waits as long as those of an outage,
/// the writer that writes more often would always win.
const RACE_WAITS_MAX: u32 = 8;

/// Shared by all items in flight.
#[derive(Clone)]
pub struct Attempts {
    max: u32,
    base: Duration,
    cap: Duration,
    metrics: Arc<Metrics>,
    holds: Arc<Holds>,
}

/// An item that has failed for good.
#[derive(Debug)]
pub struct GaveUp {
    pub failure: Failure,
    pub attempts: u32,
}

/// Why an item stops for now.
#[derive(Debug)]
pub enum Stop {
    GaveUp(GaveUp),
    Aside(Aside),
}

/// An item that gives up its place until it is run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aside {
    pub wait: Duration,
    /// What the server asked for.
    pub retry_after: Option<Duration>,
    /// The host is down for all of its items.
    pub is_out: bool,
}

impl From<GaveUp> for Stop {
    fn from(gave_up: GaveUp) -> Self {
        Self::GaveUp(gave_up)
    }
}

/// The retry state of an item in one stage.
#[derive(Debug, Default)]
pub struct Tried {
    transient: u32,
    waits: Option<Backoff>,
    races: Option<Backoff>,
    hold: Option<Hold>,
}

impl Attempts {
    pub fn new(settings: &PipelineSettings, health: Health, metrics: Arc<Metrics>) -> Self {
        Self {
            max: settings.attempts_max,
            base: Duration::from_millis(settings.backoff_base_ms),
            cap: Duration::from_millis(settings.backoff_cap_ms),
            metrics,
            holds: Arc::new(Holds::new(health)),
        }
    }

    /// Runs `work` until it succeeds or fails for good. During an outage the process is unready and the item is held,
    /// without a time limit. The caller bounds the wait by dropping the future.
    pub async fn run<T, F>(&self, stage: Stage, mut work: impl FnMut() -> F) -> Result<T, GaveUp>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        flight::enter(stage);
        let mut tried = Tried::default();
        loop {
            match self.once(stage, &mut tried, Box::pin(work())).await {
                Ok(done) => return Ok(done),
                Err(failure) => {
                    let wait = self.wait_after(stage, &mut tried, &failure)?;
                    self.wait(&tried, wait, failure.fault.retry_after).await;
                }
            }
        }
    }

    /// Like [`Self::run`], but a failure that not all items share ends the call: the item gives up its place and is
    /// tried again in a new call with the same `tried`. When this process itself lacks a resource, the item waits here:
    /// running more items would make it worse.
    pub async fn attempt<T, F>(&self, stage: Stage, tried: &mut Tried, mut work: impl FnMut() -> F) -> Result<T, Stop>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        flight::enter(stage);
        loop {
            match self.once(stage, tried, Box::pin(work())).await {
                Ok(done) => return Ok(done),
                Err(failure) => {
                    let wait = self.wait_after(stage, tried, &failure)?;
                    if !is_own(&failure) {
                        let is_out = failure.fault.class == Class::Outage;
                        return Err(Stop::Aside(Aside { wait, retry_after: failure.fault.retry_after, is_out }));
                    }
                    self.wait(tried, wait, failure.fault.retry_after).await;
                }
            }
        }
    }

    /// `work` is boxed: some futures are large, and a message's own future is moved before it starts.
    async fn once<T>(
        &self,
        stage: Stage,
        tried: &mut Tried,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        let done = work.await.inspect_err(|failure| {
            self.metrics.failed(failure);
        })?;
        self.metrics.stage(stage, started.elapsed());
        self.holds.succeeded(stage);
        *tried = Tried::default();
        Ok(done)
    }

    /// How long to wait before the next attempt, if there is one.
    fn wait_after(&self, stage: Stage, tried: &mut Tried, failure: &Failure) -> Result<Duration, GaveUp> {
        let fault = &failure.fault;
        let reason = fault.reason.as_str();
        match fault.class {
            Class::Transient if fault.reason == StoreReason::Conflict.into() => {
                tracing::debug!(%stage, reason, "{fault}");
                self.metrics.retried(stage, fault.class);
                tried.hold = None;
                let cap = self.base.saturating_mul(RACE_WAITS_MAX).min(self.cap);
                let races = tried.races.get_or_insert_with(|| Backoff::new(self.base, cap));
                return Ok(races.next_wait(fault.retry_after));
            }
            Class::Permanent => return Err(GaveUp { failure: failure.clone(), attempts: tried.transient + 1 }),
            Class::Transient => {
                tried.transient += 1;
                tracing::debug!(%stage, reason, attempt = tried.transient, "{fault}");
                if tried.transient < self.max {
                    tried.hold = None;
                } else if is_shared(failure) {
                    Hold::begin(&mut tried.hold, &self.holds, stage, failure);
                } else {
                    return Err(GaveUp { failure: failure.clone(), attempts: tried.transient });
                }
            }
            Class::Outage => Hold::begin(&mut tried.hold, &self.holds, stage, failure),
        }
        self.metrics.retried(stage, fault.class);
        let waits = tried.waits.get_or_insert_with(|| Backoff::new(self.base, self.cap));
        Ok(waits.next_wait(fault.retry_after))
    }

    async fn wait(&self, tried: &Tried, wait: Duration, retry_after: Option<Duration>) {
        match &tried.hold {
            Some(hold) => hold.wait(wait, self.base.max(retry_after.unwrap_or_default())).await,
            None => tokio::time::sleep(wait).await,
        }
    }
}

/// Whether a transient failure comes from something that all messages share: a busy store, an unfinished update, a
/// look-up before decoding. The item is not to blame, so this never makes it a dead letter.
fn is_shared(failure: &Failure) -> bool {
    !matches!(failure.stage, Stage::Fetch | Stage::Embed)
}

/// Whether this process lacks a resource that every item needs (`exhaustion`).
fn is_own(failure: &Failure) -> bool {
    matches!(failure.fault.reason, AnyReason::Media(reason) if reason.is_of_process())
}

#[cfg(test)]
#[path = "attempts_tests.rs"]
mod tests;
