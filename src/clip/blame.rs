//! Decides whether the item or its session is to blame for a failed run.
//!
//! An item that fails alone is blamed if the session still works for known-good inputs. Three cases are different:
//!
//! - Everything fails except the known inputs: [`ROW_MAX`] different items in a row that fail alone, without a success
//!   between them, are the session's fault.
//! - Running out of memory is never the item's fault.
//! - One item breaks every session that runs it: after [`BREAKS_MAX`] sessions that had worked before, it is blamed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::ClipError;
use crate::retry::Backoff;

/// The same limit as for media hosts (`media/host_health`).
const ROW_MAX: usize = 8;
const BREAKS_MAX: u32 = 3;
/// Most items remembered because a session broke while it ran them.
const REMEMBERED_MAX: usize = 1024;

/// Waits between attempts to reopen a session. The first attempt is immediate.
const REOPEN_BASE: Duration = Duration::from_secs(1);
const REOPEN_CAP: Duration = Duration::from_secs(30);

/// After this long without a failure, the next one starts a new outage, even if no item came that could have succeeded.
const CALM: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The item failed by itself; the session works.
    Item,
    /// The session does not work; the item is not to blame.
    Session,
    /// The item failed and broke the session, as it broke earlier ones.
    Both,
}

/// The failures of one thread's session and of its predecessors.
#[derive(Debug)]
pub(super) struct Blame {
    /// Different items that failed alone since the last success.
    row: Vec<u64>,
    /// Items that ran alone when a session broke, and how often.
    broke: HashMap<u64, u32>,
    /// Whether the session has worked for an item since it was opened. Assumed for the first one.
    worked: bool,
    /// Start of the current outage.
    since: Option<Instant>,
    /// The last failure of a session.
    last: Option<Instant>,
    backoff: Backoff,
}

impl Blame {
    pub(super) fn new() -> Self {
        Self {
            row: Vec::new(),
            broke: HashMap::new(),
            worked: true,
            since: None,
            last: None,
            backoff: Backoff::new(REOPEN_BASE, REOPEN_CAP),
        }
    }

    /// An item got its vector.
    pub(super) fn succeeded(&mut self) {
        self.row.clear();
        (self.worked, self.since) = (true, None);
        self.backoff.reset();
    }

    /// The item `digest` failed alone with `error`. `proof`: the result of the known inputs right after it.
    pub(super) fn failed(
        &mut self,
        digest: u64,
        error: &ClipError,
        proof: &Result<(), ClipError>,
        now: Instant,
    ) -> Verdict {
        let verdict = match proof {
            Ok(()) => {
                if !self.row.contains(&digest) && self.row.len() < ROW_MAX {
                    self.row.push(digest);
                }
                if self.row.len() >= ROW_MAX || error.is_of_memory() { Verdict::Session } else { Verdict::Item }
            }
            Err(_) => {
                if self.broke.len() >= REMEMBERED_MAX {
                    self.broke.clear();
                }
                let times = self.broke.entry(digest).or_default();
                // A session that never worked says nothing about the item.
                *times += u32::from(self.worked);
                if *times >= BREAKS_MAX { Verdict::Both } else { Verdict::Session }
            }
        };
        if verdict != Verdict::Item {
            self.session_failed(now);
        }
        verdict
    }

    /// The session failed, or could not be reopened.
    pub(super) fn session_failed(&mut self, now: Instant) {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) >= CALM) {
            self.since = None;
            self.backoff.reset();
        }
        self.last = Some(now);
        self.since.get_or_insert(now);
    }

    /// How long to wait before the next attempt to reopen the session.
    pub(super) fn reopening(&mut self) -> Duration {
        self.worked = false;
        let is_first = self.backoff.attempts() == 0;
        let wait = self.backoff.next_wait(None);
        if is_first { Duration::ZERO } else { wait }
    }

    /// How long the current outage has lasted.
    pub(super) fn lasted(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(blame: &mut Blame, digest: u64, proof: &Result<(), ClipError>) -> Verdict {
        blame.failed(digest, &ClipError::run("no"), proof, Instant::now())
    }

    fn broken() -> Result<(), ClipError> {
        Err(ClipError::run("no"))
    }

    #[test]
    fn one_bad_item_is_blamed_however_often_it_is_tried() {
        let mut blame = Blame::new();
        for _ in 0..100 {
            assert_eq!(failed(&mut blame, 13, &Ok(())), Verdict::Item);
        }
        assert_eq!(failed(&mut blame, 13, &broken()), Verdict::Session, "unless good inputs fail, too");
    }

    #[test]
    fn different_items_in_a_row_are_not_to_blame_until_one_succeeds() {
        let mut blame = Blame::new();
        for digest in 0..7 {
            assert_eq!(failed(&mut blame, digest, &Ok(())), Verdict::Item, "{digest}");
        }
        assert_eq!(failed(&mut blame, 7, &Ok(())), Verdict::Session);
        assert_eq!(failed(&mut blame, 0, &Ok(())), Verdict::Session, "nor those before");
        let soon = Instant::now() + Duration::from_secs(100);
        assert!(blame.lasted(soon) >= Duration::from_secs(99));
        blame.succeeded();
        assert_eq!(blame.lasted(soon), Duration::ZERO);
        assert_eq!(failed(&mut blame, 0, &Ok(())), Verdict::Item);
    }

    #[test]
    fn a_failure_long_after_the_last_one_is_another_story() {
        let (mut blame, start) = (Blame::new(), Instant::now());
        blame.session_failed(start);
        blame.session_failed(start + CALM / 2);
        assert_eq!(blame.lasted(start + CALM), CALM);
        let later = start + 2 * CALM;
        blame.session_failed(later);
        assert_eq!(blame.lasted(later), Duration::ZERO);
    }

    #[test]
    fn memory_is_never_an_items_fault() {
        let error = ClipError::run("Failed to allocate memory for requested buffer of size 9437184");
        assert_eq!(Blame::new().failed(1, &error, &Ok(()), Instant::now()), Verdict::Session);
    }

    #[test]
    fn an_item_that_breaks_every_session_is_blamed_after_three_that_worked_for_others() {
        let mut blame = Blame::new();
        for _ in 0..20 {
            assert_eq!(failed(&mut blame, 1, &broken()), Verdict::Session, "none has worked since");
            blame.reopening();
        }
        for _ in 0..2 {
            blame.succeeded();
            let verdict = failed(&mut blame, 66, &broken());
            assert_eq!(verdict, Verdict::Session);
            blame.reopening();
        }
        blame.succeeded();
        assert_eq!(failed(&mut blame, 66, &broken()), Verdict::Both);
    }

    #[test]
    fn the_first_session_is_opened_at_once_and_the_next_ones_later_until_one_works() {
        let mut blame = Blame::new();
        assert_eq!(blame.reopening(), Duration::ZERO);
        assert!(blame.reopening() >= REOPEN_BASE / 2);
        for _ in 0..20 {
            assert!(blame.reopening() <= REOPEN_CAP);
        }
        blame.succeeded();
        assert_eq!(blame.reopening(), Duration::ZERO);
    }
}
