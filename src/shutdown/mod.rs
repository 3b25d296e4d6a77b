//! Stopping in order, within a bound: the first signal drains, the second forces exit, and whatever hangs, the process ends.
//!
//! The bound is a sum whose parts are each kept where they belong: [`stop_max`]. An orchestrator that waits longer than
//! that before it kills never has to.

use std::sync::mpsc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// After the drain: the last commit, and leaving the consumer group.
pub const LEAVE_GROUP_MAX: Duration = Duration::from_secs(15);
/// Then: the embedded store writes everything down.
pub const STORE_CLOSE_MAX: Duration = Duration::from_secs(10);
/// Then: the towers' runs under way end.
pub const TOWERS_CLOSE_MAX: Duration = Duration::from_secs(5);
/// Last: threads that nobody waits for any more.
pub const THREADS_END_MAX: Duration = Duration::from_secs(1);

/// The longest time from the first signal to the end of the process, where work in flight may take `drain`
/// (`pipeline.drain_deadline_ms`).
pub fn stop_max(drain: Duration) -> Duration {
    drain + after_drain()
}

fn after_drain() -> Duration {
    LEAVE_GROUP_MAX + STORE_CLOSE_MAX + TOWERS_CLOSE_MAX + THREADS_END_MAX
}

/// Cloned into whatever must notice that the process is asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    force: CancellationToken,
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens for SIGTERM and SIGINT for as long as the process lives, on a thread of its own: a scheduler that stands still
    /// does not keep it from ending. `overdue` ends the process where it does not end by itself: [`stop_max`] after the first
    /// signal (`drain`; none: however long it takes), what remains without a drain after the second, at the third.
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

    /// `most` from the first signal to the end, `least` from the second.
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

/// Whether `event` came within `most`; none: it is waited for however long it takes.
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

    /// What a process that does not end by itself is ended with, after so many signals.
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
