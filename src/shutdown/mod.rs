//! Bounded shutdown: the first signal drains, the second forces exit, and the process ends even if something hangs.
//!
//! The bound is the sum of the bounds of all parts: [`stop_max`]. An orchestrator with a longer grace period never has to kill
//! the process.

use std::sync::mpsc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// After the drain: the last commit, and leaving the consumer group.
pub const LEAVE_GROUP_MAX: Duration = Duration::from_secs(15);
/// Then: the embedded store flushes.
pub const STORE_CLOSE_MAX: Duration = Duration::from_secs(10);
/// Then: runs of the towers that are in progress end.
pub const TOWERS_CLOSE_MAX: Duration = Duration::from_secs(5);
/// Last: remaining threads.
pub const THREADS_END_MAX: Duration = Duration::from_secs(1);

/// The longest time from the first signal to the end of the process; `drain` is the time for work in flight
/// (`pipeline.drain_deadline_ms`).
pub fn stop_max(drain: Duration) -> Duration {
    drain + after_drain()
}

fn after_drain() -> Duration {
    LEAVE_GROUP_MAX + STORE_CLOSE_MAX + TOWERS_CLOSE_MAX + THREADS_END_MAX
}

/// A shutdown request. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    force: CancellationToken,
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens for SIGTERM and SIGINT as long as the process runs, on a separate thread, so that a hanging scheduler cannot keep
    /// the process from ending. `overdue` ends the process if it does not end by itself: [`stop_max`] after the first signal (with
    /// this `drain`; `None`: no limit), the same without the drain after the second, and at once at the third.
    pub fn listen(&self, drain: Option<Duration>, overdue: impl FnOnce(&str) + Send + 'static) -> std::io::Result<()> {
        let (this, (listening, heard)) = (self.clone(), mpsc::sync_channel(1));
        let obey = move || {
            let scheduler = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(scheduler) => scheduler,
                Err(error) => return drop(listening.send(Err(error))),
            };
            scheduler.block_on(async move {
                match Signals::new() {
                    Ok(mut signals) => {
                        drop(listening.send(Ok(())));
                        let next = async || signals.next().await;
                        this.obey(next, drain.map(stop_max), after_drain(), overdue).await;
                    }
                    Err(error) => drop(listening.send(Err(error))),
                }
            });
        };
        std::thread::Builder::new().name("signals".into()).spawn(obey)?;
        heard.recv().map_err(std::io::Error::other)?
    }

    /// `most`: bound from the first signal to the end; `least`: from the second.
    async fn obey(
        self,
        mut signal: impl AsyncFnMut(),
        most: Option<Duration>,
        least: Duration,
        overdue: impl FnOnce(&str),
    ) {
        signal().await;
        self.request();
        if !within(most, signal()).await {
            let seconds = most.unwrap_or_default().as_secs();
            return overdue(&format!("it was asked to stop, and did not end within {seconds} s: something hangs"));
        }
        self.request();
        if within(Some(least), signal()).await {
            overdue("stopped by a third signal");
        } else {
            overdue(&format!("stopped by a second signal, and did not end within {} s", least.as_secs()));
        }
    }

    /// The first request drains, the second forces.
    pub fn request(&self) {
        if self.drain.is_cancelled() {
            self.force.cancel();
        }
        self.drain.cancel();
    }

    pub fn is_requested(&self) -> bool {
        self.drain.is_cancelled()
    }

    pub async fn requested(&self) {
        self.drain.cancelled().await;
    }

    pub async fn forced(&self) {
        self.force.cancelled().await;
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!(signal = "SIGTERM", "asked to stop"),
            _ = self.interrupt.recv() => tracing::info!(signal = "SIGINT", "asked to stop"),
        }
    }
}

/// Whether `event` came within `most`; `None`: waits without a limit.
async fn within(most: Option<Duration>, event: impl Future<Output = ()>) -> bool {
    match most {
        Some(most) => tokio::time::timeout(most, event).await.is_ok(),
        None => {
            event.await;
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[tokio::test]
    async fn second_request_forces() {
        let shutdown = Shutdown::new();
        shutdown.request();
        shutdown.requested().await;
        assert!(futures::poll!(Box::pin(shutdown.forced())).is_pending());
        shutdown.request();
        shutdown.forced().await;
    }

    /// The message with which a hanging process is ended after this many signals.
    async fn ended_with(signals: usize, most: Option<Duration>, least: Duration) -> String {
        let (mut left, told) = (signals, RefCell::new(String::new()));
        let signal = async || {
            if left == 0 {
                std::future::pending::<()>().await;
            }
            left -= 1;
        };
        let shutdown = Shutdown::new();
        shutdown.clone().obey(signal, most, least, |why| why.clone_into(&mut told.borrow_mut())).await;
        assert!(shutdown.is_requested());
        assert_eq!(shutdown.force.is_cancelled(), signals > 1);
        told.into_inner()
    }

    #[tokio::test]
    async fn a_process_that_hangs_is_ended_by_its_bound_or_the_third_signal() {
        let (soon, late) = (Duration::from_millis(1), Duration::from_secs(3600));
        assert!(ended_with(1, Some(soon), late).await.contains("did not end within 0 s: something hangs"));
        assert!(ended_with(2, Some(late), soon).await.starts_with("stopped by a second signal, and did not end"));
        assert!(ended_with(2, None, soon).await.starts_with("stopped by a second signal, and did not end"));
        assert_eq!(ended_with(3, None, late).await, "stopped by a third signal");
    }
}
