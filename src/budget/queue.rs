//! The queue of a budget.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;

/// The queue of requests. Growing reservations come before new ones, because they complete sooner; otherwise first come, first
/// served. Requests that wait for their owner's share do not block other owners.
#[derive(Debug)]
pub(super) struct Queue {
    bytes_max: u64,
    /// Kept free for the senior.
    kept: u64,
    /// Largest size of one reservation.
    most: u64,
    owner_bytes_max: u64,
    held: u64,
    last_id: u64,
    /// The reservation that may grow into the kept part, until it is complete.
    senior: Option<u64>,
    owners: HashMap<Arc<str>, Owner>,
    waiting: VecDeque<Request>,
    /// A request waits for the whole budget.
    is_full: bool,
}

#[derive(Debug, Default)]
struct Owner {
    bytes: u64,
    /// The reservation of this owner that may exceed the share, until it is complete; the others wait for it.
    senior: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: u64,
    pub(super) owner: Option<Arc<str>>,
    pub(super) more: u64,
    /// The reservation is still empty.
    pub(super) begins: bool,
    pub(super) granted: oneshot::Sender<()>,
}

enum Verdict {
    Granted,
    /// Waits for its owner's share.
    Share,
    /// Waits for the whole budget.
    Full,
}

impl Queue {
    pub(super) fn new(bytes_max: u64, share: u64) -> Self {
        Self {
            bytes_max,
            kept: 0,
            most: 0,
            owner_bytes_max: (bytes_max / share).max(1),
            held: 0,
            last_id: 0,
            senior: None,
            owners: HashMap::new(),
            waiting: VecDeque::new(),
            is_full: false,
        }
    }

    pub(super) fn keep_for_one(&mut self, bytes: u64) {
        self.most = bytes.min(self.bytes_max);
        self.kept = bytes.min(self.bytes_max / 2);
    }

    pub(super) fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    pub(super) fn bytes_held(&self) -> u64 {
        self.held
    }

    pub(super) fn is_short(&self, owner: Option<&str>) -> bool {
        self.is_full || self.waiting.iter().any(|request| request.owner.as_deref() == owner)
    }

    pub(super) fn ask(&mut self, request: Request) {
        self.waiting.push_back(request);
        self.grant();
    }

    /// Whether it was still waiting.
    pub(super) fn withdraw(&mut self, id: u64) -> bool {
        let at = self.waiting.iter().position(|request| request.id == id);
        if let Some(at) = at {
            self.waiting.remove(at);
            self.grant();
        }
        at.is_some()
    }

    /// The reservation `id` is complete; `bytes` of it counted against `owner`'s share.
    pub(super) fn complete(&mut self, id: u64, owner: Option<&str>, bytes: u64) {
        self.senior.take_if(|senior| *senior == id);
        if let Some(owner) = owner
            && let Some(known) = self.owners.get_mut(owner)
        {
            known.bytes = known.bytes.saturating_sub(bytes);
            known.senior.take_if(|senior| *senior == id);
            if known.bytes == 0 && known.senior.is_none() {
                self.owners.remove(owner);
            }
        }
        self.grant();
    }

    pub(super) fn give_back(&mut self, bytes: u64) {
        self.held = self.held.saturating_sub(bytes);
        self.grant();
    }

    fn grant(&mut self) {
        self.is_full = false;
        // The senior first: all others wait for it, even earlier ones.
        let senior = self.waiting.iter().position(|request| Some(request.id) == self.senior);
        if senior.is_some_and(|at| matches!(self.try_at(at), Verdict::Full)) {
            self.is_full = true;
            return;
        }
        for begins in [false, true] {
            let mut at = 0;
            while let Some(request) = self.waiting.get(at) {
                if request.begins != begins {
                    at += 1;
                    continue;
                }
                match self.try_at(at) {
                    Verdict::Granted => {}
                    Verdict::Share => at += 1,
                    Verdict::Full => {
                        self.is_full = true;
                        return;
                    }
                }
            }
        }
    }

    /// Grants the request at this index, if allowed.
    fn try_at(&mut self, at: usize) -> Verdict {
        let Some(request) = self.waiting.get(at) else { return Verdict::Share };
        let (id, owner, more) = (request.id, request.owner.clone(), request.more);
        let verdict = self.judge(id, owner.as_ref(), more, request.begins);
        if matches!(verdict, Verdict::Granted) {
            self.held += more;
            if let Some(owner) = owner {
                self.owners.entry(owner).or_default().bytes += more;
            }
            if let Some(request) = self.waiting.remove(at) {
                // If the wait was cancelled, the receiver is dropped; the canceller releases the granted bytes.
                let _ = request.granted.send(());
            }
        }
        verdict
    }

    fn judge(&mut self, id: u64, owner: Option<&Arc<str>>, more: u64, begins: bool) -> Verdict {
        if let Some(known) = owner.and_then(|owner| self.owners.get_mut(owner))
            && known.bytes > 0
            && known.bytes + more > self.owner_bytes_max
        {
            // A new reservation holds nothing that others could wait for.
            if begins || known.senior.is_some_and(|senior| senior != id) {
                return Verdict::Share;
            }
            known.senior = Some(id);
        }
        let usual = self.bytes_max - self.kept;
        let wanted = self.held + more;
        if self.held == 0 || wanted <= usual {
            return Verdict::Granted;
        }
        if begins {
            return Verdict::Full;
        }
        let senior = *self.senior.get_or_insert(id);
        match senior == id && wanted <= self.bytes_max.max(usual + self.most) {
            true => Verdict::Granted,
            false => Verdict::Full,
        }
    }
}
