//! Which points, which payload keys, which vectors; and how to search.

use qdrant_client::qdrant as proto;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::{with_payload_selector, with_vectors_selector};
use qdrant_edge::external::ordered_float::OrderedFloat;
use qdrant_edge::{
    AcornSearchParams, Filter, PayloadSelector, PayloadSelectorExclude, PayloadSelectorInclude, PointId,
    QuantizationSearchParams, SearchParams, WithPayloadInterface, WithVector,
};
use tonic::Status;

use super::filter::filter_in;
use super::{ids_in, paths_in};
use crate::qdrant::status::absent;

/// The points that an update is for.
pub enum Points {
    Ids(Vec<PointId>),
    Matching(Filter),
}

impl Points {
    /// As the engine's operations take it: exactly one of the two.
    pub fn split(self) -> (Option<Vec<PointId>>, Option<Filter>) {
        match self {
            Self::Ids(ids) => (Some(ids), None),
            Self::Matching(filter) => (None, Some(filter)),
        }
    }
}

pub fn points_in(selector: Option<proto::PointsSelector>) -> Result<Points, Status> {
    match selector.and_then(|selector| selector.points_selector_one_of) {
        Some(PointsSelectorOneOf::Points(list)) => Ok(Points::Ids(ids_in(list.ids)?)),
        Some(PointsSelectorOneOf::Filter(filter)) => Ok(Points::Matching(filter_in(filter)?)),
        None => Err(Status::invalid_argument("PointSelector is missing")),
    }
}

/// Over gRPC no selector means no payload.
pub fn payload_selector_in(selector: Option<proto::WithPayloadSelector>) -> Result<WithPayloadInterface, Status> {
    use with_payload_selector::SelectorOptions;
    Ok(match selector.map(|selector| selector.selector_options) {
        None => WithPayloadInterface::Bool(false),
        Some(None) => return Err(Status::invalid_argument("No PayloadSelector")),
        Some(Some(SelectorOptions::Enable(enable))) => WithPayloadInterface::Bool(enable),
        Some(Some(SelectorOptions::Include(include))) => WithPayloadInterface::Selector(PayloadSelector::Include(
            PayloadSelectorInclude::new(paths_in(include.fields)?),
        )),
        Some(Some(SelectorOptions::Exclude(exclude))) => WithPayloadInterface::Selector(PayloadSelector::Exclude(
            PayloadSelectorExclude::new(paths_in(exclude.fields)?),
        )),
    })
}

/// Over gRPC no selector means no vectors.
pub fn vectors_selector_in(selector: Option<proto::WithVectorsSelector>) -> WithVector {
    use with_vectors_selector::SelectorOptions;
    match selector.and_then(|selector| selector.selector_options) {
        None => WithVector::Bool(false),
        Some(SelectorOptions::Enable(enable)) => WithVector::Bool(enable),
        Some(SelectorOptions::Include(include)) => WithVector::Selector(include.names),
    }
}

pub fn search_params_in(params: Option<proto::SearchParams>) -> Result<Option<SearchParams>, Status> {
    let Some(proto::SearchParams { hnsw_ef, exact, quantization, indexed_only, acorn, idf }) = params else {
        return Ok(None);
    };
    absent(&idf, "the search parameter `idf`")?;
    let hnsw_ef = hnsw_ef
        .map(|ef| usize::try_from(ef).map_err(|_| Status::invalid_argument(format!("hnsw_ef {ef} is too large"))))
        .transpose()?;
    Ok(Some(SearchParams {
        hnsw_ef,
        exact: exact.unwrap_or_default(),
        quantization: quantization.map(|params| QuantizationSearchParams {
            ignore: params.ignore.unwrap_or_default(),
            rescore: params.rescore,
            oversampling: params.oversampling,
        }),
        indexed_only: indexed_only.unwrap_or_default(),
        acorn: acorn.map(|params| AcornSearchParams {
            enable: params.enable.unwrap_or_default(),
            max_selectivity: params.max_selectivity.map(OrderedFloat),
        }),
    }))
}
