//! Waiting for threads to end, for so long and no longer: joining one that hangs in a native call would hang as well.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Threads that are to end.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends(Arc<State>);

#[derive(Debug, Default)]
struct State {
    running: Mutex<usize>,
    ended: Condvar,
}

/// Held by a thread; dropped at its end.
#[derive(Debug)]
pub(super) struct End(Ends);

impl Ends {
    pub(super) fn begin(&self) -> End {
        *self.0.running.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        End(self.clone())
    }

    /// Whether all have ended, after `most` at the latest.
    pub(super) fn wait(&self, most: Duration) -> bool {
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.ended.wait_timeout_while(running, most, |running| *running > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }
}

impl Drop for End {
    fn drop(&mut self) {
        *self.0.0.running.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.0.ended.notify_all();
    }
}
