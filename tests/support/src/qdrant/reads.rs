//! Reads: what they ask of the engine.

use qdrant_client::qdrant as proto;
use qdrant_client::qdrant::{query, vector_input};
use qdrant_edge::external::ordered_float::OrderedFloat;
use qdrant_edge::{CountRequest, NamedQuery, QueryEnum, QueryRequest, ScoringQuery, ScrollRequest, VectorInternal};
use tonic::Status;

use super::convert::filter::optional_filter_in;
use super::convert::point::{record_out, scored_out};
use super::convert::selector::{payload_selector_in, search_params_in, vectors_selector_in};
use super::convert::{id_in, id_out, ids_in};
use super::engine::Engine;
use super::operations::single_shard;
use super::status::{absent, from_engine, unsupported};
use super::strict::{self, Read};

pub fn get(engine: &Engine, request: proto::GetPoints) -> Result<Vec<proto::RetrievedPoint>, Status> {
    single_shard(&request.shard_key_selector)?;
    let ids = ids_in(request.ids)?;
    let with_payload = payload_selector_in(request.with_payload)?;
    let with_vectors = vectors_selector_in(request.with_vectors);
    let collection = engine.collection(&request.collection_name)?;
    let read = Read { limit: None, filter: None, exact: false, points: ids.len(), timeout: request.timeout };
    strict::check_read(&collection, read)?;
    let records = collection.shard.retrieve(&ids, Some(with_payload), Some(with_vectors)).map_err(from_engine)?;
    records.into_iter().map(record_out).collect()
}

/// The page, and where the next one starts.
pub fn scroll(
    engine: &Engine,
    request: proto::ScrollPoints,
) -> Result<(Vec<proto::RetrievedPoint>, Option<proto::PointId>), Status> {
    single_shard(&request.shard_key_selector)?;
    absent(&request.order_by, "scrolling in the order of a payload key")?;
    if request.limit == Some(0) {
        return Err(Status::invalid_argument(
            "Validation error in body: [limit: value 0 invalid, must be 1 or larger]",
        ));
    }
    let collection = engine.collection(&request.collection_name)?;
    let read = Read {
        limit: request.limit.map(u64::from),
        filter: request.filter.as_ref(),
        exact: false,
        points: 1,
        timeout: request.timeout,
    };
    strict::check_read(&collection, read)?;
    let scroll = ScrollRequest {
        offset: request.offset.map(|id| id_in(Some(id))).transpose()?,
        limit: request.limit.map(|limit| limit as usize),
        filter: optional_filter_in(request.filter)?,
        with_payload: Some(payload_selector_in(request.with_payload)?),
        with_vector: vectors_selector_in(request.with_vectors),
        order_by: None,
    };
    let (records, next) = collection.shard.scroll(scroll).map_err(from_engine)?;
    Ok((records.into_iter().map(record_out).collect::<Result<_, _>>()?, next.map(id_out)))
}

pub fn count(engine: &Engine, request: proto::CountPoints) -> Result<u64, Status> {
    single_shard(&request.shard_key_selector)?;
    let collection = engine.collection(&request.collection_name)?;
    let exact = request.exact.unwrap_or(true);
    let filter = request.filter.as_ref();
    strict::check_read(&collection, Read { limit: None, filter, exact, points: 1, timeout: request.timeout })?;
    let count = CountRequest { filter: optional_filter_in(request.filter)?, exact };
    collection.shard.count(count).map(|count| count as u64).map_err(from_engine)
}

pub fn query(engine: &Engine, request: proto::QueryPoints) -> Result<Vec<proto::ScoredPoint>, Status> {
    single_shard(&request.shard_key_selector)?;
    absent(&request.lookup_from, "looking up the query elsewhere")?;
    if !request.prefetch.is_empty() {
        return Err(unsupported("prefetch"));
    }
    let collection = engine.collection(&request.collection_name)?;
    let exact = request.params.as_ref().is_some_and(|params| params.exact.unwrap_or_default());
    let (limit, filter) = (Some(request.limit.unwrap_or(10)), request.filter.as_ref());
    strict::check_read(&collection, Read { limit, filter, exact, points: 1, timeout: request.timeout })?;
    let scoring = request.query.map(|query| nearest(query, request.using)).transpose()?;
    let query = QueryRequest {
        prefetches: Vec::new(),
        query: scoring,
        filter: optional_filter_in(request.filter)?,
        score_threshold: request.score_threshold.map(OrderedFloat),
        limit: size(request.limit.unwrap_or(10))?,
        offset: size(request.offset.unwrap_or_default())?,
        params: search_params_in(request.params)?,
        with_vector: vectors_selector_in(request.with_vectors),
        with_payload: payload_selector_in(request.with_payload)?,
    };
    run_query(engine, &request.collection_name, query)
}

fn nearest(query: proto::Query, using: Option<String>) -> Result<ScoringQuery, Status> {
    let input = match query.variant {
        Some(query::Variant::Nearest(input)) => input.variant,
        Some(_) => return Err(unsupported("queries other than `nearest`")),
        None => None,
    };
    match input {
        Some(vector_input::Variant::Dense(dense)) => Ok(nearest_dense(dense.data, using)),
        Some(vector_input::Variant::Id(_)) => Err(unsupported("queries by point id")),
        Some(vector_input::Variant::Sparse(_) | vector_input::Variant::MultiDense(_)) => {
            Err(unsupported("sparse and multi vectors"))
        }
        Some(_) => Err(unsupported("inference")),
        None => Err(Status::invalid_argument("Query variant is missing")),
    }
}

fn nearest_dense(vector: Vec<f32>, using: Option<String>) -> ScoringQuery {
    ScoringQuery::Vector(QueryEnum::Nearest(NamedQuery { query: VectorInternal::Dense(vector), using }))
}

/// The older form of [`query`].
pub fn search(engine: &Engine, request: proto::SearchPoints) -> Result<Vec<proto::ScoredPoint>, Status> {
    single_shard(&request.shard_key_selector)?;
    absent(&request.sparse_indices, "sparse and multi vectors")?;
    let query = QueryRequest {
        prefetches: Vec::new(),
        query: Some(nearest_dense(request.vector, request.vector_name)),
        filter: optional_filter_in(request.filter)?,
        score_threshold: request.score_threshold.map(OrderedFloat),
        limit: size(request.limit)?,
        offset: size(request.offset.unwrap_or_default())?,
        params: search_params_in(request.params)?,
        with_vector: vectors_selector_in(request.with_vectors),
        with_payload: payload_selector_in(request.with_payload)?,
    };
    run_query(engine, &request.collection_name, query)
}

/// The engine takes `offset` into account but leaves skipping to its caller, as within a cluster.
fn run_query(engine: &Engine, collection: &str, query: QueryRequest) -> Result<Vec<proto::ScoredPoint>, Status> {
    let QueryRequest { limit, offset, .. } = query;
    let query = QueryRequest { limit: limit.saturating_add(offset), offset: 0, ..query };
    let collection = engine.collection(collection)?;
    let points = collection.shard.query(query).map_err(from_engine)?;
    points.into_iter().skip(offset).take(limit).map(scored_out).collect()
}

fn size(value: u64) -> Result<usize, Status> {
    usize::try_from(value).map_err(|_| Status::invalid_argument(format!("{value} is too large")))
}
