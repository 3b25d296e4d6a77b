//! Messages that cannot be read yet: their format needs something first that is being looked up ([`crate::format::LookUp`]). Which assets they
//! are of is not known before. So that none is overtaken by a later one of its asset, the later messages of its partition wait
//! behind it. Other partitions go on.

use std::collections::{HashMap, VecDeque};

use tokio_util::sync::CancellationToken;

use super::watermark::Assignment;
use super::whole::Arrival;

/// By partition; each has one look-up under way.
#[derive(Default)]
pub struct Lookups {
    partitions: HashMap<Assignment, Waiting>,
    messages: usize,
}

/// What waits of one partition.
pub struct Waiting {
    /// In order; the first one is looked up for.
    pub arrivals: VecDeque<Arrival>,
    /// Cancelled when they are not to be processed here any more. It ends the look-up.
    pub over: CancellationToken,
}

impl Lookups {
    /// Messages that wait, those included that are looked up for.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Gives the message back where nothing of its partition waits; keeps it otherwise.
    pub fn enter(&mut self, arrival: Arrival) -> Option<Arrival> {
        if self.partitions.is_empty() {
            return Some(arrival);
        }
        let Some(waiting) = self.partitions.get_mut(&Assignment::of(&arrival.message)) else { return Some(arrival) };
        waiting.arrivals.push_back(arrival);
        self.messages += 1;
        None
    }

    /// A look-up begins for the first of these messages of one partition, of which nothing waits.
    pub fn begin(&mut self, arrivals: VecDeque<Arrival>, assignment: Assignment) -> CancellationToken {
        let over = CancellationToken::new();
        self.messages += arrivals.len();
        self.partitions.insert(assignment, Waiting { arrivals, over: over.clone() });
        over
    }

    /// The look-up has ended. Gives what has waited for it.
    pub fn end(&mut self, assignment: &Assignment) -> Option<Waiting> {
        let waiting = self.partitions.remove(assignment)?;
        self.messages -= waiting.arrivals.len();
        Some(waiting)
    }

    /// Ends the look-ups of which this is true; what waits for them is dropped when they have.
    pub fn give_up_where(&self, is_over: impl Fn(&Assignment) -> bool) {
        for (_, waiting) in self.partitions.iter().filter(|(assignment, _)| is_over(assignment)) {
            waiting.over.cancel();
        }
    }
}
