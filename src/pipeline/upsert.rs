//! Stage 5: writes points to collections, in batches that form from what is waiting.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;

use super::embed::{Embedded, TargetVectors};
use super::write_pacing::WritePacing;
use crate::clip::Clip;
use crate::config::StoreSettings;
use crate::domain::{
    Deletion, Failure, Guard, IngestRequest, Op, Patch, Payload, Point, PointId, Record, Recorded, Stage, Stamp,
    StoreReason, Write,
};
use crate::store::{Store, StoreError, Written};
use crate::telemetry::Metrics;

/// How long a batch waits to be filled while another one is being written.
const GATHER_MAX: Duration = Duration::from_millis(5);

/// One model with its collection and the tasks that write to it.
pub struct CollectionWriter {
    clip: Arc<Clip>,
    queue: mpsc::Sender<PendingWrite>,
    /// The writers and the purge of old tombstones. Aborted when this is dropped.
    writers: JoinSet<()>,
}

/// A write that waits for its batch.
struct PendingWrite {
    write: Write,
    reply: oneshot::Sender<Result<Written, StoreError>>,
}

impl CollectionWriter {
    pub fn new(
        clip: Arc<Clip>,
        collection: String,
        store: &Arc<dyn Store>,
        settings: &StoreSettings,
        pause_max: Duration,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let pacing = WritePacing::new(&collection, settings.writes_in_flight_max, pause_max, metrics.clone());
        let (queue, waiting) = mpsc::channel(settings.batch_points_max);
        let waiting = Arc::new(Mutex::new(waiting));
        let writing = Arc::<AtomicUsize>::default();
        let mut writers = JoinSet::new();
        for _ in 0..settings.writes_in_flight_max {
            let writer = Writer {
                collection: collection.clone(),
                store: store.clone(),
                metrics: metrics.clone(),
                guard: settings.guard,
                pacing: pacing.clone(),
                points_max: settings.batch_points_max,
                bytes_max: settings.batch_bytes_max,
                writing: writing.clone(),
            };
            writers.spawn(writer.run(waiting.clone()));
        }
        writers.spawn(super::purge::run(store.clone(), collection, settings.tombstone_retention_s));
        Self { clip, queue, writers }
    }

    pub fn clip(&self) -> &Arc<Clip> {
        &self.clip
    }

    /// Why nothing can be written any more: a writer or a tower has panicked.
    pub fn broken(&self) -> Option<String> {
        if self.queue.is_closed() || self.writers.is_empty() {
            return Some(format!("a writer of {} is gone", self.clip.id()));
        }
        (!self.clip.is_alive()).then(|| format!("a tower of {} is gone", self.clip.id()))
    }

    async fn write(&self, write: Write) -> Result<Written, StoreError> {
        let (reply, written) = oneshot::channel();
        let gone = || StoreError::new(StoreReason::WriterGone, format!("the writer of {} is gone", self.clip.id()));
        self.queue.send(PendingWrite { write, reply }).await.map_err(|_| gone())?;
        written.await.map_err(|_| gone())?
    }
}

/// One write per collection, in the order of the writers.
///
/// `sent_ms`: the producer's timestamp. `bases`: whether records must later tell writes of the whole asset from
/// patches.
pub fn writes(
    request: &IngestRequest,
    stamp: Stamp,
    sent_ms: Option<i64>,
    embedded: Embedded,
    bases: bool,
) -> Vec<Write> {
    let id = request.point_id();
    let now = Utc::now();
    let record = Record {
        asset: request.asset.clone(),
        tenant: request.tenant.clone(),
        base: (bases && request.op != Op::Patch).then(|| stamp.clone()),
        source: stamp.origin,
        version: stamp.version,
        media: embedded.media,
        text_sha256: embedded.text_sha256,
        labels: None,
        deleted_at: (request.op == Op::Delete).then(|| rfc3339(deleted_at(now, sent_ms))),
        indexed_at: rfc3339(now),
    };
    if request.op == Op::Delete {
        return vec![Write::Delete(Deletion { id, record }); embedded.targets.len()];
    }
    let write = |TargetVectors { vectors, kept, labels }| {
        let (payload, record) = (request.payload.clone(), Record { labels, ..record.clone() });
        match request.op {
            Op::Patch => Write::Patch(Patch { id, vectors, kept, payload, record }),
            _ => Write::Upsert(Point { id, vectors, kept, payload, record }),
        }
    };
    embedded.targets.into_iter().map(write).collect()
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The time that the purge uses. Never before the message was sent: if this machine's clock is behind, another worker
/// would purge the tombstone too early.
fn deleted_at(now: DateTime<Utc>, sent_ms: Option<i64>) -> DateTime<Utc> {
    let sent = sent_ms.and_then(DateTime::from_timestamp_millis);
    // RFC 3339 has four-digit years; a producer that sends microseconds exceeds them.
    sent.filter(|sent| sent.year() <= 9999).map_or(now, |sent| sent.max(now))
}

/// Writes to every collection. Stale only if none of them applied it; `None` if a point lacks what a write relied on.
pub async fn write(writers: &[&CollectionWriter], writes: &[Write]) -> Result<Option<Written>, Failure> {
    let relies = writes.iter().any(|write| !write.kept().is_empty());
    let written = writers.iter().zip(writes).map(|(writer, write)| writer.write(write.clone()));
    match futures::future::try_join_all(written).await {
        Ok(written) if written.contains(&Written::Applied) => Ok(Some(Written::Applied)),
        Ok(_) => Ok(Some(Written::Stale)),
        Err(e) if relies && e.reason == StoreReason::Conflict => Ok(None),
        Err(e) => Err(e.at(Stage::Upsert)),
    }
}

/// One stream of writes to a collection.
struct Writer {
    collection: String,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    guard: Guard,
    pacing: WritePacing,
    points_max: usize,
    bytes_max: usize,
    /// Batches of the collection that are being written.
    writing: Arc<AtomicUsize>,
}

impl Writer {
    async fn run(self, waiting: Arc<Mutex<mpsc::Receiver<PendingWrite>>>) {
        loop {
            let batch = {
                let mut waiting = waiting.lock().await;
                let Some(first) = waiting.recv().await else { return };
                self.fill(first, &mut waiting).await
            };
            // A closed reply means that the job was fenced: the new owner writes, and this write would be stale.
            let wanted = batch.into_iter().filter(|pending| !pending.reply.is_closed()).collect();
            self.writing.fetch_add(1, Ordering::Relaxed);
            self.settle(wanted).await;
            self.writing.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// `first` and what waits behind it, up to the limits. An asset has one request in flight, so no two writes of a
    /// batch are for the same point.
    ///
    /// While another batch is being written, one that is not full waits briefly for more: the writes that end there make room
    /// for what fills this one, and two small writes take longer than one.
    async fn fill(&self, first: PendingWrite, waiting: &mut mpsc::Receiver<PendingWrite>) -> Vec<PendingWrite> {
        let mut bytes = first.write.bytes();
        let mut batch = vec![first];
        let mut patience = pin!(tokio::time::sleep(GATHER_MAX));
        while batch.len() < self.points_max && bytes < self.bytes_max {
            let next = match waiting.try_recv() {
                Ok(next) => next,
                Err(_) if self.writing.load(Ordering::Relaxed) == 0 => break,
                Err(_) => tokio::select! {
                    Some(next) = waiting.recv() => next,
                    () = &mut patience => break,
                },
            };
            bytes += next.write.bytes();
            batch.push(next);
        }
        batch
    }

    async fn settle(&self, batch: Vec<PendingWrite>) {
        let outdated = match self.outdated(&batch).await {
            Ok(outdated) => outdated,
            Err(error) => return answer(batch, &Err(error)),
        };
        let (stale, fresh) = batch.into_iter().partition(|pending| outdated.contains(&pending.write.id()));
        answer(stale, &Ok(Written::Stale));
        let mut open: Vec<Vec<PendingWrite>> = vec![fresh];
        while let Some(mut batch) = open.pop() {
            if batch.is_empty() {
                continue;
            }
            match self.write(&batch).await {
                Ok(written) => {
                    for (pending, written) in batch.into_iter().zip(written) {
                        let id = pending.write.id();
                        pending.answer(match written {
                            Written::Conflict => Err(StoreError::conflict(id, &self.collection)),
                            done => Ok(done),
                        });
                    }
                }
                // The store rejects the batch because of one point: halve it until that point is alone.
                Err(error) if error.is_about_a_point() && batch.len() > 1 => {
                    open.push(batch.split_off(batch.len() / 2));
                    open.push(batch);
                }
                Err(error) => answer(batch, &Err(error)),
            }
        }
    }

    async fn write(&self, batch: &[PendingWrite]) -> Result<Vec<Written>, StoreError> {
        let writes: Vec<Write> = batch.iter().map(|t| t.write.clone()).collect();
        let started = Instant::now();
        let written = self.pacing.run(self.store.write(&self.collection, &writes, self.guard)).await?;
        let took = started.elapsed();
        self.metrics.upsert_batch(&self.collection, writes.len(), took);
        tracing::debug!(
            collection = self.collection,
            items = writes.len(),
            took_ms = took.as_millis() as u64,
            "written"
        );
        Ok(written)
    }

    /// The points of which the store holds a newer version. Only needed under `check`: `off` ignores versions, and
    /// `strict` checks them in the write itself. Only messages with a version cost a read.
    async fn outdated(&self, batch: &[PendingWrite]) -> Result<HashSet<PointId>, StoreError> {
        if self.guard != Guard::Check {
            return Ok(HashSet::new());
        }
        let stamp = |pending: &PendingWrite| (pending.write.id(), pending.write.record().stamp());
        let stamps: HashMap<PointId, Stamp> =
            batch.iter().map(stamp).filter(|(_, stamp)| stamp.version.is_some()).collect();
        if stamps.is_empty() {
            return Ok(HashSet::new());
        }
        let ids: Vec<PointId> = stamps.keys().copied().collect();
        let records = self.store.records(&self.collection, &ids).await?;
        let newer = |(id, record): &(PointId, Payload)| {
            let stored = Recorded::read(record).stamp;
            stamps.get(id).is_some_and(|mine| self.guard.refuses(mine, &stored))
        };
        Ok(records.into_iter().filter(newer).map(|(id, _)| id).collect())
    }
}

impl PendingWrite {
    fn answer(self, result: Result<Written, StoreError>) {
        // The receiver is gone when the job was fenced or the pipeline stops.
        let _ = self.reply.send(result);
    }
}

fn answer(batch: Vec<PendingWrite>, result: &Result<Written, StoreError>) {
    for pending in batch {
        pending.answer(result.clone());
    }
}

#[cfg(all(test, feature = "embedded"))]
#[path = "upsert_tests.rs"]
mod tests;
