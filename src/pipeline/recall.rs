//! Stage 2: what the collections record about the asset, so that what has not changed is not done again.
//!
//! A collection was filled by one model with one preprocessing (its fingerprint is checked at the start), so a picture
//! or a text with the same content has the same vector there. Records name the content of a point's vectors and are
//! never written before them.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::domain::{Failure, MediaRecord, Payload, PointId, Recorded, Stage};
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

    /// Whether nothing can be recalled any more: the reader has panicked.
    pub fn is_broken(&self) -> bool {
        self.reader.is_finished()
    }

    /// What is recorded about the point; of a tombstone only what orders writes.
    pub async fn recall(&self, id: PointId) -> Result<Recorded, Failure> {
        let (reply, answer) = oneshot::channel();
        let gone = || StoreError::outage("reader_gone", "the reader of a collection is gone");
        self.queue.send(Question { id, reply }).await.map_err(|_| failed(gone()))?;
        answer.await.unwrap_or_else(|_| Err(gone())).map_err(failed)
    }
}

async fn answer(mut waiting: mpsc::Receiver<Question>, collection: String, store: Arc<dyn Store>, points_max: usize) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, points_max).await > 0 {
        // Whoever does not wait any more was fenced. Of the rest no two are of one asset, which has one message in flight.
        batch.retain(|question| !question.reply.is_closed());
        if batch.is_empty() {
            continue;
        }
        let ids: Vec<PointId> = batch.iter().map(|question| question.id).collect();
        let mut found = store.records(&collection, &ids).await.map(|records| records.into_iter().collect::<HashMap<_, _>>());
        for Question { id, reply } in batch.drain(..) {
            let known = match &mut found {
                Ok(records) => Ok(records.remove(&id).map(|record| known(&record)).unwrap_or_default()),
                Err(error) => Err(error.clone()),
            };
            // Nobody waits any more when the job was fenced meanwhile or the pipeline is stopping.
            let _ = reply.send(known);
        }
    }
}

/// A tombstone has no vectors, whatever it says.
fn known(record: &Payload) -> Recorded {
    let read = Recorded::read(record);
    if read.is_tombstone() { Recorded { media: None, text_sha256: None, ..read } } else { read }
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
