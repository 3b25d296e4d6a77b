//! What becomes of a message when its task has ended, or when it is dropped before it ran; and of partitions that others get.

use std::sync::Arc;
use std::time::Instant;

use super::attempts::GaveUp;
use super::dispatch::{Dispatcher, End, Ended, Handler, Held, Leaving};
use super::keys::Job;
use super::watermark::Assignment;
use super::whole::{Closed, Ending, Letter, Whole};
use crate::dead_letter::{DeadLetter, Sent};
use crate::domain::{Failure, Message, Outcome, PointId, TopicPartition};
use crate::format::QUOTED_CHARS_MAX;
use crate::redact;

impl<H: Handler> Dispatcher<H> {
    pub(super) fn on_ended(&mut self, ended: Ended) {
        match ended {
            Ended::Job { job, end } => self.on_job_ended(job, end),
            Ended::Letter { whole, failure, sent } => {
                self.letters -= 1;
                self.running_bytes = self.running_bytes.saturating_sub(whole.message.memory_bytes());
                match sent {
                    Some(Sent::DeadLetter) => self.settle(&whole, &Outcome::DeadLettered(failure)),
                    Some(Sent::RetryScheduled) => self.settle(&whole, &Outcome::RetryScheduled(failure)),
                    None => self.leave(&whole),
                }
                self.release(&whole);
            }
        }
    }

    fn on_job_ended(&mut self, mut job: Box<Job>, end: End) {
        let now = Instant::now();
        let freed = job.bytes + if job.whole.stop() { job.whole.message.memory_bytes() } else { 0 };
        self.running_bytes = self.running_bytes.saturating_sub(freed);
        self.turns.ended(&job.lane);
        let turn = job.flight.take_turn();
        match end {
            End::Aside(aside) => {
                // Dropped with the rest where it is not to run here any more.
                self.is_to_sweep |= job.flight.fence.is_cancelled() || self.is_leaving(&job);
                self.turns.put_aside(job, aside, now);
            }
            End::Done(outcome) => {
                for older in job.superseded.drain(..) {
                    self.close_job(&older, Closed::Done(Outcome::Superseded));
                }
                self.hold_or_go_on(&job, Vec::new());
                self.close_job(&job, Closed::Done(outcome));
            }
            End::GaveUp(gave_up) => {
                // What it would have made needless counts again.
                let revived = std::mem::take(&mut job.superseded);
                job.whole.doubt(job.request.point_id());
                self.hold_or_go_on(&job, revived);
                let asset = Some(redact::excerpt(job.request.asset.as_str(), QUOTED_CHARS_MAX));
                self.close_job(&job, Closed::Failed { index: job.index, asset, gave_up });
            }
            End::Fenced => self.drop_job(*job),
        }
        if let Some(turn) = turn {
            self.turns.passed(&turn.host, false, now);
        }
    }

    /// The asset of a job that has ended goes on; where a request of the job's message failed for it, not before the message's letter is
    /// safe, unless the letter has to wait for another request of the same asset.
    fn hold_or_go_on(&mut self, job: &Job, revived: Vec<Job>) {
        let (whole, asset) = (&job.whole, job.request.point_id());
        if whole.doubts(asset) && !self.keys.has_of(asset, whole) {
            self.held.push(Held { whole: whole.clone(), asset, revived });
        } else {
            self.go_on(asset, revived);
        }
    }

    /// The letter of a message is safe, or its partition is others'.
    fn release(&mut self, whole: &Arc<Whole>) {
        let is_of = |held: &Held| Arc::ptr_eq(&held.whole, whole);
        let (free, held) = std::mem::take(&mut self.held).into_iter().partition(is_of);
        self.held = held;
        for Held { asset, revived, .. } in free {
            self.go_on(asset, revived);
        }
    }

    /// The next job of an asset may run, now that the one before it has ended. `revived`: what that one had superseded.
    fn go_on(&mut self, asset: PointId, mut revived: Vec<Job>) {
        while let Some(mut next) = self.keys.leave(asset, std::mem::take(&mut revived)) {
            if !next.flight.fence.is_cancelled() {
                self.is_to_sweep |= self.is_leaving(&next);
                self.turns.enter(Box::new(next));
                break;
            }
            revived = std::mem::take(&mut next.superseded);
            self.close_job(&next, Closed::Left);
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
            self.close_job(&job, Closed::Left);
        }
        for job in self.turns.remove(over) {
            self.drop_job(job);
        }
    }

    fn drop_job(&mut self, mut job: Job) {
        let superseded = std::mem::take(&mut job.superseded);
        self.close_job(&job, Closed::Left);
        self.go_on(job.request.point_id(), superseded);
    }

    fn close_job(&mut self, job: &Job, closed: Closed) {
        self.jobs -= 1;
        self.in_flight_bytes -= job.bytes;
        self.close(&job.whole, closed);
    }

    /// One request of a message is done, one way or another; with the last one, the message is.
    pub(super) fn close(&mut self, whole: &Arc<Whole>, closed: Closed) {
        match whole.close(closed) {
            None => {}
            Some(Ending::Settled(outcome)) => self.settle(whole, &outcome),
            Some(Ending::Letter(letter)) => self.send_dead_letter(whole.clone(), letter),
            Some(Ending::Left) => {
                self.leave(whole);
                self.release(whole);
            }
        }
    }

    /// Whatever fails for good becomes a dead letter, and counts as settled only once that is safe.
    fn send_dead_letter(&mut self, whole: Arc<Whole>, letter: Letter) {
        self.letters += 1;
        self.running_bytes += whole.message.memory_bytes();
        let handler = self.handler.clone();
        self.tasks.spawn(async move {
            let Letter { gave_up: GaveUp { failure, attempts }, requests } = letter;
            let letter = DeadLetter { message: whole.message.clone(), failure, attempts, requests };
            let sent = whole.flight.carry(handler.send_dead_letter(&letter)).await;
            Ended::Letter { whole, failure: letter.failure, sent }
        });
    }

    /// The message is dropped: its partition's next owner has it again.
    fn leave(&mut self, whole: &Whole) {
        self.forget(whole);
        self.left += u64::from(self.is_draining);
        self.watermarks.leave(&whole.message);
    }

    pub(super) fn settle(&mut self, whole: &Whole, outcome: &Outcome) {
        self.forget(whole);
        self.flood_gate.settled(outcome);
        let position = &whole.message.position;
        if let Outcome::DeadLettered(Failure { stage, fault }) = outcome {
            tracing::warn!(%position, %stage, class = %fault.class, reason = fault.reason.as_str(), "dead letter: {fault}");
        }
        if let Outcome::RetryScheduled(Failure { stage, fault }) = outcome {
            tracing::debug!(%position, %stage, reason = fault.reason.as_str(), "retry scheduled: {fault}");
        }
        self.progress.settle(matches!(outcome, Outcome::DeadLettered(_)));
        self.metrics.settled(outcome);
        self.watermarks.settle(&whole.message);
    }

    fn forget(&mut self, whole: &Whole) {
        self.in_flight -= 1;
        self.in_flight_bytes -= whole.message.memory_bytes();
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
    let Message { position, epoch, .. } = &job.whole.message;
    assignment.epoch == *epoch && *partition == position.partition && *topic == position.topic
}

fn list(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
