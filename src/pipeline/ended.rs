//! What becomes of a message when its task has ended, or when it is dropped before it ran; and of partitions that others get.

use std::time::Instant;

use super::dispatch::{Dispatcher, End, Ended, Handler, Leaving};
use super::keys::Job;
use super::watermark::Assignment;
use crate::domain::{Failure, Message, Outcome, PointId, TopicPartition};

impl<H: Handler> Dispatcher<H> {
    pub(super) fn on_ended(&mut self, ended: Ended) {
        match ended {
            Ended::Rejected { message, end } => {
                let bytes = message.memory_bytes();
                self.running_bytes = self.running_bytes.saturating_sub(bytes);
                match end {
                    End::Outcome(outcome) => self.settle(&message, bytes, &outcome),
                    End::Aside(_) | End::Fenced => self.drop_message(&message, bytes),
                }
            }
            Ended::Job { job, end } => self.on_job_ended(job, end),
        }
    }

    fn on_job_ended(&mut self, mut job: Box<Job>, end: End) {
        let now = Instant::now();
        self.running_bytes = self.running_bytes.saturating_sub(job.bytes);
        self.turns.ended(&job.lane);
        let turn = job.flight.take_turn();
        match end {
            End::Aside(aside) => {
                // Dropped with the rest where it is not to run here any more.
                self.is_to_sweep |= job.flight.fence.is_cancelled() || self.is_leaving(&job);
                self.turns.put_aside(job, aside, now);
            }
            End::Outcome(outcome) => {
                let mut revived = std::mem::take(&mut job.superseded);
                if !matches!(outcome, Outcome::DeadLettered(_) | Outcome::PutOff(_)) {
                    for older in revived.drain(..) {
                        self.settle(&older.message, older.bytes, &Outcome::Superseded);
                    }
                }
                self.settle(&job.message, job.bytes, &outcome);
                self.go_on(job.request.point_id(), revived);
            }
            End::Fenced => self.drop_job(*job),
        }
        if let Some(turn) = turn {
            self.turns.passed(&turn.host, false, now);
        }
    }

    /// The next message of an asset may run, now that the one before it has ended. `revived`: what that one had superseded.
    fn go_on(&mut self, asset: PointId, mut revived: Vec<Job>) {
        while let Some(mut next) = self.keys.leave(asset, std::mem::take(&mut revived)) {
            if !next.flight.fence.is_cancelled() {
                self.is_to_sweep |= self.is_leaving(&next);
                self.turns.enter(Box::new(next));
                break;
            }
            revived = std::mem::take(&mut next.superseded);
            self.drop_message(&next.message, next.bytes);
        }
    }

    fn is_leaving(&self, job: &Job) -> bool {
        self.revocations.iter().flat_map(|leaving| &leaving.assignments).any(|assignment| is_of(assignment, job))
    }

    /// Drops what waits and will not run here any more: everything while draining, and what is of partitions that go. The next
    /// owner has it delivered again. What runs, and what waits behind that, is waited for.
    pub(super) fn sweep(&mut self) {
        self.is_to_sweep = false;
        if self.is_draining {
            let all = self.turns.list_where(|_| true);
            self.turns.remove(all).into_iter().for_each(|job| self.drop_job(job));
            return;
        }
        let leaving: Vec<Assignment> =
            self.revocations.iter().flat_map(|leaving| leaving.assignments.iter().cloned()).collect();
        let is_over = |job: &Job| job.flight.fence.is_cancelled() || leaving.iter().any(|of| is_of(of, job));
        let (over, waiting) = (self.turns.list_where(is_over), self.turns.assets());
        let behind = |job: &Job| waiting.contains(&job.request.point_id()) && is_over(job);
        for job in self.keys.remove_where(behind) {
            self.drop_message(&job.message, job.bytes);
        }
        for job in self.turns.remove(over) {
            self.drop_job(job);
        }
    }

    fn drop_job(&mut self, mut job: Job) {
        let superseded = std::mem::take(&mut job.superseded);
        self.drop_message(&job.message, job.bytes);
        self.go_on(job.request.point_id(), superseded);
    }

    fn drop_message(&mut self, message: &Message, bytes: usize) {
        self.forget(bytes);
        self.left += u64::from(self.is_draining);
        self.watermarks.leave(message);
    }

    fn settle(&mut self, message: &Message, bytes: usize, outcome: &Outcome) {
        self.forget(bytes);
        self.flood_gate.settled(outcome);
        if let Outcome::DeadLettered(Failure { stage, fault }) = outcome {
            tracing::warn!(position = %message.position, %stage, class = %fault.class, reason = fault.reason.as_str(),
                "dead letter: {fault}");
        }
        if let Outcome::PutOff(Failure { stage, fault }) = outcome {
            tracing::debug!(position = %message.position, %stage, reason = fault.reason.as_str(), "put off: {fault}");
        }
        self.progress.settle(matches!(outcome, Outcome::DeadLettered(_)));
        self.metrics.settled(outcome);
        self.watermarks.settle(message);
    }

    fn forget(&mut self, bytes: usize) {
        self.in_flight -= 1;
        self.in_flight_bytes -= bytes;
    }

    pub(super) fn complete_revocations(&mut self) {
        let (drained, waiting) =
            std::mem::take(&mut self.revocations).into_iter().partition(|l| self.watermarks.drained(&l.assignments));
        self.revocations = waiting;
        for Leaving { revocation, assignments } in drained {
            let offsets = self.watermarks.release(&assignments);
            revocation.complete(offsets);
        }
    }

    /// Ends assignments that the source did not wait for any longer.
    pub(super) fn give_up_revocations(&mut self) {
        let (abandoned, waiting) =
            std::mem::take(&mut self.revocations).into_iter().partition(|l| l.revocation.is_abandoned());
        self.revocations = waiting;
        for Leaving { revocation, assignments } in abandoned {
            tracing::warn!(partitions = %list(&revocation.partitions), "released before they were drained");
            self.watermarks.release(&assignments);
            self.is_to_sweep = true;
        }
    }
}

fn is_of(assignment: &Assignment, job: &Job) -> bool {
    let TopicPartition { topic, partition } = &assignment.partition;
    let Message { position, epoch, .. } = &job.message;
    assignment.epoch == *epoch && *partition == position.partition && *topic == position.topic
}

fn list(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
