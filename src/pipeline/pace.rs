//! How many writes a collection gets at once: fewer while the store says that it has too much to do.

use std::sync::Arc;
use std::time::Duration;

use crate::adaptive::{Gate, Load};
use crate::store::StoreError;
use crate::telemetry::Metrics;

/// Shared by the writers of one collection.
#[derive(Clone)]
pub struct Pace {
    gate: Gate,
    collection: Arc<str>,
    metrics: Arc<Metrics>,
}

impl Pace {
    /// `pause_max`: how long the store may pause all writes with `Retry-After`, at most.
    pub fn new(collection: &str, writes_max: usize, pause_max: Duration, metrics: Arc<Metrics>) -> Self {
        metrics.concurrency_limit("upsert", collection, writes_max);
        Self { gate: Gate::new(writes_max, pause_max), collection: collection.into(), metrics }
    }

    /// Runs one request when it is its turn.
    pub async fn run<T>(&self, request: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let pass = self.gate.enter().await;
        let result = request.await;
        pass.done(load(&result));
        self.metrics.concurrency_limit("upsert", &self.collection, self.gate.limit());
        result
    }
}

fn load<T>(result: &Result<T, StoreError>) -> Load {
    let Err(error) = result else { return Load::Fine };
    match error.reason {
        "store_busy" => Load::Over { pause: error.retry_after },
        "store_timeout" | "store_update_incomplete" => Load::Over { pause: None },
        _ => Load::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn a_busy_store_gets_fewer_writes_and_the_pause_that_it_asks_for() {
        let metrics = Arc::new(Metrics::default());
        let pace = Pace::new("c", 8, Duration::from_millis(30), metrics.clone());
        let limit = || {
            let shown = metrics.encode();
            let line = shown.lines().find(|line| line.starts_with("clipstream_concurrency_limit{")).unwrap().to_owned();
            assert!(line.contains("kind=\"upsert\"") && line.contains("target=\"c\""), "{line}");
            line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()
        };
        assert_eq!(limit(), 8);
        let down = StoreError::outage("store_unreachable", "down");
        pace.run(ready(Err::<(), _>(down))).await.unwrap_err();
        assert_eq!(limit(), 8, "an outage is not load");
        let retry_after = Some(Duration::from_secs(3600));
        let busy = StoreError { retry_after, ..StoreError::transient("store_busy", "slow down") };
        pace.run(ready(Err::<(), _>(busy))).await.unwrap_err();
        assert_eq!(limit(), 4);
        let mut next = Box::pin(pace.run(ready(Ok(()))));
        assert!(futures::poll!(&mut next).is_pending(), "paused");
        next.await.unwrap();
        pace.run(ready(Err::<(), _>(StoreError::outage("store_timeout", "late")))).await.unwrap_err();
        assert_eq!(limit(), 2);
        for _ in 0..100 {
            pace.run(ready(Ok(()))).await.unwrap();
        }
        assert_eq!(limit(), 2, "one at a time is no reason for more");
    }
}
