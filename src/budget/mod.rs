//! A bound on memory: bytes are reserved before they are held, and return when the reservation is dropped.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Reservations are counted in units of this many bytes, so that budgets beyond 4 GiB fit a semaphore's `u32`.
const UNIT_BYTES: u64 = 1024;

#[derive(Clone, Debug)]
pub struct Budget {
    units: Arc<Semaphore>,
    units_max: u32,
}

/// Bytes that are held. Dropping it gives them back.
#[derive(Debug)]
pub struct Reservation {
    _permit: OwnedSemaphorePermit,
}

impl Budget {
    pub fn new(bytes_max: u64) -> Self {
        let units_max = u32::try_from(bytes_max / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        Self { units: Arc::new(Semaphore::new(units_max as usize)), units_max }
    }

    /// Waits until `bytes` are free. A wish for more than the whole budget waits for all of it, so that it is
    /// served alone instead of never.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.units_max);
        let permit = self.units.clone().acquire_many_owned(units).await.expect("a budget's semaphore is never closed");
        Reservation { _permit: permit }
    }

    pub fn bytes_held(&self) -> u64 {
        (u64::from(self.units_max) - self.units.available_permits() as u64) * UNIT_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_until_bytes_come_back() {
        let budget = Budget::new(10 * 1024);
        let first = budget.reserve(8 * 1024).await;
        let mut second = Box::pin(budget.reserve(4 * 1024));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        let _second = second.await;
        assert_eq!(budget.bytes_held(), 4 * 1024);
    }

    /// A large wish is not passed over by small ones for ever, and holds up only those that came after it.
    #[tokio::test]
    async fn nobody_overtakes_who_waits() {
        let budget = Budget::new(10 * 1024);
        let first = budget.reserve(6 * 1024).await;
        let mut large = Box::pin(budget.reserve(8 * 1024));
        assert!(futures::poll!(&mut large).is_pending());
        let mut small = Box::pin(budget.reserve(1024));
        assert!(futures::poll!(&mut small).is_pending());
        drop(first);
        let _large = large.await;
        let _small = small.await;
        assert_eq!(budget.bytes_held(), 9 * 1024);
    }

    #[tokio::test]
    async fn more_than_everything_is_served_alone() {
        let budget = Budget::new(4 * 1024);
        let all = budget.reserve(1 << 40).await;
        assert_eq!(budget.bytes_held(), 4 * 1024);
        drop(all);
        assert_eq!(budget.bytes_held(), 0);
    }
}
