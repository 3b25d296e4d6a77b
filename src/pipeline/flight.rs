//! Where a message in flight is, so that one that does not move can be reported.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::domain::Stage;

tokio::task_local! {
    static CURRENT: Flight;
}

/// One message, or one of its requests, from taken to settled. Clones are the same flight.
#[derive(Clone, Debug, Default)]
pub struct Flight {
    /// Cancelled when the message's assignment ends: what is still in flight must not write any more.
    pub fence: CancellationToken,
    /// 0: no stage yet; otherwise one more than the stage's index in `Stage::ALL`.
    stage: Arc<AtomicU8>,
    turn: Arc<Mutex<Option<Turn>>>,
}

/// Permission to fetch a picture from a media host. It is returned as soon as the message is past its fetch.
#[derive(Debug)]
pub struct Turn {
    pub host: Arc<str>,
    /// Returns turns while the message goes on. At most one entry per running message, so it needs no bound.
    pub back: UnboundedSender<Arc<str>>,
}

impl Flight {
    pub fn new(fence: CancellationToken) -> Self {
        Self { fence, ..Self::default() }
    }

    /// A flight for one request of the message: same fence and stage, its own turn.
    pub fn part(&self) -> Self {
        Self { turn: Arc::default(), ..self.clone() }
    }

    /// Before the request runs: it has this turn now.
    pub fn give(&self, turn: Turn) {
        *self.lock() = Some(turn);
    }

    /// Takes the turn back, if the flight still has one.
    pub fn take_turn(&self) -> Option<Turn> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Turn>> {
        // A poisoned lock is safe to use: every change is one assignment.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stage last entered by any of its requests. `None`: not started.
    pub fn stage(&self) -> Option<Stage> {
        Stage::ALL.get(usize::from(self.stage.load(Ordering::Relaxed)).checked_sub(1)?).copied()
    }

    fn enter(&self, stage: Stage) {
        let index = Stage::ALL.iter().position(|s| *s == stage).unwrap_or_default();
        self.stage.store(u8::try_from(index + 1).unwrap_or_default(), Ordering::Relaxed);
        if !matches!(stage, Stage::Decode | Stage::Recall | Stage::Fetch)
            && let Some(Turn { host, back }) = self.take_turn()
        {
            // The receiver is gone once the dispatcher has ended.
            let _ = back.send(host);
        }
    }

    /// Runs `work` as part of this flight until it ends or the flight is fenced.
    pub async fn carry<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.fence.run_until_cancelled(CURRENT.scope(self.clone(), work)).await
    }
}

/// Notes that the current flight has reached `stage`. Does nothing without a flight (in tests).
pub fn enter(stage: Stage) {
    let _ = CURRENT.try_with(|flight| flight.enter(stage));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_stage_is_seen_from_outside_and_a_fence_ends_the_work() {
        let flight = Flight::default();
        assert_eq!(flight.stage(), None);
        for stage in Stage::ALL {
            flight.carry(async { enter(stage) }).await.unwrap();
            assert_eq!(flight.stage(), Some(stage));
        }
        flight.fence.cancel();
        assert!(flight.carry(std::future::pending::<()>()).await.is_none());
    }

    #[tokio::test]
    async fn a_request_has_a_turn_of_its_own_and_the_stage_of_its_message() {
        let (back, mut gone) = tokio::sync::mpsc::unbounded_channel();
        let message = Flight::default();
        let (one, other) = (message.part(), message.part());
        one.give(Turn { host: "h".into(), back });
        other.carry(async { enter(Stage::Embed) }).await.unwrap();
        assert_eq!(message.stage(), Some(Stage::Embed));
        assert!(gone.try_recv().is_err() && one.take_turn().is_some());
        message.fence.cancel();
        assert!(one.carry(std::future::pending::<()>()).await.is_none());
    }

    #[tokio::test]
    async fn a_turn_goes_back_once_the_fetch_is_over() {
        let (back, mut gone) = tokio::sync::mpsc::unbounded_channel();
        let flight = Flight::default();
        flight.give(Turn { host: "h".into(), back: back.clone() });
        for stage in [Stage::Recall, Stage::Fetch] {
            flight.carry(async { enter(stage) }).await.unwrap();
            assert!(gone.try_recv().is_err());
        }
        flight.carry(async { enter(Stage::Embed) }).await.unwrap();
        assert_eq!(gone.try_recv().as_deref(), Ok("h"));
        flight.carry(async { enter(Stage::Settle) }).await.unwrap();
        assert!(gone.try_recv().is_err() && flight.take_turn().is_none(), "once");
    }
}
