//! Trying again: transient failures of one item a few times, outages of something shared for as long as they last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::PipelineSettings;
use crate::domain::{Class, Failure, Stage};
use crate::retry::Backoff;
use crate::telemetry::{Health, Metrics};

/// Shared by all items in flight.
#[derive(Clone)]
pub struct Attempts {
    max: u32,
    base: Duration,
    cap: Duration,
    health: Health,
    metrics: Arc<Metrics>,
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
            health,
            metrics,
        }
    }

    /// Runs `work` until it succeeds or fails for good. During an outage the process is unready and the item held,
    /// however long it takes; the caller bounds the wait by dropping the future.
    pub async fn run<T, F>(&self, stage: Stage, mut work: impl FnMut() -> F) -> Result<T, GaveUp>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut backoff = Backoff::new(self.base, self.cap);
        let mut transient = 0;
        loop {
            let started = Instant::now();
            let failure = match work().await {
                Ok(done) => {
                    self.metrics.stage(stage, started.elapsed());
                    self.recovered(stage);
                    return Ok(done);
                }
                Err(failure) => failure,
            };
            self.metrics.failed(failure.stage, failure.class, failure.reason);
            match failure.class {
                Class::Permanent => return Err(GaveUp { failure, attempts: transient + 1 }),
                Class::Transient => {
                    transient += 1;
                    if transient >= self.max {
                        return Err(GaveUp { failure, attempts: transient });
                    }
                    tracing::debug!(%stage, reason = failure.reason, attempt = transient, "{}", failure.message);
                }
                Class::Outage => self.out(stage, &failure),
            }
            self.metrics.retried(stage, failure.class);
            tokio::time::sleep(backoff.next_wait(failure.retry_after)).await;
        }
    }

    fn out(&self, stage: Stage, failure: &Failure) {
        if self.health.unready(stage.as_str(), failure.message.clone()) {
            tracing::error!(%stage, reason = failure.reason, "outage, holding messages: {}", failure.message);
        }
    }

    fn recovered(&self, stage: Stage) {
        if self.health.ready(stage.as_str()) {
            tracing::info!(%stage, "outage is over");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    fn attempts(health: &Health) -> Attempts {
        let settings =
            PipelineSettings { attempts_max: 3, backoff_base_ms: 1, backoff_cap_ms: 2, ..Default::default() };
        Attempts::new(&settings, health.clone(), Arc::default())
    }

    fn failure(class: Class) -> Failure {
        Failure { stage: Stage::Fetch, class, reason: "test", message: "no".into(), retry_after: None }
    }

    #[tokio::test]
    async fn transient_failures_end_after_the_attempts() {
        let mut calls = 0;
        let gave_up = attempts(&Health::new())
            .run(Stage::Fetch, || {
                calls += 1;
                ready(Err::<(), _>(failure(Class::Transient)))
            })
            .await
            .unwrap_err();
        assert_eq!((calls, gave_up.attempts), (3, 3));
    }

    #[tokio::test]
    async fn permanent_failures_are_not_tried_again() {
        let run = attempts(&Health::new()).run(Stage::Fetch, || ready(Err::<(), _>(failure(Class::Permanent)))).await;
        assert_eq!(run.unwrap_err().attempts, 1);
    }

    #[tokio::test]
    async fn an_outage_is_held_unready_until_it_ends() {
        let health = Health::new();
        let mut calls = 0;
        let observed = health.clone();
        attempts(&health)
            .run(Stage::Upsert, || {
                calls += 1;
                if calls > 10 {
                    assert_eq!(observed.reasons(), [("upsert", "no".to_owned())]);
                    return ready(Ok(()));
                }
                ready(Err(failure(Class::Outage)))
            })
            .await
            .unwrap();
        assert_eq!(calls, 11, "far beyond attempts_max");
        assert!(health.reasons().is_empty());
    }
}
