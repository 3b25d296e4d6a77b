//! One collection: the engine's shard, with one writer at a time and concurrent readers.
//!
//! What we have to do ourselves with the engine (qdrant-edge 0.7):
//! - *Durability.* Its log is never replayed on load; only `flush` (which syncs log and segments) makes a write
//!   survive the process. So every write ends with a flush.
//! - *The log's size.* The log is never truncated while the shard is open, but its numbering must continue, because the
//!   engine ignores operations older than a point's version. So the shard is reopened from time to time, and while it is
//!   closed, all closed log files except the newest are removed (as Qdrant's own acknowledgement does).
//! - *The index.* Nothing runs in the background; see [`OPTIMIZE_AFTER_POINTS`].
//! - *Panics.* `flush` panics on IO errors. A panic leaves the writer's mutex poisoned; the next writer reopens the
//!   shard from its files.
//! - *Disk space.* A file that cannot grow ends the process; see [`super::disk_budget`].

use std::collections::HashMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use qdrant_edge as edge;
use qdrant_edge::EdgeShard;

use super::catalog::unusable;
use super::convert;
use super::disk_budget::{DiskBudget, Reservation, Sizes};
use crate::domain::{Fingerprint, Guard, Payload, PointId, Reason, Recorded, StoreReason, Write};
use crate::store::batch::Batch;
use crate::store::guard::{admit, looks};
use crate::store::{CollectionDefinition, StoreError, Written};

/// Points written between two runs of the engine's optimizers (index graph, vacuum, merge). Until then a search reads
/// every vector (512 dimensions: some milliseconds per ten thousand points); a run stops the collection's writers, not
/// its readers, for about a second of processor time per thousand points with two vectors.
const OPTIMIZE_AFTER_POINTS: usize = 50_000;

/// Log bytes (approximate) after which the shard is reopened to remove old log files.
const LOG_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Disk space of a write per byte of it (approximate), at most: log, vectors, payload and its indexes. Measured up to 2.5 on ext4
/// and tmpfs, for batches of 1 to 4,096 points of 32 to 768 dimensions with payloads of up to 100 kB.
const GROWTH_PER_BYTE: u64 = 3;
/// Additional disk space per point, because a patch may copy the whole point out of a segment with an index.
const GROWTH_PER_POINT_BYTES: u64 = 16 << 10;
/// Additional disk space of any write: partly filled pages (120 kB were measured).
const GROWTH_BYTES: u64 = 1 << 20;

pub(super) struct Collection {
    name: String,
    path: PathBuf,
    disk: Arc<DiskBudget>,
    /// `None` only while it is reopened, after reopening failed, and after close.
    shard: RwLock<Option<EdgeShard>>,
    writer: Mutex<Writer>,
}

#[derive(Debug, Default)]
struct Writer {
    points_since_optimize: usize,
    bytes_since_open: usize,
    is_closed: bool,
}

impl Collection {
    /// Creates the shard. Removes remains of an interrupted creation.
    pub fn create(
        name: &str,
        path: &Path,
        disk: &Arc<DiskBudget>,
        fingerprint: &Fingerprint,
        definition: &CollectionDefinition,
    ) -> Result<Self, StoreError> {
        let _reservation = disk.reserve(GROWTH_BYTES)?;
        if path.exists() {
            fs::remove_dir_all(path).map_err(|e| unusable(path, "remove", &e))?;
        }
        fs::create_dir_all(path).map_err(|e| unusable(path, "create", &e))?;
        let shard =
            EdgeShard::new(path, convert::config(fingerprint, definition)).map_err(|e| convert::error(&e, name))?;
        // A shard that was never flushed cannot be loaded.
        shard.flush();
        Ok(Self::new(name, path, disk, shard))
    }

    pub fn load(name: &str, path: &Path, disk: &Arc<DiskBudget>) -> Result<Self, StoreError> {
        Ok(Self::new(name, path, disk, load_shard(name, path, disk)?))
    }

    fn new(name: &str, path: &Path, disk: &Arc<DiskBudget>, shard: EdgeShard) -> Self {
        let info = shard.info();
        // An estimate (two vectors per point at most), so that an index that was due before a restart is still built.
        let indexed = info.indexed_vectors_count / 2;
        let points_since_optimize = info.points_count.saturating_sub(indexed);
        let writer = Writer { points_since_optimize, ..Writer::default() };
        Self {
            name: name.into(),
            path: path.into(),
            disk: disk.clone(),
            shard: RwLock::new(Some(shard)),
            writer: Mutex::new(writer),
        }
    }

    pub fn ensure_indexes(&self, definition: &CollectionDefinition) -> Result<(), StoreError> {
        let mut writer = self.writer()?;
        let existing = self.read(|shard| Ok(shard.info().payload_schema))?;
        let mut missing = Vec::new();
        for index in &definition.payload_indexes {
            if !existing.contains_key(&convert::path(&index.field)?) {
                missing.push(convert::create_index(index)?);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let _reservation = self.reserve_rebuild()?;
        self.update(&mut writer, missing)
    }

    pub fn write(&self, writes: &[Write], guard: Guard) -> Result<Vec<Written>, StoreError> {
        let mut writer = self.writer()?;
        let stored = self.stored(writes, guard)?;
        let recorded = |write: &Write| stored.get(&write.id()).map(Recorded::read);
        let written: Vec<Written> = writes.iter().map(|write| admit(write, recorded(write).as_ref(), guard)).collect();
        let admitted =
            writes.iter().zip(&written).filter(|(_, fate)| **fate == Written::Applied).map(|(write, _)| write);
        let admitted: Vec<&Write> = admitted.collect();
        if admitted.is_empty() {
            return Ok(written);
        }
        let bytes = admitted.iter().map(|write| write.bytes()).sum::<usize>();
        let reservation = self.disk.reserve(growth_bytes(admitted.len(), bytes))?;
        let batch = Batch::new(admitted.iter().copied(), guard)?;
        let operations = convert::operations(&batch, &stored)?;
        self.update(&mut writer, operations)?;
        drop(reservation);
        writer.points_since_optimize += admitted.len();
        writer.bytes_since_open += bytes;
        self.maintain(&mut writer)?;
        Ok(written)
    }

    /// The records of those points that exist and whose writes depend on them. Valid only while the writer is locked.
    fn stored(&self, writes: &[Write], guard: Guard) -> Result<HashMap<PointId, Payload>, StoreError> {
        let matters = |write: &&Write| looks(write, guard) || matches!(write, Write::Patch(_));
        let ids: Vec<PointId> = writes.iter().filter(matters).map(Write::id).collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        self.records(&ids)?.into_iter().map(convert::record).collect()
    }

    pub fn purge_tombstones(&self, old: edge::Filter) -> Result<u64, StoreError> {
        let mut writer = self.writer()?;
        let count = edge::CountRequest { filter: Some(old.clone()), exact: true };
        let found = self.read(|shard| shard.count(count))?;
        if found > 0 {
            let _reservation = self.disk.reserve(GROWTH_BYTES)?;
            self.update(&mut writer, vec![convert::delete_matching(old)])?;
        }
        Ok(found as u64)
    }

    /// Applies `operations` and makes them durable. After a failure of the engine the shard is reloaded from its files, because a
    /// segment that failed once refuses every later operation.
    fn update(&self, writer: &mut Writer, operations: Vec<edge::UpdateOperation>) -> Result<(), StoreError> {
        let outcome = {
            let guard = self.read_lock();
            let shard = guard.as_ref().ok_or_else(StoreError::closed)?;
            let outcome = operations.into_iter().try_for_each(|operation| shard.update(operation));
            shard.flush();
            outcome.map_err(|e| convert::error(&e, &self.name))
        };
        if outcome.as_ref().is_err_and(|e| e.reason == StoreReason::Failed) {
            self.reopen(writer)?;
        }
        outcome
    }

    fn maintain(&self, writer: &mut Writer) -> Result<(), StoreError> {
        if writer.points_since_optimize >= OPTIMIZE_AFTER_POINTS {
            match self.reserve_rebuild() {
                Ok(_taken) => {
                    let guard = self.read_lock();
                    let shard = guard.as_ref().ok_or_else(StoreError::closed)?;
                    shard.optimize().map_err(|e| convert::error(&e, &self.name))?;
                    shard.flush();
                    writer.points_since_optimize = 0;
                }
                // The points are stored; until the index is built, searches read all vectors.
                Err(error) => {
                    let collection = &self.name;
                    tracing::warn!(
                        collection,
                        reason = error.reason.as_str(),
                        "building the index is postponed: {error}"
                    );
                    writer.points_since_optimize -= OPTIMIZE_AFTER_POINTS / 10;
                }
            }
        }
        if writer.bytes_since_open >= LOG_BYTES_MAX {
            self.reopen(writer)?;
        }
        Ok(())
    }

    /// Reserves space for rebuilding the segments, while the old ones exist: their size, and half of it for index graph and
    /// quantized vectors.
    fn reserve_rebuild(&self) -> Result<Reservation<'_>, StoreError> {
        let bytes = Sizes::of(&self.path)?.used_bytes;
        self.disk.reserve(bytes.saturating_add(bytes / 2))
    }

    /// Closes the shard, trims its log and loads it again. Readers wait.
    fn reopen(&self, writer: &mut Writer) -> Result<(), StoreError> {
        // Checked first, so that readers keep the open shard on failure.
        self.disk.check_open(&self.path)?;
        let mut slot = self.shard.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(shard) = slot.take() {
            // Dropping flushes, which panics if the disk failed; the files then have the state of the last flush.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(shard)));
        }
        *slot = Some(load_shard(&self.name, &self.path, &self.disk)?);
        self.shard.clear_poison();
        writer.bytes_since_open = 0;
        Ok(())
    }

    fn writer(&self) -> Result<MutexGuard<'_, Writer>, StoreError> {
        match self.writer.lock() {
            Ok(guard) if guard.is_closed => Err(StoreError::closed()),
            Ok(guard) if self.read_lock().is_some() => Ok(guard),
            // An earlier reopening failed; it may succeed now.
            Ok(mut guard) => self.reopen(&mut guard).map(|()| guard),
            Err(poisoned) => {
                let mut guard = poisoned.into_inner();
                self.reopen(&mut guard)?;
                self.writer.clear_poison();
                Ok(guard)
            }
        }
    }

    fn read_lock(&self) -> RwLockReadGuard<'_, Option<EdgeShard>> {
        self.shard.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `read` on the shard.
    pub fn read<T>(&self, read: impl FnOnce(&EdgeShard) -> edge::OperationResult<T>) -> Result<T, StoreError> {
        if self.read_lock().is_none() {
            // An earlier reopening failed. Without writers, readers have to try again.
            drop(self.writer()?);
        }
        let guard = self.read_lock();
        read(guard.as_ref().ok_or_else(StoreError::closed)?).map_err(|e| convert::error(&e, &self.name))
    }

    pub fn records(&self, ids: &[PointId]) -> Result<Vec<edge::Record>, StoreError> {
        let ids: Vec<_> = ids.iter().copied().map(convert::id).collect();
        let ours = edge::WithPayloadInterface::Fields(vec![convert::path(crate::domain::RESERVED_KEY)?]);
        self.read(|shard| shard.retrieve(&ids, Some(ours), None))
    }

    /// Flushes and closes the files.
    pub fn close(&self) {
        // A poisoned writer loses nothing: unflushed writes were never confirmed.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.is_closed = true;
        self.writer.clear_poison();
        drop(self.shard.write().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn growth_bytes(points: usize, bytes: usize) -> u64 {
    let (points, bytes) = (points as u64, bytes as u64);
    let points = points.saturating_mul(GROWTH_PER_POINT_BYTES);
    bytes.saturating_mul(GROWTH_PER_BYTE).saturating_add(points).saturating_add(GROWTH_BYTES)
}

fn load_shard(name: &str, path: &Path, disk: &DiskBudget) -> Result<EdgeShard, StoreError> {
    disk.check_open(path)?;
    trim_log(path).map_err(|e| unusable(path, "trim the log of", &e))?;
    EdgeShard::load(path, None).map_err(|e| convert::error(&e, name))
}

/// Removes all closed log files except the newest, which continues the numbering. Only while the shard is closed.
fn trim_log(path: &Path) -> std::io::Result<()> {
    let log = path.join("wal");
    if !log.is_dir() {
        return Ok(());
    }
    let mut closed: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(&log)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(first) = name.to_str().and_then(|n| n.strip_prefix("closed-")).and_then(|n| n.parse().ok()) {
            closed.push((first, entry.path()));
        }
    }
    closed.sort();
    closed.pop();
    // Oldest first, so that an interruption leaves a log without gaps.
    closed.into_iter().try_for_each(|(_, file)| fs::remove_file(file))
}

#[cfg(test)]
#[path = "collection_tests.rs"]
mod tests;
