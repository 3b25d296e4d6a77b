//! One worker that must live through everything: its process, its log, and what it says of itself.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;

use crate::Error;
use crate::workers::{clipstream, signal};

/// Dropping it kills the process.
pub struct Worker {
    child: Child,
    lines: Arc<Mutex<Vec<Line>>>,
}

/// One line of its log, which is at the default level.
#[derive(Clone, Debug)]
pub struct Line {
    pub at: Instant,
    pub event: Value,
}

/// What it answers: `None`, nothing in time.
pub struct Health {
    pub is_alive: bool,
    /// Component and reason; empty when ready.
    pub unready: Option<Vec<(String, String)>>,
}

impl Worker {
    pub fn start(
        program: &Path,
        settings: &[(&str, String)],
        environment: &[(String, String)],
        log: &Path,
    ) -> Result<Self, Error> {
        let folder = log.with_extension("run");
        fs::create_dir_all(&folder)?;
        let mut command = clipstream(program, &folder);
        for (key, value) in settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.envs(environment.iter().map(|(k, v)| (k, v)));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = BufReader::new(child.stderr.take().ok_or("no standard error")?);
        let (lines, mut log) = (Arc::new(Mutex::new(Vec::new())), File::create(log)?);
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // What is no event counts as well.
                let event = serde_json::from_str(&line).unwrap_or_else(|_| Value::String(line.clone()));
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(Line { at: Instant::now(), event });
                // A full disk must not stop anything; the file is for people.
                let _ = writeln!(log, "{line}");
            }
        });
        Ok(Self { child, lines })
    }

    pub fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where it serves its health, once it does.
    pub fn address(&self) -> Option<String> {
        let served = |line: &Line| Some(line.event["address"].as_str()?.to_owned());
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().find_map(served)
    }

    /// The one process that was started: nobody starts another.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Error> {
        Ok(self.child.try_wait()?)
    }

    pub async fn health(&self, http: &reqwest::Client) -> Health {
        let address = self.address().unwrap_or_default();
        let get = async |path: &str| {
            let answer = http.get(format!("http://{address}/{path}")).send().await.ok()?;
            Some((answer.status().as_u16(), answer.text().await.ok()?))
        };
        let is_alive = get("livez").await.is_some_and(|(status, _)| status == 200);
        let unready = get("readyz").await.map(|(status, text)| match status {
            200 => Vec::new(),
            _ => text.lines().map(reason).collect(),
        });
        Health { is_alive, unready }
    }

    /// SIGTERM; its exit code, when it ends in time.
    pub async fn end(&mut self, patience: Duration) -> Result<Option<i32>, Error> {
        signal(self.child.id(), "TERM");
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(None)
    }
}

fn reason(line: &str) -> (String, String) {
    let line: Value = serde_json::from_str(line).unwrap_or_default();
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    (text("component"), text("reason"))
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Fails when it has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
