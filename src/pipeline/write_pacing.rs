//! Limits concurrent writes to a collection: fewer while the store reports overload.

use std::sync::Arc;
use std::time::Duration;

use crate::adaptive::{Gate, Load};
use crate::domain::StoreReason;
use crate::store::StoreError;
use crate::telemetry::Metrics;
use crate::telemetry::labels::Limited;

/// Shared by the writers of one collection.
#[derive(Clone)]
pub struct WritePacing {
    gate: Gate,
    collection: Arc<str>,
    metrics: Arc<Metrics>,
}

impl WritePacing {
    /// `pause_max`: the longest pause of all writes that the store may request with `Retry-After`.
    pub fn new(collection: &str, writes_max: usize, pause_max: Duration, metrics: Arc<Metrics>) -> Self {
        metrics.concurrency_limit(Limited::Upsert, collection, writes_max);
        Self { gate: Gate::new(writes_max, pause_max), collection: collection.into(), metrics }
    }

    /// Runs one request when the gate admits it.
    pub async fn run<T>(&self, request: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let pass = self.gate.enter().await;
        let result = request.await;
        pass.done(load(&result));
        self.metrics.concurrency_limit(Limited::Upsert, &self.collection, self.gate.limit());
        result
    }
}

fn load<T>(result: &Result<T, StoreError>) -> Load {
    let Err(error) = result else { return Load::Fine };
    match error.reason {
        StoreReason::Busy => Load::Over { pause: error.retry_after },
        StoreReason::Timeout | StoreReason::UpdateIncomplete => Load::Over { pause: None },
        _ => Load::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;
    use crate::domain::Reason;

    #[tokio::test]
    async fn a_busy_store_gets_fewer_writes_and_the_pause_that_it_asks_for() {
        let metrics = Arc::new(Metrics::default());
        let pacing = WritePacing::new("c", 8, Duration::from_millis(30), metrics.clone());
        let limit = || {
            let shown = metrics.encode();
            let line = shown.lines().find(|line| line.starts_with("clipstream_concurrency_limit{")).unwrap().to_owned();
            assert!(line.contains("kind=\"upsert\"") && line.contains("target=\"c\""), "{line}");
            line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()
        };
        assert_eq!(limit(), 8);
        let down = StoreError::new(StoreReason::Unreachable, "down");
        pacing.run(ready(Err::<(), _>(down))).await.unwrap_err();
        assert_eq!(limit(), 8, "an outage is not load");
        let retry_after = Some(Duration::from_secs(3600));
        let busy = StoreError::new(StoreReason::Busy, "slow down").retry_after(retry_after);
        pacing.run(ready(Err::<(), _>(busy))).await.unwrap_err();
        assert_eq!(limit(), 4);
        let mut next = Box::pin(pacing.run(ready(Ok(()))));
        assert!(futures::poll!(&mut next).is_pending(), "paused");
        next.await.unwrap();
        pacing.run(ready(Err::<(), _>(StoreError::new(StoreReason::Timeout, "late")))).await.unwrap_err();
        assert_eq!(limit(), 2);
        for _ in 0..100 {
            pacing.run(ready(Ok(()))).await.unwrap();
        }
        assert_eq!(limit(), 2, "one at a time is no reason for more");
    }

    #[test]
    fn a_reason_is_load_or_says_nothing_of_it() {
        let wait = Some(Duration::from_secs(7));
        for reason in StoreReason::ALL {
            let expected = match reason {
                StoreReason::Busy => Load::Over { pause: wait },
                StoreReason::Timeout | StoreReason::UpdateIncomplete => Load::Over { pause: None },
                StoreReason::Conflict
                | StoreReason::Limited
                | StoreReason::Rejected
                | StoreReason::TooLarge
                | StoreReason::DuplicatePoint
                | StoreReason::IntegerTooLarge
                | StoreReason::FilterInvalid
                | StoreReason::PathInvalid
                | StoreReason::NotBuilt
                | StoreReason::Unreachable
                | StoreReason::Unauthorized
                | StoreReason::Unsupported
                | StoreReason::VersionUnsupported
                | StoreReason::Failed
                | StoreReason::WritesRefused
                | StoreReason::Full
                | StoreReason::IndexMissing
                | StoreReason::AnswerInvalid
                | StoreReason::UrlInvalid
                | StoreReason::SettingsInvalid
                | StoreReason::CollectionMissing
                | StoreReason::CollectionDiffers
                | StoreReason::CollectionNameInvalid
                | StoreReason::CollectionNameTaken
                | StoreReason::DefinitionInvalid
                | StoreReason::ForeignPoint
                | StoreReason::FingerprintInvalid
                | StoreReason::Locked
                | StoreReason::Closed
                | StoreReason::DiskFull
                | StoreReason::FilesUnusable
                | StoreReason::FormatUnknown
                | StoreReason::Panicked
                | StoreReason::CloseTimeout
                | StoreReason::ReaderGone
                | StoreReason::WriterGone => Load::Unknown,
            };
            let error = StoreError::new(*reason, "x").retry_after(wait);
            assert_eq!(load(&Err::<(), _>(error)), expected, "{reason}");
        }
        assert_eq!(load(&Ok(())), Load::Fine);
    }
}
