//! The sessions behind an engine's threads: whether they work, and opening them anew where they do not.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::ClipError;
use super::blame::{Blame, Verdict};
use super::probes::Probes;
use super::tower::Tower;
use crate::domain::Embedding;
use crate::telemetry::{Metrics, Pulse};

/// How often a thread without a session looks at the queue.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Opens the session of one thread again: on the same device, with the same providers, tried once.
pub(super) type Reopen<T> = Arc<dyn Fn(usize) -> Result<T, ClipError> + Send + Sync>;

/// The towers of one engine, each for a thread of its own, and what it takes to keep them working.
pub(super) struct Sessions<T: Tower> {
    pub(super) towers: Vec<T>,
    pub(super) care: CareOf<T>,
}

/// The same for all towers of an engine.
pub(super) struct CareOf<T: Tower> {
    pub(super) probes: Arc<Probes<T::Item>>,
    pub(super) reopen: Reopen<T>,
    /// How long a session is opened anew in vain before it is given up; zero: for ever.
    pub(super) recovery_max: Duration,
}

impl<T: Tower> CareOf<T> {
    pub(super) fn of(&self, place: usize, tower: T, pulse: Pulse, crew: Arc<Crew>) -> Care<T> {
        Care {
            place,
            tower: Some(tower),
            probes: self.probes.clone(),
            reopen: self.reopen.clone(),
            recovery_max: self.recovery_max,
            blame: Blame::new(),
            sick: None,
            pulse,
            crew,
        }
    }
}

/// What the threads of an engine know of each other.
#[derive(Debug)]
pub(super) struct Crew {
    state: Mutex<State>,
    closed: Condvar,
}

#[derive(Debug)]
struct State {
    is_closed: bool,
    /// By thread: why its session does not work.
    sick: Vec<Option<Sick>>,
}

#[derive(Clone, Debug)]
struct Sick {
    error: ClipError,
    is_given_up: bool,
}

impl Crew {
    pub(super) fn new(threads: usize) -> Self {
        let state = State { is_closed: false, sick: vec![None; threads] };
        Self { state: Mutex::new(state), closed: Condvar::new() }
    }

    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.closed.notify_all();
    }

    /// Why no thread's session works any more, where all are given up.
    pub(super) fn given_up(&self) -> Option<String> {
        let state = self.lock();
        let all = state.sick.iter().all(|sick| sick.as_ref().is_some_and(|sick| sick.is_given_up));
        let first = state.sick.first()?.as_ref()?;
        all.then(|| first.error.to_string())
    }

    fn all_sick(&self) -> bool {
        self.lock().sick.iter().all(Option::is_some)
    }

    fn set(&self, place: usize, sick: Option<Sick>) {
        if let Some(slot) = self.lock().sick.get_mut(place) {
            *slot = sick;
        }
    }

    /// Waits; true where the engine was closed meanwhile.
    fn closed_within(&self, wait: Duration) -> bool {
        let waited = self.closed.wait_timeout_while(self.lock(), wait, |state| !state.is_closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_closed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread's session, under care.
pub(super) struct Care<T: Tower> {
    place: usize,
    /// None while there is none that works.
    tower: Option<T>,
    probes: Arc<Probes<T::Item>>,
    reopen: Reopen<T>,
    recovery_max: Duration,
    blame: Blame,
    /// What items are told until the session works again.
    sick: Option<ClipError>,
    pulse: Pulse,
    crew: Arc<Crew>,
}

impl<T: Tower> Care<T> {
    pub(super) fn tower(&self) -> Option<&T> {
        self.tower.as_ref()
    }

    pub(super) fn sick(&self) -> Option<ClipError> {
        self.sick.clone()
    }

    pub(super) fn succeeded(&mut self) {
        self.blame.succeeded();
    }

    /// One run of the tower, unless it is known not to work.
    pub(super) fn run(&mut self, items: &[&T::Item]) -> Result<Vec<Result<Embedding, ClipError>>, ClipError> {
        if let Some(told) = &self.sick {
            return Err(told.clone());
        }
        let _working = self.pulse.work();
        self.tower.as_mut().ok_or(ClipError::Stopped)?.run(items)
    }

    /// A vector of the model's dimension.
    pub(super) fn checked(&self, vector: Embedding) -> Result<Embedding, ClipError> {
        let (found, expected) = (vector.dimension(), self.probes.dimension());
        if found == expected {
            return Ok(vector);
        }
        Err(ClipError::run(format!("the {} tower gave a vector of {found} values, expected {expected}", T::MODALITY)))
    }

    /// An item failed alone: who is to blame. Tries the known inputs.
    pub(super) fn judge(&mut self, digest: u64, error: &ClipError) -> Verdict {
        let proof = {
            let _working = self.pulse.work();
            self.tower.as_mut().map_or(Err(ClipError::Stopped), |tower| self.probes.prove(tower))
        };
        let verdict = self.blame.failed(digest, error, &proof, Instant::now());
        if verdict != Verdict::Item {
            let what = match &proof {
                Err(_) => "so do inputs that it could do before".to_owned(),
                Ok(()) if error.is_of_memory() => "no input takes more than another".to_owned(),
                Ok(()) => "so did several different ones in a row".to_owned(),
            };
            self.fall_sick(ClipError::session(format!("{error}; {what}, so the session is opened anew")));
            self.give_up_in_time();
        }
        verdict
    }

    fn fall_sick(&mut self, error: ClipError) {
        self.crew.set(self.place, Some(Sick { error: error.clone(), is_given_up: false }));
        self.sick = Some(error);
    }

    /// Opens the session anew where it does not work, as often as it takes; `tell` those that wait meanwhile, where no
    /// other thread has a session for them. False: the engine is closed.
    pub(super) fn recover(&mut self, model: &str, metrics: &Metrics, tell: impl Fn(&ClipError)) -> bool {
        while let Some(error) = self.sick.clone() {
            let wait = self.blame.reopening();
            // Whoever holds the messages says once a minute that it lasts.
            let is_first = wait.is_zero();
            if is_first {
                tracing::warn!(model, modality = %T::MODALITY, session = self.place, %error, "a session does not work");
            }
            let reopen_at = Instant::now() + wait;
            while let Some(left) = reopen_at.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                if self.crew.all_sick() {
                    tell(&error);
                }
                if self.crew.closed_within(left.min(LOOK_INTERVAL)) {
                    return false;
                }
            }
            // Its memory goes first: there may not be enough for two.
            self.tower = None;
            match self.reopened() {
                Ok(tower) => {
                    self.tower = Some(tower);
                    self.sick = None;
                    metrics.reopened(model, T::MODALITY, true);
                    self.crew.set(self.place, None);
                    if is_first {
                        tracing::info!(model, modality = %T::MODALITY, session = self.place, "the session was opened anew");
                    }
                }
                Err(why) => {
                    metrics.reopened(model, T::MODALITY, false);
                    self.blame.session_failed(Instant::now());
                    let message = format!("the {} tower's session cannot be opened anew: {why}", T::MODALITY);
                    self.fall_sick(ClipError::session(message));
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

    /// It goes on trying all the same: whoever asks may not want to end.
    fn give_up_in_time(&mut self) {
        let lasted = self.blame.lasted(Instant::now());
        if self.recovery_max.is_zero() || lasted < self.recovery_max {
            return;
        }
        if let Some(why) = &self.sick {
            let error = ClipError::session(format!("for {} s: {why}", lasted.as_secs()));
            self.crew.set(self.place, Some(Sick { error, is_given_up: true }));
        }
    }
}
