//! How a worker ended that should not have: what it printed last, which report of a sanitizer there is, and where in its code.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// Of a log, as many lines as a violation shows.
const LAST_MAX: usize = 8;
/// Of a sanitizer's report, which names the stacks of whoever used, allocated and freed it.
const REPORT_MAX: usize = 80;
/// Of the thread that crashed. All threads are in the file.
const FRAMES_MAX: usize = 40;
/// A file's time is that of the kernel's last tick.
const TICK: Duration = Duration::from_millis(100);

/// What of a worker's output counts at its end.
#[derive(Default)]
pub struct Words {
    last: VecDeque<String>,
    report: Vec<String>,
}

impl Words {
    pub fn hear(&mut self, line: &str) {
        // What the other threads log meanwhile is JSON, and may quote a report.
        let goes_on = !self.report.is_empty() || begins_report(line);
        if goes_on && !line.starts_with('{') && self.report.len() < REPORT_MAX {
            self.report.push(line.to_owned());
        }
        if self.last.len() == LAST_MAX {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
    }

    /// What a sanitizer found, from its first line.
    pub fn report(&self) -> Option<String> {
        (!self.report.is_empty()).then(|| indented(self.report.iter().map(String::as_str)))
    }

    pub fn last(&self) -> String {
        indented(self.last.iter().map(String::as_str))
    }
}

/// `==PID==ERROR: AddressSanitizer: …`, and the same of its siblings; `FILE:LINE: runtime error: …` of the one for undefined
/// behaviour.
fn begins_report(line: &str) -> bool {
    line.contains("Sanitizer: ") || line.contains(": runtime error: ")
}

fn indented<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.map(|line| format!("\n    {line}")).collect()
}

/// The kernel's pattern of core files' names (core(5)), or why there are none.
pub fn pattern() -> Result<String, String> {
    let file = "/proc/sys/kernel/core_pattern";
    let pattern = fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?.trim().to_owned();
    match pattern.strip_prefix('|') {
        Some(program) => Err(format!("the kernel hands them to a program, which may have them ({program})")),
        None if pattern.is_empty() => Err(format!("{file} is empty")),
        None => Ok(pattern),
    }
}

/// Where the process was that ran `program` in `folder` since then and dumped its core: the stack of the thread that crashed,
/// or why there is none. Those of all threads go to `file`.
pub fn stack(program: &Path, folder: &Path, since: SystemTime, file: &Path) -> String {
    let core = match pattern() {
        Ok(pattern) => core(&pattern, folder, since).ok_or_else(|| format!("no core file ({pattern})")),
        Err(why) => Err(format!("no core file: {why}")),
    };
    let told = core.and_then(|core| {
        let stacks = debugger(program, &core)?;
        // That thread's comes first, and its innermost frame when the file is opened, too.
        let first = stacks.split("\nThread ").next().unwrap_or_default();
        let mut frames: Vec<&str> = first.lines().filter(|line| line.starts_with('#')).collect();
        frames.dedup();
        let told = format!("its stack, of {}; all threads are in {}:", core.display(), file.display());
        fs::write(file, &stacks).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(told + &indented(frames.into_iter()))
    });
    told.unwrap_or_else(|why| why)
}

/// The newest file since then that has a name of the pattern's, up to what the kernel puts into it.
fn core(pattern: &str, folder: &Path, since: SystemTime) -> Option<PathBuf> {
    // A pattern that is an absolute path stays one.
    let pattern = folder.join(pattern);
    let name = pattern.file_name()?.to_str()?.split('%').next()?.to_owned();
    let files = fs::read_dir(pattern.parent()?).ok()?.filter_map(|entry| {
        let (entry, begins) = (entry.ok()?, |file: &str| file.starts_with(&name));
        let changed = entry.metadata().ok()?.modified().ok()?;
        (entry.file_name().to_str().is_some_and(begins) && changed + TICK >= since).then(|| (changed, entry.path()))
    });
    files.max().map(|(_, path)| path)
}

/// The stacks of all threads, that of the one that crashed first.
fn debugger(program: &Path, core: &Path) -> Result<String, String> {
    let bounded = format!("bt {FRAMES_MAX}");
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-ex", &bounded, "-ex", &format!("thread apply all {bounded}")]).arg(program).arg(core);
    let output = gdb.stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("{}: no gdb to read it: {e}", core.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
