//! Stage 2: what the collections record about the asset, so that unchanged content is not embedded again.
//!
//! A collection is filled by one model with one preprocessing (its fingerprint is checked at startup). So equal content
//! has equal vectors there. Records name the content of a point's vectors and are never written before them.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::domain::{Failure, Guard, MediaRecord, Payload, PointId, Recorded, Stage, Stamp, StoreReason};
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
    /// `points_max`: the most points in one read.
    pub fn new(collection: String, store: Arc<dyn Store>, points_max: usize) -> Self {
        let (queue, waiting) = mpsc::channel(points_max);
        Self { queue, reader: AbortOnDropHandle::new(tokio::spawn(answer(waiting, collection, store, points_max))) }
    }

    /// Whether the reader has panicked, so that nothing can be read any more.
    pub fn is_broken(&self) -> bool {
        self.reader.is_finished()
    }

    /// The record of the point. For a tombstone, only what orders writes.
    pub async fn recall(&self, id: PointId) -> Result<Recorded, Failure> {
        let (reply, answer) = oneshot::channel();
        let gone = || StoreError::new(StoreReason::ReaderGone, "the reader of a collection is gone");
        let at = |error: StoreError| error.at(Stage::Recall);
        self.queue.send(Question { id, reply }).await.map_err(|_| at(gone()))?;
        answer.await.unwrap_or_else(|_| Err(gone())).map_err(at)
    }
}

async fn answer(mut waiting: mpsc::Receiver<Question>, collection: String, store: Arc<dyn Store>, points_max: usize) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, points_max).await > 0 {
        // A closed reply means that the job was fenced. An asset has one request in flight, so all ids differ.
        batch.retain(|question| !question.reply.is_closed());
        if batch.is_empty() {
            continue;
        }
        let ids: Vec<PointId> = batch.iter().map(|question| question.id).collect();
        let mut found =
            store.records(&collection, &ids).await.map(|records| records.into_iter().collect::<HashMap<_, _>>());
        for Question { id, reply } in batch.drain(..) {
            let known = match &mut found {
                Ok(records) => Ok(records.remove(&id).map(|record| known(&record)).unwrap_or_default()),
                Err(error) => Err(error.clone()),
            };
            // The receiver is gone when the job was fenced or the pipeline stops.
            let _ = reply.send(known);
        }
    }
}

/// A tombstone has no vectors, whatever its record says.
fn known(record: &Payload) -> Recorded {
    let read = Recorded::read(record);
    if read.is_tombstone() { Recorded { media: None, text_sha256: None, labels: None, ..read } } else { read }
}

/// The picture's record if all collections have the same one. Only then can the fetch be skipped.
pub fn media(known: &[Recorded]) -> Option<&MediaRecord> {
    let (first, others) = known.split_first()?;
    let media = first.media.as_ref()?;
    others.iter().all(|other| other.media.as_ref() == Some(media)).then_some(media)
}

/// Whether every collection holds something newer than `mine`, so that the message would write nothing.
pub fn is_stale(known: &[Recorded], mine: &Stamp, guard: Guard) -> bool {
    known.iter().all(|known| guard.refuses(mine, &known.stamp))
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use serde_json::json;

    use super::*;
    use crate::domain::{Origin, Position};

    fn media(etag: &str) -> serde_json::Value {
        json!({"url": "u", "etag": etag, "sha256": "00", "width": 1, "height": 1, "mime": "image/png"})
    }

    fn recorded(record: serde_json::Value) -> Recorded {
        known(record.as_object().unwrap())
    }

    #[test]
    fn a_tombstone_has_no_content() {
        let alive = recorded(json!({"version": 3, "media": media("a"), "text_sha256": "11"}));
        assert!(alive.media.is_some() && alive.text_sha256.is_some());
        let gone =
            json!({"version": 3, "media": media("a"), "text_sha256": "11", "deleted_at": "2026-11-25T00:00:00Z"});
        let gone = recorded(gone);
        assert_eq!((&gone.media, &gone.text_sha256, gone.stamp.version), (&None, &None, Some(3)));
    }

    #[test]
    fn a_fetch_is_left_out_only_where_all_have_the_same() {
        let [a, b] = ["a", "b"].map(|etag| recorded(json!({"media": media(etag)})));
        let known =
            |records: &[&Recorded]| super::media(&records.iter().map(|r| (*r).clone()).collect::<Vec<_>>()).cloned();
        assert_eq!(known(&[&a, &a]), a.media);
        assert_eq!(known(&[&a, &b]), None);
        assert_eq!(known(&[&a, &Recorded::default()]), None);
        assert_eq!(known(&[]), None);
        // A record of an older release lacks fields and does not count.
        let mut old = media("a");
        old.as_object_mut().unwrap().remove("width");
        assert_eq!(recorded(json!({"media": old})).media, None);
    }

    #[test]
    fn stale_is_what_no_collection_would_take() {
        let at = |offset| Origin {
            position: Position { topic: "t".into(), partition: 0, offset },
            request: 0,
            topic_id: None,
            leader_epoch: None,
            successor: None,
            timestamp_ms: Some(offset),
        };
        let stamp = |version, offset| Stamp { version, origin: Some(at(offset)) };
        let stored = |version, offset| Recorded { stamp: stamp(version, offset), ..Recorded::default() };
        let mine = stamp(Some(2), 5);
        let newer = stored(Some(3), 1);
        assert!(is_stale(from_ref(&newer), &mine, Guard::Check));
        assert!(is_stale(from_ref(&newer), &mine, Guard::Strict));
        assert!(!is_stale(from_ref(&newer), &mine, Guard::Off));
        for other in [Recorded::default(), stored(Some(2), 9), stored(Some(1), 9)] {
            assert!(!is_stale(&[newer.clone(), other], &mine, Guard::Strict), "one takes it");
        }
        let unversioned = stamp(None, 5);
        assert!(!is_stale(&[stored(None, 9)], &unversioned, Guard::Check));
        assert!(is_stale(&[stored(None, 9)], &unversioned, Guard::Strict));
        assert!(!is_stale(&[Recorded::default()], &unversioned, Guard::Strict));
    }
}
