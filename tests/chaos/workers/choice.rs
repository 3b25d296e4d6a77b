//! What is done to one of the workers, and what one of them is asked: `pick` chooses among those that consume.

use std::sync::atomic::Ordering;

use super::process::signal;
use super::{Pool, SIGKILL, SIGTERM, Worker};
use crate::Error;
use crate::shared::Runtime;

impl Pool {
    /// kill -9 of one. `pick` chooses; `None`: there is none to choose.
    pub fn kill(&self, pick: usize) -> Option<u32> {
        self.one(pick, |worker| {
            worker.sent = Some(SIGKILL);
            // It may have ended this very moment.
            let _ = worker.child.kill();
        })
    }

    /// SIGTERM to one.
    pub fn terminate(&self, pick: usize) -> Option<u32> {
        self.one(pick, |worker| {
            worker.sent = Some(SIGTERM);
            signal(worker.child.id(), "TERM");
        })
    }

    /// SIGSTOP to one.
    pub fn pause(&self, pick: usize) -> Option<u32> {
        self.one(pick, |worker| {
            worker.paused = true;
            signal(worker.child.id(), "STOP");
        })
    }

    /// SIGCONT to the one that was paused, if it is still there.
    pub fn resume(&self, number: u32) {
        for worker in self.state().running.iter_mut().filter(|worker| worker.number == number) {
            worker.paused = false;
            signal(worker.child.id(), "CONT");
        }
    }

    /// Sets the clock of one that has one. `None`: none has.
    pub fn set_clock(&self, pick: usize, offset_s: i64) -> Result<Option<u32>, Error> {
        let mut set = Ok(());
        let act = |worker: &mut Worker| set = worker.clock.as_ref().map_or(Ok(()), |clock| clock.set(offset_s));
        let worker = self.one_of(pick, |worker| worker.clock.is_some(), act);
        set.map(|()| worker)
    }

    /// Sets the clock right of the one that it was set wrong of, if it is still there.
    pub fn right_clock(&self, number: u32) -> Result<(), Error> {
        let state = self.state();
        let clock =
            state.running.iter().find(|worker| worker.number == number).and_then(|worker| worker.clock.as_ref());
        clock.map_or(Ok(()), |clock| clock.set(0))
    }

    /// One whose model runtime can be made to fail; `lost`: and never works again. `None`: none has.
    pub fn runtime(&self, pick: usize, lost: bool) -> Option<(u32, Runtime)> {
        let mut found = None;
        let act = |worker: &mut Worker| {
            worker.lost = lost;
            found = worker.runtime.clone();
        };
        let worker = self.one_of(pick, |worker| worker.runtime.is_some() && !worker.lost, act)?;
        found.map(|runtime| (worker, runtime))
    }

    /// How a worker ended whose runtime was lost: `None`, it has not; no code, it was killed.
    pub fn end_of_lost(&self, number: u32) -> Option<Option<i32>> {
        self.state().lost.get(&number).copied()
    }

    /// Number and process of one, and where it serves its metrics.
    pub fn process(&self, pick: usize) -> Option<(u32, u32, String)> {
        let mut found = None;
        let act = |worker: &mut Worker| found = worker.address.get().map(|at| (worker.child.id(), at.clone()));
        let worker = self.one(pick, act)?;
        found.map(|(process, at)| (worker, process, at))
    }

    /// Whether it still runs.
    pub fn runs(&self, number: u32) -> bool {
        self.state().running.iter().any(|worker| worker.number == number && worker.sent.is_none())
    }

    /// Whether one of them has begun to consume.
    pub fn serves(&self) -> bool {
        self.state().running.iter().any(|worker| worker.served.load(Ordering::Relaxed))
    }

    /// One of those that consume and are left alone so far.
    fn one(&self, pick: usize, act: impl FnOnce(&mut Worker)) -> Option<u32> {
        self.one_of(pick, |_| true, act)
    }

    fn one_of(&self, pick: usize, fits: impl Fn(&Worker) -> bool, act: impl FnOnce(&mut Worker)) -> Option<u32> {
        let mut state = self.state();
        let free = |w: &&mut Worker| !w.paused && w.sent.is_none() && w.served.load(Ordering::Relaxed) && fits(w);
        let mut candidates: Vec<&mut Worker> = state.running.iter_mut().filter(free).collect();
        let count = candidates.len();
        let worker = candidates.get_mut(pick % count.max(1))?;
        act(worker);
        Some(worker.number)
    }
}
