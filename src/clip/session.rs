//! The sessions of an engine's threads: whether they work, and how broken ones are reopened.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ClipError;
use super::blame::{Blame, Verdict};
use super::probes::Probes;
use super::tower::Tower;
use crate::domain::{ClipReason, Embedding, Explain as _, Fault};
use crate::telemetry::labels::Reopening;
use crate::telemetry::{Metrics, Pulse};

/// How often a thread without a session checks the queue.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Reopens the session of one thread: same device, same providers, tested once.
pub(super) type Reopen<T> = Arc<dyn Fn(usize) -> Result<T, ClipError> + Send + Sync>;

/// The towers of one engine, one per thread, and how they are recovered.
pub(super) struct Sessions<T: Tower> {
    pub(super) towers: Vec<T>,
    pub(super) recovery: Recovery<T>,
}

/// How sessions are tested and reopened; the same for all towers of an engine.
pub(super) struct Recovery<T: Tower> {
    pub(super) probes: Arc<Probes<T::Item>>,
    pub(super) reopen: Reopen<T>,
    /// How long reopening may fail before the session is given up. Zero: never given up.
    pub(super) recovery_max: Duration,
}

impl<T: Tower> Recovery<T> {
    pub(super) fn supervise(&self, place: usize, tower: T, pulse: Pulse, shared: Arc<Shared>) -> Supervised<T> {
        Supervised {
            place,
            tower: Some(tower),
            probes: self.probes.clone(),
            reopen: self.reopen.clone(),
            recovery_max: self.recovery_max,
            blame: Blame::new(),
            failure: None,
            pulse,
            shared,
        }
    }
}

/// State that the threads of an engine share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    closed: Condvar,
}

#[derive(Debug)]
struct State {
    is_closed: bool,
    /// By thread: why its session does not work.
    broken: Vec<Option<Broken>>,
}

#[derive(Clone, Debug)]
struct Broken {
    error: ClipError,
    is_given_up: bool,
}

impl Shared {
    pub(super) fn new(threads: usize) -> Self {
        let state = State { is_closed: false, broken: vec![None; threads] };
        Self { state: Mutex::new(state), closed: Condvar::new() }
    }

    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.closed.notify_all();
    }

    /// Why no session works any more, if all are given up.
    pub(super) fn given_up(&self) -> Option<String> {
        let state = self.lock();
        let all = state.broken.iter().all(|broken| broken.as_ref().is_some_and(|broken| broken.is_given_up));
        let first = state.broken.first()?.as_ref()?;
        all.then(|| first.error.explain().message)
    }

    fn all_broken(&self) -> bool {
        self.lock().broken.iter().all(Option::is_some)
    }

    fn set(&self, place: usize, broken: Option<Broken>) {
        if let Some(slot) = self.lock().broken.get_mut(place) {
            *slot = broken;
        }
    }

    /// Waits. `true`: the engine was closed meanwhile.
    fn closed_within(&self, wait: Duration) -> bool {
        let waited = self.closed.wait_timeout_while(self.lock(), wait, |state| !state.is_closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock is safe to use: every critical section leaves the state consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread's session, which is reopened when it breaks.
pub(super) struct Supervised<T: Tower> {
    place: usize,
    /// `None` while no session works.
    tower: Option<T>,
    probes: Arc<Probes<T::Item>>,
    reopen: Reopen<T>,
    recovery_max: Duration,
    blame: Blame,
    /// The answer to every item until the session works again.
    failure: Option<ClipError>,
    pulse: Pulse,
    shared: Arc<Shared>,
}

impl<T: Tower> Supervised<T> {
    pub(super) fn tower(&self) -> Option<&T> {
        self.tower.as_ref()
    }

    /// Why the session does not work; `None` if it does.
    pub(super) fn failure(&self) -> Option<ClipError> {
        self.failure.clone()
    }

    pub(super) fn succeeded(&mut self) {
        self.blame.succeeded();
    }

    /// One run of the tower, unless the session is known to be broken.
    pub(super) fn run(&mut self, items: &[&T::Item]) -> Result<Vec<Result<Embedding, ClipError>>, ClipError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let _working = self.pulse.work();
        self.tower.as_mut().ok_or_else(ClipError::stopped)?.run(items)
    }

    /// Checks that the vector has the model's dimension.
    pub(super) fn checked(&self, vector: Embedding) -> Result<Embedding, ClipError> {
        let (found, expected) = (vector.dimension(), self.probes.dimension());
        if found == expected {
            return Ok(vector);
        }
        Err(ClipError::run(format!("the {} tower gave a vector of {found} values, expected {expected}", T::MODALITY)))
    }

    /// Decides who is to blame for an item that failed alone. Runs the known inputs.
    pub(super) fn judge(&mut self, digest: u64, error: &ClipError) -> Verdict {
        let proof = {
            let _working = self.pulse.work();
            self.tower.as_mut().map_or_else(|| Err(ClipError::stopped()), |tower| self.probes.prove(tower))
        };
        let verdict = self.blame.failed(digest, error, &proof, Instant::now());
        if verdict != Verdict::Item {
            let what = match &proof {
                Err(_) => "inputs that are known to be good fail, too",
                Ok(()) if error.is_of_memory() => "no input takes more memory than another",
                Ok(()) => "several different items in a row failed",
            };
            self.mark_broken(ClipError::session(format!("{error}; {what}, so the session is opened anew")));
            self.give_up_in_time();
        }
        verdict
    }

    fn mark_broken(&mut self, error: ClipError) {
        self.shared.set(self.place, Some(Broken { error: error.clone(), is_given_up: false }));
        self.failure = Some(error);
    }

    /// Reopens a broken session until it works. Meanwhile, if no other thread has a session either, `answer_waiting`
    /// answers the items in the queue. `false`: the engine is closed.
    pub(super) fn recover(&mut self, model: &str, metrics: &Metrics, answer_waiting: impl Fn(&ClipError)) -> bool {
        while let Some(error) = self.failure.clone() {
            let wait = self.blame.reopening();
            // Log once only: the pipeline reports a lasting outage once a minute.
            let is_first = wait.is_zero();
            if is_first {
                tracing::warn!(model, modality = %T::MODALITY, session = self.place, %error, "a session does not work");
            }
            let reopen_at = Instant::now() + wait;
            while let Some(left) = reopen_at.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                if self.shared.all_broken() {
                    answer_waiting(&error);
                }
                if self.shared.closed_within(left.min(LOOK_INTERVAL)) {
                    return false;
                }
            }
            // Free the old session's memory first: there may not be enough for two.
            self.tower = None;
            match self.reopened() {
                Ok(tower) => {
                    self.tower = Some(tower);
                    self.failure = None;
                    metrics.reopened(model, T::MODALITY, Reopening::Succeeded);
                    self.shared.set(self.place, None);
                    if is_first {
                        tracing::info!(model, modality = %T::MODALITY, session = self.place, "the session was opened anew");
                    }
                }
                Err(why) => {
                    metrics.reopened(model, T::MODALITY, Reopening::Failed);
                    self.blame.session_failed(Instant::now());
                    let found =
                        why.explain().about(format_args!("the {} tower's session cannot be opened anew", T::MODALITY));
                    self.mark_broken(Fault::found(ClipReason::SessionFailed, found).into());
                    self.give_up_in_time();
                }
            }
        }
        true
    }

    fn reopened(&self) -> Result<T, ClipError> {
        let _working = self.pulse.work();
        let mut tower = (self.reopen)(self.place)?;
        self.probes.prove(&mut tower)?;
        Ok(tower)
    }

    /// Gives up after `recovery_max`. The thread still retries: an embedder without a worker has no process to end.
    fn give_up_in_time(&mut self) {
        let lasted = self.blame.lasted(Instant::now());
        if self.recovery_max.is_zero() || lasted < self.recovery_max {
            return;
        }
        if let Some(why) = &self.failure {
            let found = why.explain().about(format_args!("for {} s", lasted.as_secs()));
            let error = Fault::found(ClipReason::SessionFailed, found).into();
            self.shared.set(self.place, Some(Broken { error, is_given_up: true }));
        }
    }
}
