//! Conditions of writes as Qdrant filters. Qdrant tests them when it applies the operation, in the shard's order.

use qdrant_client::qdrant::{Condition, Filter, Range};
use serde_json::Value;

use super::convert;
use crate::domain::{Modality, Origin, Payload, PointId, RESERVED_KEY, Record, Stamp};
use crate::store::batch::Change;

/// Paths in a record. Every write of ours changes at least one of them.
pub(super) const COMPARED: [&str; 13] = [
    "indexed_at",
    "version",
    "source.topic",
    "source.partition",
    "source.offset",
    "source.request",
    "source.topic_id",
    "source.leader_epoch",
    "source.timestamp_ms",
    "media.sha256",
    "text_sha256",
    "deleted_at",
    "claim",
];

/// One filter for an operation on many points, each under its own conditions.
pub(super) fn each(points: Vec<(PointId, Vec<Condition>)>) -> Filter {
    let ids: Vec<_> = points.iter().map(|(id, _)| convert::id(*id)).collect();
    let one = |(id, mut conditions): (PointId, Vec<Condition>)| {
        conditions.insert(0, Condition::has_id([convert::id(id)]));
        Condition::from(Filter::must(conditions))
    };
    Filter { should: points.into_iter().map(one).collect(), ..Filter::must([Condition::has_id(ids)]) }
}

/// The stored record is not newer: [`Stamp::is_newer_than`] as a filter.
pub(super) fn not_newer(mine: &Stamp) -> Vec<Condition> {
    let newer_positions = mine.origin.as_ref().map(newer_positions).unwrap_or_default();
    let Some(version) = mine.version else {
        return if newer_positions.is_empty() { Vec::new() } else { vec![Filter::must_not(newer_positions).into()] };
    };
    let (bound, beyond) = float_bound(version);
    let at_most = Condition::range(key("version"), Range { lte: Some(bound), ..Range::default() });
    let mut by_version = Filter::must([at_most]);
    if !beyond.is_empty() {
        by_version.must_not.push(Condition::matches(key("version"), beyond));
    }
    let versioned = Condition::range(key("version"), Range { gte: Some(0.0), ..Range::default() });
    let by_position = Filter::must_not([versioned].into_iter().chain(newer_positions));
    vec![Filter::should([Condition::from(by_version), by_position.into()]).into()]
}

/// Any of: later in the same partition of the same topic, by leader epoch, offset and request; later by offset, request
/// and time, if a topic id is missing; in the topic known to have replaced this one.
fn newer_positions(mine: &Origin) -> Vec<Condition> {
    let Origin { position, request, topic_id, successor, leader_epoch, timestamp_ms } = mine;
    let topic = Condition::matches(key("source.topic"), position.topic.to_string());
    let beyond = |name: &str, bound: f64| Condition::range(key(name), Range { gt: Some(bound), ..Range::default() });
    let there = [topic.clone(), Condition::matches(key("source.partition"), i64::from(position.partition))];
    // A record without a request is of request 0, which is not later than any of the same message.
    let later_request = Filter::must([
        Condition::matches(key("source.offset"), position.offset),
        beyond("source.request", *request as f64),
    ]);
    let later: Condition =
        Filter::should([beyond("source.offset", position.offset as f64), later_request.into()]).into();
    let of = |id: &str| Condition::matches(key("source.topic_id"), id.to_owned());
    let and = |others: Vec<Condition>| Condition::from(Filter::must(there.iter().cloned().chain(others)));
    let not_before = timestamp_ms
        .map(|at| Condition::range(key("source.timestamp_ms"), Range { gte: Some(at as f64), ..Range::default() }));
    let Some(id) = topic_id else { return not_before.map(|timely| and(vec![later, timely])).into_iter().collect() };
    let later_there = match leader_epoch {
        None => later.clone(),
        Some(epoch) => {
            let name = key("source.leader_epoch");
            let (same, unknown) = (Condition::matches(name.clone(), i64::from(*epoch)), Condition::is_empty(name));
            let under_it = Filter::must([Filter::should([same, unknown]).into(), later.clone()]);
            Filter::should([beyond("source.leader_epoch", f64::from(*epoch)), under_it.into()]).into()
        }
    };
    let same = and(vec![of(id), later_there]);
    let unnamed = not_before.map(|timely| and(vec![later, Condition::is_empty(key("source.topic_id")), timely]));
    let succeeded = successor.as_ref().map(|id| Filter::must([topic, of(id)]).into());
    [same].into_iter().chain(unnamed).chain(succeeded).collect()
}

/// The stored record is of the same request as this write. Without a source to compare: it is not newer.
pub(super) fn is_mine(record: &Record) -> Vec<Condition> {
    let Some(origin) = &record.source else { return not_newer(&record.stamp()) };
    let Origin { position, request, topic_id, leader_epoch, timestamp_ms, successor: _ } = origin;
    let [id, epoch, time] = ["source.topic_id", "source.leader_epoch", "source.timestamp_ms"].map(key);
    vec![
        Condition::matches(key("source.topic"), position.topic.to_string()),
        Condition::matches(key("source.partition"), i64::from(position.partition)),
        Condition::matches(key("source.offset"), position.offset),
        match request {
            0 => Condition::is_empty(key("source.request")),
            index => Condition::matches(key("source.request"), i64::try_from(*index).unwrap_or(i64::MAX)),
        },
        match topic_id {
            Some(is) => Condition::matches(id, is.to_string()),
            None => Condition::is_empty(id),
        },
        match leader_epoch {
            Some(is) => Condition::matches(epoch, i64::from(*is)),
            None => Condition::is_empty(epoch),
        },
        match timestamp_ms {
            Some(at) => Condition::matches(time, *at),
            None => Condition::is_empty(time),
        },
    ]
}

/// The stored record differs from that of this write, as far as conditions can compare: there is something to do.
pub(super) fn unwritten(record: &Record) -> Vec<Condition> {
    if record.source.is_none() {
        return Vec::new();
    }
    let at = Condition::matches(key("indexed_at"), record.indexed_at.clone());
    let written = is_mine(record).into_iter().chain(unclaimed()).chain([at]);
    vec![Filter::must_not([Filter::must(written).into()]).into()]
}

/// The point is claimed by this change.
pub(super) fn claimed(change: &Change<'_>) -> Condition {
    Condition::matches(key("claim"), change.claim())
}

/// No other change has claimed the point.
pub(super) fn claimable(change: &Change<'_>) -> Condition {
    Filter::should(unclaimed().into_iter().chain([claimed(change)])).into()
}

pub(super) fn unclaimed() -> Vec<Condition> {
    vec![Condition::is_empty(key("claim"))]
}

/// Points claimed by another attempt, of this write or of another one.
pub(super) fn claimed_by_others(changes: &[Change<'_>]) -> Filter {
    let ids: Vec<_> = changes.iter().map(|change| convert::id(change.id)).collect();
    let free = changes.iter().take(1).map(claimed).chain(unclaimed());
    Filter { must_not: free.collect(), ..Filter::must([Condition::has_id(ids)]) }
}

/// The claim may have changed these vectors: it lists them, or lists nothing.
pub(super) fn may_have_changed(modality: Modality) -> Condition {
    let name = key("claimed_vectors");
    let said = Condition::matches(name.clone(), modality.as_str().to_owned());
    Filter::should([said, Condition::is_empty(name)]).into()
}

/// The stored point has the vectors that the change keeps: it is not a tombstone and has their hashes.
pub(super) fn keeps(change: &Change<'_>) -> Vec<Condition> {
    if change.kept.is_empty() {
        return Vec::new();
    }
    let hash = |modality: &Modality| match modality {
        Modality::Image => change.record.media.as_ref().map(|media| ("media.sha256", media.sha256.clone())),
        Modality::Text => change.record.text_sha256.clone().map(|hash| ("text_sha256", hash)),
    };
    let hashes = change.kept.iter().filter_map(hash).map(|(name, hash)| Condition::matches(key(name), hash));
    [Condition::is_empty(key("deleted_at"))].into_iter().chain(hashes).collect()
}

/// The record is still `found`. `None` if it has values that no condition can compare.
pub(super) fn unchanged(found: &Payload) -> Option<Vec<Condition>> {
    let condition = |path: &&str| {
        let name = key(path);
        let value = match path.split_once('.') {
            None => found.get(*path),
            Some((outer, inner)) => found.get(outer).and_then(|value| value.get(inner)),
        };
        match value {
            None | Some(Value::Null) => Some(Condition::is_empty(name)),
            Some(Value::String(text)) => Some(Condition::matches(name, text.clone())),
            Some(Value::Number(number)) => Some(Condition::matches(name, number.as_i64()?)),
            Some(_) => None,
        }
    };
    COMPARED.iter().map(condition).collect()
}

fn key(name: &str) -> String {
    format!("{RESERVED_KEY}.{name}")
}

/// Qdrant's ranges are floats, which cannot tell all integers above 2^53 apart. Returns a bound that includes
/// `version`, and the larger versions that it also includes (some thousands at most); those are matched exactly.
fn float_bound(version: u64) -> (f64, Vec<i64>) {
    let nearest = version as f64;
    let bound = if (nearest as u64) < version { nearest.next_up() } else { nearest };
    let larger = version.saturating_add(1)..;
    let within = larger.map_while(|larger| i64::try_from(larger).ok().filter(|_| larger as f64 <= bound));
    (bound, within.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_has_an_exact_bound() {
        for version in [0, 1, 1 << 40, (1 << 53) - 2] {
            assert_eq!(float_bound(version), (version as f64, Vec::new()));
        }
        let exact = |version: u64, other: u64| {
            let (bound, beyond) = float_bound(version);
            let within = |indexed: bool| {
                let below = if indexed { other as i64 <= bound as i64 } else { other as f64 <= bound };
                below && !beyond.contains(&(other as i64))
            };
            assert_eq!(
                (within(true), within(false)),
                (other <= version, other <= version),
                "{other} against {version}"
            );
        };
        // 2^53 and its neighbours, today's time in nanoseconds, and the maximum.
        for middle in [1 << 53, (1 << 53) + 1, 1_764_000_000_123_456_789, i64::MAX as u64 - 3000] {
            for step in 0..2100 {
                exact(middle, middle + step);
                exact(middle + step, middle);
            }
        }
        assert!(float_bound(i64::MAX as u64).1.is_empty());
    }
}
