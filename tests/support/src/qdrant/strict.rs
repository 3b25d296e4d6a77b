//! Strict mode: what a collection's own limits refuse, and what the server checks before it looks for points. By Qdrant's
//! lib/collection/src/operations/verification/{mod,update,local_shard,count}.rs, src/common/{update,validate_vectors}.rs,
//! lib/collection/src/common/collection_size_stats.rs and lib/common/common/src/rate_limiting.rs, of 1.18.3.
//!
//! Kept as there: limits are checked operation by operation, so those before it in a batch have happened; sizes are a cache
//! that is refreshed with every 32nd check; a limit is reached, not exceeded; deletes are never limited by size; an update
//! filter of an upsert needs no index. Of a rate limit the cost is the number of points named.

use std::collections::HashMap;

use qdrant_client::qdrant as proto;
use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_update_operation::Operation;
use qdrant_client::qdrant::{StrictModeConfig, vector, vectors, vectors_config};
use tonic::Status;

use super::engine::Collection;
use super::status::{self, absent, wrong_input};

/// Refuses what the endpoint would otherwise ignore.
#[allow(deprecated)]
pub fn supported(config: &StrictModeConfig) -> Result<(), Status> {
    absent(&config.multivector_config, "limits of multi vectors")?;
    absent(&config.sparse_config, "limits of sparse vectors")?;
    absent(&config.max_resident_memory_percent, "limits of resident memory")
}

/// `diff` over `config`: what is not given stays.
pub fn merged(config: Option<StrictModeConfig>, diff: StrictModeConfig) -> StrictModeConfig {
    let mut config = config.unwrap_or_default();
    macro_rules! take {
        ($($field:ident)*) => {$(
            if diff.$field.is_some() {
                config.$field = diff.$field;
            }
        )*};
    }
    take! {
        enabled max_query_limit max_timeout unindexed_filtering_retrieve unindexed_filtering_update search_max_hnsw_ef
        search_allow_exact search_max_oversampling upsert_max_batchsize search_max_batchsize
        max_collection_vector_size_bytes read_rate_limit write_rate_limit max_collection_payload_size_bytes
        filter_max_conditions condition_max_size max_points_count max_payload_index_count
    }
    config
}

/// Everything that stands before an operation of an update.
pub fn check_update(collection: &Collection, operation: &Operation, timeout: Option<u64>) -> Result<(), Status> {
    let definition = collection.definition();
    if let Some(config) = definition.strict_mode_config.as_ref().filter(|config| config.enabled == Some(true)) {
        check_limits(collection, config, operation)?;
        check_timeout(config, timeout)?;
    }
    if let Operation::Upsert(upsert) = operation {
        upsert.points.iter().filter_map(|point| point.vectors.clone()).try_for_each(|v| dimensions(&definition, v))?;
    }
    if let Some(config) = definition.strict_mode_config.filter(|config| config.enabled == Some(true)) {
        collection.usage.spend("Write", config.write_rate_limit, points_named(operation))?;
    }
    collection.usage.wrote(operation);
    Ok(())
}

pub fn check_index(collection: &Collection) -> Result<(), Status> {
    let Some(config) = enabled(collection) else { return Ok(()) };
    let count = collection.shard.info().payload_schema.len() as u64;
    match config.max_payload_index_count.filter(|max| count >= *max) {
        Some(max) => Err(status::too_many_indexes(max)),
        None => Ok(()),
    }
}

/// What stands before a read.
pub struct Read<'a> {
    pub limit: Option<u64>,
    pub filter: Option<&'a proto::Filter>,
    pub exact: bool,
    pub points: usize,
    pub timeout: Option<u64>,
}

pub fn check_read(collection: &Collection, read: Read<'_>) -> Result<(), Status> {
    let Some(config) = enabled(collection) else { return Ok(()) };
    at_most(read.limit, config.max_query_limit.map(u64::from), "limit")?;
    if let Some(filter) = read.filter {
        check_filter(collection, &config, filter, config.unindexed_filtering_retrieve)?;
    }
    if read.exact && config.search_allow_exact == Some(false) {
        return Err(status::exact_search_disabled());
    }
    check_timeout(&config, read.timeout)?;
    collection.usage.spend("Read", config.read_rate_limit, read.points.max(1))
}

fn enabled(collection: &Collection) -> Option<StrictModeConfig> {
    collection.definition().strict_mode_config.filter(|config| config.enabled == Some(true))
}

fn check_limits(collection: &Collection, config: &StrictModeConfig, operation: &Operation) -> Result<(), Status> {
    match operation {
        Operation::Upsert(upsert) => {
            at_most(Some(upsert.points.len() as u64), config.upsert_max_batchsize, "upsert limit")?;
            check_sizes(collection, config, true)
        }
        Operation::UpdateVectors(update) => {
            at_most(Some(update.points.len() as u64), config.upsert_max_batchsize, "update limit")?;
            check_sizes(collection, config, true)
        }
        Operation::SetPayload(set) => {
            check_sizes(collection, config, false)?;
            check_selector(collection, config, set.points_selector.as_ref())
        }
        Operation::OverwritePayload(set) => {
            check_sizes(collection, config, false)?;
            check_selector(collection, config, set.points_selector.as_ref())
        }
        Operation::DeletePayload(delete) => check_selector(collection, config, delete.points_selector.as_ref()),
        Operation::DeleteVectors(delete) => check_selector(collection, config, delete.points_selector.as_ref()),
        Operation::DeletePoints(delete) => check_selector(collection, config, delete.points.as_ref()),
        Operation::ClearPayload(clear) => check_selector(collection, config, clear.points.as_ref()),
        #[allow(deprecated)]
        Operation::DeleteDeprecated(points) | Operation::ClearPayloadDeprecated(points) => {
            check_selector(collection, config, Some(points))
        }
    }
}

/// `all`: of an operation that adds points or vectors; else only the payload counts.
fn check_sizes(collection: &Collection, config: &StrictModeConfig, all: bool) -> Result<(), Status> {
    let (points_max, vectors_max) = match all {
        true => (config.max_points_count, config.max_collection_vector_size_bytes),
        false => (None, None),
    };
    let payload_max = config.max_collection_payload_size_bytes;
    if (points_max, vectors_max, payload_max) == (None, None, None) {
        return Ok(());
    }
    let (points, payload_bytes) = collection.usage.estimate(|| collection.shard.info().points_count as u64);
    let vector_bytes = points * sizes(&collection.definition()).values().map(|size| size * 4).sum::<u64>();
    if let Some(max) = vectors_max.filter(|max| vector_bytes >= *max) {
        return Err(status::vectors_limit(max));
    }
    if let Some(max) = payload_max.filter(|max| payload_bytes >= *max) {
        return Err(status::payload_limit(max));
    }
    match points_max.filter(|max| points >= *max) {
        Some(max) => Err(status::points_limit(max)),
        None => Ok(()),
    }
}

fn check_selector(
    collection: &Collection,
    config: &StrictModeConfig,
    selector: Option<&proto::PointsSelector>,
) -> Result<(), Status> {
    match selector.and_then(|selector| selector.points_selector_one_of.as_ref()) {
        Some(PointsSelectorOneOf::Filter(filter)) => {
            check_filter(collection, config, filter, config.unindexed_filtering_update)
        }
        _ => Ok(()),
    }
}

fn check_filter(
    collection: &Collection,
    config: &StrictModeConfig,
    filter: &proto::Filter,
    unindexed: Option<bool>,
) -> Result<(), Status> {
    if unindexed == Some(false) {
        let schema = collection.shard.info().payload_schema;
        let indexed: Vec<String> = schema.keys().map(ToString::to_string).collect();
        let keys = fold(filter, Vec::new(), &mut |mut keys, condition| {
            if let ConditionOneOf::Field(field) = condition {
                keys.push((field.key.clone(), types_for(field)));
            }
            keys
        });
        if let Some((key, types)) = keys.into_iter().find(|(key, _)| !indexed.contains(key)) {
            return Err(status::index_required(&key, types));
        }
    }
    let conditions = fold(filter, 0, &mut |count, _| count + 1);
    if let Some(max) = config.filter_max_conditions.filter(|max| conditions > *max) {
        return Err(status::too_many_conditions(conditions, max));
    }
    let largest = fold(filter, 0, &mut |largest: u64, condition| largest.max(size_of(condition)));
    match config.condition_max_size.filter(|max| largest > *max) {
        Some(max) => Err(status::condition_too_large(largest, max)),
        None => Ok(()),
    }
}

/// Over every condition that is no filter itself.
fn fold<T>(filter: &proto::Filter, start: T, each: &mut impl FnMut(T, &ConditionOneOf) -> T) -> T {
    let min_should = filter.min_should.iter().flat_map(|min_should| &min_should.conditions);
    let all = filter.should.iter().chain(min_should).chain(&filter.must).chain(&filter.must_not);
    all.filter_map(|condition| condition.condition_one_of.as_ref()).fold(start, |so_far, condition| match condition {
        ConditionOneOf::Filter(inner) => fold(inner, so_far, each),
        ConditionOneOf::Nested(nested) => match &nested.filter {
            Some(inner) => fold(inner, so_far, each),
            None => so_far,
        },
        other => each(so_far, other),
    })
}

fn size_of(condition: &ConditionOneOf) -> u64 {
    match condition {
        ConditionOneOf::HasId(has_id) => has_id.has_id.len() as u64,
        ConditionOneOf::Field(field) => match field.r#match.as_ref().and_then(|m| m.match_value.as_ref()) {
            Some(MatchValue::Keywords(words) | MatchValue::ExceptKeywords(words)) => words.strings.len() as u64,
            Some(MatchValue::Integers(numbers) | MatchValue::ExceptIntegers(numbers)) => numbers.integers.len() as u64,
            _ => 0,
        },
        _ => 0,
    }
}

/// Which indexes would do, roughly: the client only shows them.
fn types_for(field: &proto::FieldCondition) -> &'static str {
    match field.r#match.as_ref().and_then(|m| m.match_value.as_ref()) {
        Some(MatchValue::Keyword(_) | MatchValue::Keywords(_) | MatchValue::ExceptKeywords(_)) => "keyword, uuid",
        Some(MatchValue::Boolean(_)) => "bool",
        Some(MatchValue::Integer(_) | MatchValue::Integers(_) | MatchValue::ExceptIntegers(_)) => "integer",
        Some(_) => "text",
        None => "float, integer",
    }
}

fn check_timeout(config: &StrictModeConfig, timeout: Option<u64>) -> Result<(), Status> {
    at_most(timeout, config.max_timeout.map(u64::from), "timeout")
}

fn at_most(value: Option<u64>, limit: Option<u64>, name: &str) -> Result<(), Status> {
    match (value, limit) {
        (Some(value), Some(limit)) if value > limit => Err(status::limit_exceeded(name, value, limit)),
        _ => Ok(()),
    }
}

/// Dimensions by vector name.
fn sizes(definition: &proto::CreateCollection) -> HashMap<String, u64> {
    match definition.vectors_config.as_ref().and_then(|config| config.config.as_ref()) {
        Some(vectors_config::Config::Params(params)) => HashMap::from([(String::new(), params.size)]),
        Some(vectors_config::Config::ParamsMap(map)) => {
            map.map.iter().map(|(name, params)| (name.clone(), params.size)).collect()
        }
        None => HashMap::new(),
    }
}

/// The server looks at all vectors of an upsert before it looks for the points. Names that it does not know are left to the
/// engine.
fn dimensions(definition: &proto::CreateCollection, given: proto::Vectors) -> Result<(), Status> {
    let sizes = sizes(definition);
    let named = match given.vectors_options {
        Some(vectors::VectorsOptions::Vectors(named)) => named.vectors,
        Some(vectors::VectorsOptions::Vector(vector)) => HashMap::from([(String::new(), vector)]),
        None => HashMap::new(),
    };
    for (name, vector) in named {
        let found = match vector.vector {
            Some(vector::Vector::Dense(dense)) => dense.data.len() as u64,
            // Older clients.
            #[allow(deprecated)]
            None => vector.data.len() as u64,
            Some(_) => continue,
        };
        if let Some(expected) = sizes.get(&name).filter(|expected| **expected != found) {
            return Err(wrong_input(format_args!("Vector dimension error: expected dim: {expected}, got {found}")));
        }
    }
    Ok(())
}

fn points_named(operation: &Operation) -> usize {
    let of = |selector: &Option<proto::PointsSelector>| match selector
        .as_ref()
        .and_then(|selector| selector.points_selector_one_of.as_ref())
    {
        Some(PointsSelectorOneOf::Points(list)) => list.ids.len(),
        _ => 1,
    };
    match operation {
        Operation::Upsert(upsert) => upsert.points.len(),
        Operation::UpdateVectors(update) => update.points.len(),
        Operation::SetPayload(set) => of(&set.points_selector),
        Operation::OverwritePayload(set) => of(&set.points_selector),
        Operation::DeletePayload(delete) => of(&delete.points_selector),
        Operation::DeleteVectors(delete) => of(&delete.points_selector),
        Operation::DeletePoints(delete) => of(&delete.points),
        Operation::ClearPayload(clear) => of(&clear.points),
        #[allow(deprecated)]
        Operation::DeleteDeprecated(points) | Operation::ClearPayloadDeprecated(points) => of(&Some(points.clone())),
    }
    .max(1)
}
