//! What came of the outages, as a table and as JSON.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::parts::Trial;
use super::worker::Line;
use crate::oracle::Verdict;
use crate::report::right;

const MINUTE: Duration = Duration::from_secs(60);
const VIOLATIONS_MAX: usize = 8;

pub struct Outcome {
    pub name: &'static str,
    pub outage: Duration,
    /// Messages.
    pub before: u64,
    pub during: u64,
    pub after: u64,
    /// From the beginning of the outage until `/readyz` named it.
    pub unready_after: Option<Duration>,
    /// Log lines of the outage, of every level that is logged by default.
    pub lines: usize,
    pub lines_per_minute_most: usize,
    /// From its end.
    pub ready_after: Option<Duration>,
    pub done_after: Option<Duration>,
    pub verdict: Verdict,
    violations: Vec<String>,
    violations_more: usize,
}

impl Outcome {
    pub fn of(trial: &Trial) -> Self {
        Self {
            name: trial.name,
            outage: Duration::ZERO,
            before: 0,
            during: 0,
            after: 0,
            unready_after: None,
            lines: 0,
            lines_per_minute_most: 0,
            ready_after: None,
            done_after: None,
            verdict: Verdict::default(),
            violations: Vec::new(),
            violations_more: 0,
        }
    }

    /// What must not happen. Said once, however long it goes on.
    pub fn violation(&mut self, what: String) {
        if self.violations.contains(&what) || self.violations.len() >= VIOLATIONS_MAX {
            self.violations_more += 1;
            return;
        }
        eprintln!("chaos: VIOLATION: {}: {what}", self.name);
        self.violations.push(what);
    }

    /// Counts what the worker logged during the outage: a line for each part when it begins, and one a minute.
    pub fn lines(&mut self, trial: &Trial, lines: &[Line], began: Instant, ended: Instant) {
        self.outage = ended - began;
        let during: Vec<&Line> = lines.iter().filter(|line| (began..ended).contains(&line.at)).collect();
        let mut minutes: BTreeMap<u64, usize> = BTreeMap::new();
        for line in &during {
            *minutes.entry((line.at - began).as_secs() / MINUTE.as_secs()).or_default() += 1;
        }
        (self.lines, self.lines_per_minute_most) = (during.len(), minutes.into_values().max().unwrap_or_default());
        let minutes = (self.outage.as_secs() / MINUTE.as_secs()) as usize;
        let allowed = trial.parts.len() + minutes;
        if self.lines == 0 || self.lines > allowed {
            let shown: Vec<String> = during.iter().take(VIOLATIONS_MAX).map(|line| line.event.to_string()).collect();
            self.violation(format!(
                "{} log lines in {minutes} minutes, expected one at the beginning and one a minute; the first: {}",
                self.lines,
                shown.join(" ")
            ));
        }
    }

    pub fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.violations.is_empty()
    }

    fn json(&self) -> Value {
        let verdict = &self.verdict;
        json!({
            "part": self.name, "minutes": (self.outage.as_secs_f64() / 6.0).round() / 10.0,
            "before": self.before, "during": self.during, "after": self.after,
            "unready_after_s": self.unready_after.map(seconds), "lines": self.lines,
            "lines_per_minute_most": self.lines_per_minute_most, "ready_after_s": self.ready_after.map(seconds),
            "done_after_s": self.done_after.map(seconds), "points": verdict.points, "dead_letters": verdict.dead_letters,
            "lost": verdict.lost, "wrongly_dead": verdict.wrongly_dead, "doubled": verdict.doubled,
            "stale": verdict.stale, "wrong": verdict.wrong, "violations": self.violations.len() + self.violations_more,
        })
    }
}

pub struct Report {
    pub outcomes: Vec<Outcome>,
}

impl crate::Outcome for Report {
    fn is_clean(&self) -> bool {
        self.outcomes.iter().all(Outcome::is_clean)
    }

    fn json(&self) -> Value {
        self.outcomes.iter().map(Outcome::json).collect()
    }

    fn print(&self) {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header([
            "away",
            "minutes",
            "messages before",
            "during",
            "after",
            "unready after",
            "log lines",
            "most in a minute",
            "ready again after",
            "all done after",
            "dead letters",
            "lost",
            "dead but good",
            "doubled, stale, wrong",
            "violations",
        ]);
        for outcome in &self.outcomes {
            let verdict = &outcome.verdict;
            let time =
                |time: Option<Duration>| time.map_or("never".to_owned(), |time| format!("{:.1} s", seconds(time)));
            table.add_row([
                outcome.name.to_owned(),
                format!("{:.1}", outcome.outage.as_secs_f64() / 60.0),
                outcome.before.to_string(),
                outcome.during.to_string(),
                outcome.after.to_string(),
                time(outcome.unready_after),
                outcome.lines.to_string(),
                outcome.lines_per_minute_most.to_string(),
                time(outcome.ready_after),
                time(outcome.done_after),
                verdict.dead_letters.to_string(),
                verdict.lost.to_string(),
                verdict.wrongly_dead.to_string(),
                (verdict.doubled + verdict.stale + verdict.wrong).to_string(),
                (outcome.violations.len() + outcome.violations_more).to_string(),
            ]);
        }
        right(&mut table, 1..15);
        println!("\n{table}\n");
        for outcome in &self.outcomes {
            for difference in &outcome.verdict.differences {
                println!("{}: {difference}\n", outcome.name);
            }
            for violation in &outcome.violations {
                println!("VIOLATION: {}: {violation}", outcome.name);
            }
        }
        println!("{}", self.json());
    }
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}
