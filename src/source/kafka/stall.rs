//! Detection of stalled partitions.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::domain::TopicPartition;

/// How often a broker is queried about one stalled partition, at most, and how long the answer may take: it blocks the
/// polling thread.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
pub(super) const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// After this many unanswered queries in a row, the partition counts as having no working leader.
const UNANSWERED_MAX: u32 = 3;
/// How many partitions are named.
const NAMED_MAX: usize = 3;

/// Detects assigned partitions that deliver nothing although the broker has more: a lost fetch, a partition without leader,
/// a pause that is never ended. The end offset of a silent partition is queried at intervals; an idle partition is at its
/// end. Only time in which messages may come counts, so backpressure and rebalances raise no false alarm.
#[derive(Debug)]
pub(super) struct StallWatch {
    /// Zero: nothing is watched.
    bound: Duration,
    /// Total time in which messages could come.
    open: Duration,
    ticked_at: Instant,
    looked_at: Instant,
    partitions: BTreeMap<TopicPartition, Watched>,
}

#[derive(Debug)]
struct Watched {
    /// The value of `open` when it last delivered a message, or was found to be at its end.
    heard: Duration,
    asked: Duration,
    unanswered: u32,
    /// The consumer's position in librdkafka's statistics: the next offset to fetch, and messages fetched but not polled.
    next: Option<i64>,
    fetched: i64,
    silent: Option<String>,
}

impl StallWatch {
    pub fn new(bound: Duration, now: Instant) -> Self {
        Self { bound, open: Duration::ZERO, ticked_at: now, looked_at: now, partitions: BTreeMap::new() }
    }

    pub fn watch(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            let watched =
                Watched { heard: self.open, asked: self.open, unanswered: 0, next: None, fetched: 0, silent: None };
            self.partitions.insert(partition.clone(), watched);
        }
    }

    pub fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.partitions.remove(partition);
        }
    }

    pub fn heard(&mut self, partition: &TopicPartition) {
        let open = self.open;
        if let Some(watched) = self.partitions.get_mut(partition) {
            watched.hear(open);
        }
    }

    /// `next`: negative if unknown.
    pub fn position(&mut self, partition: &TopicPartition, next: i64, fetched: i64) {
        if let Some(watched) = self.partitions.get_mut(partition) {
            (watched.next, watched.fetched) = ((next >= 0).then_some(next), fetched);
        }
    }

    /// Advances time. `open`: whether messages may come now.
    pub fn tick(&mut self, open: bool, now: Instant) {
        let passed = now.saturating_duration_since(self.ticked_at);
        self.ticked_at = now;
        if open {
            self.open += passed;
        }
    }

    /// Whether the next check is due.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.looked_at + LOOK_INTERVAL;
        if due {
            self.looked_at = now;
        }
        due
    }

    /// The partition whose end is to be queried now: of those that have been silent for too long, the least recently queried.
    /// Report the result with [`Self::end`].
    pub fn to_ask(&self) -> Option<TopicPartition> {
        if self.bound.is_zero() {
            return None;
        }
        let silent = self.partitions.iter().filter(|(_, watched)| self.open - watched.heard >= self.bound);
        silent.min_by_key(|(_, watched)| watched.asked).map(|(partition, _)| partition.clone())
    }

    /// The partition's end offset, or why there is no answer. `brokers_down`: it is known that no broker is reachable.
    pub fn end(&mut self, partition: &TopicPartition, answer: Result<(i64, i64), String>, brokers_down: bool) {
        let open = self.open;
        let Some(watched) = self.partitions.get_mut(partition) else { return };
        watched.asked = open;
        let seconds = (open - watched.heard).as_secs();
        match answer {
            Ok((begin, end)) => {
                watched.unanswered = 0;
                let behind = end - watched.next.unwrap_or(begin).max(begin);
                if watched.fetched > 0 || behind > 0 {
                    let messages = watched.fetched.max(behind);
                    watched.silent = Some(format!(
                        "{partition} delivered nothing for {seconds} s although it has {messages} more messages"
                    ));
                } else {
                    watched.hear(open);
                }
            }
            Err(_) if brokers_down => {}
            Err(why) => {
                watched.unanswered += 1;
                if watched.unanswered >= UNANSWERED_MAX {
                    watched.silent = Some(format!(
                        "{partition} delivered nothing for {seconds} s, and no broker reports its end ({why})"
                    ));
                }
            }
        }
    }

    /// Describes the stalled partitions, if there are any.
    pub fn summary(&self) -> Option<String> {
        let silent: Vec<_> = self.partitions.values().filter_map(|watched| watched.silent.as_deref()).collect();
        let (named, more) = (silent.get(..NAMED_MAX).unwrap_or(&silent), silent.len().saturating_sub(NAMED_MAX));
        let more = if more > 0 { format!("; and {more} more partitions") } else { String::new() };
        (!silent.is_empty()).then(|| format!("{}{more}", named.join("; ")))
    }
}

impl Watched {
    fn hear(&mut self, open: Duration) {
        (self.heard, self.unanswered, self.silent) = (open, 0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(600);

    struct Rig {
        stalls: StallWatch,
        now: Instant,
    }

    fn partition(partition: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition }
    }

    impl Rig {
        fn new() -> Self {
            let now = Instant::now();
            let mut stalls = StallWatch::new(BOUND, now);
            stalls.watch(&[partition(0)]);
            Self { stalls, now }
        }

        fn pass(&mut self, seconds: u64, open: bool) -> Option<TopicPartition> {
            self.now += Duration::from_secs(seconds);
            self.stalls.tick(open, self.now);
            if self.stalls.is_due(self.now) { self.stalls.to_ask() } else { None }
        }
    }

    #[test]
    fn a_partition_that_is_behind_and_brings_nothing_is_named_until_it_does() {
        let mut rig = Rig::new();
        assert_eq!(rig.pass(598, true), None);
        assert_eq!(rig.pass(2, true), Some(partition(0)));
        rig.stalls.position(&partition(0), 40, 0);
        rig.stalls.end(&partition(0), Ok((0, 100)), false);
        let summary = rig.stalls.summary().unwrap();
        assert!(summary.contains("t[0] delivered nothing for 600 s although it has 60 more messages"), "{summary}");
        rig.stalls.heard(&partition(0));
        assert_eq!((rig.stalls.summary(), rig.pass(10, true)), (None, None));
    }

    #[test]
    fn an_idle_partition_is_asked_and_not_named() {
        let mut rig = Rig::new();
        rig.stalls.position(&partition(0), 100, 0);
        assert_eq!(rig.pass(600, true), Some(partition(0)));
        rig.stalls.end(&partition(0), Ok((0, 100)), false);
        assert_eq!((rig.stalls.summary(), rig.pass(598, true)), (None, None));
        assert_eq!(rig.pass(2, true), Some(partition(0)), "asked again after the same time");
        rig.stalls.position(&partition(0), 100, 3);
        rig.stalls.end(&partition(0), Ok((0, 100)), false);
        assert!(rig.stalls.summary().unwrap().contains("3 more"), "fetched, and not handed out");
    }

    #[test]
    fn backpressure_does_not_count() {
        let mut rig = Rig::new();
        assert_eq!(rig.pass(86_400, false), None);
        assert_eq!(rig.pass(598, true), None);
        assert!(rig.pass(2, true).is_some());
    }

    #[test]
    fn a_partition_without_an_answer_is_named_unless_the_brokers_are_down() {
        let mut rig = Rig::new();
        rig.pass(600, true);
        for _ in 0..10 {
            rig.stalls.end(&partition(0), Err("timed out".into()), true);
        }
        assert_eq!(rig.stalls.summary(), None, "it is known that the brokers are down");
        for _ in 0..UNANSWERED_MAX {
            assert_eq!(rig.stalls.summary(), None);
            assert!(rig.pass(2, true).is_some());
            rig.stalls.end(&partition(0), Err("timed out".into()), false);
        }
        assert!(rig.stalls.summary().unwrap().contains("no broker reports its end (timed out)"));
        rig.stalls.forget(&[partition(0)]);
        assert_eq!(rig.stalls.summary(), None);
    }

    #[test]
    fn several_are_asked_in_turn() {
        let mut rig = Rig::new();
        rig.stalls.watch(&[partition(1)]);
        let first = rig.pass(600, true).unwrap();
        rig.stalls.end(&first, Err("timed out".into()), false);
        let second = rig.pass(2, true).unwrap();
        assert_ne!(first, second);
    }
}
