//! Counts of a run, shared with those who show them while it runs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Counts for progress bars and summaries.
#[derive(Debug, Default)]
pub struct Progress {
    settled: AtomicU64,
    dead_lettered: AtomicU64,
    first_taken: OnceLock<Instant>,
    last_settled: Mutex<Option<Instant>>,
}

impl Progress {
    pub(super) fn take(&self) {
        self.first_taken.get_or_init(Instant::now);
    }

    pub(super) fn settle(&self, dead_lettered: bool) {
        self.dead_lettered.fetch_add(u64::from(dead_lettered), Ordering::Relaxed);
        self.settled.fetch_add(1, Ordering::Relaxed);
        *self.last_settled.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// From the first message taken to the last one settled, so that a rate leaves out the wait for partitions.
    pub fn elapsed(&self) -> Duration {
        let last = *self.last_settled.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.first_taken.get(), last) {
            (Some(first), Some(last)) => last.duration_since(*first),
            _ => Duration::ZERO,
        }
    }

    /// Settled messages, dead letters included.
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    pub fn dead_lettered(&self) -> u64 {
        self.dead_lettered.load(Ordering::Relaxed)
    }
}

/// Counts of a run that did not end with an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub settled: u64,
    pub dead_lettered: u64,
    /// Messages that were still in flight at the drain deadline. They are not committed and will be delivered again.
    pub abandoned: u64,
}
