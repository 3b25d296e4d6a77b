//! The deadline of a fetch, which does not count waits for our own limits.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::MediaError;
use crate::domain::MediaReason;

/// One deadline for all waits of a fetch for other systems. Waiting for our own limits (memory, connections per host)
/// moves it: a fetch must not fail because this process is busy.
#[derive(Debug)]
pub(super) struct Deadline {
    at: Instant,
    total: Duration,
}

impl Deadline {
    pub(super) fn after(total: Duration) -> Self {
        Self { at: Instant::now() + total, total }
    }

    /// # Errors
    /// Transient `fetch_timeout`; `url` is redacted, `doing` names the current step.
    pub(super) async fn run<T>(&self, url: &str, doing: &str, work: impl Future<Output = T>) -> Result<T, MediaError> {
        timeout_at(self.at, work).await.map_err(|_| {
            let message = format!("{url}: not fetched within {} ms (while {doing})", self.total.as_millis());
            MediaError::new(MediaReason::FetchTimeout, message)
        })
    }

    /// Waits for our own limits without using up the deadline.
    pub(super) async fn paused<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let since = Instant::now();
        let value = wait.await;
        self.at += since.elapsed();
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Class;

    #[tokio::test]
    async fn own_waits_do_not_count() {
        let mut deadline = Deadline::after(Duration::ZERO);
        let (before, wait) = (deadline.at, Duration::from_millis(5));
        deadline.paused(tokio::time::sleep(wait)).await;
        assert!(deadline.at >= before + wait);
    }

    #[tokio::test]
    async fn says_what_was_under_way() {
        let deadline = Deadline::after(Duration::from_millis(1));
        let error = deadline.run("u", "reading", std::future::pending::<()>()).await.unwrap_err();
        assert_eq!((error.class, error.reason), (Class::Transient, MediaReason::FetchTimeout));
        assert!(error.to_string().contains("1 ms (while reading)"), "{}", error.message);
    }
}
