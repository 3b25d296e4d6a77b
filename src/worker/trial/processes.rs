//! The worker's side of trials: a thread that starts processes, gives them messages, and counts how they end.
//!
//! A process is ready once it has opened the models and run known inputs. That proves that everything shared works.
//! Only after that does its end count against its message, and only if nothing outside can have caused it: a signal
//! raised by the process itself (SIGSEGV, SIGABRT, …), an exit, a model that stopped working, more memory than a
//! message may take, or a run without end. SIGKILL, SIGTERM and the like never count.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Answer, line_of};
use crate::domain::{Fault, Message, PipelineReason, Stage};
use crate::redact;
use crate::source::{TrialOutcome, Trials};
use crate::telemetry::Metrics;
use crate::telemetry::labels::Trial;

/// An idle process ends after this time: it holds a model's memory.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How often to check whether the trial is still wanted.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long models may take to load. Engines may have to be built first.
const READY_MAX: Duration = Duration::from_secs(600);
/// If no process becomes ready, none is started for this long.
const UNABLE_FOR: Duration = Duration::from_secs(60);
/// Inconclusive tries of a message before it goes on without a trial.
const UNCLEAR_MAX: u32 = 3;
/// Messages in a row that may be found to end processes, with no survivor between them. After that, something they
/// share is the more likely cause, as in `clip/blame`.
const ROW_MAX: u32 = 8;

/// How to start a trial process.
#[derive(Clone, Debug)]
pub struct TrialCommand {
    program: PathBuf,
    args: Vec<OsString>,
}

impl TrialCommand {
    /// This program with its own arguments, plus `flag`.
    ///
    /// # Errors
    /// The system does not report this program's path.
    pub fn this_program(flag: &str) -> std::io::Result<Self> {
        // On Linux this works even if the file was replaced meanwhile.
        let program =
            if cfg!(target_os = "linux") { PathBuf::from("/proc/self/exe") } else { std::env::current_exe()? };
        let args = std::env::args_os().skip(1).chain([OsString::from(flag)]).collect();
        Ok(Self { program, args })
    }
}

#[derive(Clone, Debug)]
pub struct TrialSettings {
    pub command: TrialCommand,
    /// How many processes in a row a message must end.
    pub crashes_max: u32,
    /// How long each request of a message may take.
    pub answer_max: Duration,
}

/// A handle on the thread. Dropping it ends the current process.
pub struct TrialProcesses {
    queue: Sender<Job>,
}

struct Job {
    message: Message,
    reply: oneshot::Sender<TrialOutcome>,
}

impl TrialProcesses {
    /// Starts no process yet.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn new(settings: TrialSettings, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let (queue, jobs) = mpsc::channel();
        let thread = Thread { settings, metrics, process: None, unable_until: None, in_row: 0 };
        std::thread::Builder::new().name("trials".into()).spawn(move || thread.work(&jobs))?;
        Ok(Self { queue })
    }
}

impl Trials for TrialProcesses {
    fn begin(&self, message: &Message) -> oneshot::Receiver<TrialOutcome> {
        let (reply, tried) = oneshot::channel();
        // If the thread is gone, the reply is dropped and the trial has no result.
        let _ = self.queue.send(Job { message: message.clone(), reply });
        tried
    }
}

struct Thread {
    settings: TrialSettings,
    metrics: Arc<Metrics>,
    process: Option<Process>,
    unable_until: Option<Instant>,
    /// Messages in a row found to be poison.
    in_row: u32,
}

impl Thread {
    fn work(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(IDLE_MAX) {
                Ok(Job { message, reply }) => {
                    let tried = self.settle(&message, &reply);
                    self.metrics.trial(match &tried {
                        TrialOutcome::Passed => Trial::Passed,
                        TrialOutcome::Inconclusive => Trial::Inconclusive,
                        TrialOutcome::Poison(_) => Trial::Poison,
                    });
                    // The receiver is gone if the partition is no longer assigned.
                    let _ = reply.send(tried);
                }
                Err(RecvTimeoutError::Timeout) => self.process = None,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn settle(&mut self, message: &Message, reply: &oneshot::Sender<TrialOutcome>) -> TrialOutcome {
        let position = &message.position;
        if self.unable_until.is_some_and(|until| Instant::now() < until) {
            return TrialOutcome::Inconclusive;
        }
        let line = match line_of(message) {
            Ok(line) => line,
            Err(error) => {
                tracing::warn!(%position, %error, "the message cannot be given to another process: it goes on without a trial");
                return TrialOutcome::Inconclusive;
            }
        };
        let (mut deaths, mut unclear) = (Vec::new(), 0);
        loop {
            // Also after the last death: a new process must still become ready.
            let mut process = match self.ready(reply) {
                Ok(process) => process,
                Err(None) => return TrialOutcome::Inconclusive,
                Err(Some(why)) => {
                    self.unable_until = Some(Instant::now() + UNABLE_FOR);
                    tracing::warn!(
                        %position, why,
                        "no process becomes ready to try messages, which says nothing about them: they go on without a trial, \
                         one at a time"
                    );
                    return TrialOutcome::Inconclusive;
                }
            };
            if deaths.len() >= self.settings.crashes_max as usize {
                self.process = Some(process);
                return self.poison(message, &deaths);
            }
            let is_fresh = std::mem::replace(&mut process.is_fresh, false);
            match process.try_one(&line, self.settings.answer_max, reply) {
                Ended::Passed => {
                    tracing::debug!(%position, deaths = deaths.len(), "the message passed its trial");
                    self.in_row = 0;
                    self.process = Some(process);
                    return TrialOutcome::Passed;
                }
                Ended::Died(death) => {
                    tracing::warn!(%position, how = death.how, stage = %death.stage, is_fresh, "a process that tried the message died");
                    self.metrics.trial(Trial::Crashed);
                    // A death after other messages proves less.
                    if is_fresh {
                        deaths.push(death);
                    }
                }
                Ended::Unclear(why) => {
                    tracing::warn!(%position, why, "a process that tried the message has ended, which says nothing about it");
                    unclear += 1;
                    if unclear >= UNCLEAR_MAX {
                        return TrialOutcome::Inconclusive;
                    }
                }
                Ended::Unwanted => return TrialOutcome::Inconclusive,
            }
        }
    }

    fn poison(&mut self, message: &Message, deaths: &[Death]) -> TrialOutcome {
        let position = &message.position;
        if self.in_row >= ROW_MAX {
            tracing::warn!(
                %position,
                "the message ended every process that it was given to, as did all before it: that is more likely the fault of \
                 what they share, so it goes on"
            );
            return TrialOutcome::Inconclusive;
        }
        self.in_row += 1;
        let Some(Death { how, stage }) = deaths.last() else { return TrialOutcome::Inconclusive };
        let why = format!(
            "it ended {} processes in a row that had nothing else to do and were well before, the last one in stage {stage}: \
             {how}",
            deaths.len()
        );
        TrialOutcome::Poison(Fault::new(PipelineReason::KillsWorker, why).at(*stage))
    }

    /// A process that is ready. `Err(None)`: the trial is no longer wanted.
    fn ready(&mut self, reply: &oneshot::Sender<TrialOutcome>) -> Result<Process, Option<String>> {
        if let Some(process) = self.process.take() {
            return Ok(process);
        }
        let mut process =
            Process::start(&self.settings.command).map_err(|error| Some(format!("it cannot be started: {error}")))?;
        let until = Instant::now() + READY_MAX;
        match process.hear(until, reply) {
            Heard::Answer(Answer::Ready) => Ok(process),
            Heard::Answer(other) => Err(Some(format!("it says {other:?} before it is ready"))),
            Heard::End => Err(Some(process.end().map_or_else(|why| why, |status| described(status).0))),
            Heard::Late => Err(Some(format!("it is not ready after {} s", READY_MAX.as_secs()))),
            Heard::Unwanted => Err(None),
        }
    }
}

/// How a process ended, and where the message was.
#[derive(Debug)]
struct Death {
    how: String,
    stage: Stage,
}

enum Ended {
    Passed,
    Died(Death),
    /// Says nothing about the message.
    Unclear(String),
    /// The trial is no longer wanted.
    Unwanted,
}

enum Heard {
    Answer(Answer),
    /// The process has ended, or is about to.
    End,
    Late,
    Unwanted,
}

/// Killed when dropped.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<Answer>,
    /// Whether it has not tried a message yet.
    is_fresh: bool,
}

impl Process {
    fn start(command: &TrialCommand) -> std::io::Result<Self> {
        let mut of = Command::new(&command.program);
        of.args(&command.args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt;
            // Signals from the worker's terminal must not reach it.
            of.arg0("clipstream").process_group(0);
        }
        let mut child = of.spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (send, answers) = mpsc::channel();
        let process = Self { child, input, answers, is_fresh: true };
        let read = move || {
            for line in output.into_iter().flat_map(|output| BufReader::new(output).split(b'\n')) {
                let Ok(line) = line else { return };
                let answer = Answer::read(&String::from_utf8_lossy(&line));
                if answer.is_some_and(|answer| send.send(answer).is_err()) {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("trial-answers".into()).spawn(read)?;
        Ok(process)
    }

    fn try_one(&mut self, line: &str, answer_max: Duration, reply: &oneshot::Sender<TrialOutcome>) -> Ended {
        let written = self.input.as_mut().map(|input| input.write_all(line.as_bytes()).and_then(|()| input.flush()));
        if !matches!(written, Some(Ok(()))) {
            return Ended::Unclear("it takes no message any more".to_owned());
        }
        // `None` until it reports the message: what happens before says nothing about it.
        let mut stage = None;
        let mut until = Instant::now() + answer_max;
        loop {
            match (self.hear(until, reply), stage) {
                (Heard::Answer(Answer::Request), _) => {
                    until = Instant::now() + answer_max;
                    stage = Some(Stage::Decode);
                }
                (Heard::Answer(Answer::Entered { stage: entered }), _) => {
                    stage = Stage::ALL.into_iter().find(|stage| stage.as_str() == entered).or(stage);
                }
                (Heard::Answer(Answer::Passed), _) => return Ended::Passed,
                (Heard::Answer(Answer::Broken { why }), Some(stage)) => {
                    return Ended::Died(Death { how: redact::cut(&why, 500), stage });
                }
                (Heard::Answer(Answer::Ready | Answer::Broken { .. }), _) => {}
                (Heard::End, _) => {
                    let (how, is_of_itself) = match self.end() {
                        Ok(status) => described(status),
                        Err(why) => (why, false),
                    };
                    return match stage.filter(|_| is_of_itself) {
                        Some(stage) => Ended::Died(Death { how, stage }),
                        None => Ended::Unclear(how),
                    };
                }
                (Heard::Late, stage) => {
                    let how = format!("it had no answer after {} s", answer_max.as_secs());
                    return match stage {
                        Some(Stage::Embed) => Ended::Died(Death { how, stage: Stage::Embed }),
                        _ => Ended::Unclear(how),
                    };
                }
                (Heard::Unwanted, _) => return Ended::Unwanted,
            }
        }
    }

    fn hear(&self, until: Instant, reply: &oneshot::Sender<TrialOutcome>) -> Heard {
        loop {
            match self.answers.recv_timeout(LOOK_INTERVAL) {
                Ok(answer) => return Heard::Answer(answer),
                Err(RecvTimeoutError::Disconnected) => return Heard::End,
                Err(RecvTimeoutError::Timeout) if reply.is_closed() => return Heard::Unwanted,
                Err(RecvTimeoutError::Timeout) if Instant::now() >= until => return Heard::Late,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Waits for its exit, after its output has ended.
    fn end(&mut self) -> Result<ExitStatus, String> {
        self.child.wait().map_err(|error| format!("the system does not say how it ended: {error}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails if it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a process ended, in words, and whether it caused that itself.
fn described(status: ExitStatus) -> (String, bool) {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt;
        if let Some(signal) = status.signal() {
            return signalled(signal);
        }
    }
    match status.code() {
        Some(code) => (format!("it ended with exit code {code}"), true),
        None => ("it ended".to_owned(), false),
    }
}

/// The signal in words, and whether the process caused it: those are faults that the kernel or a C library raises. All
/// others come from outside.
#[cfg(unix)]
fn signalled(signal: i32) -> (String, bool) {
    const OWN: [(i32, &str); 5] = [(4, "SIGILL"), (5, "SIGTRAP"), (6, "SIGABRT"), (8, "SIGFPE"), (11, "SIGSEGV")];
    /// Its number differs between systems.
    const SIGBUS: i32 = if cfg!(target_os = "linux") { 7 } else { 10 };
    let name = match OWN.iter().find(|(number, _)| *number == signal) {
        Some((_, name)) => Some(*name),
        None => (signal == SIGBUS).then_some("SIGBUS"),
    };
    match (name, signal) {
        (Some(name), _) => (format!("it was ended by {name} (signal {signal})"), true),
        (None, 9) => {
            let why = "it was killed (SIGKILL), by the kernel because memory ran out, or from outside";
            (why.to_owned(), false)
        }
        (None, _) => (format!("it was ended from outside by signal {signal}"), false),
    }
}

#[cfg(test)]
#[path = "processes_tests.rs"]
mod tests;
