//! Order per asset: at most one of its requests is in flight, later ones wait. A full upsert or delete supersedes those
//! that wait before it. They are kept until it has succeeded: if it fails, they count again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::attempts::Tried;
use super::flight::Flight;
use super::lane::Lane;
use super::whole::Whole;
use crate::domain::{IngestRequest, Op, PointId};

/// A request that is being processed.
#[derive(Debug)]
pub struct Job {
    /// The message that brought it.
    pub whole: Arc<Whole>,
    /// Its index among the message's requests, from 0.
    pub index: usize,
    pub request: IngestRequest,
    pub flight: Flight,
    /// Bytes it adds to those in flight, without its message.
    pub bytes: usize,
    pub lane: Lane,
    /// Its position in its lane.
    pub seq: u64,
    /// Retry state of its fetch.
    pub tried: Tried,
    /// Older jobs of the same asset that this one makes needless, in order.
    pub superseded: Vec<Job>,
}

impl Job {
    /// Whether this job's result would be the same had `older` never been written.
    fn supersedes(&self, older: &Job) -> bool {
        // A message from a retry topic is older than what waits, whenever it comes.
        let in_turn = self.whole.message.retry.is_none();
        // A dead letter waits for all requests of its message. So none of them may wait for a later message, which may
        // itself wait for that letter.
        let are_single = self.whole.is_single() && older.whole.is_single();
        let replaces_all = self.request.op != Op::Patch;
        let covers_models = self.request.models.is_none() || self.request.models == older.request.models;
        let newer = match (self.request.version, older.request.version) {
            (Some(mine), Some(theirs)) => mine >= theirs,
            // Unversioned writes always win, so what they leave decides whether a versioned one is stale.
            (Some(_), None) => false,
            (None, _) => true,
        };
        in_turn && are_single && replaces_all && covers_models && newer
    }
}

/// Assets with a job in flight, each with the jobs that wait behind it. In flight here means running or waiting for a
/// turn.
#[derive(Default)]
pub struct Keys {
    busy: HashMap<PointId, VecDeque<Job>>,
}

impl Keys {
    /// Gives the job back when it may start now; keeps it otherwise.
    pub fn enter(&mut self, mut job: Job) -> Option<Job> {
        let Some(waiting) = self.busy.get_mut(&job.request.point_id()) else {
            self.busy.insert(job.request.point_id(), VecDeque::new());
            return Some(job);
        };
        if waiting.iter().all(|older| job.supersedes(older)) {
            for mut older in waiting.drain(..) {
                job.superseded.append(&mut older.superseded);
                job.superseded.push(older);
            }
        }
        waiting.push_back(job);
        None
    }

    /// Ends a job in flight and returns the next one of its asset, which is then in flight. `revived`: jobs that the
    /// failed one had superseded and that count again.
    pub fn leave(&mut self, asset: PointId, revived: Vec<Job>) -> Option<Job> {
        let waiting = self.busy.get_mut(&asset)?;
        for job in revived.into_iter().rev() {
            waiting.push_front(job);
        }
        let next = waiting.pop_front();
        if next.is_none() {
            self.busy.remove(&asset);
        }
        next
    }

    /// How many requests of this message wait for the asset.
    pub fn count_of(&self, asset: PointId, whole: &Arc<Whole>) -> usize {
        // A message with several requests has none superseded, and a single request does not wait behind itself.
        let waiting = self.busy.get(&asset).into_iter().flatten();
        waiting.filter(|job| Arc::ptr_eq(&job.whole, whole)).count()
    }

    /// Removes jobs that wait behind another one. What they had superseded stays and counts again.
    pub fn remove_where(&mut self, is_over: impl Fn(&Job) -> bool) -> Vec<Job> {
        let mut removed = Vec::new();
        for waiting in self.busy.values_mut().filter(|waiting| waiting.iter().any(&is_over)) {
            for mut job in std::mem::take(waiting) {
                if !is_over(&job) {
                    waiting.push_back(job);
                    continue;
                }
                let (over, kept): (Vec<_>, Vec<_>) = job.superseded.drain(..).partition(&is_over);
                waiting.extend(kept);
                removed.extend(over);
                removed.push(job);
            }
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AssetId, Message, Payload, Retry};
    use crate::pipeline::whole::Arrival;

    fn job(offset: i64, op: Op, version: Option<u64>) -> Job {
        job_of(Message::empty("t", 0, offset), op, version)
    }

    fn job_of(message: Message, op: Op, version: Option<u64>) -> Job {
        job_in(Whole::new(Arrival::new(message, Flight::default()), 1, 1), op, version)
    }

    fn job_in(whole: Arc<Whole>, op: Op, version: Option<u64>) -> Job {
        Job {
            whole,
            index: 0,
            request: IngestRequest {
                asset: AssetId::new("a").unwrap(),
                tenant: None,
                op,
                image: None,
                text: None,
                payload: Payload::new(),
                version,
                models: None,
            },
            flight: Flight::default(),
            bytes: 0,
            lane: Lane::default(),
            seq: 0,
            tried: Tried::default(),
            superseded: Vec::new(),
        }
    }

    fn offsets(jobs: &[Job]) -> Vec<i64> {
        jobs.iter().map(|j| j.whole.message.position.offset).collect()
    }

    #[test]
    fn one_in_flight_and_the_rest_in_order() {
        let mut keys = Keys::default();
        let first = keys.enter(job(0, Op::Upsert, None)).unwrap();
        assert!(keys.enter(job(1, Op::Patch, None)).is_none());
        assert!(keys.enter(job(2, Op::Patch, None)).is_none());
        let asset = first.request.point_id();
        assert_eq!(keys.leave(asset, Vec::new()).unwrap().whole.message.position.offset, 1);
        assert_eq!(keys.leave(asset, Vec::new()).unwrap().whole.message.position.offset, 2);
        assert!(keys.leave(asset, Vec::new()).is_none());
        assert!(keys.enter(job(3, Op::Patch, None)).is_some());
    }

    #[test]
    fn a_full_write_supersedes_those_that_wait_and_revives_them_when_it_fails() {
        let mut keys = Keys::default();
        let asset = keys.enter(job(0, Op::Upsert, None)).unwrap().request.point_id();
        for j in [job(1, Op::Patch, None), job(2, Op::Upsert, None), job(3, Op::Delete, None)] {
            assert!(keys.enter(j).is_none());
        }
        let last = keys.leave(asset, Vec::new()).unwrap();
        assert_eq!(last.whole.message.position.offset, 3);
        assert_eq!(offsets(&last.superseded), [1, 2]);
        let revived = keys.leave(asset, last.superseded).unwrap();
        assert_eq!(revived.whole.message.position.offset, 1);
        assert_eq!(keys.leave(asset, Vec::new()).unwrap().whole.message.position.offset, 2);
        assert!(keys.leave(asset, Vec::new()).is_none());
    }

    #[test]
    fn a_message_of_a_retry_topic_supersedes_nothing_and_is_superseded() {
        let retried = |offset| {
            let mut message = Message::empty("t", 0, offset);
            message.retry = Some(Retry { origin: message.origin(), attempts: 5, requests: Vec::new() });
            job_of(message, Op::Upsert, None)
        };
        let mut keys = Keys::default();
        let asset = keys.enter(job(7, Op::Upsert, None)).unwrap().request.point_id();
        keys.enter(job(8, Op::Upsert, None));
        keys.enter(retried(3));
        assert_eq!(keys.leave(asset, Vec::new()).unwrap().superseded.len(), 0);
        keys.enter(job(9, Op::Upsert, None));
        let last = keys.leave(asset, Vec::new()).unwrap();
        assert_eq!((last.whole.message.position.offset, offsets(&last.superseded)), (9, vec![3]));
    }

    #[test]
    fn a_message_with_several_requests_supersedes_nothing_and_is_not_superseded() {
        let several = |offset| Whole::new(Arrival::new(Message::empty("t", 0, offset), Flight::default()), 2, 2);
        let mut keys = Keys::default();
        let asset = keys.enter(job(0, Op::Upsert, None)).unwrap().request.point_id();
        let whole = several(2);
        keys.enter(job(1, Op::Upsert, None));
        keys.enter(job_in(whole.clone(), Op::Upsert, None));
        keys.enter(job_in(whole.clone(), Op::Delete, None));
        keys.enter(job(3, Op::Upsert, None));
        assert_eq!((keys.count_of(asset, &whole), keys.count_of(asset, &several(2))), (2, 0));
        let left = std::iter::from_fn(|| keys.leave(asset, Vec::new()));
        let left: Vec<_> = left.map(|job| (job.whole.message.position.offset, job.superseded.len())).collect();
        assert_eq!(left, [(1, 0), (2, 0), (2, 0), (3, 0)]);
    }

    #[test]
    fn an_older_version_supersedes_nothing() {
        let mut keys = Keys::default();
        let asset = keys.enter(job(0, Op::Upsert, None)).unwrap().request.point_id();
        keys.enter(job(1, Op::Upsert, Some(5)));
        keys.enter(job(2, Op::Upsert, Some(4)));
        let next = keys.leave(asset, Vec::new()).unwrap();
        assert_eq!((next.whole.message.position.offset, next.superseded.len()), (1, 0));
    }

    #[test]
    fn what_waits_and_is_over_goes_and_what_it_had_superseded_counts_again() {
        let mut keys = Keys::default();
        let asset = keys.enter(job(0, Op::Upsert, None)).unwrap().request.point_id();
        for j in [job(1, Op::Patch, None), job(2, Op::Patch, None), job(3, Op::Upsert, None), job(4, Op::Patch, None)] {
            keys.enter(j);
        }
        let removed = keys.remove_where(|job| job.whole.message.position.offset % 2 == 1);
        assert_eq!(offsets(&removed), [1, 3]);
        assert_eq!(keys.leave(asset, Vec::new()).unwrap().whole.message.position.offset, 2);
        assert_eq!(keys.leave(asset, Vec::new()).unwrap().whole.message.position.offset, 4);
        assert!(keys.leave(asset, Vec::new()).is_none());
    }
}
