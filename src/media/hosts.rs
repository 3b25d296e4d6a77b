//! Limits and health of each media host, so that a slow or failing host does not hold up the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::MediaError;
use super::host_health::HostHealth;
use super::signs;
use crate::adaptive::{Gate, Pass};
use crate::telemetry::Metrics;
use crate::telemetry::labels::HostState;

/// Hosts remembered beyond their fetches. The least recently used ones are forgotten, so that messages with ever new
/// hosts cost no memory.
const REMEMBERED_MAX: usize = 1024;
/// Default limit of a pause asked for with `Retry-After`.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What is known about each host: its limit of concurrent fetches, and its health.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    rules: Rules,
    pause_max: Arc<OnceLock<Duration>>,
    known: Arc<Mutex<HashMap<Arc<str>, Known>>>,
    /// The same health for the whole network, with hosts in place of URLs. A resolver or network outage may cause too
    /// few failures per host to be detected.
    network: Arc<Mutex<HostHealth>>,
    metrics: Arc<Metrics>,
}

/// Limits that apply to every host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Most fetches at once.
    pub concurrency_max: usize,
    /// How long messages are held during a host's outage.
    pub outage_hold: Duration,
}

#[derive(Debug)]
struct Known {
    gate: Gate,
    health: HostHealth,
    /// Fetches, running or waiting.
    users: usize,
    used_at: Instant,
    counted: Counted,
}

/// How a host is counted in the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    slowed: bool,
    out: bool,
}

/// What to expect of a host now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Limit of concurrent fetches.
    pub fetches_max: usize,
    /// It never served, cannot be reached, or fails for several items.
    pub is_doubtful: bool,
    /// No requests before this time (`Retry-After`).
    pub paused_until: Option<Instant>,
}

/// One fetch slot of a host. Dropping it admits the next fetch.
#[derive(Debug)]
pub(super) struct HostSlot {
    // Declared first: the slot returns before the host may be forgotten.
    pass: Pass,
    user: User,
}

#[derive(Debug)]
struct User {
    hosts: Hosts,
    host: Arc<str>,
}

impl Hosts {
    pub(super) fn new(rules: Rules, metrics: Arc<Metrics>) -> Self {
        let network = Arc::new(Mutex::new(HostHealth::of_many()));
        Self { rules, pause_max: Arc::default(), known: Arc::default(), network, metrics }
    }

    pub(super) fn set_pause_max(&self, pause_max: Duration) {
        // Existing gates keep their limit, so only the first call counts.
        let _ = self.pause_max.set(pause_max);
    }

    #[cfg(test)]
    pub(super) fn for_tests(concurrency_max: usize) -> Self {
        let hosts = Self::new(Rules { concurrency_max, outage_hold: Duration::from_secs(3600) }, Arc::default());
        hosts.set_pause_max(Duration::from_millis(30));
        hosts
    }

    /// Waits for a slot of `host` and for the end of a requested pause. Safe to cancel.
    pub(super) async fn acquire(&self, host: &str) -> HostSlot {
        let (gate, user) = self.user(host);
        HostSlot { pass: gate.enter().await, user }
    }

    /// According to stored records, `host` has served before.
    pub(super) fn note_served(&self, host: &str) {
        let (_, user) = self.user(host);
        if let Some(known) = self.lock().get_mut(&user.host) {
            known.health.note_served();
        }
    }

    pub(super) fn standing(&self, host: &str) -> Standing {
        let known = self.lock();
        let Some(Known { gate, health, .. }) = known.get(host) else {
            let fetches_max = self.rules.concurrency_max;
            return Standing { fetches_max, is_doubtful: true, paused_until: None };
        };
        Standing { fetches_max: gate.limit(), is_doubtful: health.is_doubtful(), paused_until: gate.paused_until() }
    }

    fn user(&self, host: &str) -> (Gate, User) {
        let mut known = self.lock();
        if known.len() >= REMEMBERED_MAX && !known.contains_key(host) {
            self.forget_oldest(&mut known);
        }
        let host: Arc<str> = host.into();
        let entry = known.entry(host.clone()).or_insert_with(|| Known {
            gate: Gate::new(self.rules.concurrency_max, *self.pause_max.get_or_init(|| PAUSE_MAX)),
            health: HostHealth::default(),
            users: 0,
            used_at: Instant::now(),
            counted: Counted::default(),
        });
        entry.users += 1;
        (entry.gate.clone(), User { hosts: self.clone(), host })
    }

    fn judge<T>(&self, host: &str, url: &str, result: Result<T, MediaError>) -> Result<T, MediaError> {
        let (now, hold) = (Instant::now(), self.rules.outage_hold);
        let mut known = self.lock();
        let Some(entry) = known.get_mut(host) else { return result };
        let result = entry.health.judge(host, url, result, hold, now);
        let slowed = entry.gate.limit() < self.rules.concurrency_max;
        self.count(&mut entry.counted, Counted { slowed, out: entry.health.is_out(hold, now) });
        drop(known);
        let mut network = self.network.lock().unwrap_or_else(PoisonError::into_inner);
        match signs::reached(&result) {
            Some(true) => *network = HostHealth::of_many(),
            Some(false) => return network.judge("the network to many hosts", host, result, hold, now),
            None => {}
        }
        result
    }

    fn count(&self, counted: &mut Counted, now: Counted) {
        let before = std::mem::replace(counted, now);
        for state in HostState::ALL.iter().copied() {
            let is_counted = |of: &Counted| match state {
                HostState::Throttled => of.slowed,
                HostState::Down => of.out,
            };
            self.metrics.media_hosts(state, i64::from(is_counted(&now)) - i64::from(is_counted(&before)));
        }
    }

    fn forget_oldest(&self, known: &mut HashMap<Arc<str>, Known>) {
        let idle = known.iter().filter(|(_, known)| known.users == 0);
        if let Some(host) = idle.min_by_key(|(_, known)| known.used_at).map(|(host, _)| host.clone())
            && let Some(mut forgotten) = known.remove(&host)
        {
            self.count(&mut forgotten.counted, Counted::default());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Known>> {
        // A poisoned lock is safe to use: nothing in a critical section can fail halfway.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostSlot {
    /// Returns the slot with the result of fetching `url`. A failure of the whole host comes back as an outage.
    pub(super) fn done<T>(self, url: &str, result: Result<T, MediaError>) -> Result<T, MediaError> {
        let Self { pass, user } = self;
        pass.done(signs::load(&result));
        user.hosts.judge(&user.host, url, result)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut known = self.hosts.lock();
        if let Some(entry) = known.get_mut(&self.host) {
            entry.users -= 1;
            entry.used_at = Instant::now();
        }
        // More than [`REMEMBERED_MAX`] hosts had fetches at once.
        if known.len() > REMEMBERED_MAX {
            self.hosts.forget_oldest(&mut known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Class, MediaReason};

    #[tokio::test]
    async fn bounded_per_host() {
        let hosts = Hosts::for_tests(1);
        let first = hosts.acquire("a").await;
        let _other = hosts.acquire("b").await;
        let mut second = Box::pin(hosts.acquire("a"));
        let mut cancelled = Box::pin(hosts.acquire("a"));
        assert!(futures::poll!(&mut second).is_pending());
        assert!(futures::poll!(&mut cancelled).is_pending());
        drop(cancelled);
        drop(first);
        drop(second.await);
        assert!(hosts.lock().iter().all(|(host, known)| known.users == usize::from(&**host == "b")));
    }

    #[tokio::test]
    async fn a_standing_is_what_the_last_fetches_say() {
        let hosts = Hosts::for_tests(4);
        let standing = |hosts: &Hosts| hosts.standing("a");
        assert!(standing(&hosts).is_doubtful && standing(&hosts).fetches_max == 4, "nothing is known of it");
        hosts.acquire("a").await.done("a/1", Ok(())).unwrap();
        let fine = Standing { fetches_max: 4, is_doubtful: false, paused_until: None };
        assert_eq!(standing(&hosts), fine);
        let broken = || Err::<(), _>(MediaError::new(MediaReason::HttpServerError, "500"));
        hosts.acquire("a").await.done("a/2", broken()).unwrap_err();
        hosts.acquire("a").await.done("a/2", broken()).unwrap_err();
        assert_eq!(standing(&hosts), fine, "one item is no reason to doubt");
        hosts.acquire("a").await.done("a/3", broken()).unwrap_err();
        assert!(standing(&hosts).is_doubtful);
        let refused = Err::<(), _>(MediaError::new(MediaReason::ConnectFailed, "no connection"));
        hosts.acquire("a").await.done("a/4", refused).unwrap_err();
        assert!(standing(&hosts).fetches_max < 4);
        let retry_after = Some(Duration::from_secs(3600));
        let throttled = MediaError::new(MediaReason::HttpThrottled, "429").retry_after(retry_after);
        hosts.acquire("a").await.done("a/5", Err::<(), _>(throttled)).unwrap_err();
        assert!(standing(&hosts).paused_until.is_some());
    }

    #[tokio::test]
    async fn a_throttled_host_is_paused_for_everyone_and_others_are_not() {
        let hosts = Hosts::for_tests(4);
        let retry_after = Some(Duration::from_secs(3600));
        let throttled = MediaError::new(MediaReason::HttpThrottled, "429").retry_after(retry_after);
        let begun = Instant::now();
        let judged = hosts.acquire("a").await.done("a/1", Err::<(), _>(throttled));
        assert_eq!(judged.unwrap_err().class, Class::Transient);
        let mut next = Box::pin(hosts.acquire("a"));
        assert!(futures::poll!(&mut next).is_pending());
        assert!(futures::poll!(Box::pin(hosts.acquire("b"))).is_ready());
        drop(next.await);
        assert!(begun.elapsed() >= Duration::from_millis(25), "bounded by pause_max, and waited for");
        let shown = hosts.metrics.encode();
        assert!(shown.contains("clipstream_media_hosts{state=\"throttled\"} 1"), "{shown}");
    }

    #[tokio::test]
    async fn hosts_are_remembered_up_to_a_bound() {
        let hosts = Hosts::for_tests(1);
        let _used = hosts.acquire("first").await;
        for n in 0..3 * REMEMBERED_MAX {
            hosts.acquire(&n.to_string()).await.done("u", Ok(())).unwrap();
        }
        assert_eq!(hosts.lock().len(), REMEMBERED_MAX);
        assert!(hosts.lock().contains_key("first"), "in use");
        let last = (3 * REMEMBERED_MAX - 1).to_string();
        assert!(hosts.lock().contains_key(last.as_str()));
    }

    #[tokio::test]
    async fn a_host_that_is_gone_is_an_outage_and_counted() {
        let hosts = Hosts::for_tests(2);
        let refused = || Err::<(), _>(MediaError::new(MediaReason::ConnectFailed, "no connection"));
        hosts.acquire("a").await.done("a/1", Ok(())).unwrap();
        let error = hosts.acquire("a").await.done("a/2", refused()).unwrap_err();
        assert_eq!((error.class, error.reason), (Class::Outage, MediaReason::ConnectFailed));
        assert!(error.message.starts_with("a is down; its messages are held"), "{}", error.message);
        assert!(hosts.metrics.encode().contains("clipstream_media_hosts{state=\"down\"} 1"));
        assert_eq!(hosts.acquire("b").await.done("b/1", refused()).unwrap_err().class, Class::Transient);
        hosts.acquire("a").await.done("a/2", Ok(())).unwrap();
        assert!(hosts.metrics.encode().contains("clipstream_media_hosts{state=\"down\"} 0"));
    }
    #[tokio::test]
    async fn many_hosts_that_cannot_be_reached_and_none_that_can_are_an_outage_of_the_network() {
        let hosts = Hosts::for_tests(2);
        let refused = || Err::<(), _>(MediaError::new(MediaReason::DnsFailed, "not resolved"));
        let mut classes = Vec::new();
        for n in 0..10 {
            let url = format!("http://host-{n}/a.jpg");
            let judged = hosts.acquire(&format!("host-{n}:80")).await.done(&url, refused());
            classes.push(judged.unwrap_err().class);
        }
        assert_eq!((&classes[..7], &classes[7..]), (&[Class::Transient; 7][..], &[Class::Outage; 3][..]));
        hosts.acquire("good:80").await.done("http://good/", Ok(())).unwrap();
        let judged = hosts.acquire("host-0:80").await.done("http://host-0/a.jpg", refused());
        assert_eq!(judged.unwrap_err().class, Class::Transient, "only that one");
    }
}
