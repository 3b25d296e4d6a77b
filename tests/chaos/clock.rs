//! Wrong clocks: some workers see the time of day through a library of ours (`clock.c`), so that it can be set while they run.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::time::sleep;

use crate::Error;
use crate::faults::World;
use crate::kinds::{Fault, Kind};
use crate::preload;

/// How far a clock is set, in seconds: 5 minutes, 20 minutes (S3 refuses signatures that are 15 minutes off), 2 hours, a day,
/// 30 days (beyond `store.tombstone_retention_s`).
const JUMPS_S: [i64; 5] = [300, 1200, 7200, 86_400, 30 * 86_400];

/// The library in `folder`. `None`, and it says so: this machine cannot have it, or it would not be loaded.
pub fn library(folder: &Path) -> Option<PathBuf> {
    preload::library(folder, "clock", "the workers' clocks are NOT set wrong")
}

/// Sets the clock of one worker forward or back.
pub async fn inflict(world: &World, fault: Fault) -> Result<(), Error> {
    let jump_s = JUMPS_S[fault.pick % JUMPS_S.len()];
    let offset_s = if fault.kind == Kind::ClockBack { -jump_s } else { jump_s };
    if let Some(worker) = world.pool.set_clock(fault.pick, offset_s)? {
        world.happened(fault.kind, None);
        sleep(fault.lasts).await;
        // Otherwise it stays wrong until the worker's end.
        if fault.every == 1 {
            world.pool.right_clock(worker)?;
        }
    }
    Ok(())
}

/// The clock of one worker.
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Gives `command` a clock of its own, which is right until it is set.
    pub fn give(command: &mut Command, library: &Path, file: PathBuf) -> Result<Self, Error> {
        fs::write(&file, 0_i64.to_ne_bytes())?;
        command.env("LD_PRELOAD", library).env("CLIPSTREAM_TEST_CLOCK", &file);
        Ok(Self { file })
    }

    /// So many seconds from the right time.
    pub fn set(&self, offset_s: i64) -> Result<(), Error> {
        // The worker has it mapped, so the file stays the same one.
        Ok(File::options().write(true).open(&self.file)?.write_all(&offset_s.to_ne_bytes())?)
    }
}
