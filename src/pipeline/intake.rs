//! From messages to jobs: records each message taken, decodes it, and makes a job of each of its requests.

use std::collections::VecDeque;
use std::sync::Arc;

use super::PipelineError;
use super::attempts::{GaveUp, Tried};
use super::dispatch::{Dispatcher, Ended};
use super::handler::Handler;
use super::keys::Job;
use super::lane::Lane;
use super::watermark::{Assignment, Taken};
use super::whole::{Arrival, Closed, Whole};
use crate::domain::{Message, Outcome};
use crate::format::{LookUp, Read, Requests};

impl<H: Handler> Dispatcher<H> {
    pub(super) fn on_message(&mut self, message: Message) -> Result<(), PipelineError> {
        let flight = match self.watermarks.take(&message) {
            Taken::InFlight(flight) => flight,
            Taken::Over => {
                tracing::debug!(position = %message.position, "dropped: its assignment is over");
                return Ok(());
            }
            Taken::Unannounced => {
                let (position, epoch) = (&message.position, message.epoch);
                return Err(PipelineError::Broken(format!(
                    "{position} came in epoch {epoch}, which was not announced"
                )));
            }
        };
        self.progress.take();
        let partition = message.position.topic_partition();
        let arrival = Arrival::new(message, flight);
        self.in_flight += 1;
        self.in_flight_bytes += arrival.bytes;
        if let Some(arrival) = self.lookups.enter(arrival)
            && let Some((arrival, needed)) = self.read(arrival)
        {
            self.look_up(needed, VecDeque::from([arrival]));
        }
        if self.watermarks.distance(&partition) >= self.settings.uncommitted_messages_max
            && !self.pauses.partitions().contains(&partition)
        {
            self.look_at_distances();
        }
        Ok(())
    }

    /// The look-up for the first waiting message of a partition has ended.
    pub(super) fn on_looked_up(&mut self, assignment: &Assignment, found: Option<Result<(), GaveUp>>) {
        let Some(waiting) = self.lookups.end(assignment) else { return };
        let mut arrivals = waiting.arrivals;
        match found {
            Some(found) if !waiting.over.is_cancelled() => {
                if let Err(gave_up) = found
                    && let Some(first) = arrivals.pop_front()
                {
                    self.refuse(first, gave_up);
                }
            }
            _ => arrivals.drain(..).for_each(|arrival| self.leave(&arrival.message, arrival.bytes)),
        }
        while let Some(next) = arrivals.pop_front() {
            if let Some((next, needed)) = self.read(next) {
                arrivals.push_front(next);
                return self.look_up(needed, arrivals);
            }
        }
    }

    /// Makes jobs of a message, or returns it with what has to be looked up first.
    fn read(&mut self, arrival: Arrival) -> Option<(Arrival, Arc<dyn LookUp>)> {
        match self.handler.decode(&arrival.message) {
            Ok(Read::Requests(requests)) => self.enter(arrival, requests),
            Ok(Read::Needs(needed)) => return Some((arrival, needed)),
            Err(failure) => {
                self.metrics.failed(&failure);
                self.refuse(arrival, GaveUp { failure, attempts: 1 });
            }
        }
        None
    }

    /// `arrivals` are of one partition. The look-up is for the first one; the others wait behind it.
    fn look_up(&mut self, needed: Arc<dyn LookUp>, arrivals: VecDeque<Arrival>) {
        let Some(first) = arrivals.front() else { return };
        self.is_to_sweep |= self.is_leaving(&first.message);
        let (flight, assignment) = (first.flight.clone(), Assignment::of(&first.message));
        let over = self.lookups.begin(arrivals, assignment.clone());
        let handler = self.handler.clone();
        self.tasks.spawn(async move {
            let look_up = flight.carry(handler.look_up(&*needed));
            let found = over.run_until_cancelled(look_up).await.flatten();
            Ended::LookUp { assignment, found }
        });
    }

    /// Nothing of the message can be decoded.
    fn refuse(&mut self, arrival: Arrival, gave_up: GaveUp) {
        let whole = Whole::new(arrival, 1, 1);
        self.close(&whole, Closed::Failed { index: 0, asset: None, gave_up });
    }

    /// Makes jobs of the message's requests.
    fn enter(&mut self, arrival: Arrival, requests: Requests) {
        let of = requests.len();
        let wanted = wanted(&arrival.message, of);
        let whole = Whole::new(arrival, of, wanted.len());
        if wanted.len() > 1 {
            self.watermarks.bring(&whole.message, wanted.len());
        }
        if wanted.is_empty() {
            return self.settle(&whole, &Outcome::Empty);
        }
        for (index, request) in
            requests.into_iter().enumerate().filter(|(index, _)| wanted.binary_search(index).is_ok())
        {
            match request {
                Ok(request) => {
                    let (lane, bytes) =
                        (Lane::of(&request, self.handler.host(&request)), self.handler.memory_bytes(&request));
                    self.jobs += 1;
                    self.in_flight_bytes += bytes;
                    let (whole, flight, tried) = (whole.clone(), whole.flight.part(), Tried::default());
                    let job = Job { whole, index, request, flight, bytes, lane, seq: 0, tried, superseded: Vec::new() };
                    if let Some(job) = self.keys.enter(job) {
                        self.turns.enter(Box::new(job));
                    }
                }
                Err(failure) => {
                    self.metrics.failed(&failure);
                    self.close(&whole, Closed::Failed { index, asset: None, gave_up: GaveUp { failure, attempts: 1 } });
                }
            }
        }
    }
}

/// The indices of the requests to process, out of `of`, in order. A message from a retry topic names them. If it names
/// none that exist, all are processed.
fn wanted(message: &Message, of: usize) -> Vec<usize> {
    let failed = message.retry.iter().flat_map(|retry| &retry.requests).copied().filter(|index| *index < of);
    let failed: Vec<usize> = failed.collect();
    if failed.is_empty() { (0..of).collect() } else { failed }
}
