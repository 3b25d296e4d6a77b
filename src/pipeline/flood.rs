//! When so many messages fail for good that it is not the messages that are wrong.

use std::collections::VecDeque;
use std::fmt;

use crate::config::PipelineSettings;
use crate::domain::{Class, Outcome};

/// Settled messages over which the share is taken; none is taken before there are so many.
const WINDOW: usize = 1_000;

/// What was found too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    InRow(u64),
    Share { failed: usize, of: usize },
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (found, limit) = match self {
            Self::InRow(messages) => (format!("{messages} messages in a row"), "permanent_failures_in_row_max"),
            Self::Share { failed, of } => {
                (format!("{failed} of the last {of} messages"), "permanent_failures_percent_max")
            }
        };
        write!(
            f,
            "{found} failed permanently, which looks like a wrong topic or a changed format; see the dead letters, then \
             start again (limit: pipeline.{limit})"
        )
    }
}

/// Counts outcomes. It begins anew with the process: a start after a flood always gets on, as far as the limit.
pub struct FloodGate {
    in_row_max: u64,
    percent_max: usize,
    window: usize,
    in_row: u64,
    /// Whether they failed for good; the latest ones, at most `window`.
    latest: VecDeque<bool>,
    failed: usize,
}

impl FloodGate {
    pub fn new(settings: &PipelineSettings) -> Self {
        Self {
            in_row_max: settings.permanent_failures_in_row_max,
            percent_max: settings.permanent_failures_percent_max,
            window: WINDOW,
            in_row: 0,
            latest: VecDeque::new(),
            failed: 0,
        }
    }

    pub fn settled(&mut self, outcome: &Outcome) {
        let failed = matches!(outcome, Outcome::DeadLettered(failure) if failure.class == Class::Permanent);
        match outcome {
            Outcome::DeadLettered(_) => self.in_row += u64::from(failed),
            Outcome::Indexed | Outcome::Deleted => self.in_row = 0,
            _ => {}
        }
        if self.latest.len() == self.window {
            self.failed -= usize::from(self.latest.pop_front().unwrap_or_default());
        }
        self.latest.push_back(failed);
        self.failed += usize::from(failed);
    }

    /// What is too much now, if anything.
    pub fn flood(&self) -> Option<Flood> {
        if self.in_row_max > 0 && self.in_row >= self.in_row_max {
            return Some(Flood::InRow(self.in_row));
        }
        let too_many = self.failed * 100 > self.percent_max * self.window;
        (self.percent_max > 0 && self.latest.len() == self.window && too_many)
            .then_some(Flood::Share { failed: self.failed, of: self.window })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Failure, Stage};

    fn gate(in_row_max: u64, percent_max: usize) -> FloodGate {
        let settings = PipelineSettings {
            permanent_failures_in_row_max: in_row_max,
            permanent_failures_percent_max: percent_max,
            ..PipelineSettings::default()
        };
        FloodGate { window: 10, ..FloodGate::new(&settings) }
    }

    fn dead(class: Class) -> Outcome {
        Outcome::DeadLettered(Failure { class, ..Failure::permanent(Stage::Fetch, "test", "no") })
    }

    #[test]
    fn a_row_is_broken_by_success_alone() {
        let mut gate = gate(3, 0);
        for outcome in [dead(Class::Permanent), Outcome::Stale, dead(Class::Transient), dead(Class::Permanent)] {
            gate.settled(&outcome);
            assert_eq!(gate.flood(), None);
        }
        gate.settled(&Outcome::Indexed);
        for n in 1..=3 {
            gate.settled(&dead(Class::Permanent));
            assert_eq!(gate.flood(), (n == 3).then_some(Flood::InRow(3)));
        }
    }

    #[test]
    fn a_share_is_taken_over_a_full_window_of_the_latest() {
        let mut gate = gate(0, 50);
        // Nine of nine say nothing yet.
        for _ in 0..9 {
            gate.settled(&dead(Class::Permanent));
            assert_eq!(gate.flood(), None);
        }
        gate.settled(&Outcome::Indexed);
        assert_eq!(gate.flood(), Some(Flood::Share { failed: 9, of: 10 }));
        for good in 1..=4 {
            gate.settled(&if good == 1 { dead(Class::Transient) } else { Outcome::Stale });
            let failed = 9 - good;
            assert_eq!(gate.flood(), (failed > 5).then_some(Flood::Share { failed, of: 10 }), "{failed}");
        }
    }

    #[test]
    fn zero_and_a_hundred_percent_are_no_limit() {
        for percent_max in [0, 100] {
            let mut gate = gate(0, percent_max);
            (0..30).for_each(|_| gate.settled(&dead(Class::Permanent)));
            assert_eq!(gate.flood(), None);
        }
    }
}
