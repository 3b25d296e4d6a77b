//! The full disk: a worker with the embedded store on a file system of its own that runs out of room, then has room again.
//!
//! The file system is a tmpfs in a mount namespace (`unshare`), so that nothing else sees it; a shell in there obeys orders.
//! What the worker does without room is its own affair (it may hold its messages, or die of SIGBUS where the engine's
//! mapped files cannot grow): what counts is that everything is there in the end.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::Error;
use crate::broker::Broker;
use crate::journal::Journal;
use crate::plan::Topic;
use crate::workers::{clipstream, signal};

/// What the shell does. `$1`: the mount point; the rest: the worker's command line. `cp` last: the file system goes with
/// the namespace.
const SCRIPT: &str = r#"
mount -t tmpfs -o size=96m none "$1" || exit 1
folder=$1; shift
echo mounted
while read -r order; do
    case $order in
        start) "$@" 2>>"$folder.log" & worker=$!; echo started ;;
        fill) cat /dev/zero >"$folder/filler" 2>/dev/null; echo full ;;
        free) rm -f "$folder/filler"; echo room ;;
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

const FULL_FOR: Duration = Duration::from_secs(15);
const STEP: Duration = Duration::from_secs(60);

/// How it went.
pub struct Outcome {
    /// Failed writes that the worker reported, and deaths.
    pub refusals: u64,
    /// The embedded store, as it was left.
    pub store: PathBuf,
}

/// A worker's settings for the embedded store at `folder`.
pub struct Disk<'a> {
    pub folder: &'a Path,
    pub settings: &'a [(String, String)],
    pub environment: &'a [(String, String)],
    pub group: &'a str,
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
    shell.order("start", "started")?;
    send(300).await?;
    committed(&mut shell, broker, &disk, "with room").await?;
    shell.order("fill", "full")?;
    send(600).await?;
    let (log, since) = (disk.folder.with_extension("log"), Instant::now());
    let mut refusals = 0;
    while since.elapsed() < FULL_FOR {
        sleep(Duration::from_millis(500)).await;
        if let Some(code) = shell.ended()? {
            eprintln!("chaos: without room on the disk the worker ended with {code}");
            refusals += 1;
            shell.order("start", "started")?;
        }
    }
    refusals += errors(&log)?;
    shell.order("free", "room")?;
    if committed(&mut shell, broker, &disk, "with room again").await? {
        eprintln!("chaos: with room on the disk again the worker had to be started again");
    }
    let ended = shell.order("stop", "ended")?;
    if ended.trim() != "0" {
        journal.violation(format!(
            "the worker on the full disk ended with {} after SIGTERM; its log: {}",
            ended.trim(),
            log.display()
        ));
    }
    shell.order("keep", "kept")?;
    if refusals == 0 {
        journal.violation("the disk was full, and the worker did not notice".to_owned());
    }
    Ok(Some(Outcome { refusals, store: disk.folder.with_extension("kept") }))
}

/// Waits until everything is committed; whether the worker had to be started again for it.
async fn committed(shell: &mut Shell, broker: &Broker, disk: &Disk<'_>, when: &str) -> Result<bool, Error> {
    let (lag, deadline, mut restarted) = (broker.lag(disk.group, &[Topic::Disk], false)?, Instant::now() + STEP, false);
    loop {
        let left = lag.now().await?.values().sum::<i64>();
        if left == 0 {
            return Ok(restarted);
        }
        if Instant::now() > deadline {
            return Err(format!(
                "{when}, the worker with the embedded store has {left} messages left after {STEP:?}; its log: {}",
                disk.folder.with_extension("log").display()
            )
            .into());
        }
        if shell.ended()?.is_some() {
            restarted = true;
            shell.order("start", "started")?;
        }
        sleep(Duration::from_millis(300)).await;
    }
}

/// Errors that the worker's log tells of.
fn errors(log: &Path) -> Result<u64, Error> {
    let text = std::fs::read_to_string(log)?;
    Ok(text.lines().filter(|line| line.contains(r#""level":"ERROR""#)).count() as u64)
}

/// The shell in the namespace. Dropping it ends it, and the worker with it.
struct Shell {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Shell {
    fn open(disk: &Disk<'_>) -> Result<Option<Self>, Error> {
        let worker = clipstream();
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh"]).arg(disk.folder);
        command.arg(worker.get_program()).args(worker.get_args());
        for (key, value) in disk.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.envs(worker.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.envs(disk.environment.iter().map(|(k, v)| (k, v)));
        command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::piped()).stdout(Stdio::piped());
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
