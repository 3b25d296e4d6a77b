//! What follows when a task ends, when a waiting message is dropped, and when an assignment ends.

use std::sync::Arc;
use std::time::Instant;

use super::attempts::GaveUp;
use super::dispatch::{Dispatcher, End, Ended, Held, Leaving};
use super::handler::Handler;
use super::keys::Job;
use super::watermark::Assignment;
use super::whole::{Closed, Letter, Next, Whole};
use crate::dead_letter::{DeadLetter, Sent};
use crate::domain::{Failure, Message, Outcome, PointId, Position, TopicPartition};
use crate::format::QUOTED_CHARS_MAX;
use crate::redact;

/// What happens to the jobs behind one that has ended, when their partition goes or the worker stops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Onward {
    /// They run and are waited for.
    Run,
    /// They are dropped with the job before them, which the next owner processes again. If one of them were written,
    /// that job would be older than the stored point and pass for settled.
    Drop,
}

impl<H: Handler> Dispatcher<H> {
    pub(super) fn on_ended(&mut self, ended: Ended) {
        match ended {
            Ended::Job { job, end } => self.on_job_ended(job, end),
            Ended::LookUp { assignment, found } => self.on_looked_up(&assignment, found),
            Ended::Letter { whole, failure, sent } => {
                self.letters -= 1;
                self.end(&whole, 0);
                let closed = match sent {
                    Some(sent) => {
                        log(&whole.message.position, sent, &failure);
                        Closed::Done(match sent {
                            Sent::DeadLetter => Outcome::DeadLettered(failure),
                            Sent::RetryScheduled => Outcome::RetryScheduled(failure),
                        })
                    }
                    None => Closed::Left,
                };
                self.release(&whole, Onward::Run);
                self.close(&whole, closed);
            }
        }
    }

    fn on_job_ended(&mut self, mut job: Box<Job>, end: End) {
        let now = Instant::now();
        self.end(&job.whole, job.bytes);
        self.light -= usize::from(!job.request.has_content());
        self.turns.ended(&job.lane);
        let turn = job.flight.take_turn();
        match end {
            End::Aside(aside) => {
                // If it must not run here any more, the sweep drops it.
                self.is_to_sweep |= job.flight.fence.is_cancelled() || self.is_leaving(&job.whole.message);
                self.turns.put_aside(job, aside, now);
            }
            End::Done(outcome) => {
                for older in job.superseded.drain(..) {
                    self.close_job(&older, Closed::Done(Outcome::Superseded));
                }
                self.go_on(job.request.point_id(), Vec::new(), Onward::Run);
                self.close_job(&job, Closed::Done(outcome));
            }
            End::GaveUp(gave_up) => {
                // What it had superseded counts again. The asset's next job waits for the dead letter.
                let revived = std::mem::take(&mut job.superseded);
                self.held.push(Held { whole: job.whole.clone(), asset: job.request.point_id(), revived });
                let asset = Some(redact::excerpt(job.request.asset.as_str(), QUOTED_CHARS_MAX));
                self.close_job(&job, Closed::Failed { index: job.index, asset, gave_up });
            }
            End::Fenced => self.drop_job(*job),
        }
        if let Some(turn) = turn {
            self.turns.passed(&turn.host, false, now);
        }
    }

    /// The dead letter of a message is safe, or there will be none.
    fn release(&mut self, whole: &Arc<Whole>, onward: Onward) {
        let is_of = |held: &Held| Arc::ptr_eq(&held.whole, whole);
        let (free, held) = std::mem::take(&mut self.held).into_iter().partition(is_of);
        self.held = held;
        for Held { asset, revived, .. } in free {
            self.go_on(asset, revived, onward);
        }
    }

    /// The next job of an asset may run: the one before it has ended. `revived`: jobs which that one had superseded.
    fn go_on(&mut self, asset: PointId, mut revived: Vec<Job>, onward: Onward) {
        while let Some(mut next) = self.keys.leave(asset, std::mem::take(&mut revived)) {
            let is_leaving = self.is_leaving(&next.whole.message);
            let is_dropped = onward == Onward::Drop && (is_leaving || self.is_draining);
            if !next.flight.fence.is_cancelled() && !is_dropped {
                self.is_to_sweep |= is_leaving;
                self.turns.enter(Box::new(next));
                break;
            }
            revived = std::mem::take(&mut next.superseded);
            self.close_job(&next, Closed::Left);
        }
    }

    /// Whether the message's partition is being revoked.
    pub(super) fn is_leaving(&self, message: &Message) -> bool {
        self.revocations.iter().flat_map(|leaving| &leaving.assignments).any(|assignment| assignment.has(message))
    }

    /// Drops waiting jobs that must not run here: all of them while draining, otherwise those of partitions that go.
    /// The next owner receives their messages again. Running jobs, and what waits behind them, are waited for.
    pub(super) fn sweep(&mut self) {
        self.is_to_sweep = false;
        if self.is_draining {
            self.lookups.give_up_where(|_| true);
            let all = self.turns.list_where(|_| true);
            self.turns.remove(all).into_iter().for_each(|job| self.drop_job(job));
            return;
        }
        let leaving: Vec<Assignment> =
            self.revocations.iter().flat_map(|leaving| leaving.assignments.iter().cloned()).collect();
        self.lookups.give_up_where(|of| leaving.contains(of) || !self.watermarks.has(of));
        let is_over =
            |job: &Job| job.flight.fence.is_cancelled() || leaving.iter().any(|of| of.has(&job.whole.message));
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
        self.go_on(job.request.point_id(), superseded, Onward::Drop);
    }

    fn close_job(&mut self, job: &Job, closed: Closed) {
        self.jobs -= 1;
        self.in_flight_bytes -= job.bytes;
        self.close(&job.whole, closed);
    }

    /// One request of a message is done, or a dead letter is safe. The message is done with the last of them.
    pub(super) fn close(&mut self, whole: &Arc<Whole>, closed: Closed) {
        let held = self.held.iter().filter(|held| Arc::ptr_eq(&held.whole, whole));
        let behind = held.map(|held| self.keys.count_of(held.asset, whole)).sum();
        match whole.close(closed, behind) {
            None => {}
            Some(Next::Settle(outcome)) => self.settle(whole, &outcome),
            Some(Next::Send(letter)) => self.send_dead_letter(whole.clone(), letter),
            Some(Next::Leave { is_last }) => {
                if is_last {
                    self.leave(&whole.message, whole.bytes);
                }
                self.release(whole, Onward::Drop);
            }
        }
    }

    /// A message that failed for good becomes a dead letter. It is settled only once the letter is safe.
    fn send_dead_letter(&mut self, whole: Arc<Whole>, letter: Letter) {
        self.letters += 1;
        self.begin(&whole, 0);
        let handler = self.handler.clone();
        self.tasks.spawn(async move {
            let Letter { gave_up: GaveUp { failure, attempts }, requests } = letter;
            let letter = DeadLetter { message: whole.message.clone(), failure, attempts, requests };
            let sent = whole.flight.carry(handler.send_dead_letter(&letter)).await;
            Ended::Letter { whole, failure: letter.failure, sent }
        });
    }

    /// Drops the message: its partition's next owner receives it again.
    pub(super) fn leave(&mut self, message: &Message, bytes: usize) {
        self.forget(bytes);
        self.left += u64::from(self.is_draining);
        self.watermarks.leave(message);
    }

    pub(super) fn settle(&mut self, whole: &Whole, outcome: &Outcome) {
        self.forget(whole.bytes);
        self.flood_gate.settled(outcome);
        self.progress.settle(matches!(outcome, Outcome::DeadLettered(_)));
        self.metrics.settled(outcome);
        self.watermarks.settle(&whole.message);
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

    /// Ends revoked assignments that the source no longer waits for.
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

/// Logs a dead letter once it is safe.
fn log(position: &Position, sent: Sent, Failure { stage, fault }: &Failure) {
    let reason = fault.reason.as_str();
    match sent {
        Sent::DeadLetter => {
            tracing::warn!(%position, %stage, class = %fault.class, reason, "dead letter: {fault}");
        }
        Sent::RetryScheduled => tracing::debug!(%position, %stage, reason, "retry scheduled: {fault}"),
    }
}

fn list(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
