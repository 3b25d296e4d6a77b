//! The real binary as a process: what it logs, how it is stopped, how it ended.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);

/// A running `clipstream`. Killed when dropped.
pub struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

/// In bytes.
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    pub now: u64,
    /// Since it began.
    pub most: u64,
}

/// `clipstream VERB`, seen from the project's folder, with nothing in its environment but what it needs to find ONNX Runtime.
pub fn clipstream(verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clipstream"));
    command.arg(verb).env_clear().current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    for name in ["HOME", "XDG_CACHE_HOME", "CLIPSTREAM_ORT_DYLIB", "ORT_DYLIB_PATH", "LD_LIBRARY_PATH"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Adds `--set key=value` for each.
pub fn set(command: &mut Command, settings: &[(&str, &str)]) {
    for (key, value) in settings {
        command.arg("--set").arg(format!("{key}={value}"));
    }
}

impl Process {
    pub fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::inherit()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stderr = BufReader::new(child.stderr.take().expect("standard error is piped"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        let reader = std::thread::spawn(move || {
            for line in stderr.lines() {
                kept.lock().unwrap().push(line.expect("standard error is UTF-8"));
            }
        });
        Self { child, lines, reader: Some(reader) }
    }

    /// Standard error so far, by line.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Log lines (`telemetry.log_format` = json) with this message, so far.
    pub fn logged(&self, message: &str) -> Vec<Value> {
        let lines = self.lines();
        let events = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["message"] == message).collect()
    }

    /// Waits until `ready` gives something.
    pub async fn wait_for<T>(&mut self, what: &str, mut ready: impl AsyncFnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = ready(self).await {
                return found;
            }
            let ended = self.child.try_wait().expect("the process can be asked");
            assert!(ended.is_none() && Instant::now() < deadline, "{what}: ended {ended:?}\n{}", self.tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until it has ended (true), or is as it should be (false).
    pub async fn ends_or(&mut self, mut is_done: impl AsyncFnMut(&Self) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.child.try_wait().expect("the process can be asked").is_some() {
                return true;
            }
            if is_done(self).await {
                return false;
            }
            assert!(Instant::now() < deadline, "neither done nor ended\n{}", self.tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What it has of the machine's memory; `None` where the system does not say.
    pub fn resident(&self) -> Option<Resident> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(1024 * line.split_whitespace().next()?.parse::<u64>().ok()?)
        };
        Some(Resident { now: bytes("VmRSS:")?, most: bytes("VmHWM:")? })
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        // The shell's own `kill`: not every system has one as a program.
        let script = format!("kill -TERM {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &script]).status().expect("a shell");
        assert!(sent.success(), "the signal is sent");
    }

    /// Waits for the end; gives the exit code and standard error.
    pub async fn end(mut self) -> (Option<i32>, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        let status: ExitStatus = loop {
            if let Some(status) = self.child.try_wait().expect("the process can be asked") {
                break status;
            }
            assert!(Instant::now() < deadline, "the process does not end\n{}", self.tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let reader = self.reader.take().expect("nobody else joins it");
        reader.join().expect("standard error was read to its end");
        (status.code(), self.lines())
    }

    fn tail(&self) -> String {
        let lines = self.lines();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails when it has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a worker says of itself.
pub struct Endpoints {
    base: String,
    client: reqwest::Client,
}

impl Endpoints {
    pub async fn of(worker: &mut Process) -> Self {
        let serving =
            worker.wait_for("the endpoints", async |w| w.logged("serving /metrics, /livez and /readyz").pop()).await;
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
        Self { base: format!("http://{}", serving["address"].as_str().unwrap()), client }
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        self.try_get(path).await.expect("it answers")
    }

    /// None: no answer in time.
    pub async fn try_get(&self, path: &str) -> Option<(u16, String)> {
        let answer = self.client.get(format!("{}{path}", self.base)).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// The sum of a metric's values with these labels.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        self.try_metric(name, labels).await.expect("it answers")
    }

    /// None: no answer in time.
    pub async fn try_metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let (_, text) = self.try_get("/metrics").await?;
        let lines =
            text.lines().filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)));
        Some(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
    }
}
