//! Waits for threads to end, up to a deadline. Joining a thread that hangs in a native call would hang as well.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Threads that are counted while they run.
#[derive(Clone, Debug, Default)]
pub(super) struct RunningThreads(Arc<State>);

#[derive(Debug, Default)]
struct State {
    running: Mutex<usize>,
    ended: Condvar,
}

/// Held by a thread until it ends.
#[derive(Debug)]
pub(super) struct RunningThread(RunningThreads);

impl RunningThreads {
    pub(super) fn begin(&self) -> RunningThread {
        *self.0.running.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        RunningThread(self.clone())
    }

    /// Whether all have ended within `wait_max`.
    pub(super) fn wait_for_end(&self, wait_max: Duration) -> bool {
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.ended.wait_timeout_while(running, wait_max, |running| *running > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }
}

impl Drop for RunningThread {
    fn drop(&mut self) {
        *self.0.0.running.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.0.ended.notify_all();
    }
}
