use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::component::Component;
use super::liveness::{Liveness, Pulse};
use crate::domain::AnyReason;

/// At most one line about a component in this time, its end aside.
const REMINDER: Duration = Duration::from_secs(60);
/// Of `telemetry.hung_after_ms`, where nobody sets it.
const HUNG_AFTER: Duration = Duration::from_millis(crate::config::HUNG_AFTER_MS);

/// Why the process is not ready, by component (ready when nothing is listed), and what it has to say of itself when it is.
///
/// It is also the one place that logs outages: a line when one begins, one a minute while any lasts, one when it ends,
/// however many messages meet it and however often they try. One that comes and goes in quick succession is a line a minute.
/// Components that are out for the same reason (the store, for those that read it and those that write to it) are one outage.
///
/// And it knows whether the process is alive: whether all that must move still moves.
#[derive(Clone, Debug)]
pub struct Health {
    state: Arc<Mutex<State>>,
    notes: Arc<Mutex<BTreeMap<String, String>>>,
    reminder: Duration,
    liveness: Liveness,
}

#[derive(Debug, Default)]
struct State {
    unready: BTreeMap<Component, Reason>,
    spoken: BTreeMap<Component, Spoken>,
}

#[derive(Debug)]
struct Reason {
    /// Of an outage.
    code: Option<AnyReason>,
    why: String,
    since: Instant,
}

/// What the log knows of a component.
#[derive(Clone, Copy, Debug)]
struct Spoken {
    at: Instant,
    /// A begin was logged, and its end is owed.
    begun: bool,
    /// Begins since `at` that were not logged.
    unsaid: u64,
}

impl State {
    /// Other components that are out for this reason.
    fn others(&self, component: Component, code: AnyReason) -> impl Iterator<Item = Component> {
        let others =
            self.unready.iter().filter(move |(other, reason)| **other != component && reason.code == Some(code));
        others.map(|(other, _)| *other)
    }

    fn is_begun(&self, component: Component) -> bool {
        self.spoken.get(&component).is_some_and(|spoken| spoken.begun)
    }

    /// The component's end is that of an outage that began elsewhere.
    fn inherit(&mut self, component: Component, since: Instant) {
        if let Some(reason) = self.unready.get_mut(&component) {
            reason.since = reason.since.min(since);
        }
        if let Some(spoken) = self.spoken.get_mut(&component) {
            spoken.begun = true;
        }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self { state: Arc::default(), notes: Arc::default(), reminder: REMINDER, liveness: Liveness::new(HUNG_AFTER) }
    }
}

impl Health {
    pub fn new() -> Self {
        Self::default()
    }

    /// What has not moved for this long makes the process count as dead; zero: never. To be called before anything is watched.
    pub fn hung_after(self, bound: Duration) -> Self {
        Self { liveness: Liveness::new(bound), ..self }
    }

    /// Watches something that must move.
    pub fn watch(&self, pulse: Pulse) {
        self.liveness.watch(pulse);
    }

    /// Looks at all that is watched, `passed` after the last look.
    pub(super) fn look(&self, passed: Duration) {
        self.liveness.look(passed);
    }

    /// # Errors
    /// Why the process must be restarted: what does not move any more, and since when.
    pub fn live(&self) -> Result<(), String> {
        self.liveness.check()
    }

    /// With another minute, for tests that let an hour pass.
    #[cfg(test)]
    pub(crate) fn with_reminder(reminder: Duration) -> Self {
        Self { reminder, ..Self::default() }
    }

    /// Part of the process's own life (starting, stopping), which is not an outage and not logged here.
    pub fn unready(&self, component: Component, why: impl Into<String>) {
        self.lock().unready.insert(component, Reason { code: None, why: why.into(), since: Instant::now() });
    }

    /// The end of [`Self::unready`].
    pub fn ready(&self, component: Component) {
        self.lock().unready.remove(&component);
    }

    /// An outage begins or goes on. `reason`: a short stable code.
    pub fn outage(&self, component: impl Into<Component>, reason: impl Into<AnyReason>, why: impl Into<String>) {
        self.outage_at(component.into(), reason.into(), why.into(), Instant::now());
    }

    fn outage_at(&self, component: Component, reason: AnyReason, why: String, now: Instant) {
        let mut state = self.lock();
        if let Some(known) = state.unready.get_mut(&component) {
            (known.code, known.why) = (Some(reason), why);
            return;
        }
        let spoken = state.spoken.get(&component).copied();
        let is_known = state.others(component, reason).any(|other| state.is_begun(other));
        let news = !is_known && spoken.is_none_or(|spoken| now.duration_since(spoken.at) >= self.reminder);
        let spoken = match spoken {
            Some(spoken) if !news && !is_known => Spoken { unsaid: spoken.unsaid + 1, ..spoken },
            _ => Spoken { at: now, begun: news, unsaid: 0 },
        };
        state.spoken.insert(component, spoken);
        let line = news.then(|| why.clone());
        state.unready.insert(component, Reason { code: Some(reason), why, since: now });
        drop(state);
        if let Some(why) = line {
            tracing::error!(
                component = component.as_str(),
                reason = reason.as_str(),
                "outage, holding messages: {why}"
            );
        }
    }

    /// The end of [`Self::outage`], if there was one.
    pub fn over(&self, component: impl Into<Component>) {
        let component = component.into();
        let mut state = self.lock();
        let Some(reason) = state.unready.remove(&component) else { return };
        let said = state.spoken.get_mut(&component).is_some_and(|spoken| std::mem::replace(&mut spoken.begun, false));
        // The same outage goes on elsewhere: its end is said there.
        let heir = reason.code.filter(|_| said).and_then(|code| state.others(component, code).next());
        if let Some(heir) = heir {
            state.inherit(heir, reason.since);
            return;
        }
        drop(state);
        if said {
            let lasted_ms = reason.since.elapsed().as_millis() as u64;
            tracing::info!(component = component.as_str(), lasted_ms, "outage is over");
        }
    }

    /// Says once a minute what is still in the way. To be called more often than that. `in_flight`: messages held;
    /// `settled`: those that are done.
    pub fn remind(&self, in_flight: usize, settled: u64) {
        self.remind_at(in_flight, settled, Instant::now());
    }

    fn remind_at(&self, in_flight: usize, settled: u64, now: Instant) {
        let mut state = self.lock();
        let State { unready, spoken } = &mut *state;
        let is_due = |spoken: &Spoken| now.duration_since(spoken.at) >= self.reminder;
        let mut lines = Vec::new();
        if spoken.iter().any(|(component, spoken)| is_due(spoken) && unready.contains_key(component)) {
            // All that is in the way, in one line.
            let (mut components, mut whys, mut codes) = (Vec::new(), Vec::new(), BTreeSet::new());
            for (component, reason) in unready.iter().filter(|(_, reason)| reason.code.is_some()) {
                components.push(component.as_str());
                let is_first = codes.insert(reason.code);
                if is_first {
                    whys.push(reason.why.as_str());
                }
                spoken.insert(*component, Spoken { at: now, begun: is_first, unsaid: 0 });
            }
            lines.push((components.join(", "), format!("still unready: {}", whys.join("; and "))));
        }
        for (component, spoken) in spoken.iter_mut().filter(|(_, spoken)| is_due(spoken) && spoken.unsaid > 0) {
            let line = format!("ready now, unready {} more times in the last minute", spoken.unsaid);
            lines.push((component.as_str().to_owned(), line));
            *spoken = Spoken { at: now, begun: false, unsaid: 0 };
        }
        drop(state);
        for (component, line) in lines {
            tracing::warn!(component, in_flight, settled, "{line}");
        }
    }

    pub fn is_ready(&self) -> bool {
        self.lock().unready.is_empty()
    }

    /// Component and reason, in order of name; empty when ready.
    pub fn reasons(&self) -> Vec<(Component, String)> {
        self.lock().unready.iter().map(|(component, reason)| (*component, reason.why.clone())).collect()
    }

    /// What is told of `subject` from now on, when ready: for example what a model runs on.
    pub fn note(&self, subject: impl Into<String>, text: impl Into<String>) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).insert(subject.into(), text.into());
    }

    /// Subject and text, in order of subject.
    pub fn notes(&self) -> Vec<(String, String)> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().map(|(subject, text)| (subject.clone(), text.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the maps whole: nothing in a critical section can fail half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{MediaReason, Stage, StoreReason};
    use crate::telemetry::log_lines::LogLines;

    #[test]
    fn an_hour_is_a_line_at_each_end_and_one_a_minute() {
        let (health, log, start) = (Health::new(), LogLines::start(), Instant::now());
        for second in 0..3600 {
            let now = start + Duration::from_secs(second);
            health.outage_at(Stage::Upsert.into(), StoreReason::Unreachable.into(), "no answer".into(), now);
            health.outage_at(Stage::Upsert.into(), StoreReason::Unreachable.into(), "no answer".into(), now);
            health.remind_at(256, 0, now);
        }
        assert_eq!(health.reasons(), [(Stage::Upsert.into(), "no answer".to_owned())]);
        health.over(Stage::Upsert);
        health.over(Stage::Upsert);
        assert_eq!(log.count("outage, holding messages"), 1);
        assert_eq!(log.count("still unready"), 59);
        assert_eq!(log.count("outage is over"), 1);
        assert!(health.reasons().is_empty());
    }

    #[test]
    fn components_out_for_the_same_reason_are_one_outage_and_what_is_in_the_way_is_one_line_a_minute() {
        let (health, log, start) = (Health::new(), LogLines::start(), Instant::now());
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            health.outage_at(Stage::Recall.into(), StoreReason::Unreachable.into(), "no answer to a read".into(), now);
            health.outage_at(Stage::Upsert.into(), StoreReason::Unreachable.into(), "no answer to a write".into(), now);
            health.outage_at(Stage::Fetch.into(), MediaReason::S3Unreachable.into(), "no S3".into(), now);
            health.remind_at(256, 7, now);
        }
        assert_eq!(health.reasons().len(), 3);
        assert_eq!(log.count("outage, holding messages"), 2, "{:?}", log.all());
        assert_eq!(log.count("still unready: no S3; and no answer to a read"), 9, "{:?}", log.all());
        health.over(Stage::Recall);
        assert_eq!(log.count("outage is over"), 0, "the store is still away");
        health.over(Stage::Upsert);
        health.over(Stage::Fetch);
        assert_eq!(log.count("outage is over"), 2);
        assert_eq!(log.all().len(), 13);
    }

    #[test]
    fn what_comes_and_goes_every_second_is_a_line_a_minute() {
        let (health, log, start) = (Health::new(), LogLines::start(), Instant::now());
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            health.outage_at(Stage::Upsert.into(), StoreReason::Busy.into(), "busy".into(), now);
            assert_eq!(health.reasons().len(), 1, "readiness is not delayed");
            health.over(Stage::Upsert);
            assert!(health.reasons().is_empty());
            health.remind_at(1, 0, now);
        }
        let lines = log.count("");
        assert!((10..=30).contains(&lines), "{lines} lines in ten minutes");
    }
}
