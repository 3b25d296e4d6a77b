//! Partitions that the pipeline holds back for now, while others continue.

use std::collections::BTreeSet;

use rdkafka::topic_partition_list::TopicPartitionList;

use super::poller::{Poller, State, listing};
use crate::domain::TopicPartition;

impl Poller {
    /// Pauses the partitions to hold back, and resumes the others.
    pub(super) fn hold_back(&mut self) {
        let wanted = self.handover.held_back();
        let State { owned, held_back, .. } = &mut self.state;
        if wanted.is_empty() && held_back.is_empty() {
            return;
        }
        let wanted: BTreeSet<_> = wanted.iter().filter(|partition| owned.get(partition).is_some()).cloned().collect();
        let (new, free) = (&wanted - &*held_back, &*held_back - &wanted);
        if new.is_empty() && free.is_empty() {
            return;
        }
        *held_back = wanted;
        let new: Vec<TopicPartition> = new.into_iter().collect();
        let free: Vec<TopicPartition> = free.into_iter().filter(|partition| self.state.flows(partition)).collect();
        tracing::debug!(paused = new.len(), resumed = free.len(), "partitions paused or resumed");
        self.stalls.forget(&new);
        self.stalls.watch(&free);
        self.set_paused(&listing(&new), true);
        if !self.state.paused {
            self.set_paused(&listing(&free), false);
        }
    }
}

impl State {
    /// The partitions that are paused only for lack of room.
    pub(super) fn flowing(&self) -> TopicPartitionList {
        listing(&self.owned.partitions().filter(|partition| self.flows(partition)).collect::<Vec<_>>())
    }

    /// Whether the partition is paused only for lack of room.
    pub(super) fn flows(&self, partition: &TopicPartition) -> bool {
        self.owned.get(partition).is_some()
            && !self.delays.holds(partition)
            && !self.crash_loops.stops(partition)
            && !self.held_back.contains(partition)
    }
}
