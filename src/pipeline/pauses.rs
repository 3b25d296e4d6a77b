//! Partitions from which no messages are taken for now, while others go on. Otherwise one stuck message, or many
//! waiting ones, would let their partition fill the memory.

use std::collections::BTreeSet;

use super::watermark::{Distance, Watermarks};
use crate::config::PipelineSettings;
use crate::domain::TopicPartition;
use crate::telemetry::Metrics;

#[derive(Debug, Default)]
pub struct Pauses {
    partitions: BTreeSet<TopicPartition>,
    /// Partitions whose distance is shown.
    shown: BTreeSet<TopicPartition>,
}

/// Upper limit, with hysteresis: resuming fetches a partition again from the broker, so it must be rare.
#[derive(Clone, Copy)]
struct Bound(u64);

impl Bound {
    fn is_passed(self, found: u64, is_paused: bool) -> bool {
        if is_paused { found > self.0 - self.0.div_ceil(4) } else { found >= self.0 }
    }
}

impl Pauses {
    /// Updates the paused partitions; returns whether they changed. `held`: requests of all partitions that do not run.
    ///
    /// A partition is held back when it is too far ahead of its watermark, or when half of all that may be held is used
    /// and it has more than its share. The distance counts messages. Held requests are counted: they take the memory.
    pub fn look(&mut self, watermarks: &Watermarks, held: usize, settings: &PipelineSettings) -> bool {
        let far = Bound(settings.uncommitted_messages_max);
        let many = Bound((settings.held_messages_max as u64 / 2).max(1));
        let share = Bound((settings.held_messages_max / watermarks.len().max(1)).max(1) as u64);
        let paused = watermarks.distances().filter(|(partition, Distance { messages, requests })| {
            let is_paused = self.partitions.contains(*partition);
            let is_greedy = many.is_passed(held as u64, is_paused) && share.is_passed(*requests as u64, is_paused);
            far.is_passed(*messages, is_paused) || (is_greedy && watermarks.len() > 1)
        });
        let paused = paused.map(|(partition, _)| partition.clone()).collect();
        let before = std::mem::replace(&mut self.partitions, paused);
        before != self.partitions
    }

    pub fn partitions(&self) -> &BTreeSet<TopicPartition> {
        &self.partitions
    }

    /// Whether all `of` partitions are held back. Needed for sources that cannot hold back single partitions.
    pub fn is_all(&self, of: usize) -> bool {
        !self.partitions.is_empty() && self.partitions.len() >= of
    }

    pub fn show(&mut self, watermarks: &Watermarks, metrics: &Metrics) {
        metrics.partitions_held_back(self.partitions.len());
        let mut gone = std::mem::take(&mut self.shown);
        for (partition, Distance { messages, .. }) in watermarks.distances() {
            metrics.uncommitted(partition, messages);
            gone.remove(partition);
            self.shown.insert(partition.clone());
        }
        gone.iter().for_each(|partition| metrics.uncommitted(partition, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Message;

    fn partition(partition: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition }
    }

    fn taken(of: &[(i32, i64)]) -> Watermarks {
        let mut watermarks = Watermarks::default();
        for (number, messages) in of {
            watermarks.assign(partition(*number), 1);
            (0..*messages).for_each(|offset| drop(watermarks.take(&Message::empty("t", *number, offset))));
        }
        watermarks
    }

    fn paused(pauses: &Pauses) -> Vec<i32> {
        pauses.partitions().iter().map(|partition| partition.partition).collect()
    }

    #[test]
    fn a_partition_far_ahead_of_its_watermark_is_held_back_alone_and_not_let_go_at_once() {
        let settings = PipelineSettings { uncommitted_messages_max: 8, ..PipelineSettings::default() };
        let (mut watermarks, mut pauses) = (taken(&[(0, 8), (1, 7)]), Pauses::default());
        assert!(pauses.look(&watermarks, 0, &settings));
        assert_eq!((paused(&pauses), pauses.is_all(2)), (vec![0], false));
        assert!(!pauses.look(&watermarks, 0, &settings), "nothing new");
        watermarks.settle(&Message::empty("t", 0, 0));
        pauses.look(&watermarks, 0, &settings);
        assert_eq!(paused(&pauses), [0], "7 of 8");
        watermarks.settle(&Message::empty("t", 0, 1));
        assert!(pauses.look(&watermarks, 0, &settings));
        assert!(pauses.partitions().is_empty());
        watermarks.take(&Message::empty("t", 1, 7));
        pauses.look(&watermarks, 0, &settings);
        watermarks.release(&watermarks.current(&[partition(1)]));
        assert!(pauses.look(&watermarks, 0, &settings), "it is somebody else's");
    }

    #[test]
    fn requests_are_what_a_partition_has_its_share_of() {
        let settings = PipelineSettings { held_messages_max: 20, ..PipelineSettings::default() };
        let (mut watermarks, mut pauses) = (taken(&[(0, 2), (1, 3)]), Pauses::default());
        pauses.look(&watermarks, 11, &settings);
        assert_eq!(paused(&pauses), [0; 0]);
        watermarks.bring(&Message::empty("t", 0, 1), 9);
        assert!(pauses.look(&watermarks, 11, &settings));
        assert_eq!(paused(&pauses), [0], "two messages, with ten requests");
        watermarks.settle(&Message::empty("t", 0, 1));
        assert!(pauses.look(&watermarks, 2, &settings));
    }

    #[test]
    fn with_half_of_what_may_be_held_partitions_have_no_more_than_their_share() {
        let settings = PipelineSettings { held_messages_max: 20, ..PipelineSettings::default() };
        let (watermarks, mut pauses) = (taken(&[(0, 12), (1, 3)]), Pauses::default());
        assert!(!pauses.look(&watermarks, 9, &settings));
        assert!(pauses.look(&watermarks, 10, &settings));
        assert_eq!(paused(&pauses), [0]);
        assert!(!pauses.look(&watermarks, 8, &settings), "not let go at once");
        assert!(pauses.look(&watermarks, 7, &settings));
        let (watermarks, mut pauses) = (taken(&[(0, 20)]), Pauses::default());
        assert!(!pauses.look(&watermarks, 20, &settings), "there is no other partition to be fair to");
    }
}
