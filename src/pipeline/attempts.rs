//! Trying again: transient failures of one item a few times, outages of something shared for as long as they last.
//!
//! What only a neighbour is short of (the host of its picture) is no reason to keep a place in the pipeline: such an item is put
//! aside ([`Attempts::attempt`]), and run anew when its time has come.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::flight;
use super::holds::{Hold, Holds};
use crate::config::PipelineSettings;
use crate::domain::{AnyReason, Class, Failure, Stage, StoreReason};
use crate::retry::Backoff;
use crate::telemetry::{Health, Metrics};

/// Longest wait after a race for a point that was lost to another writer, in times of `pipeline.backoff_base_ms`. A lost race is
/// nobody's failure: somebody else got on, so it is no attempt, and the next one may come soon. Waits that grew on as those
/// of an outage do would leave the point to whoever writes to it more often.
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

/// What is left when an item has failed for good.
#[derive(Debug)]
pub struct GaveUp {
    pub failure: Failure,
    pub attempts: u32,
}

/// Why an item does not go on now.
#[derive(Debug)]
pub enum Stop {
    GaveUp(GaveUp),
    Aside(Aside),
}

/// An item that lets others pass until it is run anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aside {
    pub wait: Duration,
    /// What the other side asked for.
    pub retry_after: Option<Duration>,
    /// The host is down for all of its items.
    pub is_out: bool,
}

impl From<GaveUp> for Stop {
    fn from(gave_up: GaveUp) -> Self {
        Self::GaveUp(gave_up)
    }
}

/// What an item has been through in one stage, as far as the next attempt depends on it.
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

    /// Runs `work` until it succeeds or fails for good. During an outage the process is unready and the item held,
    /// however long it takes; the caller bounds the wait by dropping the future.
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

    /// As [`Self::run`], but what fails for want of something that is not everybody's gives its place to others until it is tried
    /// again, in a call of its own with the same `tried`. What this process itself is short of it waits for here: more
    /// items would make it worse.
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

    /// `work` on the heap: some of it is large, and a message's own future is moved before it begins.
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

    /// How long to wait before the next attempt, if there is to be one.
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

/// Whether a failure that may pass is of something that all messages share, rather than the item's: the store is busy, an
/// update was not finished, or a look-up before decoding. The item is not to blame, so it never becomes a dead letter for it.
fn is_shared(failure: &Failure) -> bool {
    !matches!(failure.stage, Stage::Fetch | Stage::Embed)
}

/// Whether this process lacks something that every item needs, whatever its neighbours do (`exhaustion`).
fn is_own(failure: &Failure) -> bool {
    matches!(failure.fault.reason, AnyReason::Media(reason) if reason.is_of_process())
}

#[cfg(test)]
#[path = "attempts_tests.rs"]
mod tests;
