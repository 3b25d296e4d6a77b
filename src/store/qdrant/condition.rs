//! Conditions of writes as Qdrant's filters. Qdrant tests them when it applies the operation, in the shard's own order.

use qdrant_client::qdrant::{Condition, Filter, Range};

use super::convert;
use crate::domain::{Modality, Origin, PointId, RESERVED_KEY, Record, Stamp};
use crate::store::batch::Change;

/// One filter for an operation on many points: each of them under its own conditions.
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
    let newer_position = mine.origin.as_ref().and_then(newer_position);
    let Some(version) = mine.version else {
        return newer_position.map(|newer| Filter::must_not([newer]).into()).into_iter().collect();
    };
    let (bound, beyond) = float_bound(version);
    let at_most = Condition::range(key("version"), Range { lte: Some(bound), ..Range::default() });
    let mut by_version = Filter::must([at_most]);
    if !beyond.is_empty() {
        by_version.must_not.push(Condition::matches(key("version"), beyond));
    }
    let versioned = Condition::range(key("version"), Range { gte: Some(0.0), ..Range::default() });
    let by_position = Filter::must_not([versioned].into_iter().chain(newer_position));
    vec![Filter::should([Condition::from(by_version), by_position.into()]).into()]
}

/// Later in the same partition, by offset and by time. Nothing without a time.
fn newer_position(mine: &Origin) -> Option<Condition> {
    let at = &mine.position;
    let later = Range { gt: Some(at.offset as f64), ..Range::default() };
    let not_before = Range { gte: Some(mine.timestamp_ms? as f64), ..Range::default() };
    let conditions = [
        Condition::matches(key("source.topic"), at.topic.to_string()),
        Condition::matches(key("source.partition"), i64::from(at.partition)),
        Condition::range(key("source.offset"), later),
        Condition::range(key("source.timestamp_ms"), not_before),
    ];
    Some(Filter::must(conditions).into())
}

/// The stored record is the one of this very write. Without a place to tell it by: none that is newer.
pub(super) fn is_mine(record: &Record) -> Vec<Condition> {
    let Some(Origin { position, timestamp_ms, .. }) = &record.source else { return not_newer(&record.stamp()) };
    let time = key("source.timestamp_ms");
    vec![
        Condition::matches(key("source.topic"), position.topic.to_string()),
        Condition::matches(key("source.partition"), i64::from(position.partition)),
        Condition::matches(key("source.offset"), position.offset),
        match timestamp_ms {
            Some(at) => Condition::matches(time, *at),
            None => Condition::is_empty(time),
        },
    ]
}

/// The stored point has the vectors that the change keeps: it is no tombstone, and they embed what the change says.
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

fn key(name: &str) -> String {
    format!("{RESERVED_KEY}.{name}")
}

/// Qdrant's ranges are floats, which above 2^53 do not tell every two integers apart: a bound that `version` is within,
/// and the larger versions that are within it too (at most some thousands; a match is exact).
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
        // 2^53 and its neighbours, nanoseconds of our days, and the largest.
        for middle in [1 << 53, (1 << 53) + 1, 1_764_000_000_123_456_789, i64::MAX as u64 - 3000] {
            for step in 0..2100 {
                exact(middle, middle + step);
                exact(middle + step, middle);
            }
        }
        assert!(float_bound(i64::MAX as u64).1.is_empty());
    }
}
