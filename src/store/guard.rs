//! Decides by a point's stored record whether a write may happen, and whether it has happened.

use super::Written;
use crate::domain::{Guard, Modality, Recorded, Write};

/// Before a write, in a store without other writers.
#[cfg(feature = "embedded")]
pub(super) fn admit(write: &Write, stored: Option<&Recorded>, guard: Guard) -> Written {
    let mine = write.record().stamp();
    if guard == Guard::Strict && stored.is_some_and(|stored| stored.stamp.is_newer_than(&mine)) {
        return Written::Stale;
    }
    if !write.kept().is_empty() && !stored.is_some_and(|stored| keeps(stored, write)) {
        return Written::Conflict;
    }
    Written::Applied
}

/// After a conditional write, in a store with other writers: by the stored record, whether the write was applied.
pub(super) fn outcome(write: &Write, stored: Option<&Recorded>, guard: Guard) -> Written {
    let Some(stored) = stored else { return Written::Conflict };
    let (record, stamp) = (write.record(), write.record().stamp());
    if guard == Guard::Strict && stored.stamp.is_newer_than(&stamp) {
        return Written::Stale;
    }
    // A patch of another writer is in progress. Writes that end with the record are complete by then. A replaced point may still have
    // vectors that should be gone.
    let record_comes_last = matches!(write, Write::Patch(_)) || !write.kept().is_empty();
    if guard == Guard::Strict && stored.claim.is_some() && !record_comes_last {
        return Written::Conflict;
    }
    // Without a source (all of ours have one) requests cannot be distinguished, and nothing newer is stored.
    let mine = record.source.is_none() || stored.stamp.is_of_request(&stamp);
    let whole = write.kept().is_empty() || keeps(stored, write);
    let alive = stored.is_tombstone() == matches!(write, Write::Delete(_));
    if mine && whole && alive { Written::Applied } else { Written::Conflict }
}

/// Whether an adapter must read the stored record for this write.
pub(super) fn looks(write: &Write, guard: Guard) -> bool {
    guard == Guard::Strict || !write.kept().is_empty()
}

/// The stored point has the vectors that `write` keeps: they embed what its record says.
fn keeps(stored: &Recorded, write: &Write) -> bool {
    let record = write.record();
    let same = |modality: &Modality| match modality {
        Modality::Image => record
            .media
            .as_ref()
            .is_none_or(|media| stored.media.as_ref().is_some_and(|stored| stored.sha256 == media.sha256)),
        Modality::Text => record.text_sha256.is_none() || stored.text_sha256 == record.text_sha256,
    };
    !stored.is_tombstone() && write.kept().iter().all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AssetId, Deletion, Origin, Patch, Payload, Point, PointId, Position, Record, Stamp, Vectors};

    fn origin(offset: i64) -> Option<Origin> {
        Some(Origin {
            position: Position { topic: "t".into(), partition: 0, offset },
            request: 0,
            topic_id: None,
            leader_epoch: None,
            successor: None,
            timestamp_ms: Some(offset),
        })
    }

    fn patch(version: Option<u64>, offset: i64, kept: &[Modality], text: Option<&str>) -> Write {
        let asset = AssetId::new("a").unwrap();
        let record = Record {
            asset: asset.clone(),
            tenant: None,
            source: origin(offset),
            version,
            media: None,
            text_sha256: text.map(str::to_owned),
            labels: None,
            deleted_at: None,
            base: None,
            indexed_at: "2026-11-25T00:00:00Z".into(),
        };
        let (id, kept) = (PointId::of(None, &asset), kept.to_vec());
        Write::Patch(Patch { id, vectors: Vectors::default(), kept, payload: Payload::new(), record })
    }

    fn stored(version: Option<u64>, offset: i64, text: Option<&str>) -> Recorded {
        let stamp = Stamp { version, origin: origin(offset) };
        Recorded { stamp, text_sha256: text.map(str::to_owned), ..Recorded::default() }
    }

    #[test]
    fn only_strict_refuses_what_is_older() {
        let newer = stored(Some(2), 0, None);
        let write = patch(Some(1), 9, &[], None);
        assert_eq!(admit(&write, Some(&newer), Guard::Strict), Written::Stale);
        assert_eq!(admit(&write, Some(&newer), Guard::Check), Written::Applied);
        assert_eq!(admit(&write, None, Guard::Strict), Written::Applied);
        assert_eq!(outcome(&write, Some(&newer), Guard::Strict), Written::Stale);
    }

    #[test]
    fn kept_vectors_must_be_there_and_embed_the_same() {
        let write = patch(None, 5, &[Modality::Text], Some("h1"));
        for guard in [Guard::Off, Guard::Check, Guard::Strict] {
            assert_eq!(admit(&write, None, guard), Written::Conflict);
            assert_eq!(admit(&write, Some(&stored(None, 1, Some("h2"))), guard), Written::Conflict);
            assert_eq!(admit(&write, Some(&stored(None, 1, Some("h1"))), guard), Written::Applied);
            let gone = Recorded { deleted_at: Some("2026-11-25T00:00:00Z".into()), ..stored(None, 1, Some("h1")) };
            assert_eq!(admit(&write, Some(&gone), guard), Written::Conflict);
        }
    }

    #[test]
    fn a_patch_of_another_that_is_under_way_leaves_a_replaced_point_unfinished() {
        let under_way = Recorded { claim: Some("another".into()), ..stored(Some(1), 5, None) };
        let write = patch(Some(1), 5, &[], None);
        assert_eq!(outcome(&write, Some(&under_way), Guard::Strict), Written::Applied);
        let Write::Patch(Patch { id, vectors, kept, payload, record }) = write else { unreachable!() };
        let upsert = Write::Upsert(Point { id, vectors, kept, payload, record });
        assert_eq!(outcome(&upsert, Some(&under_way), Guard::Strict), Written::Conflict);
        assert_eq!(outcome(&upsert, Some(&stored(Some(1), 5, None)), Guard::Strict), Written::Applied);
    }

    #[test]
    fn another_request_of_the_message_is_another_write() {
        let mut second = patch(None, 5, &[], None);
        if let Write::Patch(patch) = &mut second {
            patch.record.source = origin(5).map(|origin| Origin { request: 1, ..origin });
        }
        let of_second = Recorded { stamp: second.record().stamp(), ..Recorded::default() };
        assert_eq!(outcome(&second, Some(&stored(None, 5, None)), Guard::Strict), Written::Conflict, "not yet");
        assert_eq!(outcome(&second, Some(&of_second), Guard::Strict), Written::Applied);
        assert_eq!(admit(&patch(None, 5, &[], None), Some(&of_second), Guard::Strict), Written::Stale);
        assert_eq!(admit(&second, Some(&stored(None, 5, None)), Guard::Strict), Written::Applied);
    }

    #[test]
    fn a_write_has_happened_when_its_place_is_recorded() {
        let write = patch(Some(1), 5, &[], None);
        assert_eq!(outcome(&write, Some(&stored(Some(1), 5, None)), Guard::Strict), Written::Applied);
        assert_eq!(outcome(&write, Some(&stored(Some(1), 6, None)), Guard::Strict), Written::Conflict, "overtaken");
        assert_eq!(outcome(&write, None, Guard::Strict), Written::Conflict);
        let Write::Patch(patch) = write else { unreachable!() };
        let delete = Write::Delete(Deletion { id: patch.id, record: patch.record });
        assert_eq!(outcome(&delete, Some(&stored(Some(1), 5, None)), Guard::Strict), Written::Conflict, "still alive");
    }
}
