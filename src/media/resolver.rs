//! Resolves names, refuses forbidden addresses, and finds out whether the resolver itself is at fault. A resolver that fails or denies
//! everything must not make dead letters of good messages.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, vec};

use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};
use futures::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use super::address::{AddressPolicy, HostTrust, Refusal};

/// Recently resolved names that are used to probe the resolver.
const GOOD_NAMES_MAX: usize = 3;
/// If this many of them, and all, no longer exist, the resolver is at fault. A single one may have been given up.
const DENIED_MIN: usize = 2;
/// Probed if no good name is known. It never exists (RFC 6761 §6.4), and a working resolver says so.
const ABSENT_NAME: &str = "clipstream-probe.invalid.";
/// How long a verdict about the resolver is shared.
const VERDICT_AGE_MAX: Duration = Duration::from_secs(2);
/// How long the resolver may take for a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Resolves names. An error that contains [`Unanswered`] means that there was no answer; any other error, that the name
/// has no addresses.
pub(super) trait Lookup: fmt::Debug + Send + Sync {
    fn addresses(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The resolver did not answer, or not for this name.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unanswered(pub(super) String);

/// The system's resolver.
#[derive(Debug)]
pub(super) struct SystemLookup;

impl Lookup for SystemLookup {
    fn addresses(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::task::spawn_blocking(move || resolve(&host)).await;
            found.map_err(io::Error::other)?
        })
    }
}

/// `getaddrinfo`. Its error code distinguishes a missing name from a resolver without an answer, as far as it can.
fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
    match getaddrinfo(Some(host), None, Some(hints)) {
        Ok(found) => found.map(|found| found.map(|found| found.sockaddr.ip())).collect(),
        Err(error) => {
            let kind = error.kind();
            let said = io::Error::from(error);
            Err(match kind {
                LookupErrorKind::Again | LookupErrorKind::Fail | LookupErrorKind::IO => {
                    io::Error::other(Unanswered(said.to_string()))
                }
                _ => said,
            })
        }
    }
}

/// What is known about the resolver. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Names {
    lookup: Arc<dyn Lookup>,
    known: Arc<Mutex<Known>>,
    /// Whether it was away at the last probe. During a probe, other callers wait.
    verdict: Arc<tokio::sync::Mutex<Option<(bool, Instant)>>>,
    verdict_age_max: Duration,
}

#[derive(Debug, Default)]
struct Known {
    good: VecDeque<String>,
    resolved_at: Option<Instant>,
}

impl Names {
    pub(super) fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup, known: Arc::default(), verdict: Arc::default(), verdict_age_max: VERDICT_AGE_MAX }
    }

    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let found = self.lookup.addresses(host.to_owned()).await?;
        if !found.is_empty() && found.iter().all(|ip| !ip.is_loopback()) && !is_in_hosts_file(host) {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.resolved_at = Some(Instant::now());
            if !known.good.iter().any(|good| good == host) {
                known.good.push_front(host.to_owned());
                known.good.truncate(GOOD_NAMES_MAX);
            }
        }
        Ok(found)
    }

    /// Whether the resolver answers nothing at all, not only for one name. Probes names that are known to be good.
    pub(super) async fn is_away(&self) -> bool {
        let mut verdict = self.verdict.lock().await;
        if let Some((away, at)) = *verdict
            && at.elapsed() < self.verdict_age_max
        {
            return away;
        }
        let away = !self.answers().await;
        *verdict = Some((away, Instant::now()));
        away
    }

    /// Whether names that were good no longer exist: at least [`DENIED_MIN`], and all of them. Then a missing name is
    /// not the message's fault.
    pub(super) async fn denies_all(&self) -> bool {
        let Some(good) = self.good_unless_resolved_lately().filter(|good| good.len() >= DENIED_MIN) else {
            return false;
        };
        for name in good {
            match timeout(PROBE_TIMEOUT, self.addresses(&name)).await {
                Ok(Ok(found)) if found.is_empty() => {}
                Ok(Err(error)) if !is_unanswered(&error) => {}
                _ => return false,
            }
        }
        true
    }

    fn good_unless_resolved_lately(&self) -> Option<Vec<String>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = known.resolved_at.is_some_and(|at| at.elapsed() < self.verdict_age_max);
        (!lately).then(|| known.good.iter().cloned().collect())
    }

    async fn answers(&self) -> bool {
        let Some(good) = self.good_unless_resolved_lately() else { return true };
        if good.is_empty() {
            return self.answers_about(ABSENT_NAME).await;
        }
        for name in good {
            if self.answers_about(&name).await {
                return true;
            }
        }
        false
    }

    async fn answers_about(&self, name: &str) -> bool {
        match timeout(PROBE_TIMEOUT, self.lookup.addresses(name.to_owned())).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => !is_unanswered(&error),
            Err(_) => false,
        }
    }
}

/// The system finds these names without the resolver.
fn is_in_hosts_file(host: &str) -> bool {
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let host = host.trim_end_matches('.');
    hosts.lines().any(|line| {
        let entry = line.split('#').next().unwrap_or_default();
        entry.split_whitespace().skip(1).any(|name| name.eq_ignore_ascii_case(host))
    })
}

fn is_unanswered(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Unanswered>())
}

/// Resolves names for the HTTP client and returns only addresses that the policy allows: from a mix of public and
/// private addresses, the public ones. The client connects to exactly these, so a name cannot be checked as one address
/// and connected as another (DNS rebinding).
#[derive(Clone, Debug)]
pub(super) struct CheckedResolver {
    pub(super) names: Names,
    pub(super) policy: Arc<AddressPolicy>,
    pub(super) trust: HostTrust,
    /// Shorter than the connect timeout, so that a timeout names resolution as the cause.
    pub(super) timeout: Duration,
}

/// The policy allows none of the name's addresses.
#[derive(Debug, thiserror::Error)]
#[error("no address of {host} is allowed")]
pub(super) struct AddressForbidden {
    host: String,
    pub(super) refusal: Refusal,
}

/// The name was not resolved to any address.
#[derive(Debug, thiserror::Error)]
#[error("the host's name was not resolved")]
pub(super) struct NotResolved {
    /// No resolver answered.
    pub(super) unanswered: bool,
    source: io::Error,
}

impl CheckedResolver {
    pub(super) async fn resolve(
        &self,
        host: String,
    ) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let found = timeout(self.timeout, self.names.addresses(&host)).await.unwrap_or_else(|_| {
            let late = format!("no answer within {} ms", self.timeout.as_millis());
            Err(io::Error::other(Unanswered(late)))
        });
        let found = found.map_err(|source| NotResolved { unanswered: is_unanswered(&source), source })?;
        let mut refused = None;
        // The client replaces port 0 by the URL's port.
        let allowed: Vec<SocketAddr> = found
            .into_iter()
            .filter(|ip| self.policy.check(*ip, self.trust).map_err(|refusal| refused = Some(refusal)).is_ok())
            .map(|ip| SocketAddr::new(ip, 0))
            .collect();
        match (allowed.is_empty(), refused) {
            (true, Some(refusal)) => Err(AddressForbidden { host, refusal }.into()),
            (true, None) => {
                let source = io::Error::other("the name has no addresses");
                Err(NotResolved { unanswered: false, source }.into())
            }
            (false, _) => Ok(allowed),
        }
    }
}

impl Service<Name> for CheckedResolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let own = self.clone();
        Box::pin(async move { Ok(own.resolve(name.as_str().to_owned()).await?.into_iter()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers by name; for other names, `away` decides.
    #[derive(Debug, Default)]
    struct Server {
        away: std::sync::atomic::AtomicBool,
        denies: std::sync::atomic::AtomicBool,
        asked: Mutex<Vec<String>>,
    }

    impl Lookup for Server {
        fn addresses(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            self.asked.lock().unwrap().push(host.clone());
            let away = self.away.load(std::sync::atomic::Ordering::SeqCst);
            Box::pin(std::future::ready(match (away, host.as_str()) {
                (true, _) | (_, "servfail.test") => Err(io::Error::other(Unanswered("try again".into()))),
                (_, "good.test" | "fine.test") if !self.denies.load(std::sync::atomic::Ordering::SeqCst) => {
                    Ok(vec![IpAddr::from([93, 184, 216, 34])])
                }
                _ => Err(io::Error::other("no such name")),
            }))
        }
    }

    fn names() -> (Arc<Server>, Names) {
        let server = Arc::new(Server::default());
        (server.clone(), Names::new(server))
    }

    #[tokio::test]
    async fn a_name_known_to_be_good_tells_whether_the_resolver_is_away() {
        let (server, mut names) = names();
        names.verdict_age_max = Duration::ZERO;
        assert!(!names.is_away().await, "it says that a name does not exist");
        names.addresses("good.test").await.unwrap();
        // Only this domain's own servers are away.
        assert!(is_unanswered(&names.addresses("servfail.test").await.unwrap_err()));
        assert!(!names.is_away().await);
        assert_eq!(server.asked.lock().unwrap().last().unwrap(), "good.test");
        server.away.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(names.is_away().await);
        names.verdict_age_max = Duration::from_secs(3600);
        let asked = server.asked.lock().unwrap().len();
        assert!(names.is_away().await);
        assert_eq!(server.asked.lock().unwrap().len(), asked, "one verdict for everybody");
        server.away.store(false, std::sync::atomic::Ordering::SeqCst);
        names.verdict_age_max = Duration::ZERO;
        assert!(!names.is_away().await);
    }

    #[tokio::test]
    async fn names_that_were_good_and_are_all_denied_are_the_resolvers_doing() {
        let (server, mut names) = names();
        names.verdict_age_max = Duration::ZERO;
        let deny = |denies| server.denies.store(denies, std::sync::atomic::Ordering::SeqCst);
        names.addresses("good.test").await.unwrap();
        deny(true);
        assert!(!names.denies_all().await, "one may have been given up");
        deny(false);
        names.addresses("fine.test").await.unwrap();
        assert!(!names.denies_all().await);
        deny(true);
        assert!(names.denies_all().await);
        server.away.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(!names.denies_all().await, "that is no answer");
    }

    #[tokio::test]
    async fn without_a_good_name_one_that_never_exists_is_asked_for() {
        let (server, names) = names();
        server.away.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(names.is_away().await);
        assert_eq!(*server.asked.lock().unwrap(), [ABSENT_NAME]);
    }
}
