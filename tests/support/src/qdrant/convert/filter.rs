//! Filters.

use chrono::DateTime;
use qdrant_client::qdrant as proto;
use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_edge::external::ordered_float::OrderedFloat;
use qdrant_edge::{
    Condition, DateTimeWrapper, FieldCondition, Filter, HasVectorCondition, Match, MatchExcept, MatchPhrase, MatchText,
    MatchTextAny, MinShould, Range, RangeInterface, ValuesCount,
};
use tonic::Status;

use super::{id_in, path_in};
use crate::qdrant::status::{absent, unsupported};

pub fn optional_filter_in(filter: Option<proto::Filter>) -> Result<Option<Filter>, Status> {
    filter.map(filter_in).transpose()
}

pub fn filter_in(filter: proto::Filter) -> Result<Filter, Status> {
    let proto::Filter { should, must, must_not, min_should } = filter;
    let min_should = match min_should {
        Some(proto::MinShould { conditions, min_count }) => Some(MinShould {
            conditions: conditions.into_iter().map(condition_in).collect::<Result<_, _>>()?,
            min_count: count_in(min_count)?,
        }),
        None => None,
    };
    Ok(Filter {
        should: conditions_in(should)?,
        min_should,
        must: conditions_in(must)?,
        must_not: conditions_in(must_not)?,
    })
}

/// The protocol cannot tell "no clause" from an empty one; Qdrant takes both as "no clause".
fn conditions_in(conditions: Vec<proto::Condition>) -> Result<Option<Vec<Condition>>, Status> {
    if conditions.is_empty() {
        return Ok(None);
    }
    conditions.into_iter().map(condition_in).collect::<Result<_, _>>().map(Some)
}

fn condition_in(condition: proto::Condition) -> Result<Condition, Status> {
    let condition = condition.condition_one_of.ok_or_else(|| Status::invalid_argument("Malformed Condition type"))?;
    Ok(match condition {
        ConditionOneOf::Field(field) => Condition::Field(field_in(field)?),
        ConditionOneOf::IsEmpty(condition) => Condition::IsEmpty(path_in(&condition.key)?.into()),
        ConditionOneOf::IsNull(condition) => Condition::IsNull(path_in(&condition.key)?.into()),
        ConditionOneOf::HasId(condition) => Condition::HasId(
            condition
                .has_id
                .into_iter()
                .map(|id| id_in(Some(id)))
                .collect::<Result<Vec<_>, _>>()?
                .into_iter()
                .collect(),
        ),
        ConditionOneOf::HasVector(condition) => {
            Condition::HasVector(HasVectorCondition { has_vector: condition.has_vector })
        }
        ConditionOneOf::Nested(nested) => {
            let filter =
                nested.filter.ok_or_else(|| Status::invalid_argument("Nested condition must have a filter"))?;
            Condition::new_nested(path_in(&nested.key)?, filter_in(filter)?)
        }
        ConditionOneOf::Filter(filter) => Condition::Filter(filter_in(filter)?),
        ConditionOneOf::Slice(_) => return Err(unsupported("slice conditions")),
    })
}

fn field_in(condition: proto::FieldCondition) -> Result<FieldCondition, Status> {
    let proto::FieldCondition {
        key,
        r#match,
        range,
        geo_bounding_box,
        geo_radius,
        values_count,
        geo_polygon,
        datetime_range,
        is_empty,
        is_null,
    } = condition;
    absent(&geo_bounding_box, "geo conditions")?;
    absent(&geo_radius, "geo conditions")?;
    absent(&geo_polygon, "geo conditions")?;
    let range = match (range, datetime_range) {
        (Some(_), Some(_)) => {
            return Err(Status::invalid_argument("a condition with both a range and a datetime range"));
        }
        (Some(range), None) => Some(range_in(range)),
        (None, Some(range)) => Some(datetime_range_in(range)?),
        (None, None) => None,
    };
    let field = FieldCondition {
        key: path_in(&key)?,
        r#match: r#match.map(match_in).transpose()?,
        range,
        geo_bounding_box: None,
        geo_radius: None,
        geo_polygon: None,
        values_count: values_count.map(values_count_in).transpose()?,
        is_empty,
        is_null,
    };
    if field.r#match.is_none()
        && field.range.is_none()
        && field.values_count.is_none()
        && is_empty.is_none()
        && is_null.is_none()
    {
        return Err(Status::invalid_argument("At least one field condition must be specified"));
    }
    Ok(field)
}

fn match_in(condition: proto::Match) -> Result<Match, Status> {
    let value = condition.match_value.ok_or_else(|| Status::invalid_argument("Malformed Match condition"))?;
    Ok(match value {
        MatchValue::Keyword(keyword) => keyword.into(),
        MatchValue::Integer(integer) => integer.into(),
        MatchValue::Boolean(flag) => flag.into(),
        MatchValue::Keywords(keywords) => keywords.strings.into(),
        MatchValue::Integers(integers) => integers.integers.into(),
        MatchValue::ExceptKeywords(keywords) => Match::Except(MatchExcept::from(keywords.strings)),
        MatchValue::ExceptIntegers(integers) => Match::Except(MatchExcept::from(integers.integers)),
        MatchValue::Text(text) => Match::Text(MatchText { text }),
        MatchValue::TextAny(text_any) => Match::TextAny(MatchTextAny { text_any }),
        MatchValue::Phrase(phrase) => Match::Phrase(MatchPhrase { phrase }),
        MatchValue::Prefix(_) => return Err(unsupported("prefix matches")),
        MatchValue::Substring(_) => return Err(unsupported("substring matches")),
    })
}

fn range_in(range: proto::Range) -> RangeInterface {
    let proto::Range { lt, gt, gte, lte } = range;
    RangeInterface::Float(Range {
        lt: lt.map(OrderedFloat),
        gt: gt.map(OrderedFloat),
        gte: gte.map(OrderedFloat),
        lte: lte.map(OrderedFloat),
    })
}

fn datetime_range_in(range: proto::DatetimeRange) -> Result<RangeInterface, Status> {
    // A macro, because the protocol's timestamp type has no name here: the client does not export its crate.
    macro_rules! bound {
        ($bound:expr) => {
            match $bound {
                None => None,
                Some(time) => Some(
                    u32::try_from(time.nanos)
                        .ok()
                        .and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos))
                        .map(DateTimeWrapper)
                        .ok_or_else(|| {
                            Status::invalid_argument(format!(
                                "Unable to parse timestamp: {}s {}ns",
                                time.seconds, time.nanos
                            ))
                        })?,
                ),
            }
        };
    }
    let proto::DatetimeRange { lt, gt, gte, lte } = range;
    Ok(RangeInterface::DateTime(Range { lt: bound!(lt), gt: bound!(gt), gte: bound!(gte), lte: bound!(lte) }))
}

fn values_count_in(count: proto::ValuesCount) -> Result<ValuesCount, Status> {
    let proto::ValuesCount { lt, gt, gte, lte } = count;
    Ok(ValuesCount {
        lt: lt.map(count_in).transpose()?,
        gt: gt.map(count_in).transpose()?,
        gte: gte.map(count_in).transpose()?,
        lte: lte.map(count_in).transpose()?,
    })
}

fn count_in(count: u64) -> Result<usize, Status> {
    usize::try_from(count).map_err(|_| Status::invalid_argument(format!("{count} is too large a count")))
}
