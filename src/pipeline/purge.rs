//! Forgets deleted assets after a while, beside the work: one quiet task per collection.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::MissedTickBehavior;

use crate::store::Store;

/// Rare beside the retention, and often enough that few tombstones go at once.
const PERIOD: Duration = Duration::from_secs(3600);

/// At once and then every [`PERIOD`], until dropped. A failure waits for the next time: nothing depends on it.
pub async fn run(store: Arc<dyn Store>, collection: String, retention_s: u64) {
    let mut hourly = tokio::time::interval(PERIOD);
    hourly.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        hourly.tick().await;
        let Some(before) = before(Utc::now(), retention_s) else { continue };
        match store.purge_tombstones(&collection, before).await {
            Ok(0) => {}
            Ok(purged) => tracing::info!(collection, purged, "tombstones purged"),
            Err(error) => {
                tracing::warn!(collection, reason = error.reason, "tombstones stay for now: {}", error.message);
            }
        }
    }
}

/// None where that lies before the calendar.
fn before(now: DateTime<Utc>, retention_s: u64) -> Option<DateTime<Utc>> {
    now.checked_sub_signed(TimeDelta::try_seconds(i64::try_from(retention_s).ok()?)?)
}
