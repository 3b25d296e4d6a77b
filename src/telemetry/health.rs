//! Readiness, liveness and the logging of outages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::component::Component;
use super::liveness::{Liveness, Pulse};
use crate::domain::AnyReason;

/// At most one line per component in this time, except for the end of an outage.
const REMINDER: Duration = Duration::from_secs(60);
/// Default of `telemetry.hung_after_ms`.
const HUNG_AFTER: Duration = Duration::from_millis(crate::config::HUNG_AFTER_MS);

/// The reasons why the process is not ready, by component (ready if there are none), and notes that are shown when it is.
///
/// It is also the only place that logs outages: a line when one begins, one a minute while any lasts, and one when it ends,
/// however many messages and attempts are affected. A flapping outage is logged once a minute. Components with the same
/// reason (for example reads and writes of the store) are one outage.
///
/// It also knows whether the process is alive, that is, whether everything that must make progress does.
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
    logged: BTreeMap<Component, LogState>,
}

#[derive(Debug)]
struct Reason {
    /// The reason of an outage; `None` while starting or stopping.
    code: Option<AnyReason>,
    why: String,
    since: Instant,
}

/// What was logged about a component.
#[derive(Clone, Copy, Debug)]
struct LogState {
    at: Instant,
    /// A begin was logged, and its end was not.
    is_open: bool,
    /// Begins since `at` that were not logged.
    suppressed: u64,
}

impl State {
    /// Other components with the same reason.
    fn others(&self, component: Component, code: AnyReason) -> impl Iterator<Item = Component> {
        let others =
            self.unready.iter().filter(move |(other, reason)| **other != component && reason.code == Some(code));
        others.map(|(other, _)| *other)
    }

    fn is_logged(&self, component: Component) -> bool {
        self.logged.get(&component).is_some_and(|logged| logged.is_open)
    }

    /// The component takes over an outage that began in another one, and will log its end.
    fn take_over(&mut self, component: Component, since: Instant) {
        if let Some(reason) = self.unready.get_mut(&component) {
            reason.since = reason.since.min(since);
        }
        if let Some(logged) = self.logged.get_mut(&component) {
            logged.is_open = true;
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

    /// Sets the time without progress after which the process counts as hung; zero: never. Call it before [`Self::watch`].
    pub fn hung_after(self, bound: Duration) -> Self {
        Self { liveness: Liveness::new(bound), ..self }
    }

    /// Watches a thread or task that must make progress.
    pub fn watch(&self, pulse: Pulse) {
        self.liveness.watch(pulse);
    }

    /// Checks all pulses, `passed` after the last check.
    pub(super) fn look(&self, passed: Duration) {
        self.liveness.look(passed);
    }

    /// # Errors
    /// Why the process must be restarted: what hangs, and since when.
    pub fn live(&self) -> Result<(), String> {
        self.liveness.check()
    }

    /// With a shorter minute, for tests.
    #[cfg(test)]
    pub(crate) fn with_reminder(reminder: Duration) -> Self {
        Self { reminder, ..Self::default() }
    }

    /// Marks a component as unready while the process starts or stops. This is not an outage and is not logged here.
    pub fn unready(&self, component: Component, why: impl Into<String>) {
        self.lock().unready.insert(component, Reason { code: None, why: why.into(), since: Instant::now() });
    }

    /// The end of [`Self::unready`].
    pub fn ready(&self, component: Component) {
        self.lock().unready.remove(&component);
    }

    /// An outage begins or continues. `reason`: a short stable code.
    pub fn outage(&self, component: impl Into<Component>, reason: impl Into<AnyReason>, why: impl Into<String>) {
        self.outage_at(component.into(), reason.into(), why.into(), Instant::now());
    }

    fn outage_at(&self, component: Component, reason: AnyReason, why: String, now: Instant) {
        let mut state = self.lock();
        if let Some(known) = state.unready.get_mut(&component) {
            (known.code, known.why) = (Some(reason), why);
            return;
        }
        let logged = state.logged.get(&component).copied();
        let is_known = state.others(component, reason).any(|other| state.is_logged(other));
        let is_new = !is_known && logged.is_none_or(|logged| now.duration_since(logged.at) >= self.reminder);
        let logged = match logged {
            Some(logged) if !is_new && !is_known => LogState { suppressed: logged.suppressed + 1, ..logged },
            _ => LogState { at: now, is_open: is_new, suppressed: 0 },
        };
        state.logged.insert(component, logged);
        let line = is_new.then(|| why.clone());
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
        let was_logged =
            state.logged.get_mut(&component).is_some_and(|logged| std::mem::replace(&mut logged.is_open, false));
        // The same outage continues in another component, which logs its end.
        let successor = reason.code.filter(|_| was_logged).and_then(|code| state.others(component, code).next());
        if let Some(successor) = successor {
            state.take_over(successor, reason.since);
            return;
        }
        drop(state);
        if was_logged {
            let lasted_ms = reason.since.elapsed().as_millis() as u64;
            tracing::info!(component = component.as_str(), lasted_ms, "outage is over");
        }
    }

    /// Logs once a minute what is still unready. Call it more often than that. `in_flight`: messages held; `settled`:
    /// messages done.
    pub fn remind(&self, in_flight: usize, settled: u64) {
        self.remind_at(in_flight, settled, Instant::now());
    }

    fn remind_at(&self, in_flight: usize, settled: u64, now: Instant) {
        let mut state = self.lock();
        let State { unready, logged } = &mut *state;
        let is_due = |logged: &LogState| now.duration_since(logged.at) >= self.reminder;
        let mut lines = Vec::new();
        if logged.iter().any(|(component, logged)| is_due(logged) && unready.contains_key(component)) {
            // All causes in one line.
            let (mut components, mut whys, mut codes) = (Vec::new(), Vec::new(), BTreeSet::new());
            for (component, reason) in unready.iter().filter(|(_, reason)| reason.code.is_some()) {
                components.push(component.as_str());
                let is_first = codes.insert(reason.code);
                if is_first {
                    whys.push(reason.why.as_str());
                }
                logged.insert(*component, LogState { at: now, is_open: is_first, suppressed: 0 });
            }
            lines.push((components.join(", "), format!("still unready: {}", whys.join("; and "))));
        }
        for (component, logged) in logged.iter_mut().filter(|(_, logged)| is_due(logged) && logged.suppressed > 0) {
            let line = format!("ready now, unready {} more times in the last minute", logged.suppressed);
            lines.push((component.as_str().to_owned(), line));
            *logged = LogState { at: now, is_open: false, suppressed: 0 };
        }
        drop(state);
        for (component, line) in lines {
            tracing::warn!(component, in_flight, settled, "{line}");
        }
    }

    pub fn is_ready(&self) -> bool {
        self.lock().unready.is_empty()
    }

    /// Components and reasons, ordered by name; empty when ready.
    pub fn reasons(&self) -> Vec<(Component, String)> {
        self.lock().unready.iter().map(|(component, reason)| (*component, reason.why.clone())).collect()
    }

    /// Sets the note about `subject` that is shown when ready, for example what a model runs on.
    pub fn note(&self, subject: impl Into<String>, text: impl Into<String>) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).insert(subject.into(), text.into());
    }

    /// Subjects and texts, ordered by subject.
    pub fn notes(&self) -> Vec<(String, String)> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.iter().map(|(subject, text)| (subject.clone(), text.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic leaves the maps consistent: nothing in a critical section can fail half way.
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
    fn components_out_for_the_same_reason_are_one_outage_and_the_reminder_is_one_line_a_minute() {
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
