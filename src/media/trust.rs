//! Who is to blame for an untrusted certificate: the host, or this process, whose certificate authorities or clock may
//! be wrong.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

use super::MediaError;
use super::authorities::Authorities;
use super::http_client::HttpClient;
use super::http_error;
use crate::domain::{Class, MediaReason};

/// If this many hosts have untrusted certificates and none is trusted, this process is to blame.
const UNTRUSTED_MIN: usize = 3;
/// For this long after a host was trusted, no probe is made.
const TRUST_AGE_MAX: Duration = Duration::from_secs(10);

/// Hosts that TLS trusted in this process. Clones share the state.
#[derive(Clone, Debug)]
pub(super) struct Trusted {
    authorities: Arc<Authorities>,
    /// How long a few untrusted hosts are held if none was ever trusted.
    hold: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Good>,
    /// Names of untrusted hosts since one was trusted; at most [`UNTRUSTED_MIN`].
    untrusted: HashSet<String>,
    /// When the first and the last of them failed.
    untrusted_since: Option<(Instant, Instant)>,
}

#[derive(Clone, Debug)]
struct Good {
    at: Url,
    client: HttpClient,
    since: Instant,
}

impl Trusted {
    pub(super) fn new(authorities: Arc<Authorities>, hold: Duration) -> Self {
        Self { authorities, hold, state: Arc::default() }
    }

    /// `at` answered over TLS.
    pub(super) fn note(&self, at: &Url, client: &HttpClient) {
        let mut state = self.lock();
        if state.last.as_ref().is_some_and(|good| good.since.elapsed() < TRUST_AGE_MAX / 10) {
            return;
        }
        // No path, query or user: a probe only connects.
        let Ok(origin) = Url::parse(&at.origin().ascii_serialization()) else { return };
        state.last = Some(Good { at: origin, client: client.clone(), since: Instant::now() });
        state.untrusted.clear();
        state.untrusted_since = None;
    }

    /// `error`: the certificate of `at` is not trusted. Returned unchanged if another host's still is; as an outage if
    /// the last trusted host's no longer is. If none was ever trusted, it is an outage for a while, and for several
    /// hosts without end. The certificate authorities may be wrong, so they are read again.
    pub(super) async fn blame(&self, at: &Url, error: MediaError) -> MediaError {
        let host = at.host_str().unwrap_or_default();
        let Some(good) = self.last() else {
            let holds = self.is_held(host);
            self.authorities.read_again().await;
            return if holds { broken(&error) } else { error.class(Class::Transient) };
        };
        if good.since.elapsed() < TRUST_AGE_MAX {
            return error;
        }
        if good.at.host_str() == Some(host) {
            // A host that was trusted before is judged like one that has served.
            self.authorities.read_again().await;
            return error;
        }
        match good.client.shake_hands(&good.at).await {
            Ok(()) => {
                self.note(&good.at, &good.client);
                error
            }
            Err(why) if http_error::is_untrusted_certificate(&*why) => {
                self.authorities.read_again().await;
                broken(&error)
            }
            // The probe was inconclusive.
            Err(_) => error.class(Class::Transient),
        }
    }

    fn last(&self) -> Option<Good> {
        self.lock().last.clone()
    }

    /// Whether an untrusted `host` is held, when no host was ever trusted.
    fn is_held(&self, host: &str) -> bool {
        let mut state = self.lock();
        if state.untrusted.len() < UNTRUSTED_MIN {
            state.untrusted.insert(host.to_owned());
        }
        let now = Instant::now();
        // An old failure belongs to another incident.
        let before = state.untrusted_since.filter(|(_, last)| last.elapsed() < self.hold);
        let (since, _) = *state.untrusted_since.insert((before.map_or(now, |(since, _)| since), now));
        state.untrusted.len() >= UNTRUSTED_MIN || since.elapsed() < self.hold
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock is safe to use: every change is one call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn broken(error: &MediaError) -> MediaError {
    MediaError::new(MediaReason::TlsTrustBroken, format!("no host's certificate is trusted ({})", error.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MediaSettings;
    use crate::media::address::{AddressPolicy, HostTrust};
    use crate::media::resolver::{CheckedResolver, Names, SystemLookup};
    use crate::media::tls_tests::serve_once;

    fn untrusted() -> MediaError {
        MediaError::new(MediaReason::TlsCertificateUntrusted, "unknown issuer")
    }

    fn client() -> HttpClient {
        let settings = MediaSettings { allow_hosts: vec!["127.0.0.1".into()], ..MediaSettings::default() };
        let policy = Arc::new(AddressPolicy::new(&settings).unwrap());
        let names = Names::new(Arc::new(SystemLookup));
        let (trust, timeout) = (HostTrust::Listed, Duration::from_secs(5));
        let tls = Authorities::read(None).unwrap().client_config().unwrap();
        HttpClient::new(&settings, CheckedResolver { names, policy, trust, timeout }, &tls).unwrap()
    }

    fn trusted(hold: Duration) -> Trusted {
        Trusted::new(Authorities::read(None).unwrap(), hold)
    }

    fn url(host: &str) -> Url {
        Url::parse(&format!("https://{host}/x.jpg")).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_host_is_blamed_for_its_certificate_once_another_host_is_trusted() {
        let trusted = trusted(Duration::ZERO);
        for (host, class) in [
            ("a.test", Class::Transient),
            ("a.test", Class::Transient),
            ("b.test", Class::Transient),
            ("c.test", Class::Outage),
            ("a.test", Class::Outage),
        ] {
            assert_eq!(trusted.blame(&url(host), untrusted()).await.class, class, "{host}");
        }
        trusted.note(&url("good.test"), &client());
        assert_eq!(trusted.blame(&url("a.test"), untrusted()).await.class, Class::Permanent);
        // The host trusted long ago is no longer trusted.
        let (port, server) = serve_once();
        let since = Instant::now().checked_sub(2 * TRUST_AGE_MAX).unwrap();
        trusted.lock().last = Some(Good { at: url(&format!("127.0.0.1:{port}")), client: client(), since });
        let error = trusted.blame(&url("a.test"), untrusted()).await;
        assert_eq!((error.class, error.reason), (Class::Outage, MediaReason::TlsTrustBroken), "{}", error.message);
        server.join().unwrap();
        // It is gone, so the probe is inconclusive.
        assert_eq!(trusted.blame(&url("a.test"), untrusted()).await.class, Class::Transient);
    }

    #[tokio::test]
    async fn one_host_that_is_not_trusted_is_held_while_none_ever_was() {
        let trusted = trusted(Duration::from_secs(3600));
        for _ in 0..2 {
            let error = trusted.blame(&url("a.test"), untrusted()).await;
            assert_eq!((error.class, error.reason), (Class::Outage, MediaReason::TlsTrustBroken), "{}", error.message);
        }
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        trusted.lock().untrusted_since = Some((ago(3601), ago(1)));
        assert_eq!(trusted.blame(&url("a.test"), untrusted()).await.class, Class::Transient, "the hold is over");
        trusted.lock().untrusted_since = Some((ago(9000), ago(3601)));
        assert_eq!(
            trusted.blame(&url("a.test"), untrusted()).await.class,
            Class::Outage,
            "another trouble, much later"
        );
    }
}
