//! A tower that is opened when it is first needed: a worker that embeds only texts never holds the image tower, and the other
//! way round.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::ClipError;
use crate::domain::Explain as _;

/// How long items are answered with a failure before the next attempt.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);

type Open<S> = Arc<dyn Fn() -> Result<S, ClipError> + Send + Sync>;

pub(super) struct Slot<S> {
    opened: OnceCell<S>,
    open: Open<S>,
    /// How long attempts may fail before the tower is given up; zero: forever.
    recovery_max: Duration,
    /// Whether the tower has ever been opened: then its files are good, and a failure is the device's.
    is_proven: AtomicBool,
    failed: Mutex<Option<Failed>>,
}

/// Failed attempts to open the tower, none of which was followed by a success.
#[derive(Clone)]
struct Failed {
    first: Instant,
    last: Instant,
    error: ClipError,
}

impl<S: Send + Sync + 'static> Slot<S> {
    /// `open` may block.
    pub(super) fn new(recovery_max: Duration, open: impl Fn() -> Result<S, ClipError> + Send + Sync + 'static) -> Self {
        let (is_proven, failed) = (AtomicBool::new(false), Mutex::default());
        Self { opened: OnceCell::new(), open: Arc::new(open), recovery_max, is_proven, failed }
    }

    /// `None`: the tower has not been needed yet.
    pub(super) fn opened(&self) -> Option<&S> {
        self.opened.get()
    }

    /// Opens the tower, unless it is open.
    pub(super) async fn get(&self) -> Result<&S, ClipError> {
        let open = async || {
            let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(Failed { error, .. }) = failed.filter(|failed| failed.last.elapsed() < REOPEN_INTERVAL) {
                return Err(error);
            }
            let open = self.open.clone();
            let opened = tokio::task::spawn_blocking(move || open()).await;
            self.noted(opened.unwrap_or_else(|_| Err(ClipError::stopped())))
        };
        self.opened.get_or_try_init(open).await
    }

    /// The same, blocking.
    pub(super) fn get_now(&self) -> Result<&S, ClipError> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        // If another caller was faster, its tower stays and this one is closed.
        drop(self.opened.set((self.open)()?));
        self.opened.get().ok_or_else(ClipError::stopped)
    }

    /// A tower of the caller's own, which is closed when it is dropped. May be open beside the slot's.
    pub(super) async fn open_apart(&self) -> Result<S, ClipError> {
        let open = self.open.clone();
        let opened = tokio::task::spawn_blocking(move || open()).await.unwrap_or_else(|_| Err(ClipError::stopped()))?;
        self.is_proven.store(true, Ordering::Release);
        Ok(opened)
    }

    /// Tests whether the tower can be opened: opens it and closes it again, unless it is open.
    pub(super) fn prove(&self) -> Result<(), ClipError> {
        if self.opened.get().is_none() {
            drop((self.open)()?);
            self.is_proven.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Why the tower will not be opened: attempts have failed for `recovery_max`, or its files are unusable and it never was open.
    pub(super) fn given_up(&self) -> Option<String> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let Failed { first, last, error } = failed.as_ref()?;
        let is_over = !self.recovery_max.is_zero() && last.duration_since(*first) >= self.recovery_max;
        let is_of_files = matches!(error, ClipError::Model(_)) && !self.is_proven.load(Ordering::Acquire);
        (is_of_files || is_over).then(|| error.explain().message)
    }

    fn noted(&self, opened: Result<S, ClipError>) -> Result<S, ClipError> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        *failed = opened.as_ref().err().map(|error| {
            let first = failed.as_ref().map_or(now, |failed| failed.first);
            Failed { first, last: now, error: error.clone() }
        });
        opened
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::domain::{ClipReason, Fault, ModelReason};

    /// Fails the first `failures` times, and then gives the number of attempts.
    fn slot(recovery_max: Duration, failures: u32, error: ClipError) -> (Slot<u32>, Arc<AtomicU32>) {
        let tries = Arc::new(AtomicU32::new(0));
        let counted = tries.clone();
        let open = move || {
            let tries = counted.fetch_add(1, Ordering::AcqRel) + 1;
            if tries <= failures { Err(error.clone()) } else { Ok(tries) }
        };
        (Slot::new(recovery_max, open), tries)
    }

    fn no_memory() -> ClipError {
        Fault::new(ClipReason::OnnxruntimeFailed, "no memory").into()
    }

    #[tokio::test]
    async fn it_is_opened_once_and_only_when_needed() {
        let (slot, tries) = slot(Duration::ZERO, 0, no_memory());
        assert_eq!((slot.opened(), tries.load(Ordering::Acquire)), (None, 0));
        slot.prove().unwrap();
        assert_eq!((slot.opened(), tries.load(Ordering::Acquire)), (None, 1), "tested and closed again");
        let (one, other) = tokio::join!(slot.get(), slot.get());
        assert_eq!((one.unwrap(), other.unwrap(), tries.load(Ordering::Acquire)), (&2, &2, 2));
        assert_eq!(slot.get_now().unwrap(), &2);
        assert_eq!((slot.open_apart().await.unwrap(), slot.get().await.unwrap()), (3, &2), "one of the caller's own");
    }

    #[tokio::test]
    async fn a_failure_is_tried_again_later_and_given_up_in_time() {
        let (mut slot, tries) = slot(Duration::from_secs(60), 2, no_memory());
        assert_eq!(slot.get().await.unwrap_err(), no_memory());
        assert_eq!(slot.get().await.unwrap_err(), no_memory());
        assert_eq!((slot.given_up(), tries.load(Ordering::Acquire)), (None, 1), "not at once");
        let pass = |failed: &mut Option<Failed>, time: Duration| {
            let failed = failed.as_mut().unwrap();
            (failed.first, failed.last) = (failed.first - time, failed.last - time);
        };
        pass(slot.failed.get_mut().unwrap(), Duration::from_secs(61));
        assert_eq!(slot.get().await.unwrap_err(), no_memory());
        assert_eq!(slot.given_up().as_deref(), Some("no memory"));
        pass(slot.failed.get_mut().unwrap(), Duration::from_secs(2));
        assert_eq!(slot.get().await.unwrap(), &3);
        assert_eq!(slot.given_up(), None);
    }

    #[tokio::test]
    async fn unusable_files_are_given_up_at_once() {
        let error = ClipError::from(Fault::new(ModelReason::GoldenMismatch, "another model"));
        let (slot, _) = slot(Duration::from_secs(60), 1, error.clone());
        assert_eq!(slot.get().await.unwrap_err(), error);
        assert_eq!(slot.given_up().as_deref(), Some("another model"));
    }

    #[tokio::test]
    async fn a_tower_that_was_good_before_fails_for_another_reason_than_its_files() {
        let is_broken = Arc::new(AtomicBool::new(false));
        let broken = is_broken.clone();
        let slot = Slot::new(Duration::from_secs(60), move || match broken.load(Ordering::Acquire) {
            true => Err(Fault::new(ModelReason::Unusable, "the trial run failed").into()),
            false => Ok(()),
        });
        slot.prove().unwrap();
        is_broken.store(true, Ordering::Release);
        slot.get().await.unwrap_err();
        assert_eq!(slot.given_up(), None);
    }
}
