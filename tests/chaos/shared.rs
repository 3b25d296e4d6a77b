//! What all messages of a worker share, and fails as if it were theirs: its model runtime, its file descriptors, its port. However often
//! it fails, and however many messages meet it, none of them is to blame.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clipstream::config::Settings;
use clipstream_test_support::needs::{self, Need};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::Error;
use crate::faults::World;
use crate::kinds::{Fault, Kind};
use crate::preload;
use crate::topics::Topic;

/// The workers' `clip.recovery_max_ms`: a runtime that does not work for so long is given up.
pub const RECOVERY_MAX: Duration = Duration::from_secs(12);
/// Well below that, since a worker that ends for a while's failure has given up too early.
const FAILS_MAX: Duration = Duration::from_secs(4);
/// By when a worker whose runtime is lost must have ended: its patience, its drain, and what else goes on on the machine.
const END_MAX: Duration = Duration::from_secs(60);
/// Long enough that pictures are asked for meanwhile.
const SHORT_MIN: Duration = Duration::from_secs(4);
/// Connections that say nothing.
const IDLE: usize = 300;
const ANSWER: Duration = Duration::from_secs(5);
const NO_MODEL: i32 = 6;
const USED_UP: &str = "reason=\"file_descriptors_exhausted\"";

/// The library that stands before ONNX Runtime (`tests/it/faulty_runtime.c`), and the real one.
pub struct StandIn {
    library: PathBuf,
    real: String,
}

impl StandIn {
    /// Compiled into `folder`. `None`, and it says so: this machine cannot.
    pub fn build(folder: &Path) -> Result<Option<Self>, Error> {
        let library = folder.join("libonnxruntime.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/faulty_runtime.c");
        match preload::compile(Path::new(source), &library) {
            Ok(()) => Ok(Some(Self { library, real: clipstream::clip::load_runtime(&Settings::default().clip)? })),
            Err(why) => {
                needs::go_without(Need::Cc, &format!("the workers' model runtimes do NOT fail\n{why}"));
                Ok(None)
            }
        }
    }

    /// Gives `command` a runtime of its own, which works until it is told otherwise. `folder`: of its faults.
    pub fn give(&self, command: &mut Command, folder: PathBuf) -> Result<Runtime, Error> {
        fs::create_dir_all(&folder)?;
        command.env("CLIPSTREAM_ORT_DYLIB", &self.library);
        command.env("FAULTY_RUNTIME_REAL", &self.real).env("FAULTY_RUNTIME_FAULTS", &folder);
        Ok(Runtime { folder })
    }
}

/// The runtime of one worker.
#[derive(Clone, Debug)]
pub struct Runtime {
    folder: PathBuf,
}

impl Runtime {
    fn begin(&self, fault: &str) -> Result<(), Error> {
        Ok(fs::write(self.folder.join(fault), "")?)
    }

    fn end(&self, fault: &str) -> Result<(), Error> {
        Ok(fs::remove_file(self.folder.join(fault))?)
    }

    /// How many calls the fault has befallen.
    fn hits(&self, fault: &str) -> u64 {
        fs::metadata(self.folder.join(format!("{fault}.hit"))).map_or(0, |file| file.len())
    }
}

/// The runtime of one worker fails, or hangs, for a while or for good.
pub async fn runtime(world: &World, fault: Fault) -> Result<(), Error> {
    let _one = world.turns.runtimes.lock().await;
    if fault.kind == Kind::RuntimeLost {
        return lost(world, fault).await;
    }
    let _still = world.turns.still.read().await;
    let Some((_, runtime)) = world.pool.runtime(fault.pick, false) else { return Ok(()) };
    let (what, lasts) = match fault.kind {
        Kind::RuntimeHangs => ("hang", fault.lasts),
        _ => ("fail", fault.lasts.min(FAILS_MAX)),
    };
    let before = runtime.hits(what);
    runtime.begin(what)?;
    sleep(lasts).await;
    runtime.end(what)?;
    if runtime.hits(what) > before {
        world.happened(fault.kind, None);
    }
    Ok(())
}

/// It never works again: the worker must end, with the code that says so, and what it had must be done by another.
async fn lost(world: &World, fault: Fault) -> Result<(), Error> {
    let Some((worker, runtime)) = world.pool.runtime(fault.pick, true) else { return Ok(()) };
    runtime.begin("fail")?;
    runtime.begin("no_open")?;
    world.journal.expect_recovery(fault.kind, Some(worker), &Topic::FED);
    let deadline = Instant::now() + END_MAX;
    loop {
        match world.pool.end_of_lost(worker) {
            Some(Some(NO_MODEL)) => {
                world.count(fault.kind);
                return Ok(());
            }
            // Another fault was first.
            Some(_) => return Ok(()),
            None if Instant::now() < deadline => sleep(Duration::from_millis(200)).await,
            None if runtime.hits("no_open") == 0 => {
                // It had nothing to embed.
                runtime.end("no_open")?;
                return runtime.end("fail");
            }
            None => {
                let what = format!("worker {worker} runs {END_MAX:?} after its model runtime has stopped for good");
                world.journal.violation(what);
                return Ok(());
            }
        }
    }
}

/// Whether limits of processes can be changed here.
pub fn has_limits() -> bool {
    let has = Path::new("/proc/self/limits").exists() && Command::new("prlimit").arg("--version").output().is_ok();
    if !has {
        needs::go_without(Need::Prlimit, "the workers' file descriptors are NOT used up");
    }
    has
}

/// One worker can open nothing for a while, and what it had open to the pictures' servers is cut.
pub async fn descriptors(world: &World, fault: Fault) -> Result<(), Error> {
    let _media = world.turns.busy[2].lock().await;
    let _s3 = world.turns.busy[3].lock().await;
    let Some((worker, process, at)) = world.pool.process(fault.pick) else { return Ok(()) };
    let http = reqwest::Client::builder().no_proxy().timeout(ANSWER).build()?;
    let failures = async || {
        let metrics = http.get(format!("http://{at}/metrics")).send().await.ok()?.text().await.ok()?;
        let counts = metrics.lines().filter(|line| line.contains("failures_total{") && line.contains(USED_UP));
        Some(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>())
    };
    // One that has ended meanwhile was another fault's.
    let (Some(before), Some(limit), Some(none)) = (failures().await, limit(process), first_free(process)) else {
        return Ok(());
    };
    set_limit(process, &none.to_string())?;
    world.links.media.cut(1);
    world.links.s3.cut(1);
    sleep(fault.lasts.max(SHORT_MIN)).await;
    if world.pool.runs(worker) {
        set_limit(process, &limit)?;
    }
    if failures().await.is_some_and(|after| after > before) {
        world.happened(fault.kind, None);
    }
    Ok(())
}

/// Connections to the port of one worker that never say what they want, far more than it takes. It must cut some, and lack nothing
/// for its work.
pub async fn connections(world: &World, fault: Fault) -> Result<(), Error> {
    let Some((worker, _, at)) = world.pool.process(fault.pick) else { return Ok(()) };
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        // Fails where the worker has ended meanwhile, which is another fault's doing.
        let Ok(mut connection) = TcpStream::connect(&at).await else { return Ok(()) };
        let _ = connection.write_all(b"GET /livez HTTP/1.1\r\nHost: idle\r\n").await;
        idle.push(connection);
    }
    sleep(fault.lasts.max(SHORT_MIN)).await;
    let would_wait = |connection: &TcpStream| matches!(connection.try_read(&mut [0; 1]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    let cut = idle.iter().any(|connection| !would_wait(connection));
    if cut && world.pool.runs(worker) {
        world.happened(fault.kind, None);
    }
    Ok(())
}

/// The lowest number that no descriptor of the process has.
fn first_free(process: u32) -> Option<u64> {
    let open = fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    let open: Vec<u64> = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    (0..).find(|number| !open.contains(number))
}

/// Its soft limit of descriptors, as `/proc/PID/limits` shows it.
fn limit(process: u32) -> Option<String> {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    Some(line.split_whitespace().next()?.to_owned())
}

/// Descriptors with this number or a higher one cannot be opened any more (`prlimit` of util-linux; RLIMIT_NOFILE in
/// getrlimit(2)).
fn set_limit(process: u32, descriptors: &str) -> Result<(), Error> {
    let mut prlimit = Command::new("prlimit");
    prlimit.arg(format!("--pid={process}")).arg(format!("--nofile={descriptors}:"));
    // Fails for a process that has ended, which is as well.
    prlimit.stderr(Stdio::null()).status()?;
    Ok(())
}
