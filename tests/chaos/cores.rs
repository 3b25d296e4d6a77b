//! Core files of workers that crash.

use std::fs;
use std::process::{Command, Stdio};

use clipstream_test_support::needs::{self, Need};

use crate::crash;

/// Lets the processes that are started from now on leave a core file when they crash, as far as this machine allows it, and
/// says whether they will.
pub fn allow() {
    match cores_go_to() {
        Ok(pattern) => eprintln!("chaos: a worker that crashes leaves a core file (kernel.core_pattern = {pattern})"),
        Err(why) => needs::go_without(Need::CoreFiles, &format!("{why}; a crash is told without its stack")),
    }
}

/// The pattern of their names, once the limit of this process is as high as it may be.
fn cores_go_to() -> Result<String, String> {
    let limits = fs::read_to_string("/proc/self/limits").map_err(|e| format!("/proc/self/limits: {e}"))?;
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let hard =
        limit.and_then(|line| line.split_whitespace().nth(1)).ok_or("/proc/self/limits has no limit of cores")?;
    if hard == "0" {
        return Err("the hard limit of their size is 0 (ulimit -Hc)".to_owned());
    }
    let mut prlimit = Command::new("prlimit");
    prlimit.arg(format!("--pid={}", std::process::id())).arg(format!("--core={hard}:"));
    match prlimit.stderr(Stdio::null()).status() {
        Ok(status) if status.success() => crash::pattern(),
        Ok(status) => Err(format!("prlimit cannot raise the limit of their size: {status}")),
        Err(error) => Err(format!("no prlimit to raise the limit of their size: {error}")),
    }
}
