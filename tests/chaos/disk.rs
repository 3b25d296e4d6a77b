//! The disk that fails: a worker with the embedded store on a file system of its own that runs out of room, then has room again;
//! that becomes read-only, then is writable again.
//!
//! The file system is a tmpfs in a mount namespace (`unshare`), so that nothing else sees it; a shell in there obeys orders.
//! Without room the worker stays alive, says on `/readyz` why it is not ready, and goes on by itself; one that is started
//! then is refused with a reason. And everything is there in the end.
//!
//! A file system whose files are open for writing, as those of a worker's store are, cannot be remounted read-only. So it is
//! a library that refuses the worker that runs its writes (`refusals.c`); one that is started has the real thing.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use crate::Error;
use crate::broker::Broker;
use crate::journal::Journal;
use crate::refusals::Refusals;
use crate::topics::{Topic, partitions_of};
use crate::workers::{clipstream, signal};

/// What the shell does. `$1`: the mount point; the rest: the worker's command line. `cp` last: the file system goes with
/// the namespace.
const SCRIPT: &str = r#"
mount -t tmpfs -o size=256m none "$1" || exit 1
folder=$1; shift
echo mounted
while read -r order; do
    case $order in
        start) "$@" 2>>"$folder.log" & worker=$!; echo started ;;
        fill) cat /dev/zero >"$folder/filler" 2>/dev/null; echo full ;;
        free) rm -f "$folder/filler"; echo room ;;
        protect) mount -o remount,ro "$folder" && echo read-only ;;
        unprotect) mount -o remount,rw "$folder" && echo writable ;;
        alive) case $(cat "/proc/$worker/stat" 2>/dev/null) in
                   *") Z "* | "") wait "$worker"; echo "no $?" ;;
                   *) echo yes ;;
               esac ;;
        stop) kill -TERM "$worker" 2>/dev/null; wait "$worker"; echo "ended $?" ;;
        keep) cp -R "$folder/store" "$folder.kept" && echo kept ;;
    esac
done
kill -KILL "$worker" 2>/dev/null
"#;

/// What the worker leaves free of the file system's 256 MiB.
pub const FREE_BYTES_MIN: u64 = 16 << 20;
const FULL_FOR: Duration = Duration::from_secs(15);
const READ_ONLY_FOR: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_secs(60);
/// Exit code of a worker that lacks a dependency at its start, and of one that could not do all before its end.
const UNAVAILABLE: &str = "3";
/// What it says on `/readyz`, and gives as the reason.
const FULL: &str = "the disk of";
const REASON: &str = "store_disk_full";
/// As the system says it (EROFS in errno(3)).
const READ_ONLY: &str = "Read-only file system";
/// Lines about the disk from the beginning of an outage to its end: the beginning, and a reminder a minute.
const LINES_MAX: usize = 3;

/// How it went.
pub struct Outcome {
    /// Writes that were refused for want of room.
    pub full: u64,
    /// And because the disk was read-only, by the system; `None`: not tried.
    pub read_only: Option<i64>,
    /// The embedded store, as it was left.
    pub store: PathBuf,
}

/// A worker's settings for the embedded store at `folder`.
pub struct Disk<'a> {
    pub folder: &'a Path,
    pub program: &'a Path,
    pub settings: &'a [(String, String)],
    pub environment: &'a [(String, String)],
    pub group: &'a str,
    /// Makes it read-only.
    pub refusals: Option<&'a Refusals>,
}

/// `None`: this machine has no mount namespaces for us.
pub async fn run(
    disk: Disk<'_>,
    broker: &Broker,
    journal: &Journal,
    send: impl AsyncFn(usize) -> Result<(), Error>,
) -> Result<Option<Outcome>, Error> {
    std::fs::create_dir_all(disk.folder)?;
    let Some(mut shell) = Shell::open(&disk)? else { return Ok(None) };
    let log = Log(disk.folder.with_extension("log"));
    shell.order("start", "started")?;
    send(300).await?;
    committed(&mut shell, broker, &disk, "with room").await?;

    shell.order("fill", "full")?;
    send(600).await?;
    let page = log.address()?;
    let said = unready(&mut shell, &page, &log, FULL).await?;
    for part in [disk.folder.join("store").display().to_string(), "store.disk_free_bytes_min".to_owned()] {
        if !said.contains(&part) {
            journal.violation(format!("on a full disk /readyz does not name {part}: {said}"));
        }
    }
    let since = Instant::now();
    while since.elapsed() < FULL_FOR {
        shell.alive(&log)?;
        if !get(&page, "readyz").await?.contains("store.disk_free_bytes_min") {
            journal.violation("a worker was ready while its disk was full".to_owned());
        }
        sleep(Duration::from_millis(500)).await;
    }
    let refusals = refusals(&get(&page, "metrics").await?);
    shell.order("free", "room")?;
    committed(&mut shell, broker, &disk, "with room again").await?;
    let lines = log.count(REASON)?;
    if refusals == 0 || lines == 0 || lines > LINES_MAX {
        journal.violation(format!(
            "a full disk: {refusals} refused writes and {lines} log lines, expected some and 1 to {LINES_MAX}; {}",
            log.0.display()
        ));
    }

    let read_only = match disk.refusals {
        Some(refusals) => {
            refusals.set_read_only(true)?;
            send(300).await?;
            unready(&mut shell, &page, &log, READ_ONLY).await?;
            let since = Instant::now();
            while since.elapsed() < READ_ONLY_FOR {
                shell.alive(&log)?;
                if !get(&page, "readyz").await?.contains(READ_ONLY) {
                    journal.violation("on a read-only disk, /readyz does not say so".to_owned());
                }
                sleep(Duration::from_millis(500)).await;
            }
            let refused = refusals.writes_refused()?;
            if refused == 0 {
                journal.violation("a read-only disk refused no write".to_owned());
            }
            refusals.set_read_only(false)?;
            committed(&mut shell, broker, &disk, "with a disk that is writable again").await?;
            Some(refused)
        }
        None => None,
    };

    // As an orchestrator may do: its end and its start on the full disk.
    shell.order("fill", "full")?;
    send(100).await?;
    unready(&mut shell, &page, &log, FULL).await?;
    let ended = shell.order("stop", "ended")?;
    shell.order("start", "started")?;
    let full = refused(&mut shell).await?;
    shell.order("free", "room")?;
    shell.order("protect", "read-only")?;
    shell.order("start", "started")?;
    let protected = refused(&mut shell).await?;
    shell.order("unprotect", "writable")?;
    shell.order("start", "started")?;
    committed(&mut shell, broker, &disk, "started with room again").await?;
    let last = shell.order("stop", "ended")?;
    if !["0", UNAVAILABLE].contains(&ended.trim()) || full != UNAVAILABLE || last.trim() != "0" {
        journal.violation(format!(
            "a worker ended on a full disk with{ended}, another did not start there with {full}, and with room one ended with{last}; \
             expected 0 or {UNAVAILABLE}, {UNAVAILABLE} and 0; {}",
            log.0.display()
        ));
    }
    if protected != UNAVAILABLE || !log.says(READ_ONLY)? {
        journal.violation(format!(
            "on a read-only disk a worker did not start with {protected}, expected {UNAVAILABLE} and that it names a {READ_ONLY}; {}",
            log.0.display()
        ));
    }
    shell.order("keep", "kept")?;
    Ok(Some(Outcome { full: refusals, read_only, store: disk.folder.with_extension("kept") }))
}

/// Waits until everything is committed, by the worker that runs.
async fn committed(shell: &mut Shell, broker: &Broker, disk: &Disk<'_>, when: &str) -> Result<(), Error> {
    let (lag, deadline) = (broker.lag(disk.group, partitions_of(&[Topic::Disk], false))?, Instant::now() + STEP);
    let log = Log(disk.folder.with_extension("log"));
    loop {
        let left = lag.now().await?.values().sum::<i64>();
        if left == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            let log = log.0.display();
            let worker = "the worker with the embedded store";
            return Err(format!("{when}, {worker} has {left} messages left after {STEP:?}; its log: {log}").into());
        }
        shell.alive(&log)?;
        sleep(Duration::from_millis(300)).await;
    }
}

/// Waits until the worker is unready for this reason; what it says then.
async fn unready(shell: &mut Shell, page: &str, log: &Log, why: &str) -> Result<String, Error> {
    let deadline = Instant::now() + STEP;
    loop {
        shell.alive(log)?;
        let said = get(page, "readyz").await?;
        if said.contains(why) {
            return Ok(said);
        }
        if Instant::now() > deadline {
            let log = log.0.display();
            return Err(format!("after {STEP:?} /readyz says {said:?}, expected {why:?}; {log}").into());
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// The exit code of a worker that is to end by itself.
async fn refused(shell: &mut Shell) -> Result<String, Error> {
    let deadline = Instant::now() + STEP;
    while Instant::now() < deadline {
        if let Some(code) = shell.ended()? {
            return Ok(code.trim().to_owned());
        }
        sleep(Duration::from_millis(200)).await;
    }
    Ok(format!("no code after {STEP:?}"))
}

async fn get(page: &str, path: &str) -> Result<String, Error> {
    let client = reqwest::Client::builder().no_proxy().timeout(STEP).build()?;
    Ok(client.get(format!("http://{page}/{path}")).send().await?.text().await?)
}

fn refusals(metrics: &str) -> u64 {
    let counts = metrics.lines().filter(|line| line.contains("failures_total{") && line.contains(REASON));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// What the worker logs.
struct Log(PathBuf);

impl Log {
    fn lines(&self) -> Result<Vec<Value>, Error> {
        let text = std::fs::read_to_string(&self.0)?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Where the worker that was started last serves `/readyz` and `/metrics`.
    fn address(&self) -> Result<String, Error> {
        let address = self.lines()?.into_iter().rev().find_map(|line| Some(line["address"].as_str()?.to_owned()));
        Ok(address.ok_or_else(|| format!("{} names no address", self.0.display()))?)
    }

    fn says(&self, what: &str) -> Result<bool, Error> {
        Ok(std::fs::read_to_string(&self.0)?.contains(what))
    }

    /// Lines of some weight with this reason.
    fn count(&self, reason: &str) -> Result<usize, Error> {
        let about = |line: &&Value| line["reason"] == reason && (line["level"] == "ERROR" || line["level"] == "WARN");
        Ok(self.lines()?.iter().filter(about).count())
    }
}

/// The shell in the namespace. Dropping it ends it, and the worker with it.
struct Shell {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Shell {
    fn open(disk: &Disk<'_>) -> Result<Option<Self>, Error> {
        let worker = clipstream(disk.program, disk.folder);
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh"]).arg(disk.folder);
        command.arg(worker.get_program()).args(worker.get_args());
        for (key, value) in disk.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.envs(worker.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.envs(disk.environment.iter().map(|(k, v)| (k, v)));
        command.current_dir(disk.folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let orders = child.stdin.take().ok_or("no standard input")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        let mut shell = Self { child, orders, answers };
        // No answer: namespaces or mounts are not allowed here.
        let mounted = shell.answers.next().transpose()?;
        Ok(mounted.is_some_and(|line| line == "mounted").then_some(shell))
    }

    /// The answer, without the word that it must begin with.
    fn order(&mut self, order: &str, expected: &str) -> Result<String, Error> {
        writeln!(self.orders, "{order}")?;
        self.orders.flush()?;
        let answer = self.answers.next().transpose()?.unwrap_or_default();
        Ok(answer
            .strip_prefix(expected)
            .ok_or_else(|| format!("told to {order}, the shell said {answer:?}"))?
            .to_owned())
    }

    /// An error when the worker has ended.
    fn alive(&mut self, log: &Log) -> Result<(), Error> {
        match self.ended()? {
            None => Ok(()),
            Some(code) => Err(format!("the worker ended with {code}; its log: {}", log.0.display()).into()),
        }
    }

    /// The worker's exit code, when it has ended.
    fn ended(&mut self) -> Result<Option<String>, Error> {
        let answer = self.order("alive", "")?;
        Ok(answer.strip_prefix("no ").map(str::to_owned))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The end of its input would do, but nobody may wait for a worker that hangs.
        let shell = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap_or_default();
        children.split_whitespace().filter_map(|child| child.parse().ok()).for_each(|child| signal(child, "KILL"));
        // Fails when it has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
