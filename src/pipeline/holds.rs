//! Items held by an outage. A stage is out while it holds any.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::domain::{Failure, Stage};
use crate::telemetry::Health;

/// Held items by stage. A stage is out while at least one item is held in it, even if others succeed.
#[derive(Debug)]
pub struct Holds {
    health: Health,
    held: Mutex<BTreeMap<Stage, usize>>,
    /// Wakes the items that a stage holds.
    success: BTreeMap<Stage, Notify>,
}

impl Holds {
    pub fn new(health: Health) -> Self {
        let success = Stage::ALL.into_iter().map(|stage| (stage, Notify::new())).collect();
        Self { health, held: Mutex::default(), success }
    }

    pub fn succeeded(&self, stage: Stage) {
        if let Some(held) = self.success.get(&stage) {
            held.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Stage, usize>> {
        // A poisoned lock is safe to use: every update is one call.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One held item. Dropped when the item goes on, in whatever way.
#[derive(Debug)]
pub struct Hold {
    holds: Arc<Holds>,
    stage: Stage,
}

impl Hold {
    pub fn begin(hold: &mut Option<Self>, holds: &Arc<Holds>, stage: Stage, failure: &Failure) {
        let mut held = holds.lock();
        if hold.is_none() {
            *held.entry(stage).or_default() += 1;
            *hold = Some(Self { holds: holds.clone(), stage });
        }
        // Under the lock, so that another item cannot end its hold in between.
        holds.health.outage(stage, failure.fault.reason, failure.fault.to_string());
    }

    /// Waits before the next attempt: at most `wait`, less when another item's attempt succeeds, since the outage may
    /// be over. Never less than `least`: this item may depend on something else that is still down.
    pub async fn wait(&self, wait: Duration, least: Duration) {
        let Some(success) = self.holds.success.get(&self.stage) else { return tokio::time::sleep(wait).await };
        let least = least.min(wait);
        // Notified from here on, even before it is polled.
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
            self.holds.health.over(self.stage);
        }
    }
}
