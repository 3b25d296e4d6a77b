//! Asks for a file only if it has changed (RFC 9110 §13.1).
//!
//! A validator tells versions of one resource apart. The file may have come from another resource: behind a redirect
//! that leads elsewhere now, or at a URL whose unrecorded secrets select the file. Then only a strong ETag is trusted:
//! servers derive it from content, or from time and size. A time or a weak ETag says too little, so the file is fetched
//! and its bytes are compared.

use chrono::{DateTime, Utc};
use http::header::{DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};

use super::Validators;
use crate::domain::{MediaRecord, UnchangedBy};
use crate::redact;

/// Longer ETags are not stored: they go into every point's payload.
const ETAG_BYTES_MAX: usize = 256;

/// A header that asks for the file only if it has changed.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub(super) header: HeaderName,
    pub(super) value: HeaderValue,
    pub(super) by: UnchangedBy,
}

impl Condition {
    /// Prefers the ETag, even a weak one, to the time (RFC 9110 §13.1.2 and §13.1.3). `None` if neither is known in a
    /// form that fits a header.
    pub(super) fn of(known: &Validators) -> Option<Self> {
        let (header, value, by) = match (&known.etag, &known.last_modified) {
            (Some(etag), _) => (IF_NONE_MATCH, etag, UnchangedBy::Etag),
            (None, Some(time)) => (IF_MODIFIED_SINCE, time, UnchangedBy::LastModified),
            (None, None) => return None,
        };
        Some(Self { header, value: HeaderValue::from_str(value).ok()?, by })
    }

    /// Whether it may be sent to another URL than the one its validator came from.
    pub(super) fn holds_elsewhere(&self) -> bool {
        self.by == UnchangedBy::Etag && self.value.to_str().is_ok_and(is_strong)
    }
}

/// The validators of an HTTP answer.
pub(super) fn validators(headers: &HeaderMap, redirected: bool) -> Validators {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let last_modified = header(LAST_MODIFIED).filter(|time| !redirected && is_settled(time, header(DATE).as_deref()));
    let etag = header(ETAG).filter(|etag| etag.len() <= ETAG_BYTES_MAX);
    Validators { etag, last_modified, version_id: None }
}

/// The validators to send with a request for `url`. Records store URLs without secrets, so a newly signed URL still
/// matches. If the stored URL was cut, its end is unknown.
pub(super) fn known_of(known: &MediaRecord, url: &str) -> Option<Validators> {
    let shown = redact::url(url);
    if shown != known.url || redact::is_cut(&shown) {
        return None;
    }
    let whole = redact::shows_all(url);
    let validators = Validators {
        etag: known.etag.clone().filter(|etag| whole || is_strong(etag)),
        last_modified: known.last_modified.clone().filter(|_| whole),
        // Version ids are unique.
        version_id: known.version_id.clone(),
    };
    (validators != Validators::default()).then_some(validators)
}

/// The validators to store for a file fetched from `url`.
pub(super) fn to_keep(validators: Validators, url: &str) -> Validators {
    // The same shown URL with other secrets may be another file.
    let last_modified = validators.last_modified.filter(|_| redact::shows_all(url));
    Validators { last_modified, ..validators }
}

fn is_strong(etag: &str) -> bool {
    !etag.starts_with("W/")
}

/// Times have whole seconds: a file written twice within one second keeps its time. A time only tells versions apart if
/// its second is over when the server answers (RFC 9110 §8.8.2.2).
fn is_settled(last_modified: &str, date: Option<&str>) -> bool {
    let read = |time: &str| DateTime::parse_from_rfc2822(time).ok().map(|time| time.with_timezone(&Utc));
    matches!((read(last_modified), date.and_then(read)), (Some(modified), Some(answered)) if modified < answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

    fn record(url: &str, etag: &str) -> MediaRecord {
        MediaRecord {
            url: redact::url(url),
            etag: Some(etag.to_owned()),
            last_modified: Some(TIME.to_owned()),
            version_id: None,
            sha256: String::new(),
            width: 1,
            height: 1,
            mime: "image/png".into(),
        }
    }

    #[test]
    fn validators_belong_to_one_url() {
        let of = |recorded: &str, etag: &str, asked: &str| known_of(&record(recorded, etag), asked);
        let same = of("https://a.example/x.png", "W/\"e\"", "https://a.example/x.png").unwrap();
        assert!(same.etag.is_some() && same.last_modified.is_some());
        assert_eq!(of("https://a.example/x.png", "\"e\"", "https://a.example/y.png"), None);
        let signed = of("https://a.example/x.png?token=1", "\"e\"", "https://a.example/x.png?token=2").unwrap();
        assert!(signed.etag.is_some() && signed.last_modified.is_none(), "a strong ETag alone");
        assert_eq!(of("https://a.example/x.png?token=1", "W/\"e\"", "https://a.example/x.png?token=2"), None);
        // Parameters with other names may select the file, so the record includes a hash of them.
        let same = of("https://a.example/i.php?id=7", "W/\"e\"", "https://a.example/i.php?id=7").unwrap();
        assert!(same.etag.is_some() && same.last_modified.is_some());
        assert_eq!(of("https://a.example/i.php?id=7", "\"e\"", "https://a.example/i.php?id=8"), None);
        let long = format!("https://a.example/{}", "x".repeat(300));
        assert_eq!(of(&long, "\"e\"", &long), None, "what was cut off may differ");
        // `#` is part of an S3 key, and starts the fragment in other URLs.
        assert_eq!(of("s3://b/k#1", "W/\"e\"", "s3://b/k#2"), None);
    }

    #[test]
    fn times_are_kept_of_whole_urls_that_have_settled() {
        let headers = |date: &str, etag: &str| {
            let pairs = [(LAST_MODIFIED, TIME), (DATE, date), (ETAG, etag)];
            HeaderMap::from_iter(pairs.map(|(name, value)| (name, value.parse().unwrap())))
        };
        let later = "Wed, 21 Oct 2015 07:28:01 GMT";
        assert_eq!(validators(&headers(later, "\"e\""), false).last_modified.as_deref(), Some(TIME));
        assert_eq!(validators(&headers(TIME, "\"e\""), false).last_modified, None, "the second is not over");
        assert_eq!(validators(&headers("today", "\"e\""), false).last_modified, None);
        assert_eq!(validators(&headers(later, "\"e\""), true).last_modified, None, "of whatever it led to");
        assert_eq!(validators(&headers(later, &"x".repeat(257)), false).etag, None);
        let all = validators(&headers(later, "\"e\""), false);
        assert_eq!(to_keep(all.clone(), "https://a/x?id=7"), all);
        assert_eq!(to_keep(all, "https://joe:pw@a/x").last_modified, None);
    }
}
