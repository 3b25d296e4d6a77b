//! The adaptive limit.

use std::time::Instant;

/// Additive increase, multiplicative decrease, as in TCP congestion avoidance (RFC 5681 §3.1): one more per round of
/// successes, half after an overload, never below 1 or above `max`. Pure: the caller passes the time.
///
/// As in TCP's recovery (RFC 6582), an overload counts once per round: requests in flight when the limit was reduced had started
/// under the old limit. Latency is ignored, because a slow answer may be a large file.
#[derive(Clone, Debug)]
pub struct Limit {
    max: usize,
    /// Between 1 and `max`; its whole part counts.
    current: f64,
    reduced_at: Option<Instant>,
}

impl Limit {
    /// Starts at `max`, the operator's setting.
    pub fn new(max: usize) -> Self {
        let max = max.max(1);
        Self { max, current: max as f64, reduced_at: None }
    }

    pub fn now(&self) -> usize {
        self.current as usize
    }

    /// A request was served. `saturated`: the limit was reached while it was in flight; otherwise the success says nothing about a
    /// higher limit (RFC 7661 has the same rule for TCP).
    pub fn served(&mut self, saturated: bool) {
        if saturated {
            self.current = (self.current + 1.0 / self.current).min(self.max as f64);
        }
    }

    /// A request that started at `begun` was refused or not answered because of overload.
    pub fn overloaded(&mut self, begun: Instant, now: Instant) {
        if self.reduced_at.is_some_and(|reduced| begun < reduced) {
            return;
        }
        self.current = (self.current / 2.0).floor().max(1.0);
        self.reduced_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn halves_once_per_round_and_grows_by_one_per_round() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut limit = Limit::new(16);
        limit.overloaded(at(0), at(10));
        limit.overloaded(at(9), at(11));
        assert_eq!(limit.now(), 8, "it had begun before the first reduction");
        limit.overloaded(at(10), at(12));
        assert_eq!(limit.now(), 4);
        for _ in 0..4 {
            limit.served(false);
        }
        assert_eq!(limit.now(), 4, "not used up: no reason to grow");
        // 4, then 4 1/4 and so on: a little more than a round.
        (0..5).for_each(|_| limit.served(true));
        assert_eq!(limit.now(), 5);
        (0..1000).for_each(|_| limit.served(true));
        assert_eq!(limit.now(), 16, "never above the maximum");
        (13..30).for_each(|second| limit.overloaded(at(second), at(second)));
        assert_eq!(limit.now(), 1, "never below one");
    }
}
