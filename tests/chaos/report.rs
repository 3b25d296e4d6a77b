//! The table, and its last line as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::Outcome;
use crate::campaign::{Guard, Plan};
use crate::ending::DiskRefusals;
use crate::expected::Expected;
use crate::faults::World;
use crate::kinds::{Kind, LUCK, Schedule};
use crate::misdate::Misdate;
use crate::oracle::Verdict;
use crate::workers::Pool;

/// One campaign, whatever came of it.
pub struct Report {
    pub seed: u64,
    pub guard: Guard,
    pub took: Duration,
    pub messages: u64,
    pub processed: u64,
    pub replays: u64,
    /// To retry topics.
    pub retry_scheduled: u64,
    /// Of those, too late.
    pub overtaken: u64,
    /// Messages whose timestamp is not their time.
    pub misdated: BTreeMap<Misdate, u64>,
    /// Of those, unversioned ones that are dated before the one before.
    pub inversions: u64,
    /// Records of aborted transactions.
    pub aborted: u64,
    pub compacted: u64,
    pub in_parts: u64,
    pub refused_starts: usize,
    pub injected: BTreeMap<Kind, u64>,
    pub recoveries: BTreeMap<Kind, Vec<Duration>>,
    pub verdict: Verdict,
    pub disk_refusals: DiskRefusals,
    /// What must not happen whatever the faults: workers that end by themselves, lag that stays, a fresh message that does not
    /// pass, a campaign that tested nothing.
    pub violations: Vec<String>,
}

impl Report {
    pub fn of(
        plan: &Plan,
        took: Duration,
        world: &World,
        schedules: &[Schedule; 2],
        expected: &Expected,
        verdict: Verdict,
        disk_refusals: DiskRefusals,
    ) -> Self {
        let enough = plan.enough;
        let ((processed, replays), injected) = (world.journal.counts(), world.injected());
        let mut violations = world.journal.violations();
        // A campaign in which nothing was done twice has tested nothing. (Of one kind of fault it may be as it should.)
        if replays == 0 && plan.only.is_empty() {
            violations.push("no message was processed twice: the faults tested nothing".to_owned());
        }
        if plan.retries && expected.retry_scheduled == 0 && schedules[0].went_round() && plan.only.is_empty() {
            violations.push("no message was scheduled for retry".to_owned());
        }
        let whole = schedules.iter().filter(|schedule| schedule.went_round());
        let missing = whole.flat_map(Schedule::kinds).filter(|kind| !injected.contains_key(kind)).map(Kind::name);
        let undated = Misdate::ALL.into_iter().filter(|kind| !expected.misdated.contains_key(kind)).map(Misdate::name);
        let missing: Vec<&str> = missing.chain(undated).collect();
        if !missing.is_empty() {
            violations.push(format!("these faults never had an effect: {}", missing.join(", ")));
        }
        for (kind, what, count) in [
            (Kind::Transactions, "no record of a transaction that was aborted is in the log", expected.aborted),
            (Kind::RecordsRemoved, "every message was read before it was removed", verdict.skipped),
        ] {
            if injected.get(&kind).is_some_and(|times| *times >= LUCK as u64) && count == 0 {
                violations.push(what.to_owned());
            }
        }
        if expected.in_parts == 0 {
            violations.push("no dead letter was written in parts".to_owned());
        }
        if !injected.contains_key(&Kind::Unserved) {
            violations.push("no host was asked that never serves".to_owned());
        }
        let kills = world.kills();
        if kills < enough.kills || expected.messages < enough.messages {
            violations.push(format!(
                "found {kills} kills and {} messages in the longest time allowed, expected {} and {}",
                expected.messages, enough.kills, enough.messages
            ));
        }
        Self {
            seed: plan.seed,
            guard: plan.guard,
            took,
            messages: expected.messages,
            processed,
            replays,
            retry_scheduled: expected.retry_scheduled,
            overtaken: expected.overtaken.len() as u64,
            misdated: expected.misdated.clone(),
            inversions: expected.inversions,
            aborted: expected.aborted,
            compacted: expected.compacted,
            in_parts: expected.in_parts,
            refused_starts: world.pools().map(Pool::refused_starts).sum(),
            injected,
            recoveries: world.journal.recoveries(),
            verdict,
            disk_refusals,
            violations,
        }
    }

    fn guard_name(&self) -> &'static str {
        match self.guard {
            Guard::Check => "check",
            Guard::Strict => "strict",
        }
    }

    /// Median and longest.
    fn recovery(&self, kind: Kind) -> Option<(Duration, Duration)> {
        let mut all = self.recoveries.get(&kind)?.clone();
        all.sort();
        Some((*all.get(all.len() / 2)?, *all.last()?))
    }
}

impl Outcome for Report {
    fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.violations.is_empty()
    }

    fn json(&self) -> Value {
        let faults: serde_json::Map<String, Value> = self
            .injected
            .iter()
            .map(|(kind, count)| {
                let recovery = self.recovery(*kind).map(|(median, most)| json!([seconds(median), seconds(most)]));
                (kind.name().to_owned(), json!({"count": count, "recovery_s": recovery}))
            })
            .collect();
        let misdated: serde_json::Map<String, Value> =
            self.misdated.iter().map(|(kind, count)| (kind.name().to_owned(), (*count).into())).collect();
        json!({
            "seed": self.seed, "guard": self.guard_name(), "minutes": (self.took.as_secs_f64() / 6.0).round() / 10.0, "messages": self.messages,
            "processed": self.processed, "replays": self.replays, "points": self.verdict.points,
            "dead_letters": self.verdict.dead_letters, "duplicate_letters": self.verdict.duplicate_letters,
            "kills": self.injected.get(&Kind::WorkerKill), "faults": faults, "misdated": misdated, "inversions": self.inversions,
            "aborted": self.aborted, "compacted": self.compacted, "in_parts": self.in_parts, "skipped": self.verdict.skipped, "wrongly_dead": self.verdict.wrongly_dead,
            "retry_scheduled": self.retry_scheduled, "overtaken": self.overtaken,
            "disk_refusals": self.disk_refusals.full, "disk_refusals_read_only": self.disk_refusals.read_only, "refused_starts": self.refused_starts,
            "lost": self.verdict.lost, "doubled": self.verdict.doubled, "stale": self.verdict.stale,
            "wrong": self.verdict.wrong, "violations": self.violations.len(),
        })
    }

    fn print(&self) {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header(["fault", "times", "recovery, median", "longest"]);
        for (kind, count) in &self.injected {
            let (median, most) = self.recovery(*kind).map_or((String::new(), String::new()), |(median, most)| {
                (format!("{:.1} s", median.as_secs_f64()), format!("{:.1} s", most.as_secs_f64()))
            });
            table.add_row([kind.name().to_owned(), count.to_string(), median, most]);
        }
        for (kind, count) in &self.misdated {
            let what = format!("message {}", kind.name());
            table.add_row([what, count.to_string(), String::new(), String::new()]);
        }
        let DiskRefusals { full, read_only } = self.disk_refusals;
        let tried = |count: Option<String>| count.unwrap_or_else(|| "not tried".to_owned());
        for (state, refusals) in
            [("full", full.map(|n| n.to_string())), ("read-only", read_only.map(|n| n.to_string()))]
        {
            let what = format!("embedded store's disk {state} (refusals)");
            table.add_row([what, tried(refusals), String::new(), String::new()]);
        }
        right(&mut table, 1..4);
        println!("\n{table}\n");
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_header(["campaign", &format!("seed {}, {}", self.seed, self.guard_name())]);
        let verdict = &self.verdict;
        for (name, value) in [
            ("minutes", format!("{:.1}", self.took.as_secs_f64() / 60.0)),
            ("faults", self.injected.values().sum::<u64>().to_string()),
            ("messages", self.messages.to_string()),
            ("points expected", verdict.points.to_string()),
            ("dead letters", verdict.dead_letters.to_string()),
            ("replays observed", self.replays.to_string()),
            ("scheduled for retry", self.retry_scheduled.to_string()),
            ("of those, overtaken by newer patches", self.overtaken.to_string()),
            ("dead letters written again", verdict.duplicate_letters.to_string()),
            ("starts refused (a dependency away)", self.refused_starts.to_string()),
            ("dated before the message before them, without a version", self.inversions.to_string()),
            ("records of aborted transactions", self.aborted.to_string()),
            ("compacted away by the broker", self.compacted.to_string()),
            ("dead letters in parts", self.in_parts.to_string()),
            ("removed by the broker before they were read, as was said", verdict.skipped.to_string()),
            ("lost", verdict.lost.to_string()),
            ("good and dead", verdict.wrongly_dead.to_string()),
            ("doubled", verdict.doubled.to_string()),
            ("stale", verdict.stale.to_string()),
            ("wrong", verdict.wrong.to_string()),
            ("violations", self.violations.len().to_string()),
        ] {
            table.add_row([name.to_owned(), value]);
        }
        right(&mut table, 1..2);
        println!("{table}\n");
        for difference in &verdict.differences {
            println!("{difference}\n");
        }
        for violation in &self.violations {
            println!("VIOLATION: {violation}");
        }
        println!("{}", self.json());
    }
}

pub fn right(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}
