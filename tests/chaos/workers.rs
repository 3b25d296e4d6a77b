//! The workers: real `clipstream run` processes, and what keeps as many of them running as there should be.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::Error;
use crate::clock::Clock;
use crate::crash::{self, Words};
use crate::journal::Journal;
use crate::shared::{Runtime, StandIn};

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

    fn start(&self, number: u32, with_clock: bool, with_runtime: bool) -> Result<Worker, Error> {
        let folder = self.folder(number);
        std::fs::create_dir_all(&folder)?;
        let mut command = clipstream(&self.how.program, &folder);
        for (key, value) in &self.how.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.envs(self.how.environment.iter().map(|(k, v)| (k, v)));
        let clock = match &self.how.clocks {
            Some(library) if with_clock => {
                Some(Clock::give(&mut command, library, self.how.log_folder.join(format!("clock-{number}")))?)
            }
            _ => None,
        };
        let runtime = match &self.how.runtimes {
            Some(stand_in) if with_runtime => {
                Some(stand_in.give(&mut command, self.how.log_folder.join(format!("runtime-{number}")))?)
            }
            _ => None,
        };
        let started = SystemTime::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = BufReader::new(child.stderr.take().ok_or("no standard error")?);
        let (served, journal) = (Arc::new(AtomicBool::new(false)), self.journal.clone());
        let address = Arc::new(OnceLock::new());
        let (mut log, serves, is_at) = (File::create(self.log(number))?, served.clone(), address.clone());
        let reader = Some(std::thread::spawn(move || {
            let mut words = Words::default();
            for line in stderr.lines().map_while(Result::ok) {
                journal.line(number, &line);
                words.hear(&line);
                if line.contains(r#""message":"partitions assigned""#) {
                    serves.store(true, Ordering::Relaxed);
                }
                if let Some(at) = serving_at(&line) {
                    // A process serves once.
                    let _ = is_at.set(at);
                }
                // A full disk must not stop the campaign; the log is for people.
                let _ = writeln!(log, "{line}");
            }
            words
        }));
        let (paused, sent, lost) = (false, None, false);
        Ok(Worker { number, child, clock, runtime, lost, address, reader, started, ended: None, served, paused, sent })
    }

    /// Where it runs, and leaves its core file. Its own: the file may have no other name.
    fn folder(&self, number: u32) -> PathBuf {
        self.how.log_folder.join(format!("worker-{number}"))
    }

    fn log(&self, number: u32) -> PathBuf {
        self.how.log_folder.join(format!("worker-{number}.log"))
    }

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

fn serving_at(line: &str) -> Option<String> {
    if !line.contains(r#""message":"serving "#) {
        return None;
    }
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    Some(event["address"].as_str()?.to_owned())
}

/// The worker that was built with this campaign.
pub const BUILT: &str = env!("CARGO_BIN_EXE_clipstream");
/// The demo's model, wherever a worker runs.
pub const MODEL_FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model");

/// `clipstream run` in `folder`, with nothing in its environment but what it needs to find ONNX Runtime, and what a sanitizer
/// is told.
pub fn clipstream(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("run").env_clear().current_dir(folder);
    let runtime = ["HOME", "XDG_CACHE_HOME", "CLIPSTREAM_ORT_DYLIB", "ORT_DYLIB_PATH", "LD_LIBRARY_PATH"];
    for name in runtime.into_iter().chain(["ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS"]) {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// By the shell's own `kill`: not every system has one as a program. A process that has ended is no error.
pub fn signal(process: u32, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).stderr(Stdio::null()).status();
    if let Err(error) = sent {
        eprintln!("chaos: no shell to send SIG{name}: {error}");
    }
}
