//! Trying again: transient failures of one item a few times, outages of something shared for as long as they last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::flight;
use crate::config::PipelineSettings;
use crate::domain::{Class, Failure, Stage};
use crate::retry::Backoff;
use crate::store::STORE_CONFLICT;
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

impl Attempts {
    pub fn new(settings: &PipelineSettings, health: Health, metrics: Arc<Metrics>) -> Self {
        Self {
            max: settings.attempts_max,
            base: Duration::from_millis(settings.backoff_base_ms),
            cap: Duration::from_millis(settings.backoff_cap_ms),
            metrics,
            holds: Arc::new(Holds {
                health,
                held: Mutex::default(),
                success: Stage::ALL.into_iter().map(|stage| (stage, Notify::new())).collect(),
            }),
        }
    }

    /// Runs `work` until it succeeds or fails for good. During an outage the process is unready and the item held,
    /// however long it takes; the caller bounds the wait by dropping the future.
    pub async fn run<T, F>(&self, stage: Stage, mut work: impl FnMut() -> F) -> Result<T, GaveUp>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        flight::enter(stage);
        let mut backoff = Backoff::new(self.base, self.cap);
        let mut races = Backoff::new(self.base, self.base.saturating_mul(RACE_WAITS_MAX).min(self.cap));
        let mut transient = 0;
        let mut hold = None;
        loop {
            let started = Instant::now();
            let failure = match work().await {
                Ok(done) => {
                    self.metrics.stage(stage, started.elapsed());
                    self.holds.succeeded(stage);
                    return Ok(done);
                }
                Err(failure) => failure,
            };
            self.metrics.failed(failure.stage, failure.class, failure.reason);
            match failure.class {
                Class::Transient if failure.reason == STORE_CONFLICT => {
                    tracing::debug!(%stage, reason = failure.reason, "{}", failure.message);
                    self.metrics.retried(stage, failure.class);
                    hold = None;
                    tokio::time::sleep(races.next_wait(failure.retry_after)).await;
                    continue;
                }
                Class::Permanent => return Err(GaveUp { failure, attempts: transient + 1 }),
                Class::Transient => {
                    transient += 1;
                    tracing::debug!(%stage, reason = failure.reason, attempt = transient, "{}", failure.message);
                    if transient < self.max {
                        hold = None;
                    } else if is_shared(&failure) {
                        Hold::begin(&mut hold, &self.holds, stage, &failure);
                    } else {
                        return Err(GaveUp { failure, attempts: transient });
                    }
                }
                Class::Outage => Hold::begin(&mut hold, &self.holds, stage, &failure),
            }
            self.metrics.retried(stage, failure.class);
            let wait = backoff.next_wait(failure.retry_after);
            match &hold {
                Some(hold) => hold.wait(wait, self.base.max(failure.retry_after.unwrap_or_default())).await,
                None => tokio::time::sleep(wait).await,
            }
        }
    }
}

/// Whether a failure that may pass is of something that all messages share, rather than the item's: the store is busy, or an
/// update was not finished. The item is not to blame, so it never becomes a dead letter for it.
fn is_shared(failure: &Failure) -> bool {
    !matches!(failure.stage, Stage::Decode | Stage::Fetch | Stage::Embed)
}

/// Items that are held, by stage. A stage is out for as long as one item is held in it, whatever becomes of others.
struct Holds {
    health: Health,
    held: Mutex<BTreeMap<Stage, usize>>,
    /// Wakes the items that are held in a stage.
    success: BTreeMap<Stage, Notify>,
}

impl Holds {
    fn succeeded(&self, stage: Stage) {
        if let Some(held) = self.success.get(&stage) {
            held.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Stage, usize>> {
        // A panic elsewhere leaves the map whole: every update is one call.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One item that is held. Dropped when it goes on, however it goes on.
struct Hold {
    holds: Arc<Holds>,
    stage: Stage,
}

impl Hold {
    fn begin(hold: &mut Option<Self>, holds: &Arc<Holds>, stage: Stage, failure: &Failure) {
        let mut held = holds.lock();
        if hold.is_none() {
            *held.entry(stage).or_default() += 1;
            *hold = Some(Self { holds: holds.clone(), stage });
        }
        // Under the lock, so that the end of another item's hold cannot come between.
        holds.health.outage(stage.as_str(), failure.reason, failure.message.clone());
    }

    /// Waits before the next attempt: at most `wait`, and less when another item's attempt succeeds, since what was down
    /// may be back. But never less than `least`, since what is down may be something else.
    async fn wait(&self, wait: Duration, least: Duration) {
        let Some(success) = self.holds.success.get(&self.stage) else { return tokio::time::sleep(wait).await };
        let least = least.min(wait);
        // Counts from here on, also while it is not waited for.
        let success = success.notified();
        tokio::time::sleep(least).await;
        let _ = tokio::time::timeout(wait - least, success).await;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.holds.lock();
        let left = held.get(&self.stage).copied().unwrap_or_default().saturating_sub(1);
        if left > 0 {
            held.insert(self.stage, left);
        } else {
            held.remove(&self.stage);
            self.holds.health.over(self.stage.as_str());
        }
    }
}

#[cfg(test)]
#[path = "attempts_tests.rs"]
mod tests;
