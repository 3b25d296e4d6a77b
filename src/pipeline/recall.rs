//! Stage 2: what the collections record about the asset, so that what has not changed is not done again.
//!
//! A collection was filled by one model with one preprocessing (its fingerprint is checked at the start), so a picture
//! or a text with the same content has the same vector there. Records name the content of a point's vectors and are
//! never written before them.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::domain::{Failure, MediaRecord, PointId, Recorded, Stage};
use crate::store::{Store, StoreError};

/// Reads the records of one collection, in batches that form from what is waiting.
pub struct Recall {
    queue: mpsc::Sender<Question>,
    reader: AbortOnDropHandle<()>,
}

struct Question {
    id: PointId,
    reply: oneshot::Sender<Result<Recorded, StoreError>>,
}

impl Recall {
    /// `points_max`: most points in one read.
    pub fn new(collection: String, store: Arc<dyn Store>, points_max: usize) -> Self {
        let (queue, waiting) = mpsc::channel(points_max);
        Self { queue, reader: AbortOnDropHandle::new(tokio::spawn(answer(waiting, collection, store, points_max))) }
    }

    /// Why nothing can be recalled any more, if so: the reader has panicked.
    pub fn is_broken(&self) -> bool {
        self.reader.is_finished()
    }

    /// What is recorded about the point; nothing when it is not there, or only its tombstone.
    pub async fn recall(&self, id: PointId) -> Result<Recorded, Failure> {
        let (reply, answer) = oneshot::channel();
        let gone = |()| StoreError::outage("reader_gone", "the reader of a collection is gone");
        self.queue.send(Question { id, reply }).await.map_err(|_| gone(())).map_err(failed)?;
        answer.await.map_err(|_| gone(())).and_then(|answer| answer).map_err(failed)
    }
}

async fn answer(mut waiting: mpsc::Receiver<Question>, collection: String, store: Arc<dyn Store>, points_max: usize) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, points_max).await > 0 {
        // Two messages of one asset are never in flight at once, so that ids are unique.
        let ids: Vec<PointId> = batch.iter().map(|question| question.id).collect();
        let records = store.records(&collection, &ids).await;
        let known = |id: PointId| match &records {
            Ok(records) => {
                let record = records.iter().find(|(found, _)| *found == id).map(|(_, record)| Recorded::read(record));
                Ok(record.unwrap_or_default())
            }
            Err(error) => Err(error.clone()),
        };
        for Question { id, reply } in batch.drain(..) {
            // Nobody waits any more when the job was fenced or the pipeline is stopping.
            let _ = reply.send(known(id));
        }
    }
}

/// The picture's record, when all collections have the same one: only then may a fetch be left out for all of them.
pub fn media(known: &[Recorded]) -> Option<&MediaRecord> {
    let (first, others) = known.split_first()?;
    let media = first.media.as_ref()?;
    others.iter().all(|other| other.media.as_ref() == Some(media)).then_some(media)
}

fn failed(error: StoreError) -> Failure {
    Failure {
        stage: Stage::Recall,
        class: error.class,
        reason: error.reason,
        message: error.message,
        retry_after: error.retry_after,
    }
}
