use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bound on fetches under way at once from one host. Hosts are forgotten as soon as nobody fetches from them, so
/// the map is never larger than the number of fetches.
#[derive(Clone, Debug)]
pub(super) struct HostLimits {
    per_host: usize,
    hosts: Arc<Mutex<HashMap<String, Entry>>>,
}

#[derive(Debug)]
struct Entry {
    slots: Arc<Semaphore>,
    /// Holders and waiters.
    users: usize,
}

/// One of a host's fetches. Dropping it lets the next one begin.
#[derive(Debug)]
pub(super) struct HostSlot {
    // Declared first: the permit returns before the entry may be forgotten.
    _permit: OwnedSemaphorePermit,
    _user: User,
}

#[derive(Debug)]
struct User {
    limits: HostLimits,
    host: String,
}

impl HostLimits {
    pub(super) fn new(per_host: usize) -> Self {
        Self { per_host: per_host.clamp(1, Semaphore::MAX_PERMITS), hosts: Arc::default() }
    }

    /// Waits for a slot of `host`. Safe to cancel.
    pub(super) async fn acquire(&self, host: &str) -> HostSlot {
        let slots = {
            let mut hosts = self.lock();
            let entry = hosts
                .entry(host.to_owned())
                .or_insert_with(|| Entry { slots: Arc::new(Semaphore::new(self.per_host)), users: 0 });
            entry.users += 1;
            entry.slots.clone()
        };
        let user = User { limits: self.clone(), host: host.to_owned() };
        let permit = slots.acquire_owned().await.expect("a host's semaphore is never closed");
        HostSlot { _permit: permit, _user: user }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Entry>> {
        // A panic elsewhere leaves the map whole: nothing in a critical section can fail half way.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut hosts = self.limits.lock();
        if let Some(entry) = hosts.get_mut(&self.host) {
            entry.users -= 1;
            if entry.users == 0 {
                hosts.remove(&self.host);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bounded_per_host_and_forgotten_after_use() {
        let limits = HostLimits::new(1);
        let first = limits.acquire("a").await;
        let _other = limits.acquire("b").await;
        let mut second = Box::pin(limits.acquire("a"));
        let mut cancelled = Box::pin(limits.acquire("a"));
        assert!(futures::poll!(&mut second).is_pending());
        assert!(futures::poll!(&mut cancelled).is_pending());
        drop(cancelled);
        drop(first);
        drop(second.await);
        assert_eq!(limits.lock().keys().cloned().collect::<Vec<_>>(), ["b"]);
    }
}
