//! Which of two writes of one point is the newer one.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{MediaRecord, Payload, Position};

/// Where a write comes from: the message's place, and when it was produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub position: Position,
    /// What tells a topic from one of the same name that was deleted before it: Kafka's topic id. `None` where the source
    /// has none, and in records of older releases.
    pub topic_id: Option<Arc<str>>,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
}

impl Origin {
    pub fn to_payload(&self) -> Value {
        let Position { topic, partition, offset } = &self.position;
        let mut out = json!({ "topic": &**topic, "partition": partition, "offset": offset });
        if let Value::Object(map) = &mut out {
            if let Some(id) = &self.topic_id {
                map.insert("topic_id".to_owned(), (**id).into());
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
        let topic_id = value.get("topic_id").and_then(Value::as_str).map(Into::into);
        let timestamp_ms = value.get("timestamp_ms").and_then(Value::as_i64);
        Some(Self { position: Position { topic, partition, offset }, topic_id, timestamp_ms })
    }

    /// A later message of the same partition. Offsets alone do not tell: they start again when a topic is created anew
    /// or mirrored, and its messages are the fresh ones. So the timestamps must agree; without them nothing is newer.
    fn is_newer_than(&self, other: &Self) -> bool {
        let (mine, others) = (&self.position, &other.position);
        let same = mine.topic == others.topic && mine.partition == others.partition;
        let later = matches!((self.timestamp_ms, other.timestamp_ms), (Some(a), Some(b)) if a >= b);
        same && later && mine.offset > others.offset
    }
}

/// How much is done so that an older write never overwrites a newer one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// Nothing is compared, and a deletion leaves nothing behind.
    Off,
    /// Writes with a version are compared before they are written. What another worker writes in between is not seen.
    #[default]
    Check,
    /// The store compares while it writes, by version or by position, so that nothing comes in between.
    Strict,
}

impl Guard {
    /// Whether a deletion leaves a tombstone, which is what makes an older write look old afterwards.
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    pub stamp: Stamp,
    pub media: Option<MediaRecord>,
    /// SHA-256 (hex) of the text that was embedded.
    pub text_sha256: Option<String>,
    /// RFC 3339, UTC: the asset was deleted then, and this is its tombstone.
    pub deleted_at: Option<String>,
    /// Of the last write of the whole asset; what came after it are patches.
    pub base: Option<Stamp>,
}

impl Recorded {
    /// Reads the object under [`RESERVED_KEY`](super::RESERVED_KEY).
    pub fn read(record: &Payload) -> Self {
        Self {
            stamp: Stamp::read(record),
            media: record.get("media").and_then(MediaRecord::read),
            text_sha256: text(record.get("text_sha256")),
            deleted_at: text(record.get("deleted_at")),
            base: record.get("base").and_then(Value::as_object).map(Stamp::read),
        }
    }

    pub fn is_tombstone(&self) -> bool {
        self.deleted_at.is_some()
    }

    /// Whether a write of the whole asset that is newer than `mine`, or the same, is among what is stored: then nothing of
    /// `mine` is missing. What is newer may also be a patch, beside which `mine` would have had its place.
    pub fn replaced(&self, mine: &Stamp) -> bool {
        self.base.as_ref().is_some_and(|base| base.is_newer_than(mine) || base.origin == mine.origin)
    }
}

pub(super) fn text(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AssetId, Record};

    fn origin(topic: &str, partition: i32, offset: i64, timestamp_ms: Option<i64>) -> Option<Origin> {
        Some(Origin { position: Position { topic: topic.into(), partition, offset }, topic_id: None, timestamp_ms })
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
    }

    #[test]
    fn a_record_reads_back_and_one_of_an_older_release_too() {
        let record = Record {
            asset: AssetId::new("a").unwrap(),
            tenant: None,
            source: origin("t", 3, 42, Some(1_700_000_000_000)),
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
            deleted_at: None,
            base: Some(stamp(None, origin("t", 3, 41, Some(1)))),
            indexed_at: "2026-11-23T10:00:00Z".into(),
        };
        let read = Recorded::read(&record.to_payload());
        assert_eq!(read.stamp, record.stamp());
        assert_eq!((&read.media, &read.text_sha256), (&record.media, &record.text_sha256));
        assert_eq!(read.base, record.base);
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
