//! Which message runs next, so that no host or tenant stops the others.
//!
//! Messages that do not run take no place in `pipeline.in_flight_max`, hold only their own memory, and wait here:
//!
//! - for a turn at the host of their picture: more of its messages than it serves at once would only take places;
//! - for their retry time, after a transient failure;
//! - for their host, while it has an outage: from time to time one message tries it, each time another one.
//!
//! A free place goes to the tenant with the fewest running messages, and within it to the host with the fewest. Hosts
//! that never served, or that fail, share a quarter of the places while others want them, and at most three quarters.

mod hosts;
mod order;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use self::hosts::{Host, Kind};
use self::order::Order;
use super::attempts::Aside;
use super::keys::Job;
use super::lane::{Lane, Name};
use crate::config::PipelineSettings;
use crate::domain::PointId;
use crate::media::Standing;

/// The divisor for the places that doubtful hosts get while others wait.
const DOUBTFUL_SHARE: usize = 4;

pub struct Turns {
    /// Gives the current standing of a host.
    standing: Box<dyn Fn(&str) -> Standing + Send>,
    window: usize,
    base: Duration,
    cap: Duration,
    /// A counter that gives everything an order in time.
    stamp: u64,
    lanes: HashMap<Lane, Waiting>,
    hosts: HashMap<Name, Host>,
    /// Running messages by tenant.
    tenants: HashMap<Option<Name>, usize>,
    groups: [Group; 3],
    later: BTreeMap<(Instant, u64), Box<Job>>,
    /// Hosts that are not asked before a given time.
    resting: BTreeSet<(Instant, Name)>,
}

/// Where a message waits.
pub enum Place {
    Later((Instant, u64)),
    Lane(Lane, u64),
}

#[derive(Default)]
struct Waiting {
    running: usize,
    /// By arrival.
    jobs: BTreeMap<u64, Box<Job>>,
}

/// Lanes with waiting messages, by tenant.
#[derive(Default)]
struct Group {
    order: Order<Option<Name>>,
    hosts: HashMap<Option<Name>, Order<Option<Name>>>,
    fetching: usize,
    waiting: usize,
}

impl Turns {
    pub fn new(settings: &PipelineSettings, standing: impl Fn(&str) -> Standing + Send + 'static) -> Self {
        Self {
            standing: Box::new(standing),
            window: settings.in_flight_max,
            base: Duration::from_millis(settings.backoff_base_ms),
            cap: Duration::from_millis(settings.backoff_cap_ms),
            stamp: 0,
            lanes: HashMap::new(),
            hosts: HashMap::new(),
            tenants: HashMap::new(),
            groups: Default::default(),
            later: BTreeMap::new(),
            resting: BTreeSet::new(),
        }
    }

    /// Adds a message that may run, behind those of its lane.
    pub fn enter(&mut self, mut job: Box<Job>) {
        job.seq = self.next_stamp();
        self.push(job);
    }

    /// Takes back a message that has run and is to be tried again.
    pub fn put_aside(&mut self, job: Box<Job>, aside: Aside, now: Instant) {
        match job.lane.host.clone().filter(|_| aside.is_out) {
            // At the back of its lane, so that the host is not always tried with the same, possibly broken, message.
            Some(host) => {
                self.enter(job);
                self.rest(&host, aside.retry_after, now);
            }
            None => {
                self.later.insert((now + aside.wait, job.seq), job);
            }
        }
    }

    /// The message for the next free place. It counts as running until [`Self::ended`].
    pub fn next(&mut self) -> Option<Box<Job>> {
        let is_due = self.group(Kind::Doubtful).fetching < self.doubtful_share();
        let kinds = if is_due { [Kind::Doubtful, Kind::Fine] } else { [Kind::Fine, Kind::Doubtful] };
        let lane = kinds.into_iter().find_map(|kind| self.next_of(kind))?;
        let job = self.pop(&lane)?;
        if let Some(host) = &lane.host
            && let Some(known) = self.hosts.get_mut(host)
        {
            known.fetching += 1;
            let kind = known.kind;
            self.group_mut(kind).fetching += 1;
        }
        let running = self.lanes.get(&lane).map_or(0, |waiting| waiting.running);
        self.count(&lane, running + 1, self.running_of(&lane.tenant) + 1);
        Some(job)
    }

    /// A message of this lane has stopped running.
    pub fn ended(&mut self, lane: &Lane) {
        let running = self.lanes.get(lane).map_or(0, |waiting| waiting.running);
        self.count(lane, running.saturating_sub(1), self.running_of(&lane.tenant).saturating_sub(1));
    }

    /// A message returns its turn at the host: it is past its fetch (`served`), or has ended before that. If it is put
    /// aside, call [`Self::put_aside`] first.
    pub fn passed(&mut self, host: &Name, served: bool, now: Instant) {
        let Some(known) = self.hosts.get_mut(host) else { return };
        known.fetching = known.fetching.saturating_sub(1);
        let kind = known.kind;
        let group = self.group_mut(kind);
        group.fetching = group.fetching.saturating_sub(1);
        self.look(host, served, now);
    }

    /// When [`Self::wake`] has something to do next.
    pub fn due(&self) -> Option<Instant> {
        let later = self.later.first_key_value().map(|((at, _), _)| *at);
        let resting = self.resting.first().map(|(at, _)| *at);
        later.into_iter().chain(resting).min()
    }

    /// Releases the messages and hosts whose time has come.
    pub fn wake(&mut self, now: Instant) {
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            let job = entry.remove();
            self.push(job);
        }
        while let Some((_, host)) = self.resting.first().filter(|(at, _)| *at <= now).cloned() {
            self.set_until(&host, None);
            self.look(&host, false, now);
        }
    }

    /// Places of the waiting messages that match.
    pub fn list_where(&self, is_over: impl Fn(&Job) -> bool) -> Vec<Place> {
        let later = self.later.iter().filter(|(_, job)| is_over(job)).map(|(at, _)| Place::Later(*at));
        let mut found: Vec<Place> = later.collect();
        for (lane, waiting) in &self.lanes {
            let jobs = waiting.jobs.values().filter(|job| is_over(job));
            found.extend(jobs.map(|job| Place::Lane(lane.clone(), job.seq)));
        }
        found
    }

    /// Removes them, to be dropped.
    pub fn remove(&mut self, places: Vec<Place>) -> Vec<Job> {
        let remove = |place| match place {
            Place::Later(at) => self.later.remove(&at),
            Place::Lane(lane, seq) => self.take(&lane, seq),
        };
        places.into_iter().filter_map(remove).map(|job| *job).collect()
    }

    /// The assets whose messages wait here.
    pub fn assets(&self) -> HashSet<PointId> {
        let waiting = self.lanes.values().flat_map(|waiting| waiting.jobs.values());
        waiting.chain(self.later.values()).map(|job| job.request.point_id()).collect()
    }

    /// Messages that wait for a retry or for their host.
    pub fn held(&self) -> usize {
        self.later.len() + self.group(Kind::Resting).waiting
    }

    /// Messages that wait only for a turn.
    pub fn waiting(&self) -> usize {
        self.group(Kind::Fine).waiting + self.group(Kind::Doubtful).waiting
    }

    /// Those whose hosts are not doubtful.
    pub fn waiting_in_peace(&self) -> usize {
        self.group(Kind::Fine).waiting
    }

    pub fn is_empty(&self) -> bool {
        self.held() + self.waiting() == 0
    }

    /// Whether one tenant has most places and no message of another tenant waits that could take the next one.
    pub fn is_crowded(&self) -> bool {
        let most = self.tenants.iter().max_by_key(|(_, running)| **running);
        let Some((tenant @ Some(_), running)) = most else { return false };
        let waiting = &self.group(Kind::Fine).order;
        *running > self.window / 2 && waiting.len() == usize::from(waiting.contains(tenant))
    }

    fn doubtful_share(&self) -> usize {
        (self.window / DOUBTFUL_SHARE).max(1)
    }

    fn next_of(&self, kind: Kind) -> Option<Lane> {
        let group = self.group(kind);
        let most = self.window - self.doubtful_share();
        if kind == Kind::Doubtful && group.fetching >= most.max(1) {
            return None;
        }
        let lanes = group.order.iter().flat_map(|tenant| {
            let hosts = group.hosts.get(tenant).into_iter().flat_map(Order::iter);
            hosts.map(move |host| (tenant, host))
        });
        let may_run = |host: &Option<Name>| host.as_ref().is_none_or(|host| self.has_turn(host));
        let (tenant, host) = lanes.into_iter().find(|(_, host)| may_run(host))?;
        Some(Lane { tenant: tenant.clone(), host: host.clone() })
    }

    fn push(&mut self, job: Box<Job>) {
        let lane = job.lane.clone();
        if let Some(host) = &lane.host {
            self.meet(host);
        }
        let kind = self.kind(&lane);
        let waiting = self.lanes.entry(lane.clone()).or_default();
        let (is_first, running) = (waiting.jobs.is_empty(), waiting.running);
        waiting.jobs.insert(job.seq, job);
        self.group_mut(kind).waiting += 1;
        if let Some(known) = lane.host.as_ref().and_then(|host| self.hosts.get_mut(host)) {
            known.waiting += 1;
            known.tenants.insert(lane.tenant.clone());
        }
        if is_first {
            let (stamp, of_tenant) = (self.next_stamp(), self.running_of(&lane.tenant));
            self.group_mut(kind).list(&lane, running, of_tenant, stamp);
        }
    }

    fn pop(&mut self, lane: &Lane) -> Option<Box<Job>> {
        let seq = *self.lanes.get(lane)?.jobs.first_key_value()?.0;
        let job = self.take(lane, seq);
        let (kind, stamp) = (self.kind(lane), self.next_stamp());
        self.group_mut(kind).served(lane, stamp);
        job
    }

    fn take(&mut self, lane: &Lane, seq: u64) -> Option<Box<Job>> {
        let kind = self.kind(lane);
        let waiting = self.lanes.get_mut(lane)?;
        let job = waiting.jobs.remove(&seq)?;
        let is_last = waiting.jobs.is_empty();
        if is_last && waiting.running == 0 {
            self.lanes.remove(lane);
        }
        let group = self.group_mut(kind);
        group.waiting = group.waiting.saturating_sub(1);
        if is_last {
            group.unlist(lane);
        }
        if let Some(known) = lane.host.as_ref().and_then(|host| self.hosts.get_mut(host)) {
            known.waiting = known.waiting.saturating_sub(1);
            if is_last {
                known.tenants.remove(&lane.tenant);
            }
        }
        Some(job)
    }

    /// Sets how many messages of a lane and of its tenant run.
    fn count(&mut self, lane: &Lane, of_lane: usize, of_tenant: usize) {
        let waiting = self.lanes.entry(lane.clone()).or_default();
        waiting.running = of_lane;
        if of_lane == 0 && waiting.jobs.is_empty() {
            self.lanes.remove(lane);
        }
        if of_tenant == 0 {
            self.tenants.remove(&lane.tenant);
        } else {
            self.tenants.insert(lane.tenant.clone(), of_tenant);
        }
        for group in &mut self.groups {
            group.order.change(&lane.tenant, of_tenant);
            if let Some(hosts) = group.hosts.get_mut(&lane.tenant) {
                hosts.change(&lane.host, of_lane);
            }
        }
    }

    fn kind(&self, lane: &Lane) -> Kind {
        lane.host.as_ref().and_then(|host| self.hosts.get(host)).map_or(Kind::Fine, |known| known.kind)
    }

    fn running_of(&self, tenant: &Option<Name>) -> usize {
        self.tenants.get(tenant).copied().unwrap_or_default()
    }

    fn group(&self, kind: Kind) -> &Group {
        let [fine, doubtful, resting] = &self.groups;
        match kind {
            Kind::Fine => fine,
            Kind::Doubtful => doubtful,
            Kind::Resting => resting,
        }
    }

    fn group_mut(&mut self, kind: Kind) -> &mut Group {
        let [fine, doubtful, resting] = &mut self.groups;
        match kind {
            Kind::Fine => fine,
            Kind::Doubtful => doubtful,
            Kind::Resting => resting,
        }
    }

    fn next_stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }
}

impl Group {
    fn list(&mut self, lane: &Lane, of_lane: usize, of_tenant: usize, stamp: u64) {
        self.hosts.entry(lane.tenant.clone()).or_default().insert(lane.host.clone(), of_lane, stamp);
        if !self.order.contains(&lane.tenant) {
            self.order.insert(lane.tenant.clone(), of_tenant, stamp);
        }
    }

    /// Moves a lane that was just served behind others with as many running messages.
    fn served(&mut self, lane: &Lane, stamp: u64) {
        self.order.defer(&lane.tenant, stamp);
        if let Some(hosts) = self.hosts.get_mut(&lane.tenant) {
            hosts.defer(&lane.host, stamp);
        }
    }

    fn unlist(&mut self, lane: &Lane) {
        let Some(hosts) = self.hosts.get_mut(&lane.tenant) else { return };
        hosts.remove(&lane.host);
        if hosts.len() == 0 {
            self.hosts.remove(&lane.tenant);
            self.order.remove(&lane.tenant);
        }
    }
}
