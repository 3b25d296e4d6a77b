//! Heartbeats of threads and tasks, and the detection of those that hang.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The longest time that one check counts for. A suspended process or machine was not hung: the checks did not run either.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// Heartbeat of one thread or task. It beats while there is work, and rests when no progress is expected. Clones share the
/// same pulse.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<State>);

#[derive(Debug)]
struct State {
    name: String,
    beats: AtomicU64,
    at_work: AtomicBool,
}

/// Guard of one piece of work that must end within the bound. Dropped when it ends.
#[derive(Debug)]
pub struct Working<'p>(&'p Pulse);

impl Pulse {
    /// A resting pulse. `name` is shown to users, for example `text tower of ViT-B-32/openai`.
    pub fn new(name: impl Into<String>) -> Self {
        Self(Arc::new(State { name: name.into(), beats: AtomicU64::new(0), at_work: AtomicBool::new(false) }))
    }

    /// Records progress; the next beat is expected within the bound.
    pub fn beat(&self) {
        self.0.beats.fetch_add(1, Ordering::Relaxed);
        self.0.at_work.store(true, Ordering::Relaxed);
    }

    /// No progress is expected until the next beat.
    pub fn rest(&self) {
        self.0.at_work.store(false, Ordering::Relaxed);
    }

    /// Starts one piece of work that must end within the bound.
    pub fn work(&self) -> Working<'_> {
        self.beat();
        Working(self)
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.rest();
    }
}

/// Whether everything that must make progress does. Time is passed in by the caller of [`Liveness::look`], which runs on a
/// thread that shares nothing with the watched ones.
#[derive(Clone, Debug)]
pub(super) struct Liveness {
    /// Zero: everything counts as alive.
    bound: Duration,
    watched: Arc<Mutex<Vec<Watched>>>,
}

#[derive(Debug)]
struct Watched {
    pulse: Pulse,
    beats: u64,
    /// Time without a beat while there was work.
    still: Duration,
}

impl Liveness {
    pub(super) fn new(bound: Duration) -> Self {
        Self { bound, watched: Arc::default() }
    }

    pub(super) fn watch(&self, pulse: Pulse) {
        let beats = pulse.0.beats.load(Ordering::Relaxed);
        self.lock().push(Watched { pulse, beats, still: Duration::ZERO });
    }

    /// Checks every pulse, `passed` after the last check.
    pub(super) fn look(&self, passed: Duration) {
        for watched in self.lock().iter_mut() {
            let state = &watched.pulse.0;
            let beats = state.beats.load(Ordering::Relaxed);
            let moved = beats != watched.beats || !state.at_work.load(Ordering::Relaxed);
            watched.beats = beats;
            watched.still = if moved { Duration::ZERO } else { watched.still + passed.min(LOOK_MAX) };
        }
    }

    /// # Errors
    /// What has made no progress for the bound, and for how long.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.bound.is_zero() {
            return Ok(());
        }
        let watched = self.lock();
        let hung = watched.iter().filter(|watched| watched.still >= self.bound);
        let hung: Vec<_> =
            hung.map(|w| format!("{} has not moved for {} s", w.pulse.0.name, w.still.as_secs())).collect();
        if hung.is_empty() {
            return Ok(());
        }
        Err(format!("{}; restart the process (limit: telemetry.hung_after_ms)", hung.join(", ")))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Watched>> {
        // Every critical section leaves the list consistent.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn work_that_does_not_end_is_named_and_one_that_rests_or_goes_on_is_not() {
        let liveness = Liveness::new(60 * SECOND);
        let [tower, idle, poller] = ["text tower", "image tower", "poller"].map(Pulse::new);
        for pulse in [&tower, &idle, &poller] {
            liveness.watch(pulse.clone());
        }
        let working = tower.work();
        for _ in 0..60 {
            assert_eq!(liveness.check(), Ok(()));
            poller.beat();
            liveness.look(SECOND);
        }
        // The first check only recorded the first beat.
        assert_eq!(liveness.check(), Ok(()));
        poller.beat();
        liveness.look(SECOND);
        let why = liveness.check().unwrap_err();
        assert!(why.starts_with("text tower has not moved for 60 s; restart the process"), "{why}");
        drop(working);
        liveness.look(SECOND);
        assert_eq!(liveness.check(), Ok(()), "it may move again");
        (0..61).for_each(|_| liveness.look(SECOND));
        let why = liveness.check().unwrap_err();
        assert!(why.contains("poller has not moved for 6"), "{why}");
    }

    #[test]
    fn a_process_that_was_stopped_as_a_whole_was_not_hung_and_zero_is_never() {
        for (bound, looks, is_alive) in [(60 * SECOND, 20, true), (60 * SECOND, 31, false), (Duration::ZERO, 31, true)]
        {
            let liveness = Liveness::new(bound);
            let pulse = Pulse::new("poller");
            liveness.watch(pulse.clone());
            pulse.beat();
            liveness.look(SECOND);
            (0..looks).for_each(|_| liveness.look(3600 * SECOND));
            assert_eq!(liveness.check().is_ok(), is_alive, "{bound:?} {looks}");
        }
    }
}
