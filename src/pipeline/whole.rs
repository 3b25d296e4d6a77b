//! A message in flight with all of its requests. It is settled when all are done. A dead letter names those that failed.
//!
//! An asset's next job after a failed request waits until the dead letter is safe. If it were written before that and
//! the message delivered again, the failed request would be older than the stored point and pass for settled. Within
//! one message, the letter is sent before the requests that wait for it. If one of those fails, it gets its own letter.

use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::attempts::GaveUp;
use super::flight::Flight;
use crate::domain::{Class, Failure, Fault, Message, Outcome};

/// How many failed requests a dead letter describes.
const DESCRIBED_MAX: usize = 10;
/// How many are named: a header cannot be split. With more failed requests, all are tried again.
const NAMED_MAX: usize = 1_000;

/// A message that was taken and is not decoded yet.
#[derive(Debug)]
pub struct Arrival {
    pub message: Message,
    pub flight: Flight,
    /// Bytes it adds to those in flight.
    pub bytes: usize,
}

impl Arrival {
    pub fn new(message: Message, flight: Flight) -> Self {
        let bytes = message.memory_bytes();
        Self { message, flight, bytes }
    }
}

/// Shared by the jobs of one message.
#[derive(Debug)]
pub struct Whole {
    pub message: Message,
    /// The message's flight. Each job has its own, which shares fence and stage.
    pub flight: Flight,
    /// See [`Arrival::bytes`].
    pub bytes: usize,
    /// Number of requests in the message.
    requests: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Requests that are not done, and a letter that is not safe.
    open: usize,
    /// How many tasks work on the message.
    running: usize,
    /// Failed requests that are not in a letter yet.
    failed: Vec<Failed>,
    /// The highest-ranking outcome of a request.
    most: Option<Outcome>,
    /// A request was dropped: the partition's next owner receives the whole message again.
    is_left: bool,
}

/// A request that failed for good.
#[derive(Debug)]
struct Failed {
    index: usize,
    /// As the request names it, if it could be decoded.
    asset: Option<String>,
    gave_up: GaveUp,
}

/// How one request, or a letter, has ended.
#[derive(Debug)]
pub enum Closed {
    Done(Outcome),
    /// `asset`: as the request names it, if it could be decoded.
    Failed {
        index: usize,
        asset: Option<String>,
        gave_up: GaveUp,
    },
    Left,
}

/// What to do with the message when none of it is in progress.
#[derive(Debug)]
pub enum Next {
    Settle(Outcome),
    /// To send. Once it is safe, it is closed like a request.
    Send(Letter),
    /// To drop, together with those of its requests that wait for a letter.
    Leave {
        is_last: bool,
    },
}

/// The content of a message's dead letter.
#[derive(Debug)]
pub struct Letter {
    pub gave_up: GaveUp,
    /// Indices of the failed requests, in order. Empty: all failed, or too many to name.
    pub requests: Vec<usize>,
}

impl Whole {
    /// `requests`: how many the message brought. `open`: how many of them are to be done; each is closed once.
    pub fn new(arrival: Arrival, requests: usize, open: usize) -> Arc<Self> {
        let Arrival { message, flight, bytes } = arrival;
        Arc::new(Self { message, flight, bytes, requests, state: Mutex::new(State { open, ..State::default() }) })
    }

    pub fn is_single(&self) -> bool {
        self.requests == 1
    }

    /// A task starts on the message. Whether it is the only one.
    pub fn start(&self) -> bool {
        let mut state = self.lock();
        state.running += 1;
        state.running == 1
    }

    /// A task has ended. Whether none is left.
    pub fn stop(&self) -> bool {
        let mut state = self.lock();
        state.running = state.running.saturating_sub(1);
        state.running == 0
    }

    /// Closes a request or a letter. `behind`: how many open requests wait for a letter of this message. Returns what
    /// to do if nothing else is open.
    pub fn close(&self, closed: Closed, behind: usize) -> Option<Next> {
        let mut state = self.lock();
        match closed {
            Closed::Done(outcome) => {
                if state.most.as_ref().is_none_or(|most| rank(&outcome) > rank(most)) {
                    state.most = Some(outcome);
                }
            }
            Closed::Failed { index, asset, gave_up } => state.failed.push(Failed { index, asset, gave_up }),
            Closed::Left => state.is_left = true,
        }
        state.open = state.open.saturating_sub(1);
        if state.open > behind {
            return None;
        }
        if state.is_left {
            return Some(Next::Leave { is_last: state.open == 0 });
        }
        if !state.failed.is_empty() {
            state.open += 1;
            return Some(Next::Send(self.letter(std::mem::take(&mut state.failed))));
        }
        (state.open == 0).then(|| Next::Settle(state.most.take().unwrap_or(Outcome::Empty)))
    }

    fn letter(&self, mut failed: Vec<Failed>) -> Letter {
        failed.sort_by_key(|failed| failed.index);
        // A transient failure decides: with retry topics it has the message tried again.
        let deciding =
            failed.iter().position(|failed| failed.gave_up.failure.fault.class == Class::Transient).unwrap_or_default();
        // If all failed, all are tried again without being named.
        let is_part = failed.len() < self.requests && failed.len() <= NAMED_MAX;
        let requests = if is_part { failed.iter().map(|failed| failed.index).collect() } else { Vec::new() };
        let attempts = failed.iter().map(|failed| failed.gave_up.attempts).max().unwrap_or(1);
        let message = (self.requests > 1).then(|| described(&failed, self.requests));
        let mut failure = failed.swap_remove(deciding).gave_up.failure;
        if let Some(message) = message {
            // The message already holds the hint of each request.
            failure.fault = Fault { message, hint: None, ..failure.fault };
        }
        Letter { gave_up: GaveUp { failure, attempts }, requests }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock is safe to use: nothing between the updates of the counts can fail.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of several outcomes, the one with the highest rank becomes the message's.
fn rank(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Empty => 0,
        Outcome::Superseded => 1,
        Outcome::Stale => 2,
        Outcome::Deleted => 3,
        Outcome::Indexed => 4,
        Outcome::RetryScheduled(_) => 5,
        Outcome::DeadLettered(_) => 6,
    }
}

fn described(failed: &[Failed], of: usize) -> String {
    let mut text = format!("{} of {of} requests failed", failed.len());
    for (n, Failed { index, asset, gave_up: GaveUp { failure, .. } }) in failed.iter().take(DESCRIBED_MAX).enumerate() {
        let asset = asset.as_ref().map_or_else(String::new, |asset| format!(" (asset \"{asset}\")"));
        let Failure { stage, fault } = failure;
        let mark = if n == 0 { ":" } else { ";" };
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{mark} request {}{asset} in stage {stage}, {}: {fault}", index + 1, fault.reason);
    }
    if failed.len() > DESCRIBED_MAX {
        let _ = write!(text, "; and {} more", failed.len() - DESCRIBED_MAX);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{MediaReason, Stage};

    fn whole(requests: usize) -> Arc<Whole> {
        Whole::new(Arrival::new(Message::empty("t", 0, 0), Flight::default()), requests, requests)
    }

    fn failure(reason: MediaReason) -> Failure {
        Fault::new(reason, format!("{reason} said why")).at(Stage::Fetch)
    }

    fn failed(index: usize, reason: MediaReason, attempts: u32) -> Closed {
        let gave_up = GaveUp { failure: failure(reason), attempts };
        Closed::Failed { index, asset: Some(format!("a{index}")), gave_up }
    }

    fn letter(next: Option<Next>) -> Letter {
        let Some(Next::Send(letter)) = next else { panic!("{next:?}") };
        letter
    }

    #[test]
    fn it_ends_with_its_last_request_as_the_one_of_which_most_was_done() {
        let message = whole(3);
        assert!(message.close(Closed::Done(Outcome::Stale), 0).is_none());
        assert!(message.close(Closed::Done(Outcome::Indexed), 0).is_none());
        let next = message.close(Closed::Done(Outcome::Superseded), 0);
        assert!(matches!(next, Some(Next::Settle(Outcome::Indexed))), "{next:?}");
    }

    #[test]
    fn one_letter_names_all_that_failed_and_what_may_pass_decides_what_becomes_of_it() {
        let message = whole(4);
        for closed in [
            failed(3, MediaReason::FetchTimeout, 5),
            Closed::Done(Outcome::Indexed),
            failed(1, MediaReason::HttpNotFound, 1),
        ] {
            assert!(message.close(closed, 0).is_none());
        }
        let letter = letter(message.close(Closed::Done(Outcome::Deleted), 0));
        let GaveUp { failure, attempts } = letter.gave_up;
        assert_eq!((letter.requests, attempts), (vec![1, 3], 5));
        assert_eq!((failure.fault.class, failure.fault.reason), (Class::Transient, MediaReason::FetchTimeout.into()));
        assert_eq!(
            failure.fault.to_string(),
            "2 of 4 requests failed: request 2 (asset \"a1\") in stage fetch, http_not_found: http_not_found said why; \
             check that the file is still there; request 4 (asset \"a3\") in stage fetch, fetch_timeout: fetch_timeout said \
             why; raise media.fetch_timeout_ms if the server is merely slow"
        );
        let next = message.close(Closed::Done(Outcome::RetryScheduled(failure)), 0);
        assert!(
            matches!(next, Some(Next::Settle(Outcome::RetryScheduled(_)))),
            "settled once the letter is safe: {next:?}"
        );
    }

    #[test]
    fn a_letter_goes_before_what_waits_for_it_and_that_may_have_another_one() {
        let message = whole(4);
        assert!(message.close(failed(0, MediaReason::FetchTimeout, 5), 2).is_none(), "request 2 is under way");
        let first = letter(message.close(Closed::Done(Outcome::Indexed), 2));
        assert_eq!(first.requests, [0]);
        assert!(
            message.close(Closed::Done(Outcome::RetryScheduled(first.gave_up.failure)), 0).is_none(),
            "two are to be done"
        );
        assert!(message.close(failed(1, MediaReason::HttpGone, 1), 0).is_none());
        let second = letter(message.close(failed(3, MediaReason::FetchTimeout, 5), 0));
        assert_eq!(second.requests, [1, 3]);
        let next = message.close(Closed::Done(Outcome::DeadLettered(second.gave_up.failure)), 0);
        assert!(matches!(next, Some(Next::Settle(Outcome::DeadLettered(_)))), "{next:?}");
    }

    #[test]
    fn its_bytes_are_of_what_runs_while_one_of_its_requests_does() {
        let message = whole(2);
        assert_eq!((message.start(), message.start(), message.stop(), message.stop()), (true, false, false, true));
    }

    #[test]
    fn a_letter_of_many_stays_short() {
        let message = whole(30);
        let next = (0..30).find_map(|index| message.close(failed(index, MediaReason::HttpGone, 1), 0));
        let text = letter(next).gave_up.failure.fault.message;
        assert!(text.contains("request 10 (") && !text.contains("request 11 ("), "{text}");
        assert!(text.ends_with("; and 20 more"), "{text}");
    }

    #[test]
    fn one_request_alone_fails_in_its_own_words() {
        let letter = letter(whole(1).close(failed(0, MediaReason::HttpGone, 2), 0));
        assert_eq!((letter.gave_up.failure.fault.message.as_str(), letter.requests), ("http_gone said why", vec![]));
    }

    #[test]
    fn what_was_dropped_in_part_is_dropped() {
        let message = whole(3);
        assert!(message.close(Closed::Left, 0).is_none());
        assert!(message.close(failed(1, MediaReason::HttpGone, 1), 0).is_none());
        assert!(matches!(message.close(Closed::Done(Outcome::Indexed), 0), Some(Next::Leave { is_last: true })));
        // No dead letter will come that the last request could wait for.
        let message = whole(3);
        assert!(message.close(failed(1, MediaReason::HttpGone, 1), 1).is_none());
        assert!(matches!(message.close(Closed::Left, 1), Some(Next::Leave { is_last: false })));
        assert!(matches!(message.close(Closed::Left, 0), Some(Next::Leave { is_last: true })));
    }
}
