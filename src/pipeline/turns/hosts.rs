//! How a host's standing affects its messages.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Lane, Name, Turns};
use crate::media::Standing;
use crate::retry::Backoff;

/// Running messages per concurrent fetch of a host: one being fetched, and one on its way there.
const TURNS_PER_FETCH: usize = 2;

/// A host with messages that wait or run.
pub(super) struct Host {
    pub kind: Kind,
    standing: Standing,
    /// Running messages that are not past their fetch.
    pub fetching: usize,
    pub waiting: usize,
    /// Tenants whose messages wait.
    pub tenants: BTreeSet<Option<Name>>,
    /// Set during an outage: the waits between two tries.
    out: Option<Backoff>,
    /// Not asked before then.
    until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Fine,
    Doubtful,
    /// Its messages wait until the next try.
    Resting,
}

impl Host {
    /// Whether one more of its messages may run.
    fn has_turn(&self) -> bool {
        let most = if self.out.is_some() { 1 } else { TURNS_PER_FETCH * self.standing.fetches_max.max(1) };
        self.fetching < most
    }

    fn kind_now(&self) -> Kind {
        match (self.until, &self.out) {
            (Some(_), _) => Kind::Resting,
            (None, None) if !self.standing.is_doubtful => Kind::Fine,
            (None, _) => Kind::Doubtful,
        }
    }
}

impl Turns {
    pub(super) fn has_turn(&self, host: &Name) -> bool {
        self.hosts.get(host).is_none_or(Host::has_turn)
    }

    /// Starts to track the host.
    pub(super) fn meet(&mut self, host: &Name) {
        if self.hosts.contains_key(host) {
            return;
        }
        let standing = (self.standing)(host);
        let mut known = Host {
            kind: Kind::Fine,
            standing,
            fetching: 0,
            waiting: 0,
            tenants: BTreeSet::new(),
            out: None,
            until: standing.paused_until,
        };
        known.kind = known.kind_now();
        self.resting.extend(known.until.map(|until| (until, host.clone())));
        self.hosts.insert(host.clone(), known);
    }

    /// Reads the host's standing and sorts its messages accordingly. `served`: it has just answered.
    pub(super) fn look(&mut self, host: &Name, served: bool, now: Instant) {
        let standing = (self.standing)(host);
        let Some(known) = self.hosts.get_mut(host) else { return };
        known.standing = standing;
        let is_back = served && known.out.take().is_some();
        let until = if is_back { None } else { known.until };
        let until = until.max(standing.paused_until).filter(|until| *until > now);
        let is_idle = known.fetching == 0 && known.waiting == 0 && until.is_none();
        self.set_until(host, until);
        match is_idle {
            true => drop(self.hosts.remove(host)),
            false => self.sort(host),
        }
        if is_back {
            self.try_all(now);
        }
    }

    /// The host has an outage: it is not asked for a while.
    pub(super) fn rest(&mut self, host: &Name, retry_after: Option<Duration>, now: Instant) {
        let (base, cap) = (self.base, self.cap);
        let Some(known) = self.hosts.get_mut(host) else { return };
        // Fetches that had started before the outage show nothing new.
        if known.out.is_some() && known.until.is_some_and(|until| until > now) {
            return;
        }
        let wait = known.out.get_or_insert_with(|| Backoff::new(base, cap)).next_wait(retry_after);
        let until = known.until.max(Some(now + wait));
        self.set_until(host, until);
        self.sort(host);
    }

    pub(super) fn set_until(&mut self, host: &Name, until: Option<Instant>) {
        let Some(known) = self.hosts.get_mut(host) else {
            self.resting.retain(|(_, other)| other != host);
            return;
        };
        if let Some(before) = std::mem::replace(&mut known.until, until) {
            self.resting.remove(&(before, host.clone()));
        }
        self.resting.extend(until.map(|until| (until, host.clone())));
    }

    /// One host is back, so what the others share with it (a network, credentials) may be back too.
    fn try_all(&mut self, now: Instant) {
        let out: Vec<Name> = self.resting.iter().map(|(_, host)| host.clone()).collect();
        for host in out {
            let paused = self.hosts.get(&host).and_then(|known| known.standing.paused_until);
            self.set_until(&host, paused.filter(|until| *until > now));
            self.sort(&host);
        }
    }

    /// Moves the host's messages to the group of its kind.
    fn sort(&mut self, host: &Name) {
        let Some(known) = self.hosts.get_mut(host) else { return };
        let kind = known.kind_now();
        let before = std::mem::replace(&mut known.kind, kind);
        if before == kind {
            return;
        }
        let (fetching, waiting, tenants) = (known.fetching, known.waiting, known.tenants.clone());
        let group = self.group_mut(before);
        group.fetching = group.fetching.saturating_sub(fetching);
        group.waiting = group.waiting.saturating_sub(waiting);
        let group = self.group_mut(kind);
        group.fetching += fetching;
        group.waiting += waiting;
        for tenant in tenants {
            let lane = Lane { tenant, host: Some(host.clone()) };
            let running = self.lanes.get(&lane).map_or(0, |waiting| waiting.running);
            let (stamp, of_tenant) = (self.next_stamp(), self.running_of(&lane.tenant));
            self.group_mut(before).unlist(&lane);
            self.group_mut(kind).list(&lane, running, of_tenant, stamp);
        }
    }
}
