//! The dispatcher's periodic work: commits, gauges, progress, and how far partitions are ahead of their watermarks.

use std::time::{Duration, Instant};

use super::dispatch::Dispatcher;
use super::handler::Handler;
use crate::domain::{PipelineReason, Stage};
use crate::telemetry::Component;
use crate::telemetry::labels::Queue;

/// How often progress is logged.
const REPORT: Duration = Duration::from_secs(60);

impl<H: Handler> Dispatcher<H> {
    pub(super) async fn on_tick(&mut self) {
        self.give_up_revocations();
        self.commit().await;
        self.metrics.queue_depth(Queue::InFlight, self.in_flight);
        self.metrics.queue_depth(Queue::Held, self.turns.held());
        self.metrics.queue_depth(Queue::Waiting, self.waiting().saturating_sub(self.turns.held()));
        let lag = self.source.lag();
        for (partition, messages) in &lag {
            self.metrics.lag(partition, *messages);
        }
        self.stuck.look(&self.watermarks, Instant::now());
        self.health.remind(self.in_flight, self.progress.settled());
        // An outage of a host affects only its own messages; one of any other stage affects all.
        let is_shared = |component| matches!(component, Component::Stage(stage) if stage != Stage::Fetch);
        self.is_out = self.health.reasons().into_iter().any(|(component, _)| is_shared(component));
        if self.reported.elapsed() >= REPORT {
            self.report(lag.iter().map(|(_, messages)| messages).sum());
        }
    }

    /// One progress line a minute while there is work. During an outage its reminder is logged instead.
    fn report(&mut self, lag: i64) {
        let (settled, seconds) = (self.progress.settled(), self.reported.elapsed().as_secs_f64());
        let (new, in_flight) = (settled - self.reported_settled, self.in_flight);
        (self.reported, self.reported_settled) = (Instant::now(), settled);
        if (new > 0 || in_flight > 0) && self.health.is_ready() {
            let per_second = (new as f64 / seconds * 10.0).round() / 10.0;
            tracing::info!(
                settled,
                per_second,
                dead_lettered = self.progress.dead_lettered(),
                in_flight,
                held = self.turns.held(),
                lag,
                "progress"
            );
        }
    }

    /// Holds partitions back that are too far ahead of their watermarks, and lets others go on.
    pub(super) fn look_at_distances(&mut self) {
        let held = self.waiting();
        if self.pauses.look(&self.watermarks, held, &self.settings) {
            self.source.hold_back(self.pauses.partitions());
        }
        self.pauses.show(&self.watermarks, &self.metrics);
    }

    pub(super) async fn commit(&mut self) {
        let offsets = self.watermarks.committable();
        if offsets.is_empty() {
            return;
        }
        match self.source.commit(offsets.clone()).await {
            Ok(()) => {
                self.metrics.committed();
                self.health.over(Component::Commit);
            }
            Err(why) => {
                self.health.outage(Component::Commit, PipelineReason::CommitFailed, why.to_string());
                self.watermarks.not_committed(&offsets);
            }
        }
    }
}
