//! Whom TLS trusts: the system's certificate authorities and those of `media.ca_file`; and who is to blame where it trusts
//! somebody no more: a host, or this process, whose certificate authorities or whose clock are wrong.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;
use url::Url;

use super::MediaError;
use super::http_client::HttpClient;
use super::http_error;
use crate::domain::{Class, Finding, MediaReason};
use crate::{redact, tls};

/// So many hosts whose certificates are not trusted, and none that is: it is not the hosts.
const UNTRUSTED_MIN: usize = 3;
/// For so long after a host was trusted, nobody asks whether any is.
const TRUST_AGE_MAX: Duration = Duration::from_secs(10);

/// # Errors
/// `media_settings_invalid` for a file that cannot be read or has no certificate; `media_client_failed` where the system has
/// no certificate authorities at all.
pub(super) fn tls(ca_file: Option<&str>) -> Result<ClientConfig, MediaError> {
    let mut own = Vec::new();
    if let Some(file) = ca_file {
        let invalid = |found| MediaError::found(MediaReason::SettingsInvalid, found);
        let pem = tls::authority("media.ca_file", file).map_err(invalid)?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let broken = |error| invalid(Finding::new(format!("media.ca_file {file}: {}", redact::root_cause(&error))));
            own.push(certificate.map_err(broken)?);
        }
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    config(own, provider).map_err(|error| {
        let message = format!("TLS cannot be set up: {}", redact::root_cause(&error));
        MediaError::new(MediaReason::ClientFailed, message)
    })
}

fn config(own: Vec<CertificateDer<'static>>, provider: Arc<CryptoProvider>) -> Result<ClientConfig, rustls::Error> {
    let verifier = Verifier::new_with_extra_roots(own, provider.clone())?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// Whom TLS has trusted in this process. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Trusted {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Good>,
    /// Names of hosts, since one was trusted; [`UNTRUSTED_MIN`] at most.
    untrusted: HashSet<String>,
}

#[derive(Clone, Debug)]
struct Good {
    at: Url,
    client: HttpClient,
    since: Instant,
}

impl Trusted {
    /// `at` has answered over TLS.
    pub(super) fn note(&self, at: &Url, client: &HttpClient) {
        let mut state = self.lock();
        if state.last.as_ref().is_some_and(|good| good.since.elapsed() < TRUST_AGE_MAX / 10) {
            return;
        }
        // No path, query or user: the connection is all that is asked for again.
        let Ok(origin) = Url::parse(&at.origin().ascii_serialization()) else { return };
        state.last = Some(Good { at: origin, client: client.clone(), since: Instant::now() });
        state.untrusted.clear();
    }

    /// `error`: the certificate of `at` is not trusted. As it is where another host's still is; as an outage where that of the
    /// last host that was trusted is not any more. Where none ever was, as what may pass, and as an outage for several hosts.
    pub(super) async fn blame(&self, at: &Url, error: MediaError) -> MediaError {
        let host = at.host_str().unwrap_or_default();
        let good = {
            let mut state = self.lock();
            match state.last.clone() {
                Some(good) => good,
                None => {
                    if state.untrusted.len() < UNTRUSTED_MIN {
                        state.untrusted.insert(host.to_owned());
                    }
                    let several = state.untrusted.len() >= UNTRUSTED_MIN;
                    return if several { broken(&error) } else { error.class(Class::Transient) };
                }
            }
        };
        if good.since.elapsed() < TRUST_AGE_MAX || good.at.host_str() == Some(host) {
            // A host that has been trusted before is judged as one that has served.
            return error;
        }
        match good.client.shake_hands(&good.at).await {
            Ok(()) => {
                self.note(&good.at, &good.client);
                error
            }
            Err(why) if http_error::is_untrusted_certificate(&*why) => broken(&error),
            // Nobody knows.
            Err(_) => error.class(Class::Transient),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the state whole: every change is one call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn broken(error: &MediaError) -> MediaError {
    MediaError::new(MediaReason::TlsTrustBroken, format!("no host's certificate is trusted ({})", error.message))
}

#[cfg(test)]
mod tests {
    use super::super::address::{AddressPolicy, HostTrust};
    use super::super::resolver::{CheckedResolver, Names, SystemLookup};
    use super::super::tls_tests::serve_once;
    use super::*;
    use crate::config::MediaSettings;

    fn untrusted() -> MediaError {
        MediaError::new(MediaReason::TlsCertificateUntrusted, "unknown issuer")
    }

    fn client() -> HttpClient {
        let settings = MediaSettings { allow_hosts: vec!["127.0.0.1".into()], ..MediaSettings::default() };
        let policy = Arc::new(AddressPolicy::new(&settings).unwrap());
        let names = Names::new(Arc::new(SystemLookup));
        let (trust, timeout) = (HostTrust::Listed, Duration::from_secs(5));
        HttpClient::new(&settings, CheckedResolver { names, policy, trust, timeout }, &tls(None).unwrap()).unwrap()
    }

    fn url(host: &str) -> Url {
        Url::parse(&format!("https://{host}/x.jpg")).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_is_blamed_for_a_certificate_until_another_ones_is_trusted() {
        let trusted = Trusted::default();
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
        // The last one that was trusted, long ago, is not any more.
        let (port, server) = serve_once();
        let since = Instant::now().checked_sub(2 * TRUST_AGE_MAX).unwrap();
        trusted.lock().last = Some(Good { at: url(&format!("127.0.0.1:{port}")), client: client(), since });
        let error = trusted.blame(&url("a.test"), untrusted()).await;
        assert_eq!((error.class, error.reason), (Class::Outage, MediaReason::TlsTrustBroken), "{}", error.message);
        server.join().unwrap();
        // It is gone: nobody knows.
        assert_eq!(trusted.blame(&url("a.test"), untrusted()).await.class, Class::Transient);
    }
}
