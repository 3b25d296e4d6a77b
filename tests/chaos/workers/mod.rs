//! The workers: real `clipstream run` processes, and what keeps as many of them running as there should be.

mod choice;
mod process;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::Error;
use crate::clock::Clock;
use crate::crash::{self, Words};
use crate::journal::Journal;
use crate::shared::{Runtime, StandIn};

pub use process::{BUILT, MODEL_FOLDER, clipstream, signal};

/// A worker that could not start is replaced after this.
const RESTART_PAUSE: Duration = Duration::from_millis(1000);
/// How long what a worker started may be there after it.
const OUTLIVED_MAX: Duration = Duration::from_secs(20);
/// Exit code of a worker that lacks a dependency, at its start or for its last commit.
const UNAVAILABLE: i32 = 3;
/// Exit code of a worker whose model does not work any more.
const NO_MODEL: i32 = 6;
/// As the system counts them (signal(7)).
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// How a worker is started.
pub struct WorkerSettings {
    /// What they run.
    pub program: PathBuf,
    pub settings: Vec<(String, String)>,
    pub environment: Vec<(String, String)>,
    pub log_folder: PathBuf,
    /// What the numbers of these workers begin with: they are told apart by them.
    pub first: u32,
    /// The library that gives half of the workers a clock that can be set.
    pub clocks: Option<PathBuf>,
    /// And the other half a model runtime that can fail.
    pub runtimes: Option<StandIn>,
}

pub struct Pool {
    how: WorkerSettings,
    journal: Arc<Journal>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: Vec<Worker>,
    target: usize,
    started: u32,
    /// Those whose start ended because a dependency was away.
    refused_starts: Vec<u32>,
    not_before: Option<Instant>,
    /// Exit codes of workers whose runtime was lost.
    lost: BTreeMap<u32, Option<i32>>,
}

struct Worker {
    number: u32,
    child: Child,
    /// Where it can be set.
    clock: Option<Clock>,
    /// Where it can fail.
    runtime: Option<Runtime>,
    /// It will never work again.
    lost: bool,
    /// Where it serves its metrics, once it does.
    address: Arc<OnceLock<String>>,
    reader: Option<std::thread::JoinHandle<Words>>,
    started: SystemTime,
    ended: Option<Instant>,
    /// It has begun to consume.
    served: Arc<AtomicBool>,
    paused: bool,
    /// The signal that we ended it with.
    sent: Option<i32>,
}

impl Pool {
    pub fn new(how: WorkerSettings, target: usize, journal: Arc<Journal>) -> Self {
        let started = how.first;
        Self { how, journal, state: Mutex::new(State { target, started, ..State::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn settings(&self) -> &WorkerSettings {
        &self.how
    }

    pub fn target(&self) -> usize {
        self.state().target
    }

    pub fn set_target(&self, target: usize) {
        self.state().target = target;
    }

    pub fn refused_starts(&self) -> usize {
        self.state().refused_starts.len()
    }

    /// Starts that ended because a dependency was away, and said this.
    pub fn refused_for(&self, what: &str) -> usize {
        let refused = self.state().refused_starts.clone();
        refused.into_iter().filter(|number| self.says(*number, what)).count()
    }

    /// Looks after the workers once: buries the dead, starts one where one is missing.
    pub fn tend(&self) -> Result<(), Error> {
        let mut state = self.state();
        let mut at = 0;
        while at < state.running.len() {
            match state.running[at].child.try_wait()? {
                None => at += 1,
                Some(status) => {
                    // Its output ends with it, and has its reason.
                    let worker = &mut state.running[at];
                    let ended = *worker.ended.get_or_insert_with(Instant::now);
                    let is_read = worker.reader.as_ref().is_none_or(std::thread::JoinHandle::is_finished);
                    if !is_read && ended.elapsed() < OUTLIVED_MAX {
                        at += 1;
                        continue;
                    }
                    let mut worker = state.running.remove(at);
                    let words = if is_read {
                        worker.reader.take().and_then(|reader| reader.join().ok()).unwrap_or_default()
                    } else {
                        let (number, bound) = (worker.number, OUTLIVED_MAX.as_secs());
                        self.journal.violation(format!(
                            "a process that worker {number} started was still there {bound} s after its end ({status})"
                        ));
                        Words::default()
                    };
                    self.judge(&worker, status, &words, &mut state);
                }
            }
        }
        let due = state.not_before.is_none_or(|when| Instant::now() >= when);
        let staying = state.running.iter().filter(|worker| worker.sent.is_none()).count();
        if staying < state.target && due {
            let with_clock = state.running.iter().filter(|worker| worker.clock.is_some()).count();
            let with_runtime = state.running.iter().filter(|worker| worker.runtime.is_some()).count();
            // The others show what is the library's doing, if anything.
            let (clock, runtime) =
                (with_clock <= state.running.len() / 2, with_runtime < state.running.len().div_ceil(2));
            let worker = self.start(state.started + 1, clock, runtime)?;
            state.started += 1;
            state.running.push(worker);
        }
        Ok(())
    }

    fn judge(&self, worker: &Worker, status: ExitStatus, words: &Words, state: &mut State) {
        let served = worker.served.load(Ordering::Relaxed);
        if worker.lost {
            state.lost.insert(worker.number, status.code());
        }
        let log = self.log(worker.number);
        if let Some(report) = words.report() {
            let what =
                format!("worker {} ({status}): a sanitizer found this; its log: {}", worker.number, log.display());
            return self.journal.violation(what + &report);
        }
        match status.code() {
            Some(NO_MODEL) if worker.lost => {}
            // Past the drain deadline, or without the broker to commit to, it says so: what it leaves comes again.
            Some(0 | UNAVAILABLE) if worker.sent.is_some() => {}
            None if worker.sent.is_some() && worker.sent == status.signal() => {}
            Some(UNAVAILABLE) if !served => {
                state.refused_starts.push(worker.number);
                state.not_before = Some(Instant::now() + RESTART_PAUSE);
            }
            // librdkafka goes by leaders' epochs, which begin anew with a topic: a broker that was killed before that had higher
            // ones. A process that begins anew knows none.
            Some(UNAVAILABLE) if self.says(worker.number, "does not follow to the topic") => {}
            _ => self.journal.violation(format!(
                "worker {} ended by itself ({status}){}{}; its log: {}, and its last lines:{}{}",
                worker.number,
                if served { "" } else { " before it consumed anything" },
                worker.sent.map_or_else(String::new, |sent| format!(" after it was sent signal {sent}")),
                log.display(),
                words.last(),
                // Rare enough that all others may wait for it.
                if status.core_dumped() { self.stack(worker) } else { String::new() },
            )),
        }
    }

    /// Where it was when it crashed.
    fn stack(&self, worker: &Worker) -> String {
        let (folder, file) = (self.folder(worker.number), self.log(worker.number).with_extension("stacks"));
        format!("\n{}", crash::stack(&self.how.program, &folder, worker.started, &file))
    }

    /// Whether the log of a worker has it, whose output has ended.
    fn says(&self, number: u32, what: &str) -> bool {
        std::fs::read(self.log(number)).is_ok_and(|log| String::from_utf8_lossy(&log).contains(what))
    }

    /// SIGTERM to all; whether all ended well in time.
    pub async fn end(&self, patience: Duration) -> Result<(), Error> {
        self.set_target(0);
        while self.terminate(0).is_some() {}
        // What has not begun to consume is not asked: it is not among the candidates.
        for worker in self.state().running.iter_mut().filter(|worker| worker.sent.is_none()) {
            worker.sent = Some(SIGTERM);
            signal(worker.child.id(), "TERM");
        }
        let deadline = Instant::now() + patience;
        while !self.state().running.is_empty() {
            if Instant::now() > deadline {
                let left: Vec<u32> = self.state().running.iter().map(|worker| worker.number).collect();
                self.journal.violation(format!("workers {left:?} do not end {patience:?} after SIGTERM"));
                return Ok(());
            }
            self.tend()?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for worker in &mut self.state().running {
            // Fails when it has ended, which is as well.
            let _ = worker.child.kill();
            let _ = worker.child.wait();
        }
    }
}
