//! The store as a process of its own, so that it can be killed: this very program, run as `store FOLDER PORT`, serves the
//! test endpoint (Qdrant's engine behind its gRPC protocol). It is told what to refuse through its standard input.
//!
//! Or a server that was there before, which is nobody's to kill, and is told nothing.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use clipstream_test_support::qdrant::{Options, QdrantEndpoint, Trouble, status};
use tonic::Status;

use crate::Error;

const WRITE: &str = "Points/UpdateBatch";
/// More than come while a fault lasts.
const MANY: usize = 1_000_000;
const READY: Duration = Duration::from_secs(60);

/// What a store answers to writes instead of carrying them out, or after it has.
#[derive(Clone, Copy, Debug)]
pub enum Refusal {
    Exhausted,
    Error,
    WaitTimeout,
    LostReply,
    Unauthorized,
    /// As by strict mode, with the code of a broken point.
    Full,
    ReadOnly,
    /// Replicas that are not active, shards that are moved or restored, leaders that are away: one after the other.
    Shards,
}

/// What becomes of the collections.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// Deleted.
    Empty,
    /// And made anew, with another dimension and without our fingerprint.
    Taken,
    /// As they were.
    Ours,
}

/// Of what takes a collection's place.
const OTHER_DIMENSION: u64 = 128;

/// The child's side. Ends when its standard input does.
pub fn serve(folder: &str, port: &str) -> Result<ExitCode, Error> {
    let endpoint = Options::new(Path::new(folder)).port(port.parse()?).start()?;
    say(&format!("ready {}", endpoint.port()))?;
    for line in std::io::stdin().lock().lines() {
        obey(&endpoint, line?.trim())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn obey(endpoint: &QdrantEndpoint, order: &str) -> Result<(), Error> {
    let faults = endpoint.faults();
    match order {
        "exhausted" => {
            faults.refuse(WRITE, MANY, status::rate_later("Write", 8.0, 0.5, 1));
        }
        "error" => faults.refuse(WRITE, MANY, status::internal("disk trouble")),
        "wait_timeout" => faults.wait_timeout(MANY),
        // Every call, reads as well.
        "unauthorized" => faults.refuse("", MANY, status::wrong_api_key()),
        "full" => faults.refuse(WRITE, MANY, Trouble::DiskLimit.status()),
        "read_only" => faults.refuse(WRITE, MANY, Trouble::ReadOnly.status()),
        "shards" => {
            let troubles = [
                Trouble::NoActiveReplica,
                Trouble::ShardMoving,
                Trouble::ShardRestoring,
                Trouble::NoLeader,
                Trouble::ShardBroken,
            ];
            // Together as many as any refusal, so that what is left tells what was used.
            let (each, last) = (20, MANY - 20 * (troubles.len() - 1));
            for (n, trouble) in troubles.iter().enumerate() {
                faults.refuse(WRITE, if n + 1 < troubles.len() { each } else { last }, trouble.status());
            }
        }
        "empty" => endpoint.collections().iter().for_each(|name| endpoint.put_aside(name)),
        "taken" => endpoint.aside().iter().for_each(|name| endpoint.supplant(name, OTHER_DIMENSION)),
        "ours" => {
            let written: usize = endpoint.aside().iter().map(|name| endpoint.put_back(name)).sum();
            say(&format!("written {written}"))?;
        }
        "lost_reply" => faults.lose_reply(WRITE, MANY, Status::unavailable("the connection broke")),
        "well" => {
            let left = faults.remaining();
            faults.clear();
            say(&format!("used {}", if left == 0 { 0 } else { MANY - left }))?;
        }
        other => return Err(format!("the store was told {other:?}").into()),
    }
    Ok(())
}

fn say(line: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// The campaign's side. Dropping it kills the process.
pub struct StoreProcess {
    folder: PathBuf,
    port: u16,
    running: Option<Running>,
    theirs: bool,
}

struct Running {
    child: Child,
    orders: ChildStdin,
    answers: Receiver<String>,
}

impl StoreProcess {
    pub fn start(folder: &Path) -> Result<Self, Error> {
        let mut store = Self { folder: folder.to_owned(), port: 0, running: None, theirs: false };
        store.revive()?;
        Ok(store)
    }

    /// A server that was there before.
    pub fn theirs() -> Self {
        Self { folder: PathBuf::new(), port: 0, running: None, theirs: true }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it on the port and the folder that it had, and waits until it serves.
    pub fn revive(&mut self) -> Result<(), Error> {
        if self.theirs {
            return Ok(());
        }
        let mut child = Command::new(std::env::current_exe()?)
            .arg("store")
            .arg(&self.folder)
            .arg(self.port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().ok_or("no standard input")?;
        let lines = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        let (say, answers) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| say.send(line)));
        let running = self.running.insert(Running { child, orders, answers });
        let ready = running.answers.recv_timeout(READY);
        let port = ready.as_deref().ok().and_then(|line| line.strip_prefix("ready ")?.parse().ok());
        self.port = port.ok_or_else(|| {
            let ended = running.child.try_wait();
            format!("the store does not start on {}: {ready:?}, ended: {ended:?}", self.folder.display())
        })?;
        Ok(())
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<(), Error> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        running.child.kill()?;
        running.child.wait()?;
        Ok(())
    }

    pub fn refuse(&mut self, refusal: Refusal) -> Result<(), Error> {
        self.order(match refusal {
            Refusal::Exhausted => "exhausted",
            Refusal::Error => "error",
            Refusal::WaitTimeout => "wait_timeout",
            Refusal::LostReply => "lost_reply",
            Refusal::Unauthorized => "unauthorized",
            Refusal::Full => "full",
            Refusal::ReadOnly => "read_only",
            Refusal::Shards => "shards",
        })
    }

    /// Points that were written into what is not ours, once it is ours again.
    pub fn place(&mut self, place: Place) -> Result<u64, Error> {
        self.order(match place {
            Place::Empty => "empty",
            Place::Taken => "taken",
            Place::Ours => "ours",
        })?;
        match (place, &self.running) {
            (Place::Ours, Some(running)) => answer(running, "written "),
            _ => Ok(0),
        }
    }

    /// Ends the refusal; how many writes it hit.
    pub fn accept(&mut self) -> Result<u64, Error> {
        self.order("well")?;
        let Some(running) = &self.running else { return Ok(0) };
        answer(running, "used ")
    }

    fn order(&mut self, order: &str) -> Result<(), Error> {
        // One that was killed meanwhile has nothing to be told.
        let Some(running) = &mut self.running else { return Ok(()) };
        writeln!(running.orders, "{order}")?;
        Ok(running.orders.flush()?)
    }
}

fn answer(running: &Running, what: &str) -> Result<u64, Error> {
    let line = running.answers.recv_timeout(READY)?;
    Ok(line.strip_prefix(what).ok_or_else(|| format!("the store answered {line:?}"))?.parse()?)
}

impl Drop for StoreProcess {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("chaos: the store was not killed: {error}");
        }
    }
}
