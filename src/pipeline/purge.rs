//! Purges old tombstones in the background: one task per collection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::MissedTickBehavior;

use crate::domain::Reason;
use crate::store::Store;

/// Small against the retention, and often enough that each purge removes few tombstones.
const PERIOD: Duration = Duration::from_secs(3600);

/// Runs at once and then every [`PERIOD`], until dropped. A failure waits for the next period: nothing depends on it.
pub async fn run(store: Arc<dyn Store>, collection: String, retention_s: u64) {
    let mut hourly = tokio::time::interval(PERIOD);
    hourly.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let clock = Clock { start: Utc::now(), started: Instant::now() };
    loop {
        hourly.tick().await;
        let Some(before) = before(clock.at(Utc::now(), clock.started.elapsed()), retention_s) else { continue };
        match store.purge_tombstones(&collection, before).await {
            Ok(0) => {}
            Ok(purged) => tracing::info!(collection, purged, "tombstones purged"),
            Err(error) => {
                tracing::warn!(collection, reason = error.reason.as_str(), "tombstones stay for now: {error}");
            }
        }
    }
}

/// Wall time that advances no faster than the monotonic clock, in case the wall clock is set forward. Purging a
/// tombstone too early lets an old message bring its asset back; purging it too late does no harm.
struct Clock {
    start: DateTime<Utc>,
    started: Instant,
}

impl Clock {
    fn at(&self, says: DateTime<Utc>, elapsed: Duration) -> DateTime<Utc> {
        let passed = TimeDelta::from_std(elapsed).ok().and_then(|elapsed| self.start.checked_add_signed(elapsed));
        passed.map_or(says, |passed| says.min(passed))
    }
}

/// `None` when the result is before the calendar's start.
fn before(now: DateTime<Utc>, retention_s: u64) -> Option<DateTime<Utc>> {
    now.checked_sub_signed(TimeDelta::try_seconds(i64::try_from(retention_s).ok()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_forward_purges_nothing_early() {
        let start: DateTime<Utc> = "2026-11-25T12:00:00Z".parse().unwrap();
        let clock = Clock { start, started: Instant::now() };
        let (hour, month) = (TimeDelta::hours(1), TimeDelta::days(30));
        let an_hour_later = |says| clock.at(says, hour.to_std().unwrap());
        assert_eq!(an_hour_later(start + hour), start + hour);
        assert_eq!(an_hour_later(start + month), start + hour);
        assert_eq!(an_hour_later(start - month), start - month, "set back: they stay for longer");
    }
}
