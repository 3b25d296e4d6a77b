//! What was seen of the workers: every message that one of them processed, and how long it took after each fault until
//! the partitions that it hit moved again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kinds::Kind;
use crate::topics::Topic;

pub type Partition = (Topic, i32);

/// A message's place in the log.
pub type Place = (Topic, i32, i64);

#[derive(Clone, Copy, Debug)]
pub struct Processed {
    pub worker: u32,
    /// Since the campaign began.
    pub at: Duration,
}

pub struct Journal {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    processed: HashMap<Place, Vec<Processed>>,
    dead_lettered: u64,
    owners: BTreeMap<Partition, u32>,
    waiting: Vec<Waiting>,
    recoveries: BTreeMap<Kind, Vec<Duration>>,
    /// Offsets that workers said were removed before they were read, first and last.
    skipped: Vec<(Partition, i64, i64)>,
    violations: Vec<String>,
}

struct Waiting {
    kind: Kind,
    since: Instant,
    partitions: HashSet<Partition>,
    /// What this worker still says does not count.
    except: Option<u32>,
}

impl Journal {
    pub fn new() -> Self {
        Self { start: Instant::now(), state: Mutex::default() }
    }

    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One line of a worker's log.
    pub fn line(&self, worker: u32, line: &str) {
        if line.contains("messages are lost: the broker removed them") {
            return self.skipped(line);
        }
        let (processed, died) = (line.contains(r#""message":"processed""#), line.contains(r#""message":"dead letter"#));
        if !processed && !died {
            return;
        }
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        let Some(place) = event["position"].as_str().and_then(place) else { return };
        let partition = (place.0, place.1);
        let mut state = self.state();
        state.dead_lettered += u64::from(died);
        state.processed.entry(place).or_default().push(Processed { worker, at: self.start.elapsed() });
        state.owners.insert(partition, worker);
        let mut over = Vec::new();
        state.waiting.retain_mut(|waiting| {
            if waiting.except != Some(worker) {
                waiting.partitions.remove(&partition);
            }
            if waiting.partitions.is_empty() {
                over.push((waiting.kind, waiting.since.elapsed()));
            }
            !waiting.partitions.is_empty()
        });
        for (kind, took) in over {
            state.recoveries.entry(kind).or_default().push(took);
        }
    }

    fn skipped(&self, line: &str) {
        let event: Value = serde_json::from_str(line).unwrap_or_default();
        let topic = event["topic"].as_str().and_then(Topic::named);
        let partition = event["partition"].as_i64().and_then(|partition| i32::try_from(partition).ok());
        match (topic, partition, event["from"].as_i64(), event["to"].as_i64()) {
            (Some(topic), Some(partition), Some(from), Some(to)) => {
                self.state().skipped.push(((topic, partition), from, to));
            }
            _ => self.violation(format!("a worker lost messages without saying which: {line}")),
        }
    }

    /// Whether a worker has said that this message was removed before it was read.
    pub fn was_skipped(&self, (topic, partition, offset): Place) -> bool {
        let is_it =
            |(at, from, to): &(Partition, i64, i64)| *at == (topic, partition) && (*from..=*to).contains(&offset);
        self.state().skipped.iter().any(is_it)
    }

    pub fn all_skipped(&self) -> Vec<(Partition, i64, i64)> {
        self.state().skipped.clone()
    }

    /// From now on until every partition of these topics moves again that `worker` (or anybody) had: the recovery from this
    /// fault.
    pub fn expect_recovery(&self, kind: Kind, worker: Option<u32>, topics: &[Topic]) {
        let mut state = self.state();
        let is_hit = |(partition, owner): &(&Partition, &u32)| {
            topics.contains(&partition.0) && worker.is_none_or(|worker| worker == **owner)
        };
        let hit = state.owners.iter().filter(is_hit);
        let partitions: HashSet<Partition> = hit.map(|(partition, _)| *partition).collect();
        if !partitions.is_empty() {
            state.waiting.push(Waiting { kind, since: Instant::now(), partitions, except: worker });
        }
    }

    /// Faults whose recovery is not there yet.
    pub fn recovering(&self) -> usize {
        self.state().waiting.len()
    }

    /// From this fault, by other means than [`Self::expect_recovery`].
    pub fn recovered(&self, kind: Kind, took: Duration) {
        self.state().recoveries.entry(kind).or_default().push(took);
    }

    /// The messages run out: a partition that stands still is no longer waiting for anything.
    pub fn stop_waiting(&self) {
        self.state().waiting.clear();
    }

    /// Something that must never happen, whatever the faults.
    pub fn violation(&self, what: String) {
        eprintln!("chaos: VIOLATION: {what}");
        self.state().violations.push(what);
    }

    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    pub fn recoveries(&self) -> BTreeMap<Kind, Vec<Duration>> {
        self.state().recoveries.clone()
    }

    /// Messages that were processed at all, and processings beyond the first of each. Without those of the topic that is made
    /// anew, where another message has the same place.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.state();
        let told = state.processed.iter().filter(|((topic, ..), _)| *topic != Topic::Anew);
        let (messages, all) = told.fold((0, 0), |(messages, all), (_, of)| (messages + 1, all + of.len() as u64));
        (messages, all - messages)
    }

    pub fn processed(&self, place: Place) -> Vec<Processed> {
        self.state().processed.get(&place).cloned().unwrap_or_default()
    }
}

/// `topic[partition]@offset`
fn place(text: &str) -> Option<Place> {
    let (topic, rest) = text.split_once('[')?;
    let (partition, offset) = rest.split_once("]@")?;
    Some((Topic::named(topic)?, partition.parse().ok()?, offset.parse().ok()?))
}
