//! One worker as a process: how it is started, and what is heard of it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use super::{Pool, Worker};
use crate::Error;
use crate::clock::Clock;
use crate::crash::Words;

impl Pool {
    pub(super) fn start(&self, number: u32, with_clock: bool, with_runtime: bool) -> Result<Worker, Error> {
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
    pub(super) fn folder(&self, number: u32) -> PathBuf {
        self.how.log_folder.join(format!("worker-{number}"))
    }

    pub(super) fn log(&self, number: u32) -> PathBuf {
        self.how.log_folder.join(format!("worker-{number}.log"))
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

/// By the shell's own `kill`: not every system has one as a program. A process that has ended is not an error.
pub fn signal(process: u32, name: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).stderr(Stdio::null()).status();
    if let Err(error) = sent {
        eprintln!("chaos: no shell to send SIG{name}: {error}");
    }
}
