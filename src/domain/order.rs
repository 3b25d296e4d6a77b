//! Which of two writes of one point is the newer one.

use std::sync::Arc;

use serde_json::{Value, json};

use super::payload::text;
use super::{LabelRecord, MediaRecord, Payload, Position};

/// The origin of a write: the message's position, the number of the request in it, and when it was produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub position: Position,
    /// Number of the request in the message, from 0. Records contain it only if it is not 0, and records of older releases never do.
    pub request: usize,
    /// Kafka's topic id, which distinguishes a topic from a deleted one with the same name. `None` if the source
    /// has none, and in records of older releases.
    pub topic_id: Option<Arc<str>>,
    /// The id of the topic that has replaced this one, if known: for a message that waited in a
    /// retry topic meanwhile. Not recorded.
    pub successor: Option<Arc<str>>,
    /// Epoch of the partition's leader that accepted the message, which grows along the log (KIP-101). Offsets repeat under a
    /// higher epoch after the election of a leader that lacked some of them. `None` if the source has no epochs.
    pub leader_epoch: Option<i32>,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
}

impl Origin {
    pub fn to_payload(&self) -> Value {
        let Position { topic, partition, offset } = &self.position;
        let mut out = json!({ "topic": &**topic, "partition": partition, "offset": offset });
        if let Value::Object(map) = &mut out {
            if self.request > 0 {
                map.insert("request".to_owned(), self.request.into());
            }
            if let Some(id) = &self.topic_id {
                map.insert("topic_id".to_owned(), (**id).into());
            }
            if let Some(epoch) = self.leader_epoch {
                map.insert("leader_epoch".to_owned(), epoch.into());
            }
            if let Some(at) = self.timestamp_ms {
                map.insert("timestamp_ms".to_owned(), at.into());
            }
        }
        out
    }

    fn read(value: &Value) -> Option<Self> {
        let topic = value.get("topic")?.as_str()?.into();
        let partition = value.get("partition")?.as_i64()?.try_into().ok()?;
        let offset = value.get("offset")?.as_i64()?;
        let request = value.get("request").and_then(Value::as_u64).and_then(|index| index.try_into().ok()).unwrap_or(0);
        let topic_id = value.get("topic_id").and_then(Value::as_str).map(Into::into);
        let leader_epoch = value.get("leader_epoch").and_then(Value::as_i64).and_then(|epoch| epoch.try_into().ok());
        let timestamp_ms = value.get("timestamp_ms").and_then(Value::as_i64);
        let position = Position { topic, partition, offset };
        Some(Self { position, request, topic_id, successor: None, leader_epoch, timestamp_ms })
    }

    /// A later message of the same partition, by leader epoch (if both have one) and then by offset, whatever the clocks of
    /// producers say; or a later request of the same message. Offsets start again when a topic is recreated, which its id
    /// shows. Then neither is newer, unless one topic is known to have replaced the other. If an id is missing, the
    /// timestamps must agree with the offsets; without timestamps neither is newer.
    ///
    /// `store/qdrant/condition` has the same rule as a filter.
    fn is_newer_than(&self, other: &Self) -> bool {
        let (mine, others) = (&self.position, &other.position);
        if mine.topic != others.topic {
            return false;
        }
        let is_same = mine.partition == others.partition;
        let later = is_same && (mine.offset, self.request) > (others.offset, other.request);
        match (&self.topic_id, &other.topic_id) {
            (Some(id), Some(of)) if id == of => match (self.leader_epoch, other.leader_epoch) {
                (Some(epoch), Some(of)) if epoch != of => is_same && epoch > of,
                _ => later,
            },
            (Some(id), Some(_)) => other.successor.as_ref() == Some(id),
            _ => later && matches!((self.timestamp_ms, other.timestamp_ms), (Some(a), Some(b)) if a >= b),
        }
    }

    /// The same request of the same message.
    fn is_of_request(&self, other: &Self) -> bool {
        self.request == other.request && self.is_of_message(other)
    }

    /// The same message, as far as known: one of the two may be recorded without its topic's id or its leader's
    /// epoch.
    fn is_of_message(&self, other: &Self) -> bool {
        self.position == other.position
            && match (&self.topic_id, &other.topic_id) {
                (Some(id), Some(of)) => {
                    id == of && self.leader_epoch.zip(other.leader_epoch).is_none_or(|(mine, others)| mine == others)
                }
                _ => self.timestamp_ms == other.timestamp_ms,
            }
    }
}

/// What prevents an older write from overwriting a newer one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// Nothing is compared, and a deletion leaves nothing behind.
    Off,
    /// Writes with a version are compared before they are written. A write of another worker in between goes unnoticed.
    #[default]
    Check,
    /// The store compares while it writes, by version or by position, so that nothing comes in between.
    Strict,
}

impl Guard {
    /// Whether a deletion leaves a tombstone, by which a later write is recognised as older.
    pub fn buries(self, stamp: &Stamp) -> bool {
        match self {
            Self::Off => false,
            Self::Check => stamp.version.is_some(),
            Self::Strict => true,
        }
    }

    /// Whether a write is too old for a point whose record has the stamp `stored`.
    pub fn refuses(self, mine: &Stamp, stored: &Stamp) -> bool {
        match self {
            Self::Off => false,
            Self::Check => stored.has_newer_version_than(mine) == Some(true),
            Self::Strict => stored.is_newer_than(mine),
        }
    }
}

/// What orders a write among the writes of its point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    pub version: Option<u64>,
    pub origin: Option<Origin>,
}

impl Stamp {
    /// Both versions known: the higher one is newer, and equal ones are neither (a replay repeats its version, and two
    /// topics may patch under one). `None` when one is missing.
    pub fn has_newer_version_than(&self, other: &Self) -> Option<bool> {
        Some(self.version? > other.version?)
    }

    /// By version where both have one, else by position in the same partition.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        self.has_newer_version_than(other).unwrap_or_else(|| match (&self.origin, &other.origin) {
            (Some(mine), Some(others)) => mine.is_newer_than(others),
            _ => false,
        })
    }

    /// Written for the same request. Unknown without a position, but all our sources have positions.
    pub fn is_of_request(&self, other: &Self) -> bool {
        matches!((&self.origin, &other.origin), (Some(mine), Some(others)) if mine.is_of_request(others))
    }

    /// As records have it.
    pub fn to_payload(&self) -> Payload {
        let mut out = Payload::new();
        if let Some(origin) = &self.origin {
            out.insert("source".to_owned(), origin.to_payload());
        }
        if let Some(version) = self.version {
            out.insert("version".to_owned(), version.into());
        }
        out
    }

    fn read(object: &Payload) -> Self {
        Self {
            version: object.get("version").and_then(Value::as_u64),
            origin: object.get("source").and_then(Origin::read),
        }
    }
}

/// A record as the store has it. Parts that are missing, or not as we write them, are `None`: a record of an older
/// release has fewer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    pub stamp: Stamp,
    pub media: Option<MediaRecord>,
    /// SHA-256 (hex) of the text that was embedded.
    pub text_sha256: Option<String>,
    pub labels: Option<LabelRecord>,
    /// RFC 3339, UTC: the asset was deleted then, and this is its tombstone.
    pub deleted_at: Option<String>,
    /// Of the last write of the whole asset; what came after it are patches.
    pub base: Option<Stamp>,
    /// The patch that is being written, or was left unfinished: it may have changed vectors already.
    pub claim: Option<String>,
}

impl Recorded {
    /// Reads the object under [`RESERVED_KEY`](super::RESERVED_KEY). What vectors embed, and what labels are of, is not
    /// known while there is a claim.
    pub fn read(record: &Payload) -> Self {
        let claim = text(record.get("claim"));
        let settled = |key: &str| record.get(key).filter(|_| claim.is_none());
        Self {
            stamp: Stamp::read(record),
            media: settled("media").and_then(MediaRecord::read),
            text_sha256: text(settled("text_sha256")),
            labels: LabelRecord::read(record).filter(|_| claim.is_none()),
            deleted_at: text(record.get("deleted_at")),
            base: record.get("base").and_then(Value::as_object).map(Stamp::read),
            claim,
        }
    }

    pub fn is_tombstone(&self) -> bool {
        self.deleted_at.is_some()
    }

    /// Whether a write of the whole asset that is newer than `mine`, or the same, is among what is stored: then nothing of
    /// `mine` is missing. What is newer may also be a patch, beside which `mine` would have had its place.
    pub fn replaced(&self, mine: &Stamp) -> bool {
        self.base.as_ref().is_some_and(|base| base.is_newer_than(mine) || base.is_of_request(mine))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AssetId, Record};

    fn origin(topic: &str, partition: i32, offset: i64, timestamp_ms: Option<i64>) -> Option<Origin> {
        let position = Position { topic: topic.into(), partition, offset };
        Some(Origin { position, request: 0, topic_id: None, successor: None, leader_epoch: None, timestamp_ms })
    }

    /// Of the topic `id`, taken by a leader of this epoch.
    fn of_leader(leader_epoch: Option<i32>, offset: i64) -> Stamp {
        let of_topic = of_topic("id", offset, Some(-offset));
        stamp(None, of_topic.origin.map(|origin| Origin { leader_epoch, ..origin }))
    }

    fn of_topic(id: &str, offset: i64, timestamp_ms: Option<i64>) -> Stamp {
        let origin = origin("t", 0, offset, timestamp_ms).map(|origin| Origin { topic_id: Some(id.into()), ..origin });
        stamp(None, origin)
    }

    /// Of one that is known to be gone.
    fn of_gone_topic(id: &str, offset: i64, successor: &str) -> Stamp {
        let gone = of_topic(id, offset, Some(offset));
        stamp(None, gone.origin.map(|origin| Origin { successor: Some(successor.into()), ..origin }))
    }

    fn stamp(version: Option<u64>, origin: Option<Origin>) -> Stamp {
        Stamp { version, origin }
    }

    #[test]
    fn versions_decide_where_both_have_one() {
        let late = |version| stamp(Some(version), origin("t", 0, 9, Some(9)));
        let early = |version| stamp(Some(version), origin("t", 0, 1, Some(1)));
        assert!(early(2).is_newer_than(&late(1)));
        assert!(!late(1).is_newer_than(&early(2)));
        assert!(!late(1).is_newer_than(&early(1)), "equal versions are neither newer nor older");
        assert!(early(u64::MAX).is_newer_than(&late(u64::MAX - 1)));
    }

    #[test]
    fn positions_decide_within_a_partition_where_a_version_is_missing() {
        let at = |offset, ms| stamp(None, origin("t", 0, offset, ms));
        assert!(at(2, Some(5)).is_newer_than(&at(1, Some(5))));
        assert!(!at(1, Some(5)).is_newer_than(&at(2, Some(5))));
        assert!(!at(1, Some(5)).is_newer_than(&at(1, Some(5))));
        let versioned = stamp(Some(1), origin("t", 0, 1, Some(1)));
        assert!(at(2, Some(2)).is_newer_than(&versioned));
        assert!(!at(0, Some(0)).is_newer_than(&versioned));
        for other in [origin("u", 0, 1, Some(1)), origin("t", 1, 1, Some(1)), None] {
            assert!(!at(2, Some(2)).is_newer_than(&stamp(None, other)), "positions elsewhere say nothing");
        }
    }

    #[test]
    fn within_one_topic_the_offset_alone_decides() {
        let odd = [None, Some(-1), Some(0), Some(1_764_000_000), Some(1_764_000_000_000), Some(i64::MAX)];
        for (early, late) in odd.iter().flat_map(|a| odd.iter().map(move |b| (*a, *b))) {
            let (first, second) = (of_topic("id", 4, early), of_topic("id", 5, late));
            assert!(second.is_newer_than(&first), "{late:?} after {early:?}");
            assert!(!first.is_newer_than(&second) && !second.is_newer_than(&second), "{late:?} after {early:?}");
        }
    }

    #[test]
    fn offsets_that_come_again_under_another_leader_are_newer() {
        let (lost, again) = (of_leader(Some(4), 1000), of_leader(Some(5), 7));
        assert!(again.is_newer_than(&lost) && !lost.is_newer_than(&again));
        let same = of_leader(Some(5), 1000);
        assert!(!same.is_of_request(&lost) && !same.is_of_request(&again) && same.is_newer_than(&again));
        // Recorded by an older release: the offset alone.
        let unknown = of_leader(None, 900);
        assert!(lost.is_newer_than(&unknown) && unknown.is_newer_than(&again));
        assert!(of_leader(None, 1000).is_of_request(&lost));
        // A topic that was made anew has leaders of its own.
        let mut other = of_leader(Some(9), 1000);
        other.origin.as_mut().unwrap().topic_id = Some("new".into());
        assert!(!other.is_newer_than(&lost) && !lost.is_newer_than(&other));
    }

    #[test]
    fn a_recreated_topic_is_recognised_by_its_id_and_not_by_clocks() {
        for (before, after) in [(1, 2), (2, 1), (1, 1)] {
            let (old, new) = (of_topic("old", 1000, Some(before)), of_topic("new", 3, Some(after)));
            assert!(!old.is_newer_than(&new), "nothing of the old one makes a message of the new one stale");
            assert!(!new.is_newer_than(&old), "which of the two came first is not known");
        }
        // Unless it is: what waited in a retry topic. The asset may be in another partition by now.
        let waited = of_gone_topic("old", 1000, "new");
        assert!(of_topic("new", 3, None).is_newer_than(&waited));
        let mut elsewhere = of_topic("new", 3, None);
        elsewhere.origin.as_mut().unwrap().position.partition = 9;
        assert!(elsewhere.is_newer_than(&waited));
        assert!(!waited.is_newer_than(&of_topic("new", 3, None)));
        assert!(!of_topic("before", 2000, None).is_newer_than(&waited), "what neither of them is says nothing");
        assert!(of_topic("old", 1001, None).is_newer_than(&waited), "its own");
        assert!(!of_topic("old", 999, Some(9999)).is_newer_than(&waited));
    }

    #[test]
    fn where_an_id_is_missing_offset_and_time_must_agree() {
        let unnamed = |offset, ms| stamp(None, origin("t", 0, offset, ms));
        assert!(unnamed(5, Some(5)).is_newer_than(&of_topic("id", 4, Some(5))));
        assert!(of_topic("id", 5, Some(5)).is_newer_than(&unnamed(4, Some(5))));
        assert!(!unnamed(5, Some(4)).is_newer_than(&of_topic("id", 4, Some(5))));
        assert!(!of_topic("id", 5, None).is_newer_than(&unnamed(4, Some(5))));
    }

    #[test]
    fn a_message_is_known_by_its_place_and_its_topics_id() {
        let waited = of_gone_topic("old", 7, "new");
        assert!(waited.is_of_request(&of_topic("old", 7, Some(7))), "what has become of its topic is not part of it");
        assert!(waited.is_of_request(&stamp(None, origin("t", 0, 7, Some(7)))), "recorded by an older release");
        for other in [of_topic("new", 7, Some(7)), of_topic("old", 8, Some(7)), stamp(None, origin("t", 0, 7, Some(8)))]
        {
            assert!(!waited.is_of_request(&other), "{other:?}");
        }
        assert!(!stamp(None, None).is_of_request(&stamp(None, None)));
    }

    #[test]
    fn requests_of_one_message_follow_each_other() {
        let of =
            |stamp: Stamp, request| Stamp { origin: stamp.origin.map(|origin| Origin { request, ..origin }), ..stamp };
        let kafka = |offset, request| of(of_topic("id", offset, None), request);
        assert!(kafka(7, 1).is_newer_than(&kafka(7, 0)) && !kafka(7, 0).is_newer_than(&kafka(7, 1)));
        assert!(kafka(8, 0).is_newer_than(&kafka(7, 5)) && !kafka(7, 5).is_newer_than(&kafka(8, 0)));
        assert!(!kafka(7, 1).is_newer_than(&kafka(7, 1)) && kafka(7, 1).is_of_request(&kafka(7, 1)));
        assert!(!kafka(7, 1).is_of_request(&kafka(7, 0)));
        let unnamed = |ms, request| of(stamp(None, origin("t", 0, 7, ms)), request);
        assert!(unnamed(Some(5), 1).is_newer_than(&unnamed(Some(5), 0)));
        assert!(!unnamed(None, 1).is_newer_than(&unnamed(None, 0)), "it may be another message");
        let versioned = |version, request| Stamp { version: Some(version), ..kafka(7, request) };
        assert!(versioned(2, 0).is_newer_than(&versioned(1, 1)), "versions go first");
        let replaced = |base, mine: &Stamp| Recorded { base: Some(base), ..Recorded::default() }.replaced(mine);
        assert!(replaced(kafka(7, 1), &kafka(7, 0)), "a later request wrote the whole asset");
        assert!(!replaced(kafka(7, 0), &kafka(7, 1)), "an earlier one did");
    }

    #[test]
    fn only_a_later_request_is_recorded_with_its_index() {
        let payload = |request| of_topic("id", 7, None).origin.map(|origin| Origin { request, ..origin }.to_payload());
        let first = payload(0).unwrap();
        assert_eq!(first, json!({ "topic": "t", "partition": 0, "offset": 7, "topic_id": "id" }));
        assert_eq!(Origin::read(&first).unwrap().request, 0);
        let third = payload(2).unwrap();
        assert_eq!((&third["request"], Origin::read(&third).unwrap().request), (&json!(2), 2));
    }

    #[test]
    fn a_topic_created_anew_is_not_old() {
        let before = stamp(None, origin("t", 0, 1000, Some(10)));
        let after = stamp(None, origin("t", 0, 3, Some(20)));
        assert!(!before.is_newer_than(&after));
        assert!(!after.is_newer_than(&before), "offsets and times disagree: nothing is known");
        let untimed = stamp(None, origin("t", 0, 1000, None));
        assert!(!untimed.is_newer_than(&after), "an older release recorded no time");
    }

    #[test]
    fn a_patch_that_is_newer_has_not_replaced_what_it_overtook() {
        let at = |offset| stamp(None, origin("t", 0, offset, Some(offset)));
        let recorded = |base| Recorded { stamp: at(9), base, ..Recorded::default() };
        assert!(!recorded(None).replaced(&at(5)), "patches only");
        assert!(!recorded(Some(at(4))).replaced(&at(5)), "a whole write before it, a patch after it");
        assert!(recorded(Some(at(6))).replaced(&at(5)));
        assert!(recorded(Some(at(5))).replaced(&at(5)), "itself");
        let versioned = |version| stamp(Some(version), None);
        assert!(recorded(Some(versioned(3))).replaced(&versioned(2)));
        assert!(!recorded(Some(versioned(2))).replaced(&stamp(Some(3), origin("t", 0, 1, None))));
        // Of the topic that was made anew, by whatever wrote the whole asset there.
        let waited = of_gone_topic("old", 5, "new");
        assert!(recorded(Some(of_topic("new", 0, None))).replaced(&waited));
        assert!(!recorded(Some(of_topic("old", 4, Some(9)))).replaced(&waited));
    }

    #[test]
    fn what_vectors_embed_is_unknown_while_a_patch_is_under_way() {
        let mut record = json!({
            "version": 3, "text_sha256": "11",
            "media": { "url": "u", "etag": null, "sha256": "00", "width": 1, "height": 2, "mime": "image/png" },
        });
        let read = |record: &Value| Recorded::read(record.as_object().unwrap());
        assert!(read(&record).media.is_some() && read(&record).text_sha256.is_some());
        record["claim"] = "c".into();
        let claimed = read(&record);
        assert_eq!((claimed.media, claimed.text_sha256, claimed.stamp.version), (None, None, Some(3)));
    }

    #[test]
    fn a_record_reads_back_and_one_of_an_older_release_too() {
        let record = Record {
            asset: AssetId::new("a").unwrap(),
            tenant: None,
            source: origin("t", 3, 42, Some(1_700_000_000_000)).map(|o| Origin {
                topic_id: Some("id".into()),
                leader_epoch: Some(6),
                ..o
            }),
            version: Some(7),
            media: Some(MediaRecord {
                url: "https://cdn.example/a.jpg".into(),
                etag: Some("\"e\"".into()),
                last_modified: Some("Wed, 21 Oct 2015 07:28:00 GMT".into()),
                version_id: None,
                sha256: "00ff".into(),
                width: 640,
                height: 480,
                mime: "image/jpeg".into(),
            }),
            text_sha256: Some("abcd".into()),
            labels: Some(LabelRecord { found: vec![("a shoe".into(), 0.75), ("1".into(), 1.0)], sha256: "1f".into() }),
            deleted_at: None,
            base: Some(stamp(None, origin("t", 3, 41, Some(1)))),
            indexed_at: "2026-11-23T10:00:00Z".into(),
        };
        let read = Recorded::read(&record.to_payload());
        assert_eq!(read.stamp, record.stamp());
        assert_eq!((&read.media, &read.text_sha256), (&record.media, &record.text_sha256));
        assert_eq!((&read.base, &read.labels), (&record.base, &record.labels));
        let mut claimed = record.to_payload();
        claimed.insert("claim".to_owned(), "another".into());
        assert_eq!(Recorded::read(&claimed).labels, None);
        assert!(!read.is_tombstone());
        let old = json!({
            "asset_id": "a", "source": { "topic": "t", "partition": 3, "offset": 42 }, "version": "seven",
            "media": { "url": "u", "etag": null, "sha256": "00", "width": 1, "height": 2, "mime": "image/png" },
        });
        let read = Recorded::read(old.as_object().unwrap());
        assert_eq!(read.stamp, stamp(None, origin("t", 3, 42, None)));
        assert_eq!(read.media.unwrap().last_modified, None);
        assert_eq!(Recorded::read(&Payload::new()), Recorded::default());
    }
}
