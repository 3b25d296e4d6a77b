//! Messages whose format has to look something up before they can be decoded ([`crate::format::LookUp`]). Their assets
//! are not known yet. So that no later message of the same asset overtakes one, the later messages of its partition
//! wait behind it. Other partitions go on.

use std::collections::{HashMap, VecDeque};

use tokio_util::sync::CancellationToken;

use super::watermark::Assignment;
use super::whole::Arrival;

/// At most one look-up per partition.
#[derive(Default)]
pub struct Lookups {
    partitions: HashMap<Assignment, Waiting>,
    messages: usize,
}

/// The waiting messages of one partition.
pub struct Waiting {
    /// In order. The look-up is for the first.
    pub arrivals: VecDeque<Arrival>,
    /// Cancelled when the partition is revoked or lost, or the worker drains. It ends the look-up.
    pub over: CancellationToken,
}

impl Lookups {
    /// Messages that wait, including those with a look-up.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Returns the message if nothing of its partition waits; keeps it otherwise.
    pub fn enter(&mut self, arrival: Arrival) -> Option<Arrival> {
        if self.partitions.is_empty() {
            return Some(arrival);
        }
        let Some(waiting) = self.partitions.get_mut(&Assignment::of(&arrival.message)) else { return Some(arrival) };
        waiting.arrivals.push_back(arrival);
        self.messages += 1;
        None
    }

    /// Begins a look-up for the first of these messages. Nothing else of their partition waits.
    pub fn begin(&mut self, arrivals: VecDeque<Arrival>, assignment: Assignment) -> CancellationToken {
        let over = CancellationToken::new();
        self.messages += arrivals.len();
        self.partitions.insert(assignment, Waiting { arrivals, over: over.clone() });
        over
    }

    /// Ends a look-up and returns the messages that waited for it.
    pub fn end(&mut self, assignment: &Assignment) -> Option<Waiting> {
        let waiting = self.partitions.remove(assignment)?;
        self.messages -= waiting.arrivals.len();
        Some(waiting)
    }

    /// Cancels matching look-ups. Their messages are dropped when the look-ups have ended.
    pub fn give_up_where(&self, is_over: impl Fn(&Assignment) -> bool) {
        for (_, waiting) in self.partitions.iter().filter(|(assignment, _)| is_over(assignment)) {
            waiting.over.cancel();
        }
    }
}
