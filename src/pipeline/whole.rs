//! A message on its way, with all the requests that it brought. It is settled when each of them is done; what failed of it is
//! told in one dead letter.

use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::attempts::GaveUp;
use super::flight::Flight;
use crate::domain::{Class, Failure, Fault, Message, Outcome, PointId};

/// How many failed requests a dead letter describes.
const DESCRIBED_MAX: usize = 10;
/// How many are named: a letter's headers are not cut into parts. With more than so many, all are tried again.
const NAMED_MAX: usize = 1_000;

/// Shared by the jobs of one message.
#[derive(Debug)]
pub struct Whole {
    pub message: Message,
    /// That of the message. Each job has one of its own, which shares fence and stage.
    pub flight: Flight,
    /// Requests that the message brought.
    requests: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Requests that are not done.
    open: usize,
    /// Requests that a task works on.
    running: usize,
    failed: Vec<Failed>,
    /// The most that became of a request.
    most: Option<Outcome>,
    /// A request was dropped: the next owner of the partition has all of the message again.
    is_left: bool,
    /// Assets with a request that failed.
    doubtful: Vec<PointId>,
}

/// A request that failed for good.
#[derive(Debug)]
struct Failed {
    index: usize,
    /// As the request names it, where there is a request.
    asset: Option<String>,
    gave_up: GaveUp,
}

/// What has become of one request.
#[derive(Debug)]
pub enum Closed {
    Done(Outcome),
    /// `asset`: as the request names it, where it could be decoded.
    Failed {
        index: usize,
        asset: Option<String>,
        gave_up: GaveUp,
    },
    Left,
}

/// What becomes of the message, once nothing of it is open.
#[derive(Debug)]
pub enum Ending {
    Settled(Outcome),
    Letter(Letter),
    Left,
}

/// What is to be told of a message in its dead letter.
#[derive(Debug)]
pub struct Letter {
    pub gave_up: GaveUp,
    /// Indices of the requests that failed, in order; empty where they all did, or too many to be named.
    pub requests: Vec<usize>,
}

impl Whole {
    /// `requests`: that it brought. `open`: of those, how many are to be done; each is closed once.
    pub fn new(message: Message, flight: Flight, requests: usize, open: usize) -> Arc<Self> {
        Arc::new(Self { message, flight, requests, state: Mutex::new(State { open, ..State::default() }) })
    }

    /// A request begins to run. Whether it is the only one that does.
    pub fn start(&self) -> bool {
        let mut state = self.lock();
        state.running += 1;
        state.running == 1
    }

    /// A request has ended to run. Whether none does now.
    pub fn stop(&self) -> bool {
        let mut state = self.lock();
        state.running = state.running.saturating_sub(1);
        state.running == 0
    }

    /// A request is not open any more. The ending of the message, if that was the last one.
    pub fn close(&self, closed: Closed) -> Option<Ending> {
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
        if state.open > 0 {
            return None;
        }
        Some(if state.is_left {
            Ending::Left
        } else if state.failed.is_empty() {
            Ending::Settled(state.most.take().unwrap_or(Outcome::Empty))
        } else {
            Ending::Letter(self.letter(std::mem::take(&mut state.failed)))
        })
    }

    /// A request for this asset has failed.
    pub fn doubt(&self, asset: PointId) {
        self.lock().doubtful.push(asset);
    }

    /// Whether one has, so that what comes after the message must not be written before the message's letter is safe: were the
    /// message delivered again, it would be older than what is stored, and pass for settled.
    pub fn doubts(&self, asset: PointId) -> bool {
        self.lock().doubtful.contains(&asset)
    }

    fn letter(&self, mut failed: Vec<Failed>) -> Letter {
        failed.sort_by_key(|failed| failed.index);
        // One that may succeed later has the message tried again, where there are retry topics.
        let told =
            failed.iter().position(|failed| failed.gave_up.failure.fault.class == Class::Transient).unwrap_or_default();
        // Of a message that failed as a whole all are tried again, named or not.
        let is_part = failed.len() < self.requests && failed.len() <= NAMED_MAX;
        let requests = if is_part { failed.iter().map(|failed| failed.index).collect() } else { Vec::new() };
        let attempts = failed.iter().map(|failed| failed.gave_up.attempts).max().unwrap_or(1);
        let message = (self.requests > 1).then(|| described(&failed, self.requests));
        let mut failure = failed.swap_remove(told).gave_up.failure;
        if let Some(message) = message {
            // Each next step stands behind what it is for.
            failure.fault = Fault { message, hint: None, ..failure.fault };
        }
        Letter { gave_up: GaveUp { failure, attempts }, requests }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the counts right: nothing between their updates can fail.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of several outcomes, the one that says the most of what was done is the message's.
fn rank(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Empty => 0,
        Outcome::Superseded => 1,
        Outcome::Stale => 2,
        Outcome::Deleted => 3,
        Outcome::Indexed => 4,
        Outcome::DeadLettered(_) | Outcome::RetryScheduled(_) => 5,
    }
}

fn described(failed: &[Failed], of: usize) -> String {
    let mut text = format!("{} of {of} requests failed", failed.len());
    for (n, Failed { index, asset, gave_up: GaveUp { failure, .. } }) in failed.iter().take(DESCRIBED_MAX).enumerate() {
        let asset = asset.as_ref().map_or_else(String::new, |asset| format!(" (asset \"{asset}\")"));
        let Failure { stage, fault } = failure;
        let mark = if n == 0 { ":" } else { ";" };
        // A `String` takes whatever is written to it.
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
        Whole::new(Message::empty("t", 0, 0), Flight::default(), requests, requests)
    }

    fn failed(index: usize, reason: MediaReason, attempts: u32) -> Closed {
        let failure = Fault::new(reason, format!("{reason} said why")).at(Stage::Fetch);
        Closed::Failed { index, asset: Some(format!("a{index}")), gave_up: GaveUp { failure, attempts } }
    }

    #[test]
    fn it_ends_with_its_last_request_as_the_one_of_which_most_was_done() {
        let message = whole(3);
        assert!(message.close(Closed::Done(Outcome::Stale)).is_none());
        assert!(message.close(Closed::Done(Outcome::Indexed)).is_none());
        let ending = message.close(Closed::Done(Outcome::Superseded));
        assert!(matches!(ending, Some(Ending::Settled(Outcome::Indexed))), "{ending:?}");
    }

    #[test]
    fn one_letter_names_all_that_failed_and_what_may_pass_decides_what_becomes_of_it() {
        let message = whole(4);
        for closed in [
            failed(3, MediaReason::FetchTimeout, 5),
            Closed::Done(Outcome::Indexed),
            failed(1, MediaReason::HttpNotFound, 1),
        ] {
            assert!(message.close(closed).is_none());
        }
        let Some(Ending::Letter(letter)) = message.close(Closed::Done(Outcome::Deleted)) else { panic!("a letter") };
        let GaveUp { failure, attempts } = letter.gave_up;
        assert_eq!((letter.requests, attempts), (vec![1, 3], 5));
        assert_eq!((failure.fault.class, failure.fault.reason), (Class::Transient, MediaReason::FetchTimeout.into()));
        assert_eq!(
            failure.fault.to_string(),
            "2 of 4 requests failed: request 2 (asset \"a1\") in stage fetch, http_not_found: http_not_found said why; \
             check that the file is still there; request 4 (asset \"a3\") in stage fetch, fetch_timeout: fetch_timeout said \
             why; raise media.fetch_timeout_ms if the server is merely slow"
        );
    }

    #[test]
    fn a_letter_of_many_stays_short() {
        let message = whole(30);
        let ending = (0..30).find_map(|index| message.close(failed(index, MediaReason::HttpGone, 1)));
        let Some(Ending::Letter(letter)) = ending else { panic!("a letter") };
        let text = letter.gave_up.failure.fault.message;
        assert!(text.contains("request 10 (") && !text.contains("request 11 ("), "{text}");
        assert!(text.ends_with("; and 20 more"), "{text}");
    }

    #[test]
    fn one_request_alone_fails_in_its_own_words() {
        let Some(Ending::Letter(letter)) = whole(1).close(failed(0, MediaReason::HttpGone, 2)) else {
            panic!("a letter")
        };
        assert_eq!((letter.gave_up.failure.fault.message.as_str(), letter.requests), ("http_gone said why", vec![]));
    }

    #[test]
    fn what_was_dropped_in_part_is_dropped() {
        let message = whole(3);
        assert!(message.close(Closed::Left).is_none());
        assert!(message.close(failed(1, MediaReason::HttpGone, 1)).is_none());
        assert!(matches!(message.close(Closed::Done(Outcome::Indexed)), Some(Ending::Left)));
    }

    #[test]
    fn its_bytes_are_of_what_runs_while_one_of_its_requests_does() {
        let message = whole(2);
        assert_eq!((message.start(), message.start(), message.stop(), message.stop()), (true, false, false, true));
    }
}
