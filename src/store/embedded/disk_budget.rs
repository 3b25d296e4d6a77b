//! Disk space. The engine memory-maps sparse files. If the file system has no free block for a hole that is written to, there is
//! no error to handle: the process gets SIGBUS. Every write therefore reserves disk space here first.
//!
//! Not covered: another process that uses up the reserve between the check and the end of the write, and limits that are not
//! visible as free space (quotas).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::catalog::unusable;
use crate::domain::StoreReason;
use crate::store::StoreError;

/// What opening a collection writes: its configuration and a few pages. Less than the reserve, so that stored points remain
/// searchable when the disk is full.
const OPEN_BYTES: u64 = 1 << 20;

pub(super) struct DiskBudget {
    folder: PathBuf,
    free_bytes_min: u64,
    /// Reserved for pending writes in all collections.
    reserved_bytes: AtomicU64,
}

/// Disk space for one write. Released when dropped: by then the used space is no longer free.
pub(super) struct Reservation<'a> {
    disk: &'a DiskBudget,
    bytes: u64,
}

impl DiskBudget {
    pub fn new(folder: &Path, free_bytes_min: u64) -> Self {
        Self { folder: folder.to_owned(), free_bytes_min, reserved_bytes: AtomicU64::new(0) }
    }

    /// Reserves `bytes` for a write. `free_bytes_min` must remain free after it.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation<'_>, StoreError> {
        let others = self.reserved_bytes.fetch_add(bytes, Ordering::Relaxed);
        let reservation = Reservation { disk: self, bytes };
        self.expect(self.free_bytes_min.saturating_add(others).saturating_add(bytes))?;
        Ok(reservation)
    }

    /// Checks for enough space to open the collection in `folder`. The engine then prefetches its vectors including holes, and an
    /// in-memory file system allocates a hole that is read.
    pub fn check_open(&self, folder: &Path) -> Result<(), StoreError> {
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
        fs4::available_space(&self.folder).map_err(|e| unusable(&self.folder, "query the free space of", &e))
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

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.disk.reserved_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Sizes of all files below a folder.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sizes {
    /// Allocated bytes.
    pub used_bytes: u64,
    /// Bytes in holes, which are not allocated.
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

/// Whether it is on tmpfs; `false` if unknown.
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
        let disk = DiskBudget::new(folder.path(), half / 2);
        let reservation = disk.reserve(half).unwrap();
        assert_eq!(disk.reserve(half).err().unwrap().reason, StoreReason::DiskFull);
        drop(reservation);
        disk.reserve(half).unwrap();
    }
}
