//! Stopping in order: the first signal drains with a deadline, the second forces exit.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

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

    /// Listens for SIGTERM and SIGINT for as long as the process lives.
    pub fn listen(&self) -> std::io::Result<()> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => tracing::info!(signal = "SIGTERM", "asked to stop"),
                    _ = interrupt.recv() => tracing::info!(signal = "SIGINT", "asked to stop"),
                }
                this.request();
            }
        });
        Ok(())
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

#[cfg(test)]
mod tests {
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
}
