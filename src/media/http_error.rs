//! What each way to fail over HTTP means for the message.
//!
//! Permanent: the server has decided (4xx), the certificate is not trusted, the address is forbidden. Transient: whatever
//! a later attempt may not meet, also a name that does not resolve. Outage: what is wrong with this process or this machine:
//! descriptors, ports, the resolver.

use std::error::Error as StdError;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use hyper_util::client::legacy::Error;
use rustls::CertificateError;

use super::MediaError;
use super::address::Refusal;
use super::http_client::{ConnectTimeout, Malformed};
use super::resolver::{AddressForbidden, NotResolved};
use crate::{redact, used_up};

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

/// A part of the file, which nobody asked for.
pub(super) fn partial(shown: &str, range: &HeaderValue) -> MediaError {
    let range = redact::cut(&String::from_utf8_lossy(range.as_bytes()), 60);
    let message =
        format!("{shown}: HTTP 206 with a part ({range}); expected the whole file: check the server or its cache");
    MediaError::transient("http_partial", message)
}

/// The request failed before there was an answer.
pub(super) fn of_request(shown: &str, error: &Error) -> MediaError {
    let cause = redact::root_cause(error);
    if let Some(forbidden) = find::<AddressForbidden>(error) {
        return refused(shown, forbidden.refusal);
    }
    if is_untrusted_certificate(error) {
        let hint = "check the server's certificate, or trust its authority with media.ca_file";
        return MediaError::permanent("tls_certificate_untrusted", format!("{shown}: {cause}; {hint}"));
    }
    if let Some(outage) = of_process(shown, error) {
        return outage;
    }
    if let Some(unread) = malformed(shown, error) {
        return unread;
    }
    let (reason, what) = match find::<NotResolved>(error) {
        Some(NotResolved { unanswered: true, .. }) => ("dns_unanswered", "the host's name was not resolved"),
        Some(_) => ("dns_failed", "the host's name was not resolved"),
        None if find::<ConnectTimeout>(error).is_some() => {
            ("connect_timeout", "no connection within media.connect_timeout_ms")
        }
        None if error.is_connect() => ("connect_failed", "no connection"),
        None => ("http_failed", "the connection broke before an answer"),
    };
    MediaError::transient(reason, format!("{shown}: {what} ({cause})"))
}

/// The body broke off: fewer bytes than announced, a reset, bad framing.
pub(super) fn of_body(shown: &str, error: &hyper::Error) -> MediaError {
    if let Some(unread) = malformed(shown, error) {
        return unread;
    }
    let cause = redact::root_cause(error);
    MediaError::transient("body_incomplete", format!("{shown}: the body broke off before its end ({cause})"))
}

fn malformed(shown: &str, error: &(dyn StdError + 'static)) -> Option<MediaError> {
    let why = find::<Malformed>(error)?;
    let message = format!("{shown}: the server's answer cannot be read as HTTP/1: {why}");
    Some(MediaError::transient("http_malformed", message))
}

/// What this process has used up is no host's fault, and no item's.
pub(super) fn of_process(shown: &str, error: &(dyn StdError + 'static)) -> Option<MediaError> {
    if let Some(used_up) = used_up::used_up(error) {
        return Some(MediaError::outage(used_up.reason(), format!("{shown}: {used_up}")));
    }
    let io = redact::causes(error).find_map(|cause| cause.downcast_ref::<io::Error>().filter(|io| is_no_address(io)));
    // The same number says that an address of IPv6 cannot be reached from here at all: then there are ports.
    io.filter(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).is_err()).map(|io| {
        let message = format!(
            "{shown}: this machine has no local port left ({io}); widen net.ipv4.ip_local_port_range, or lower \
             media.per_host_concurrency"
        );
        MediaError::outage("ports_used_up", message)
    })
}

fn is_no_address(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse)
}

/// Nobody resolves any name.
pub(super) fn resolver_away(shown: &str, why: &str) -> MediaError {
    let why = why.strip_prefix(shown).unwrap_or(why).trim_start_matches([':', ' ']);
    let message = format!(
        "{shown}: the resolver does not answer, not for names that it knows either ({why}); check this machine's DNS"
    );
    MediaError::outage("resolver_away", message)
}

/// No name exists any more.
pub(super) fn resolver_denies(shown: &str) -> MediaError {
    let message = format!(
        "{shown}: the resolver says that the host's name does not exist, and the same of names that it knew; check this machine's DNS"
    );
    MediaError::outage("resolver_away", message)
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

pub(super) fn is_untrusted_certificate(error: &(dyn StdError + 'static)) -> bool {
    matches!(
        find::<rustls::Error>(error),
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
    )
}

/// The certificate is trusted, but of another host.
pub(super) fn is_wrong_name(error: &(dyn StdError + 'static)) -> bool {
    matches!(
        find::<rustls::Error>(error),
        Some(rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        ))
    )
}

pub(super) fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    redact::causes(error).find_map(|cause| cause.downcast_ref::<E>())
}
