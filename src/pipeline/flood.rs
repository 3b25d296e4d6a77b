//! Stops the worker when so many messages become dead letters that the messages cannot be the cause.
//!
//! The class does not matter: a topic of the wrong format fails permanently, a dead media server fails transiently, and
//! a wrongly classified failure of every message may be either.

use std::collections::VecDeque;
use std::fmt;

use crate::config::PipelineSettings;
use crate::domain::{AnyReason, Explain, Failure, Finding, Outcome};

/// Settled messages over which the share is taken. Before there are that many, there is no share.
const WINDOW: usize = 1_000;

/// Which limit was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    pub of: FloodOf,
    /// Reason of the last dead letter.
    pub reason: AnyReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloodOf {
    InRow(u64),
    Share { dead: usize, of: usize },
}

impl Explain for Flood {
    fn explain(&self) -> Finding {
        let (found, limit) = match self.of {
            FloodOf::InRow(messages) => (format!("{messages} messages in a row"), "dead_letters_in_row_max"),
            FloodOf::Share { dead, of } => (format!("{dead} of the last {of} messages"), "dead_letters_percent_max"),
        };
        let message = format!(
            "{found} became dead letters, the last one by {}, which looks like a wrong topic, a changed format, or something \
             that all of them need",
            self.reason
        );
        Finding::new(message).hint(format!("see the dead letters, then start again (limit: pipeline.{limit})"))
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explain().fmt(f)
    }
}

/// Counts outcomes. It starts empty, so a restart after a flood always makes progress up to the limit.
pub struct FloodGate {
    in_row_max: u64,
    percent_max: usize,
    window: usize,
    in_row: u64,
    /// Whether the latest messages became dead letters, at most `window`.
    latest: VecDeque<bool>,
    dead: usize,
    /// Reason of the last dead letter.
    reason: Option<AnyReason>,
}

impl FloodGate {
    pub fn new(settings: &PipelineSettings) -> Self {
        Self {
            in_row_max: settings.dead_letters_in_row_max,
            percent_max: settings.dead_letters_percent_max,
            window: WINDOW,
            in_row: 0,
            latest: VecDeque::new(),
            dead: 0,
            reason: None,
        }
    }

    pub fn settled(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::DeadLettered(Failure { fault, .. }) => {
                (self.in_row, self.reason) = (self.in_row + 1, Some(fault.reason));
            }
            Outcome::Indexed | Outcome::Deleted => self.in_row = 0,
            _ => {}
        }
        let dead = matches!(outcome, Outcome::DeadLettered(_));
        if self.latest.len() == self.window {
            self.dead -= usize::from(self.latest.pop_front().unwrap_or_default());
        }
        self.latest.push_back(dead);
        self.dead += usize::from(dead);
    }

    /// The limit that is exceeded now, if any.
    pub fn flood(&self) -> Option<Flood> {
        let flood = |of| Some(Flood { of, reason: self.reason? });
        if self.in_row_max > 0 && self.in_row >= self.in_row_max {
            return flood(FloodOf::InRow(self.in_row));
        }
        let too_many = self.dead * 100 > self.percent_max * self.window;
        if self.percent_max > 0 && self.latest.len() == self.window && too_many {
            return flood(FloodOf::Share { dead: self.dead, of: self.window });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Class, Fault, MediaReason, Stage};

    fn gate(in_row_max: u64, percent_max: usize) -> FloodGate {
        let settings = PipelineSettings {
            dead_letters_in_row_max: in_row_max,
            dead_letters_percent_max: percent_max,
            ..PipelineSettings::default()
        };
        FloodGate { window: 10, ..FloodGate::new(&settings) }
    }

    fn dead(class: Class) -> Outcome {
        Outcome::DeadLettered(Fault::new(MediaReason::HttpStatus, "no").class(class).at(Stage::Fetch))
    }

    fn of(gate: &FloodGate) -> Option<FloodOf> {
        gate.flood().map(|flood| flood.of)
    }

    #[test]
    fn letters_of_every_class_are_a_row_that_success_alone_breaks() {
        let mut gate = gate(3, 0);
        for outcome in [dead(Class::Permanent), Outcome::Stale, dead(Class::Transient)] {
            gate.settled(&outcome);
            assert_eq!(gate.flood(), None);
        }
        gate.settled(&Outcome::Indexed);
        for (n, class) in [Class::Transient, Class::Permanent, Class::Transient].into_iter().enumerate() {
            gate.settled(&dead(class));
            assert_eq!(of(&gate), (n == 2).then_some(FloodOf::InRow(3)));
        }
        assert!(gate.flood().unwrap().to_string().contains("the last one by http_status"));
    }

    #[test]
    fn a_share_is_taken_over_a_full_window_of_the_latest() {
        let mut gate = gate(0, 50);
        // Nine of nine are too few to judge.
        for n in 0..9 {
            gate.settled(&dead(if n % 2 == 0 { Class::Permanent } else { Class::Transient }));
            assert_eq!(gate.flood(), None);
        }
        gate.settled(&Outcome::Indexed);
        assert_eq!(of(&gate), Some(FloodOf::Share { dead: 9, of: 10 }));
        for good in 1..=4 {
            gate.settled(&Outcome::Stale);
            let dead = 9 - good;
            assert_eq!(of(&gate), (dead > 5).then_some(FloodOf::Share { dead, of: 10 }), "{dead}");
        }
    }

    #[test]
    fn what_goes_to_a_retry_topic_does_not_count_as_a_dead_letter() {
        let mut gate = gate(1, 1);
        let Outcome::DeadLettered(failure) = dead(Class::Transient) else { unreachable!() };
        (0..20).for_each(|_| gate.settled(&Outcome::RetryScheduled(failure.clone())));
        assert_eq!(gate.flood(), None);
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
