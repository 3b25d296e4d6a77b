//! Points that the payload index has lost, as an engine's may when its process is killed: conditions that ask an index do not find
//! them, until something below the key that the index is of is set.

use qdrant_client::qdrant as proto;
use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_update_operation::Operation;

use super::gate::Faults;

impl Faults {
    /// What an operation does while points are lost: an upsert passes over them, and a change of payload finds them again.
    pub(super) fn mislay(&self, operation: &mut Operation) {
        match operation {
            Operation::Upsert(list) if list.update_filter.is_some() => {
                list.points.retain(|point| !point.id.as_ref().is_some_and(|id| self.has_lost(id)));
            }
            Operation::SetPayload(set) if set.key.is_some() => {
                let selector = set.points_selector.as_ref().and_then(|points| points.points_selector_one_of.as_ref());
                if let Some(PointsSelectorOneOf::Filter(filter)) = selector
                    && filter.should.is_empty()
                    && filter.must_not.is_empty()
                {
                    ids(filter).for_each(|id| self.find(id));
                }
            }
            _ => {}
        }
    }

    /// Whether a filter that asks more than ids is about points that are lost.
    pub(super) fn hides(&self, filter: Option<&proto::Filter>) -> bool {
        filter.is_some_and(|filter| !filter.should.is_empty() && ids(filter).any(|id| self.has_lost(id)))
    }
}

fn ids(filter: &proto::Filter) -> impl Iterator<Item = &proto::PointId> {
    filter.must.iter().flat_map(|condition| match &condition.condition_one_of {
        Some(ConditionOneOf::HasId(has)) => has.has_id.as_slice(),
        _ => &[],
    })
}

pub(super) fn text(id: &proto::PointId) -> Option<&str> {
    match &id.point_id_options {
        Some(PointIdOptions::Uuid(text)) => Some(text),
        _ => None,
    }
}
