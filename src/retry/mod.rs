//! Waiting times between attempts: exponential backoff with full jitter
//! (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

mod retry_after;

use std::time::Duration;

pub use retry_after::retry_after;

/// One sequence of waits. `next` grows until `cap`.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempt: u32,
}

impl Backoff {
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, attempt: 0 }
    }

    /// Number of calls of `next_wait` so far.
    pub fn attempts(&self) -> u32 {
        self.attempt
    }

    /// How long to wait before the next attempt: at least what the other side requested (`Retry-After`), but never beyond the cap,
    /// so that a hostile header cannot block a message.
    pub fn next_wait(&mut self, retry_after: Option<Duration>) -> Duration {
        let ceiling = self.base.saturating_mul(1u32.checked_shl(self.attempt).unwrap_or(u32::MAX)).min(self.cap);
        self.attempt = self.attempt.saturating_add(1);
        let jittered = ceiling.mul_f64(0.5 + 0.5 * fastrand::f64());
        jittered.max(retry_after.unwrap_or_default()).min(self.cap)
    }

    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_cap_and_honours_retry_after() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        assert!(backoff.next_wait(None) <= Duration::from_millis(100));
        assert_eq!(backoff.next_wait(Some(Duration::from_secs(1))), Duration::from_secs(1));
        for _ in 0..100 {
            assert!(backoff.next_wait(Some(Duration::from_secs(3600))) <= Duration::from_secs(2));
        }
        assert_eq!(backoff.attempts(), 102);
    }
}
