//! Forwards librdkafka's log lines to our log.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::RDKafkaErrorCode;

/// At most one line per kind in this time.
const EVERY: Duration = Duration::from_secs(60);
/// Number of kinds that are distinguished. librdkafka has a few dozen.
const KINDS_MAX: usize = 256;

/// Kinds of lines about connections and logins. librdkafka repeats them while a broker is unavailable. Users of the client learn
/// this from its errors, and report the outage themselves. (`MAXPOLL` is not included: its warning is the only sign.)
const OF_CONNECTIONS: [&str; 8] =
    ["FAIL", "ERROR", "REQTMOUT", "SESSTMOUT", "COMMITFAIL", "GETPID", "SASLREFRESH", "SSLCERTVRFY"];

static LOGGED: Mutex<Limit> = Mutex::new(Limit { kinds: BTreeMap::new() });

/// Logs a line of librdkafka. Warnings and errors keep their level, limited to one a minute per kind (`facility`); other lines,
/// and those about connections, are logged at `debug`.
pub fn log_line(level: RDKafkaLogLevel, facility: &str, line: &str) {
    match severity(level, facility).filter(|_| allowed(facility)) {
        Some(Severity::Error) => tracing::error!(target: "librdkafka", facility, "{line}"),
        Some(Severity::Warning) => tracing::warn!(target: "librdkafka", facility, "{line}"),
        None => tracing::debug!(target: "librdkafka", level = ?level, facility, "{line}"),
    }
}

/// Logs an error of librdkafka that is not reported otherwise, one a minute per kind.
pub fn log_error(code: RDKafkaErrorCode, reason: &str) {
    if allowed(&code.to_string()) {
        tracing::error!(target: "librdkafka", %code, "{reason}");
    } else {
        tracing::debug!(target: "librdkafka", %code, "{reason}");
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Warning,
    Error,
}

fn severity(level: RDKafkaLogLevel, facility: &str) -> Option<Severity> {
    use RDKafkaLogLevel as Level;
    if OF_CONNECTIONS.contains(&facility) {
        return None;
    }
    match level {
        Level::Emerg | Level::Alert | Level::Critical | Level::Error => Some(Severity::Error),
        Level::Warning => Some(Severity::Warning),
        Level::Notice | Level::Info | Level::Debug => None,
    }
}

fn allowed(kind: &str) -> bool {
    LOGGED.lock().unwrap_or_else(PoisonError::into_inner).allows(kind, Instant::now())
}

struct Limit {
    kinds: BTreeMap<String, Instant>,
}

impl Limit {
    fn allows(&mut self, kind: &str, now: Instant) -> bool {
        let allows = match self.kinds.get(kind) {
            Some(logged) => now >= *logged + EVERY,
            None => self.kinds.len() < KINDS_MAX,
        };
        if allows {
            self.kinds.insert(kind.to_owned(), now);
        }
        allows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_ours_and_connections_are_reported_elsewhere() {
        use RDKafkaLogLevel as Level;
        assert_eq!(severity(Level::Warning, "OFFSET"), Some(Severity::Warning));
        assert_eq!(severity(Level::Error, "GZIP"), Some(Severity::Error));
        assert_eq!(severity(Level::Emerg, "FATAL"), Some(Severity::Error));
        assert_eq!(severity(Level::Info, "OFFSET"), None);
        assert_eq!(severity(Level::Error, "FAIL"), None);
    }

    #[test]
    fn a_kind_is_a_line_a_minute() {
        let (mut limit, now) = (Limit { kinds: BTreeMap::new() }, Instant::now());
        let lines = (0..600).filter(|second| limit.allows("OFFSET", now + Duration::from_secs(*second))).count();
        assert_eq!(lines, 10);
        assert!(limit.allows("MAXPOLL", now), "kinds do not wait for each other");
    }
}
