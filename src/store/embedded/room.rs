//! Room on the disk. The engine maps its files into memory and leaves holes in them, and where the file system has no block left
//! for a hole that is written to, there is no error to handle: the process gets SIGBUS. So whatever writes asks here first.
//!
//! What remains: another process that takes all of the reserve between the question and the end of the write, and limits that the
//! free space does not show (a user's quota).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::catalog::unusable;
use crate::domain::StoreReason;
use crate::store::StoreError;

/// What opening a collection writes: its configuration anew, a page here and there. Less than the reserve, so that what is stored
/// can be searched while there is no room for more.
const OPEN_BYTES: u64 = 1 << 20;

pub(super) struct Room {
    folder: PathBuf,
    free_bytes_min: u64,
    /// What is being written, in all collections.
    taken_bytes: AtomicU64,
}

/// Room for one write. Given back when dropped: what the write used is no longer free then.
pub(super) struct Taken<'a> {
    room: &'a Room,
    bytes: u64,
}

impl Room {
    pub fn new(folder: &Path, free_bytes_min: u64) -> Self {
        Self { folder: folder.to_owned(), free_bytes_min, taken_bytes: AtomicU64::new(0) }
    }

    /// For a write that takes up to `bytes`. The reserve is what must be left after it.
    pub fn take(&self, bytes: u64) -> Result<Taken<'_>, StoreError> {
        let others = self.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
        let taken = Taken { room: self, bytes };
        self.expect(self.free_bytes_min.saturating_add(others).saturating_add(bytes))?;
        Ok(taken)
    }

    /// For opening the collection in `folder`. The engine reads its vectors ahead then, holes included, and a file system in
    /// memory fills a hole that is read.
    pub fn to_open(&self, folder: &Path) -> Result<(), StoreError> {
        let holes = if is_in_memory(folder) { Sizes::of(folder)?.holes_bytes } else { 0 };
        let (free, expected) = (self.free_bytes()?, OPEN_BYTES.saturating_add(holes));
        if free >= expected { Ok(()) } else { Err(self.full(free, expected, "to open a collection")) }
    }

    fn expect(&self, bytes: u64) -> Result<(), StoreError> {
        let free = self.free_bytes()?;
        if free >= bytes {
            return Ok(());
        }
        let reserve = mebibytes(self.free_bytes_min);
        Err(self.full(free, bytes, &format!("with the {reserve} of store.disk_free_bytes_min")))
    }

    fn free_bytes(&self) -> Result<u64, StoreError> {
        fs4::available_space(&self.folder).map_err(|e| unusable(&self.folder, "ask for the free space of", &e))
    }

    fn full(&self, free: u64, expected: u64, what_for: &str) -> StoreError {
        let message = format!(
            "the disk of {} is full: {} are free, expected {} {what_for}",
            self.folder.display(),
            mebibytes(free),
            mebibytes(expected)
        );
        StoreError::new(StoreReason::DiskFull, message)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.room.taken_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Of the files of a folder and of those below it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    /// What they take of the disk.
    pub used_bytes: u64,
    /// What they would take beyond that, if they had no holes.
    holes_bytes: u64,
}

impl Sizes {
    pub fn of(folder: &Path) -> Result<Self, StoreError> {
        let mut sizes = Self::default();
        sizes.add(folder).map_err(|e| unusable(folder, "measure", &e))?;
        Ok(sizes)
    }

    fn add(&mut self, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                self.add(&entry.path())?;
            } else {
                let used = allocated(&metadata);
                self.used_bytes += used;
                self.holes_bytes += metadata.len().saturating_sub(used);
            }
        }
        Ok(())
    }
}

#[cfg(unix)]
fn allocated(metadata: &fs::Metadata) -> u64 {
    // In units of 512 bytes, whatever the file system's blocks are (`man 2 stat`).
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(not(unix))]
fn allocated(metadata: &fs::Metadata) -> u64 {
    metadata.len()
}

/// tmpfs. (Where it cannot be asked, it is a disk.)
#[cfg(target_os = "linux")]
fn is_in_memory(folder: &Path) -> bool {
    // `TMPFS_MAGIC` of linux/magic.h.
    rustix::fs::statfs(folder).is_ok_and(|found| found.f_type == 0x0102_1994)
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(_folder: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_is_taken_is_not_given_twice() {
        let folder = tempfile::tempdir().unwrap();
        let half = fs4::available_space(folder.path()).unwrap() / 2;
        let room = Room::new(folder.path(), half / 2);
        let taken = room.take(half).unwrap();
        assert_eq!(room.take(half).err().unwrap().reason, StoreReason::DiskFull);
        drop(taken);
        room.take(half).unwrap();
    }
}
