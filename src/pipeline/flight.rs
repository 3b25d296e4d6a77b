//! Where a message in flight is: what is told of one that does not move.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio_util::sync::CancellationToken;

use crate::domain::Stage;

tokio::task_local! {
    static CURRENT: Flight;
}

/// One message between being taken and being settled. Clones are the same flight.
#[derive(Clone, Debug, Default)]
pub struct Flight {
    /// Cancelled when others own the message's partition: what is still in flight must not write any more.
    pub fence: CancellationToken,
    /// 0: no stage yet; otherwise one more than the stage's index in `Stage::ALL`.
    stage: Arc<AtomicU8>,
}

impl Flight {
    pub fn new(fence: CancellationToken) -> Self {
        Self { fence, stage: Arc::default() }
    }

    /// The stage that was entered last; `None` while the message waits for an earlier one of its asset.
    pub fn stage(&self) -> Option<Stage> {
        Stage::ALL.get(usize::from(self.stage.load(Ordering::Relaxed)).checked_sub(1)?).copied()
    }

    fn enter(&self, stage: Stage) {
        let index = Stage::ALL.iter().position(|s| *s == stage).unwrap_or_default();
        self.stage.store(u8::try_from(index + 1).unwrap_or_default(), Ordering::Relaxed);
    }

    /// Runs `work` as this flight's, until it ends or the flight is fenced.
    pub async fn carry<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.fence.run_until_cancelled(CURRENT.scope(self.clone(), work)).await
    }
}

/// Notes that the flight of this task has come to `stage`. Without a flight (in tests) nothing is noted.
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
}
