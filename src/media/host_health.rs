//! Decides whether failed fetches are the fault of their host or of single items. If the host is down, messages are held; otherwise they
//! fail one by one. Confusing the two would lose good messages, or hold a partition for one bad URL.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::MediaError;
use super::signs::{Sign, sign};
use crate::domain::Class;

/// This many different URLs in a row without a success make failures the host's rather than the items'. A message in
/// flight counts once, however often it is tried.
const URLS_MIN: usize = 8;

/// The longest outage of a host that never served, however long others are held: a worker that has just started cannot
/// know the host.
const UNKNOWN_HOLD_MAX: Duration = Duration::from_secs(120);

/// Whether a host has an outage. Pure: the caller passes the time.
///
/// A host that has served before (this process, or another one according to stored records) has an outage if:
/// - it cannot be reached (name, connection, certificate): one failure is enough, since no single item can be the
///   cause;
/// - or it fails for [`URLS_MIN`] different URLs in a row.
///
/// A host that never served has one only if it says itself that it is busy or broken (5xx, 429), for [`URLS_MIN`]
/// different URLs in a row, and for at most [`UNKNOWN_HOLD_MAX`]. So a feed of dead URLs does not hold up the rest.
///
/// Otherwise each message fails by itself: a wrong host name, an item that breaks its server, an unreadable answer.
#[derive(Debug, Default)]
pub(super) struct HostHealth {
    has_served: bool,
    /// Stands for many hosts: an outage takes [`URLS_MIN`] unreachable ones, no fewer.
    is_many: bool,
    failing: Option<Failing>,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    unreachable: bool,
    /// All failures were answers in which the host blames itself.
    says_so: bool,
    /// Hashes of URLs, at most [`URLS_MIN`].
    urls: HashSet<u64>,
}

impl HostHealth {
    /// For the whole network, with hosts in place of URLs.
    pub fn of_many() -> Self {
        Self { is_many: true, ..Self::default() }
    }

    /// Records a result. Returns it, as an outage if the host has one, for at most `hold` since its beginning.
    pub fn judge<T>(
        &mut self,
        host: &str,
        url: &str,
        result: Result<T, MediaError>,
        hold: Duration,
        now: Instant,
    ) -> Result<T, MediaError> {
        let sign = result.as_ref().map_or_else(sign, |_| Sign::Serves);
        match sign {
            Sign::None => return result,
            Sign::Serves | Sign::Answers => {
                self.has_served |= sign == Sign::Serves;
                self.failing = None;
                return result;
            }
            Sign::Unreachable | Sign::SaysSo | Sign::Fails => {}
        }
        let failing = self.failing.get_or_insert_with(|| Failing {
            since: now,
            unreachable: false,
            says_so: true,
            urls: HashSet::new(),
        });
        failing.unreachable |= sign == Sign::Unreachable;
        failing.says_so &= sign == Sign::SaysSo;
        if failing.urls.len() < URLS_MIN {
            let mut hasher = DefaultHasher::new();
            url.hash(&mut hasher);
            failing.urls.insert(hasher.finish());
        }
        match result {
            // An existing outage (of a fixed S3 endpoint) stays as it is.
            Err(error) if error.class != Class::Outage && self.is_out(hold, now) => Err(MediaError {
                class: Class::Outage,
                message: format!(
                    "{host} is down; its messages are held (media.host_outage_hold_ms): {}",
                    error.message
                ),
                ..error
            }),
            other => other,
        }
    }

    pub fn is_out(&self, hold: Duration, now: Instant) -> bool {
        self.failing.as_ref().is_some_and(|failing| {
            let many = failing.urls.len() >= URLS_MIN;
            let (everyone, hold) = match (self.is_many, self.has_served) {
                (true, _) => (many, hold),
                (false, true) => (many || failing.unreachable, hold),
                (false, false) => (many && failing.says_so, hold.min(UNKNOWN_HOLD_MAX)),
            };
            everyone && now.saturating_duration_since(failing.since) < hold
        })
    }

    /// Whether the host is suspect: it never served, cannot be reached, or fails for several items.
    pub fn is_doubtful(&self) -> bool {
        let fails = |failing: &Failing| failing.unreachable || failing.urls.len() > 1;
        !self.has_served || self.failing.as_ref().is_some_and(fails)
    }

    /// The host has served before, perhaps another process.
    pub fn note_served(&mut self) {
        self.has_served = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::MediaReason;

    const HOLD: Duration = Duration::from_secs(7200);

    struct Host {
        health: HostHealth,
        start: Instant,
    }

    impl Host {
        fn new() -> Self {
            Self { health: HostHealth::default(), start: Instant::now() }
        }

        fn see(&mut self, second: u64, url: &str, result: Result<(), MediaError>) -> Result<(), Class> {
            let now = self.start + Duration::from_secs(second);
            self.health.judge("h", url, result, HOLD, now).map_err(|error| error.class)
        }
    }

    fn refused() -> Result<(), MediaError> {
        Err(MediaError::new(MediaReason::ConnectFailed, "no connection"))
    }

    fn broken() -> Result<(), MediaError> {
        Err(MediaError::new(MediaReason::HttpServerError, "HTTP 500"))
    }

    #[test]
    fn a_host_that_has_served_and_cannot_be_reached_is_out_until_it_serves_again_or_the_hold_is_over() {
        let mut host = Host::new();
        assert_eq!(host.see(0, "a", Ok(())), Ok(()));
        assert_eq!(host.see(1, "b", refused()), Err(Class::Outage));
        assert_eq!(host.see(3601, "b", refused()), Err(Class::Outage));
        assert_eq!(host.see(3602, "b", Ok(())), Ok(()));
        assert_eq!(host.see(3603, "c", refused()), Err(Class::Outage));
        assert_eq!(host.see(3603 + 7200, "c", refused()), Err(Class::Transient), "the hold is over");
        let untrusted = || Err(MediaError::new(MediaReason::TlsCertificateUntrusted, "expired"));
        assert_eq!(host.see(20_000, "d", Ok(())), Ok(()));
        assert_eq!(host.see(20_001, "d", untrusted()), Err(Class::Outage), "no item's certificate");
    }

    #[test]
    fn a_wrong_name_and_a_broken_item_are_their_messages_own() {
        let mut host = Host::new();
        for second in 0..100 {
            assert_eq!(host.see(second, "https://typo/a.jpg", refused()), Err(Class::Transient));
        }
        let mut host = Host::new();
        host.see(0, "good", Ok(())).unwrap();
        for second in 0..100 {
            assert_eq!(host.see(second, "bad", broken()), Err(Class::Transient));
        }
    }

    #[test]
    fn failures_for_many_urls_and_nothing_else_are_the_hosts() {
        let mut host = Host::new();
        assert_eq!(host.see(0, "good", Ok(())), Ok(()));
        for n in 0..7 {
            assert_eq!(host.see(n, &n.to_string(), broken()), Err(Class::Transient));
        }
        assert_eq!(host.see(8, "8", broken()), Err(Class::Outage));
        assert_eq!(host.see(9, "0", broken()), Err(Class::Outage), "those that were seen before, too");
        let missing = Err(MediaError::new(MediaReason::HttpNotFound, "404"));
        assert_eq!(host.see(10, "9", missing), Err(Class::Permanent));
        assert_eq!(host.see(11, "0", broken()), Err(Class::Transient), "it answers");
        let ours = Err(MediaError::new(MediaReason::AddressForbidden, "loopback"));
        assert_eq!(host.see(12, "0", ours), Err(Class::Permanent));
    }

    #[test]
    fn a_host_that_never_served_is_out_only_if_it_says_so_and_not_for_long() {
        let stalled = || Err(MediaError::new(MediaReason::BodyStalled, "nothing came"));
        for failure in [refused, stalled] {
            let mut host = Host::new();
            for second in 0..300 {
                assert_eq!(host.see(second, &second.to_string(), failure()), Err(Class::Transient));
            }
            let missing = Err(MediaError::new(MediaReason::HttpNotFound, "404"));
            assert_eq!(host.see(300, "missing", missing), Err(Class::Permanent), "that is service");
            let after = (301..309).map(|n| host.see(n, &n.to_string(), failure())).last();
            assert_eq!(after, Some(Err(Class::Outage)));
        }
        let mut host = Host::new();
        let found: Vec<_> = (0..130).map(|second| host.see(second, &second.to_string(), broken())).collect();
        assert!(found[..7].iter().chain(&found[120..]).all(|class| *class == Err(Class::Transient)), "{found:?}");
        assert!(found[7..120].iter().all(|class| *class == Err(Class::Outage)), "{found:?}");
        let mut host = Host::new();
        host.health.note_served();
        assert_eq!(host.see(0, "a", refused()), Err(Class::Outage), "another process has had something of it");
    }

    #[test]
    fn unusable_answers_count_against_their_item_and_do_not_show_service() {
        let malformed = || Err(MediaError::new(MediaReason::HttpMalformed, "no HTTP"));
        let mut host = Host::new();
        host.see(0, "good", Ok(())).unwrap();
        for second in 1..100 {
            assert_eq!(host.see(second, &second.to_string(), malformed()), Err(Class::Transient));
        }
        assert_eq!(host.see(100, "a", refused()), Err(Class::Outage), "it has served");
        let mut host = Host::new();
        host.see(0, "a", malformed()).unwrap_err();
        assert_eq!(host.see(1, "b", refused()), Err(Class::Transient), "it never has");
    }
}
