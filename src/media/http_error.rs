//! What each HTTP failure means for the message.
//!
//! Permanent: the server refuses (4xx, except those that ask to retry), an untrusted certificate, a forbidden address.
//! Transient: what a later attempt may not meet, including a name that does not resolve. Outage: faults of this process
//! or machine: descriptors, ports, the resolver.

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
use crate::domain::{Class, MediaReason};
use crate::exhaustion::Exhausted;
use crate::{exhaustion, redact};

pub(super) fn of_status(shown: &str, status: StatusCode, retry_after: Option<Duration>) -> MediaError {
    let found = format!("{shown}: HTTP {status}");
    let error = match status.as_u16() {
        404 => MediaError::new(MediaReason::HttpNotFound, found),
        410 => MediaError::new(MediaReason::HttpGone, format!("{found}; the file was removed")),
        401 | 403 => MediaError::new(MediaReason::HttpForbidden, found),
        408 | 425 => {
            let message = format!("{found}; the server asks to try again");
            MediaError::new(MediaReason::HttpStatus, message).class(Class::Transient)
        }
        429 => MediaError::new(MediaReason::HttpThrottled, found),
        503 => MediaError::new(MediaReason::HttpUnavailable, format!("{found}; the server has no capacity")),
        500..=599 => MediaError::new(MediaReason::HttpServerError, found),
        // Accepted but not ready: servers that render on demand.
        202 => {
            let message = format!("{found}; the picture is not ready yet");
            MediaError::new(MediaReason::HttpStatus, message).class(Class::Transient)
        }
        _ => MediaError::new(MediaReason::HttpStatus, format!("{found}; expected 200")),
    };
    let retry_after = retry_after.filter(|_| error.class == Class::Transient);
    error.retry_after(retry_after)
}

/// A part of the file, although no range was requested.
pub(super) fn partial(shown: &str, range: &HeaderValue) -> MediaError {
    let range = redact::cut(&String::from_utf8_lossy(range.as_bytes()), 60);
    let message = format!("{shown}: HTTP 206 with a part ({range}); expected the whole file");
    MediaError::new(MediaReason::HttpPartial, message)
}

/// The request failed before an answer came.
pub(super) fn of_request(shown: &str, error: &Error) -> MediaError {
    let cause = redact::root_cause(error);
    if let Some(forbidden) = find::<AddressForbidden>(error) {
        return refused(shown, forbidden.refusal);
    }
    if is_untrusted_certificate(error) {
        return MediaError::new(MediaReason::TlsCertificateUntrusted, format!("{shown}: {cause}"));
    }
    if let Some(outage) = of_process(shown, error) {
        return outage;
    }
    if let Some(unread) = malformed(shown, error) {
        return unread;
    }
    let (reason, what) = match find::<NotResolved>(error) {
        Some(NotResolved { unanswered: true, .. }) => (MediaReason::DnsUnanswered, "the host's name was not resolved"),
        Some(_) => (MediaReason::DnsFailed, "the host's name was not resolved"),
        None if find::<ConnectTimeout>(error).is_some() => {
            (MediaReason::ConnectTimeout, "no connection within media.connect_timeout_ms")
        }
        None if error.is_connect() => (MediaReason::ConnectFailed, "no connection"),
        None => (MediaReason::HttpFailed, "the connection broke before an answer"),
    };
    MediaError::new(reason, format!("{shown}: {what} ({cause})"))
}

/// The body broke off: fewer bytes than announced, a reset, bad framing.
pub(super) fn of_body(shown: &str, error: &hyper::Error) -> MediaError {
    if let Some(unread) = malformed(shown, error) {
        return unread;
    }
    let cause = redact::root_cause(error);
    MediaError::new(MediaReason::BodyIncomplete, format!("{shown}: the body broke off before its end ({cause})"))
}

fn malformed(shown: &str, error: &(dyn StdError + 'static)) -> Option<MediaError> {
    let why = find::<Malformed>(error)?;
    let message = format!("{shown}: the server's answer cannot be read as HTTP/1: {why}");
    Some(MediaError::new(MediaReason::HttpMalformed, message))
}

/// A resource that this process lacks: not the fault of the host or the item.
pub(super) fn of_process(shown: &str, error: &(dyn StdError + 'static)) -> Option<MediaError> {
    if let Some(exhausted) = exhaustion::exhausted(error) {
        return Some(of_exhausted(shown, exhausted));
    }
    let io = redact::causes(error).find_map(|cause| cause.downcast_ref::<io::Error>().filter(|io| is_no_address(io)));
    // The same error code also means that IPv6 is unreachable from here: then ports are left.
    io.filter(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).is_err()).map(|io| {
        MediaError::new(MediaReason::PortsExhausted, format!("{shown}: this machine has no local port left ({io})"))
    })
}

fn of_exhausted(shown: &str, exhausted: Exhausted) -> MediaError {
    let reason = match exhausted {
        Exhausted::Descriptors => MediaReason::FileDescriptorsExhausted,
        Exhausted::Memory => MediaReason::MemoryExhausted,
        Exhausted::Disk => MediaReason::DiskFull,
        Exhausted::ReadOnlyDisk => MediaReason::DiskReadOnly,
    };
    MediaError::new(reason, format!("{shown}: {exhausted}"))
}

fn is_no_address(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse)
}

/// The resolver does not answer for any name.
pub(super) fn resolver_unavailable(shown: &str, why: &str) -> MediaError {
    let why = why.strip_prefix(shown).unwrap_or(why).trim_start_matches([':', ' ']);
    let message = format!("{shown}: the resolver does not answer, not for names that it knows either ({why})");
    MediaError::new(MediaReason::ResolverUnavailable, message)
}

/// The resolver denies every name.
pub(super) fn resolver_denies(shown: &str) -> MediaError {
    let message =
        format!("{shown}: the resolver says that the host's name does not exist, and the same of names that it knew");
    MediaError::new(MediaReason::ResolverUnavailable, message)
}

/// The policy forbids the host or its address.
pub(super) fn refused(shown: &str, refusal: Refusal) -> MediaError {
    match refusal {
        Refusal::Special(range) => {
            let message = format!("{shown}: the address is {range}; expected one of the public internet");
            MediaError::new(MediaReason::AddressForbidden, message)
        }
        Refusal::DeniedHost => {
            MediaError::new(MediaReason::HostDenied, format!("{shown}: the host is in media.deny_hosts"))
        }
        Refusal::DeniedNetwork => {
            MediaError::new(MediaReason::AddressDenied, format!("{shown}: the address is in media.deny_networks"))
        }
    }
}

pub(super) fn invalid_url(url: &str, why: &str) -> MediaError {
    let message =
        format!("{}: not a URL that can be fetched ({}); expected http(s)://host/path", redact::url(url), why);
    MediaError::new(MediaReason::UrlInvalid, message)
}

pub(super) fn is_untrusted_certificate(error: &(dyn StdError + 'static)) -> bool {
    matches!(
        find::<rustls::Error>(error),
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
    )
}

/// The certificate is trusted, but for another host.
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
