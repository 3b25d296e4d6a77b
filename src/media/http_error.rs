//! What each way to fail over HTTP means for the message.
//!
//! Permanent: the server has decided (4xx), the certificate is not trusted, the address is forbidden. Transient: whatever
//! a later attempt may not meet, also a name that does not resolve: `getaddrinfo` cannot be relied on to tell a name that
//! does not exist from a resolver that cannot be asked, and the attempts are bounded anyway.

use std::error::Error;
use std::time::Duration;

use reqwest::StatusCode;

use super::MediaError;
use super::address::Refusal;
use super::resolver::AddressForbidden;
use crate::redact;

pub(super) fn of_status(shown: &str, status: StatusCode, retry_after: Option<Duration>) -> MediaError {
    let permanent = |reason, hint: &str| MediaError::permanent(reason, format!("{shown}: HTTP {status}; {hint}"));
    let transient = |reason, hint: &str| MediaError {
        retry_after,
        ..MediaError::transient(reason, format!("{shown}: HTTP {status}; {hint}"))
    };
    match status.as_u16() {
        404 => permanent("http_not_found", "check that the file is still there"),
        410 => permanent("http_gone", "the file was removed"),
        401 | 403 => permanent("http_forbidden", "check the URL's signature, its expiry and the server's access rules"),
        408 | 425 => transient("http_status", "the server asks to try again"),
        429 => transient("http_throttled", "lower media.per_host_concurrency if this goes on"),
        503 => transient(
            "http_unavailable",
            "the server has no capacity; lower media.per_host_concurrency if this goes on",
        ),
        500..=599 => transient("http_server_error", "check the server if this goes on"),
        // Accepted, not ready: servers that render on demand.
        202 => transient("http_status", "the picture is not ready yet"),
        _ => permanent("http_status", "expected 200"),
    }
}

/// The request failed before there was an answer.
pub(super) fn of_request(shown: &str, error: &reqwest::Error) -> MediaError {
    let cause = redact::root_cause(error);
    if let Some(forbidden) = find::<AddressForbidden>(error) {
        return refused(shown, forbidden.refusal);
    }
    if is_untrusted_certificate(error) {
        let hint = "check the server's certificate, or trust its authority with media.ca_file";
        return MediaError::permanent("tls_certificate_untrusted", format!("{shown}: {cause}; {hint}"));
    }
    if error.is_builder() {
        return invalid_url(shown, &cause);
    }
    let (reason, what) = match (error.is_timeout(), error.is_connect(), error.is_dns()) {
        (_, _, true) => ("dns_failed", "the host's name was not resolved"),
        (true, true, _) => ("connect_timeout", "no connection within media.connect_timeout_ms"),
        (_, true, _) => ("connect_failed", "no connection"),
        (true, ..) => ("fetch_timeout", "no answer in time"),
        _ => ("http_failed", "the connection broke before an answer"),
    };
    MediaError::transient(reason, format!("{shown}: {what} ({cause})"))
}

/// The body broke off: fewer bytes than announced, a reset, bad framing.
pub(super) fn of_body(shown: &str, error: &reqwest::Error) -> MediaError {
    let cause = redact::root_cause(error);
    MediaError::transient("body_incomplete", format!("{shown}: the body broke off before its end ({cause})"))
}

/// The policy does not let the host or its address be connected to.
pub(super) fn refused(shown: &str, refusal: Refusal) -> MediaError {
    match refusal {
        Refusal::Special(range) => {
            let message = format!(
                "{shown}: the address is {range}; expected one of the public internet. If it is meant to be fetched from, \
                 add the host to media.allow_hosts or its network to media.allow_networks"
            );
            MediaError::permanent("address_forbidden", message)
        }
        Refusal::DeniedHost => {
            let message = format!("{shown}: the host is in media.deny_hosts; use another host, or take it from there");
            MediaError::permanent("host_denied", message)
        }
        Refusal::DeniedNetwork => {
            let message =
                format!("{shown}: the address is in media.deny_networks; use another host, or take it from there");
            MediaError::permanent("address_denied", message)
        }
    }
}

pub(super) fn invalid_url(url: &str, why: &str) -> MediaError {
    let message =
        format!("{}: not a URL that can be fetched ({}); expected http(s)://host/path", redact::url(url), why);
    MediaError::permanent("url_invalid", message)
}

pub(super) fn is_untrusted_certificate(error: &(dyn Error + 'static)) -> bool {
    matches!(
        find::<rustls::Error>(error),
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
    )
}

pub(super) fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    redact::causes(error).find_map(|cause| cause.downcast_ref::<E>())
}
