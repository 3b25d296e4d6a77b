//! The steps of rebalances.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::context::{Rebalance, apply};
use super::log_changes::FOLLOW_MAX;
use super::poller::{Poller, Waiting, listing, partitions};
use super::positions::Place;
use super::revoking::{Revoking, Verdict};
use super::starts::{ASK_TIMEOUT, NoStart, Start, StartOrigin, starts};
use crate::domain::{Finding, TopicPartition};
use crate::kafka_client::{self, OffsetEntry, TopicIds};
use crate::redact;
use crate::source::{Revocation, SourceEvent};

/// Wait before an unanswered question is repeated.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Shorter times without an answer are not reported: a coordinator moves, or a topic was just created.
const UNANSWERED_MIN: Duration = Duration::from_secs(10);

impl Poller {
    pub(super) fn rebalance(&mut self, now: Instant) -> Result<(), Finding> {
        loop {
            if let Some(revoking) = &mut self.state.revoking {
                // A further step before this one is answered: the group has continued without us.
                let overtaken = !self.state.rebalances.is_empty();
                let lost = overtaken || self.consumer.assignment_lost();
                match revoking.verdict(&mut self.state.commits, lost, now) {
                    Verdict::Wait => return Ok(()),
                    Verdict::Release => {}
                    Verdict::Lost => {
                        let partitions = revoking.partitions.clone();
                        self.handover.control(SourceEvent::Lost { partitions });
                    }
                }
                if let Some(revoking) = self.state.revoking.take() {
                    self.state.commits.forget(&revoking.partitions);
                    self.carry_out(&Rebalance::Revoke(revoking.list))?;
                }
            }
            match self.state.rebalances.pop_front() {
                None => return Ok(()),
                Some(Rebalance::Assign(list)) => {
                    if let Some(list) = self.assign_when_known(list, now)? {
                        self.state.rebalances.push_front(Rebalance::Assign(list));
                        return Ok(());
                    }
                }
                Some(Rebalance::Revoke(list)) => self.revoke(list, now)?,
            }
        }
    }

    /// Assigns once the start of each partition is known; until then returns the list.
    fn assign_when_known(
        &mut self,
        list: TopicPartitionList,
        now: Instant,
    ) -> Result<Option<TopicPartitionList>, Finding> {
        let assigned = partitions(&list);
        if self.is_revoked_next(&assigned) {
            // Other members own them already.
            self.state.waiting = None;
            self.consumer_health.start(None);
            return self.carry_out(&Rebalance::Assign(list)).map(|()| None);
        }
        let waiting = self.state.waiting.unwrap_or(Waiting { since: now, not_before: now });
        if now < waiting.not_before {
            return Ok(Some(list));
        }
        match self.ask_where(&assigned) {
            Ok((ids, starts)) => {
                self.state.waiting = None;
                self.consumer_health.start(None);
                self.assign(&list, &ids, &starts)?;
                Ok(None)
            }
            Err(NoStart::Refused(why)) => Err(why),
            Err(NoStart::Later(why)) => {
                tracing::debug!(why, "the start offsets are not known yet; asking again");
                let asked = Instant::now();
                self.state.waiting = Some(Waiting { not_before: asked + ASK_AGAIN, ..waiting });
                if asked >= waiting.since + UNANSWERED_MIN {
                    self.consumer_health.start(Some(why));
                }
                Ok(Some(list))
            }
        }
    }

    fn is_revoked_next(&self, assigned: &[TopicPartition]) -> bool {
        match self.state.rebalances.front() {
            Some(Rebalance::Revoke(next)) if !assigned.is_empty() => {
                let next = partitions(next);
                assigned.iter().all(|partition| next.contains(partition))
            }
            _ => false,
        }
    }

    fn ask_where(&self, assigned: &[TopicPartition]) -> Result<(TopicIds, Vec<Start>), NoStart> {
        if assigned.is_empty() {
            return Ok(Default::default());
        }
        let topics = assigned.iter().map(|partition| &*partition.topic).collect();
        let topics = &topics | &self.state.delays.sources(&topics);
        let ids = kafka_client::topic_ids(self.consumer.client(), &topics, ASK_TIMEOUT)?;
        let starts = starts(&self.consumer, assigned, &ids, &self.reset, &self.state.read_before)?;
        Ok((ids, starts))
    }

    fn assign(&mut self, list: &TopicPartitionList, ids: &TopicIds, starts: &[Start]) -> Result<(), Finding> {
        let assigned = partitions(list);
        if !assigned.is_empty() {
            self.state.epoch += 1;
            let epoch = self.state.epoch;
            for (topic, id) in ids {
                self.state.delays.identify(topic, id.as_ref());
            }
            self.state.known_topics.remember(ids);
            for start in starts {
                self.own(start, ids, epoch);
                // Even if the group's offset belongs to the new topic already.
                if let Some(at) = start.at
                    && self.state.known_topics.is_another(&start.partition.topic, ids)
                {
                    self.state.followed.insert(start.partition.clone(), (Instant::now() + FOLLOW_MAX, at));
                }
            }
            tracing::info!(epoch, partitions = %listed(&assigned), "partitions assigned");
            self.state.held_back.retain(|partition| !assigned.contains(partition));
            self.stalls.watch(&assigned);
            self.handover.control(SourceEvent::Assigned { epoch, partitions: assigned.clone() });
        }
        self.consumer_health.assigned();
        let entries: Vec<_> = starts.iter().map(entry).collect();
        let list = kafka_client::list(&entries);
        self.carry_out(&Rebalance::Assign(list.clone()))?;
        self.validate(entries);
        self.state.owned.places_mut().for_each(Place::stir);
        // librdkafka does not expose whether a partition is still paused from an earlier assignment, so set it explicitly.
        self.set_paused(&list, self.state.paused);
        Ok(())
    }

    fn own(&mut self, start: &Start, ids: &TopicIds, epoch: u64) {
        let Start { partition, at, committed, origin, leader_epoch, starts } = start;
        if let StartOrigin::TopicMadeAnew { offset } = origin {
            tracing::warn!(
                topic = &*partition.topic,
                partition = partition.partition,
                offset,
                "the topic was deleted and recreated since the group committed this offset: it is read from its beginning"
            );
        }
        let id = ids.get(&*partition.topic).cloned().flatten();
        self.state.owned.insert(partition, Place::new(epoch, *at));
        let another = self.state.owned.identify(&partition.topic, id.clone());
        self.state.read_before.insert(partition.clone());
        self.state.commits.track_after(partition.clone(), *committed, *starts, id);
        self.state.crash_loops.begin(partition, *starts);
        if let (Some(at), Some(epoch)) = (at, leader_epoch) {
            self.state.commits.written_by(partition, at - 1, *epoch);
        }
        // Partitions of the topic that we own already belong to the old topic.
        for partition in another.iter().filter(|other| *other != partition) {
            self.recreated(partition);
        }
        // Commit the position, so that the next owner starts where this worker did.
        if let (Some(at), StartOrigin::Reset) = (at, origin) {
            self.state.commits.want([(partition.clone(), *at)]);
        }
    }

    /// Makes librdkafka validate the committed leader epochs (KIP-320), to detect truncated logs. librdkafka does this when a
    /// leader changes and after a seek, but not at the start of an assignment.
    fn validate(&self, entries: Vec<OffsetEntry>) {
        let known: Vec<_> = entries.into_iter().filter(|entry| entry.leader_epoch.is_some()).collect();
        if known.is_empty() {
            return;
        }
        // Not waited for.
        if let Err(error) = self.consumer.seek_partitions(kafka_client::list(&known), Duration::ZERO) {
            tracing::debug!(%error, "the start offsets are not validated");
        }
    }

    fn revoke(&mut self, list: TopicPartitionList, now: Instant) -> Result<(), Finding> {
        let partitions = self.state.disown(&list);
        self.state.owned.places_mut().for_each(Place::stir);
        self.stalls.forget(&partitions);
        for partition in &partitions {
            self.metrics.lag(partition, 0);
        }
        if partitions.is_empty() {
            return self.carry_out(&Rebalance::Revoke(list));
        }
        if self.consumer.assignment_lost() {
            let listed = listed(&partitions);
            // If no broker is reachable, this is part of an outage, which is logged as such.
            if self.consumer_health.is_cut_off() {
                tracing::debug!(partitions = %listed, "partitions lost: the session has ended");
            } else {
                tracing::warn!(partitions = %listed, "partitions lost: others have them already");
            }
            self.state.commits.forget(&partitions);
            self.handover.withdraw(&partitions, SourceEvent::Lost { partitions: partitions.clone() });
            return self.carry_out(&Rebalance::Revoke(list));
        }
        tracing::info!(partitions = %listed(&partitions), "partitions revoked: draining");
        self.set_paused(&list, true);
        let (revocation, completed) = Revocation::new(partitions.clone());
        self.handover.withdraw(&partitions, SourceEvent::Revoking(revocation));
        self.state.revoking = Some(Revoking::new(list, partitions, completed, now + self.drain_deadline));
        Ok(())
    }

    pub(super) fn carry_out(&self, step: &Rebalance) -> Result<(), Finding> {
        apply(&self.consumer, step).map_err(|error| {
            Finding::new(format!("librdkafka refuses a step of a rebalance: {error}"))
                .hint("restart the process to join the group again")
        })
    }

    /// After a partition starts a new epoch while assigned: pauses it only if all partitions are paused.
    pub(super) fn let_flow(&mut self, partition: &TopicPartition) {
        self.state.held_back.remove(partition);
        if !self.state.paused {
            self.set_paused(&listing(std::slice::from_ref(partition)), false);
        }
    }
}

fn entry(start: &Start) -> OffsetEntry {
    let offset = start.at.map_or(Offset::Beginning, Offset::Offset);
    OffsetEntry { leader_epoch: start.leader_epoch, ..OffsetEntry::new(start.partition.clone(), offset) }
}

fn listed(partitions: &[TopicPartition]) -> String {
    redact::cut(&partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), 1000)
}
