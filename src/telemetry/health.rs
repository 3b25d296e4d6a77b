use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// At most one line about a component in this time, its end aside.
const REMINDER: Duration = Duration::from_secs(60);

/// Why the process is not ready, by component (ready when nothing is listed), and what it has to say of itself when it is.
///
/// It is also the one place that logs outages: a line when one begins, one a minute while it lasts, one when it ends,
/// however many messages meet it and however often they try. One that comes and goes in quick succession is a line a minute.
#[derive(Clone, Debug)]
pub struct Health {
    state: Arc<Mutex<State>>,
    notes: Arc<Mutex<BTreeMap<String, String>>>,
    reminder: Duration,
}

#[derive(Debug, Default)]
struct State {
    unready: BTreeMap<&'static str, Reason>,
    spoken: BTreeMap<&'static str, Spoken>,
}

#[derive(Debug)]
struct Reason {
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

impl Default for Health {
    fn default() -> Self {
        Self { state: Arc::default(), notes: Arc::default(), reminder: REMINDER }
    }
}

impl Health {
    pub fn new() -> Self {
        Self::default()
    }

    /// With another minute, for tests that let an hour pass.
    #[cfg(test)]
    pub(crate) fn with_reminder(reminder: Duration) -> Self {
        Self { reminder, ..Self::default() }
    }

    /// Part of the process's own life (starting, stopping), which is not an outage and not logged here.
    pub fn unready(&self, component: &'static str, why: impl Into<String>) {
        self.lock().unready.insert(component, Reason { why: why.into(), since: Instant::now() });
    }

    /// The end of [`Self::unready`].
    pub fn ready(&self, component: &'static str) {
        self.lock().unready.remove(component);
    }

    /// An outage begins or goes on. `reason`: a short stable code.
    pub fn outage(&self, component: &'static str, reason: &'static str, why: impl Into<String>) {
        self.outage_at(component, reason, why.into(), Instant::now());
    }

    fn outage_at(&self, component: &'static str, reason: &'static str, why: String, now: Instant) {
        let mut state = self.lock();
        if let Some(known) = state.unready.get_mut(component) {
            known.why = why;
            return;
        }
        let spoken = state.spoken.get(component).copied();
        let news = spoken.is_none_or(|spoken| now.duration_since(spoken.at) >= self.reminder);
        let spoken = match spoken {
            Some(spoken) if !news => Spoken { unsaid: spoken.unsaid + 1, ..spoken },
            _ => Spoken { at: now, begun: true, unsaid: 0 },
        };
        state.spoken.insert(component, spoken);
        let line = news.then(|| why.clone());
        state.unready.insert(component, Reason { why, since: now });
        drop(state);
        if let Some(why) = line {
            tracing::error!(component, reason, "outage, holding messages: {why}");
        }
    }

    /// The end of [`Self::outage`], if there was one.
    pub fn over(&self, component: &'static str) {
        let mut state = self.lock();
        let Some(reason) = state.unready.remove(component) else { return };
        let said = state.spoken.get_mut(component).is_some_and(|spoken| std::mem::replace(&mut spoken.begun, false));
        drop(state);
        if said {
            tracing::info!(component, lasted_ms = reason.since.elapsed().as_millis() as u64, "outage is over");
        }
    }

    /// Says once a minute what is still in the way. To be called more often than that. `in_flight`: messages held.
    pub fn remind(&self, in_flight: usize) {
        self.remind_at(in_flight, Instant::now());
    }

    fn remind_at(&self, in_flight: usize, now: Instant) {
        let mut lines = Vec::new();
        let mut state = self.lock();
        let State { unready, spoken } = &mut *state;
        for (component, spoken) in spoken {
            if now.duration_since(spoken.at) < self.reminder {
                continue;
            }
            if let Some(reason) = unready.get(component) {
                *spoken = Spoken { at: now, begun: true, unsaid: 0 };
                lines.push((*component, format!("still unready: {}", reason.why)));
            } else if spoken.unsaid > 0 {
                lines.push((*component, format!("ready now, unready {} more times in the last minute", spoken.unsaid)));
                *spoken = Spoken { at: now, begun: false, unsaid: 0 };
            }
        }
        drop(state);
        for (component, line) in lines {
            tracing::warn!(component, in_flight, "{line}");
        }
    }

    /// Component and reason, in order of name; empty when ready.
    pub fn reasons(&self) -> Vec<(&'static str, String)> {
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
    use crate::telemetry::log_lines::LogLines;

    #[test]
    fn an_hour_is_a_line_at_each_end_and_one_a_minute() {
        let (health, log, start) = (Health::new(), LogLines::start(), Instant::now());
        for second in 0..3600 {
            let now = start + Duration::from_secs(second);
            health.outage_at("upsert", "store_unreachable", "no answer".into(), now);
            health.outage_at("upsert", "store_unreachable", "no answer".into(), now);
            health.remind_at(256, now);
        }
        assert_eq!(health.reasons(), [("upsert", "no answer".to_owned())]);
        health.over("upsert");
        health.over("upsert");
        assert_eq!(log.count("outage, holding messages"), 1);
        assert_eq!(log.count("still unready"), 59);
        assert_eq!(log.count("outage is over"), 1);
        assert!(health.reasons().is_empty());
    }

    #[test]
    fn what_comes_and_goes_every_second_is_a_line_a_minute() {
        let (health, log, start) = (Health::new(), LogLines::start(), Instant::now());
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            health.outage_at("upsert", "store_busy", "busy".into(), now);
            assert_eq!(health.reasons().len(), 1, "readiness is not delayed");
            health.over("upsert");
            assert!(health.reasons().is_empty());
            health.remind_at(1, now);
        }
        let lines = log.count("");
        assert!((10..=30).contains(&lines), "{lines} lines in ten minutes");
    }
}
