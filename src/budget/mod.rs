//! A memory budget: bytes are reserved before they are used, and released when the reservation is dropped.
//!
//! The final size is not known at the start, so a reservation grows. Several growing reservations that fill the budget would
//! deadlock. Therefore a part is kept free ([`Budget::keep_for_one`]), into which only one of them at a time may grow until it is
//! complete. Also, the incomplete reservations of one owner (a host) are limited to a share, so that a slow owner cannot fill
//! the budget.

mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use queue::{Queue, Request};
use tokio::sync::oneshot;

/// Share of the budget for the incomplete reservations of one owner together; a single one may have more.
const OWNER_SHARE: u64 = 4;

/// Clones share the budget.
#[derive(Clone, Debug)]
pub struct Budget {
    queue: Arc<Mutex<Queue>>,
}

/// Reserved bytes. Dropping it releases them.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    id: u64,
    owner: Option<Arc<str>>,
    bytes: u64,
}

impl Budget {
    pub fn new(bytes_max: u64) -> Self {
        Self { queue: Arc::new(Mutex::new(Queue::new(bytes_max.max(1), OWNER_SHARE))) }
    }

    /// Keeps `bytes` (at most half of the budget), the largest size of one reservation, free for one growing reservation at a time
    /// when the rest is used.
    pub fn keep_for_one(&self, bytes: u64) {
        self.lock().keep_for_one(bytes);
    }

    /// Waits until `bytes` are free. A request for more than the whole budget waits for all of it, and is then served alone.
    /// Cancel-safe.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        let mut reservation = self.begin(None);
        reservation.grow_to(bytes).await;
        reservation.complete();
        reservation
    }

    /// An empty reservation within `owner`'s share.
    pub fn begin(&self, owner: Option<&str>) -> Reservation {
        Reservation { budget: self.clone(), id: self.lock().new_id(), owner: owner.map(Into::into), bytes: 0 }
    }

    pub fn bytes_held(&self) -> u64 {
        self.lock().bytes_held()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic leaves the queue consistent: nothing in a critical section can fail half way.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// Waits until it holds `bytes`. Cancel-safe.
    pub async fn grow_to(&mut self, bytes: u64) {
        let (granted, grant) = oneshot::channel();
        let more = {
            let mut queue = self.budget.lock();
            let more = bytes.min(queue.bytes_max()).saturating_sub(self.bytes);
            if more == 0 {
                return;
            }
            let begins = self.bytes == 0;
            queue.ask(Request { id: self.id, owner: self.owner.clone(), more, begins, granted });
            more
        };
        // If this future is dropped, the request is withdrawn.
        let mut waiting = Waiting { reservation: self, more, over: false };
        // The sender is dropped only with the queue, which this reservation keeps alive.
        let _ = grant.await;
        waiting.over = true;
        waiting.reservation.bytes += more;
    }

    /// Whether another request waits for memory that this reservation holds a part of.
    pub fn is_blocking_others(&self) -> bool {
        self.budget.lock().is_short(self.owner.as_deref())
    }

    /// Marks it as complete: it no longer grows, and no longer counts against its owner's share.
    pub fn complete(&mut self) {
        let owner = self.owner.take();
        self.budget.lock().complete(self.id, owner.as_deref(), self.bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.complete();
        self.budget.lock().give_back(self.bytes);
    }
}

struct Waiting<'a> {
    reservation: &'a mut Reservation,
    more: u64,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let Reservation { budget, id, bytes, .. } = &mut *self.reservation;
        // Granted in the meantime: it is released with the rest.
        if !budget.lock().withdraw(*id) {
            *bytes += self.more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1024;

    #[tokio::test]
    async fn waits_until_bytes_come_back() {
        let budget = Budget::new(10 * KIB);
        let first = budget.reserve(8 * KIB).await;
        let mut second = Box::pin(budget.reserve(4 * KIB));
        assert!(futures::poll!(&mut second).is_pending());
        assert!(first.is_blocking_others());
        drop(first);
        let second = second.await;
        assert_eq!(budget.bytes_held(), 4 * KIB);
        assert!(!second.is_blocking_others());
    }

    /// A large request is not starved by small ones, and delays only later ones.
    #[tokio::test]
    async fn waits_end_in_order() {
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
        let budget = Budget::new(4 * KIB);
        let all = budget.reserve(1 << 40).await;
        assert_eq!(budget.bytes_held(), 4 * KIB);
        drop(all);
        assert_eq!(budget.bytes_held(), 0);
    }

    #[tokio::test]
    async fn a_cancelled_wait_takes_nothing_and_does_not_delay_others() {
        let budget = Budget::new(10 * KIB);
        let first = budget.reserve(8 * KIB).await;
        let mut large = Box::pin(budget.reserve(9 * KIB));
        let mut small = Box::pin(budget.reserve(KIB));
        assert!(futures::poll!(&mut large).is_pending());
        assert!(futures::poll!(&mut small).is_pending(), "in the order in which they came");
        drop(large);
        assert!(futures::poll!(&mut small).is_ready());
        let mut granted = Box::pin(budget.reserve(5 * KIB));
        assert!(futures::poll!(&mut granted).is_pending());
        drop(first);
        // It was granted, but not received.
        drop(granted);
        assert_eq!(budget.bytes_held(), 0, "the small one was dropped when it was ready");
    }

    /// Each could complete with what the others hold.
    #[tokio::test]
    async fn what_grows_never_waits_for_each_other_for_ever() {
        let budget = Budget::new(100 * KIB);
        budget.keep_for_one(30 * KIB);
        let mut all: Vec<Reservation> = (0..10).map(|n| budget.begin(Some(&format!("h{n}")))).collect();
        for reservation in &mut all {
            reservation.grow_to(7 * KIB).await;
        }
        // None completes while the others wait.
        let finish = all.into_iter().map(async |mut reservation: Reservation| {
            for size in [10, 20, 30] {
                reservation.grow_to(size * KIB).await;
                tokio::task::yield_now().await;
            }
            reservation.complete();
        });
        let most = async {
            let mut most = 0;
            for _ in 0..1000 {
                most = most.max(budget.bytes_held());
                tokio::task::yield_now().await;
            }
            most
        };
        let done = futures::future::join(futures::future::join_all(finish), most);
        let (_, most) = tokio::time::timeout(std::time::Duration::from_secs(20), done).await.expect("no deadlock");
        assert!(most <= 100 * KIB, "{most}");
        assert_eq!(budget.bytes_held(), 0);
    }

    #[tokio::test]
    async fn one_owner_gets_no_more_than_its_share_and_never_stands_still() {
        let budget = Budget::new(100 * KIB);
        budget.keep_for_one(20 * KIB);
        let mut slow: Vec<Reservation> = (0..3).map(|_| budget.begin(Some("slow"))).collect();
        for reservation in &mut slow {
            reservation.grow_to(8 * KIB).await;
        }
        let [first, second, third] = slow.as_mut_slice() else { unreachable!("three") };
        // A share is 25: the first one to need more gets it, the others wait for it.
        first.grow_to(15 * KIB).await;
        {
            let mut waits = Box::pin(second.grow_to(15 * KIB));
            assert!(futures::poll!(&mut waits).is_pending());
            let mut other = budget.begin(Some("good"));
            other.grow_to(20 * KIB).await;
            let mut begins = budget.begin(Some("slow"));
            let mut begins = Box::pin(begins.grow_to(KIB));
            assert!(futures::poll!(&mut begins).is_pending());
            assert!(first.is_blocking_others() && !other.is_blocking_others());
            first.complete();
            assert!(futures::poll!(&mut waits).is_ready());
        }
        second.complete();
        third.grow_to(20 * KIB).await;
    }
}
