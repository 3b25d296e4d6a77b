//! A clock that is set back. librdkafka's threads wait by the time of day (`cnd_timedwait`), so that they stand still for as long as
//! the clock was set back by: no heartbeat, no commit, nothing fetched. A client that is made afterwards waits as it should.

use std::time::{Duration, Instant, SystemTime};

use tokio::time::{Interval, MissedTickBehavior, interval};

const PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Watch {
    back_max: Duration,
    ticks: Interval,
    /// When it looked last, by the clock and by what passes in any case.
    seen: (SystemTime, Instant),
}

impl Watch {
    /// `back_max`: for so long the client may stand still.
    pub fn new(back_max: Duration) -> Self {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { back_max, ticks, seen: (SystemTime::now(), Instant::now()) }
    }

    /// Why it cannot go on, once the clock is set back too far. Cancel-safe.
    pub async fn set_back(&mut self) -> String {
        loop {
            self.ticks.tick().await;
            let (clock, moment) = (SystemTime::now(), Instant::now());
            let back = set_back(self.seen.0, moment.duration_since(self.seen.1), clock);
            self.seen = (clock, moment);
            if back > self.back_max {
                return format!(
                    "this machine's clock was set back by {} s, more than kafka.session_timeout_ms: librdkafka waits by it, and would \
                     stand still for as long; start the worker again, and have the clock slewed rather than set (chrony, ntpd)",
                    back.as_secs()
                );
            }
        }
    }
}

fn set_back(before: SystemTime, passed: Duration, now: SystemTime) -> Duration {
    (before + passed).duration_since(now).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_set_back_counts() {
        let (start, minute, hour) = (SystemTime::now(), Duration::from_secs(60), Duration::from_secs(3600));
        assert_eq!(set_back(start, minute, start + minute), Duration::ZERO);
        assert_eq!(set_back(start, minute, start + hour), Duration::ZERO, "set forward, or the machine slept");
        assert_eq!(set_back(start, minute, start + minute - hour), hour);
    }

    #[tokio::test]
    async fn it_ends_when_the_clock_was_set_back_and_names_the_setting() {
        let mut watch = Watch::new(Duration::from_secs(45));
        watch.seen.0 += Duration::from_secs(3600);
        let why = watch.set_back().await;
        assert!(why.contains("set back by 3") && why.contains("kafka.session_timeout_ms"), "{why}");
    }
}
