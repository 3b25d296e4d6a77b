//! Reading records: they decide what is stale and what has been written, so a replica that lags behind must not tell them.

use std::collections::{HashMap, HashSet};

use qdrant_client::QdrantError;
use qdrant_client::qdrant::{
    GetPointsBuilder, GetResponse, PayloadIncludeSelector, ReadConsistencyType, RetrievedPoint, read_consistency,
};

use super::client::Client;
use super::{QdrantStore, convert, error};
use crate::domain::{Payload, PointId, RESERVED_KEY, StoreReason};
use crate::store::StoreError;

/// What most replicas of a shard agree on counts: one that confirms is enough for a write (`write_consistency_factor` is 1 by
/// default), and by default one is asked.
///
/// A replica that the cluster knows to be dead serves no reads, but it counts for the first of these, and Qdrant refuses that
/// while it is dead. Then most of all have to be alive and to agree; and where too few are for that, who is alive has to do.
const CONSISTENCIES: [ReadConsistencyType; 2] = [ReadConsistencyType::Majority, ReadConsistencyType::Quorum];

impl QdrantStore {
    /// As many at a time as the collection's rate limit allows.
    pub(super) async fn read_records(
        &self,
        client: &Client,
        collection: &str,
        ids: &[PointId],
    ) -> Result<Vec<(PointId, Payload)>, StoreError> {
        let doing = format!("read records of collection {collection}");
        let mut records = Vec::with_capacity(ids.len());
        let mut open = vec![ids];
        while let Some(ids) = open.pop().filter(|ids| !ids.is_empty()) {
            match read(client, collection, ids).await.map_err(|error| self.failed_for_all(error, &doing)) {
                Ok(points) => {
                    records.extend(points.into_iter().map(convert::record).collect::<Result<Vec<_>, _>>()?);
                }
                Err(error) if error.reason == StoreReason::Limited && ids.len() > 1 => {
                    let (some, others) = ids.split_at(ids.len() / 2);
                    open.extend([others, some]);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }
}

async fn read(client: &Client, collection: &str, ids: &[PointId]) -> Result<Vec<RetrievedPoint>, QdrantError> {
    let mut points = agreed(client, collection, ids).await?.result;
    // Left out is what does not exist, and what has no majority: two replicas that differ have none. What one of them has may
    // be old. Then a write seems not to have taken place and is repeated, or a message to be fresh, which the condition of its
    // write decides.
    let found: HashSet<_> = points.iter().filter_map(|point| point.id.clone()).collect();
    let out: Vec<_> = ids.iter().copied().filter(|id| !found.contains(&convert::id(*id))).collect();
    if !out.is_empty() {
        points.extend(get(client, collection, &out, None).await?.result);
    }
    Ok(points)
}

async fn agreed(client: &Client, collection: &str, ids: &[PointId]) -> Result<GetResponse, QdrantError> {
    for consistency in CONSISTENCIES {
        match get(client, collection, ids, Some(consistency)).await {
            Err(error) if error::lacks_replicas(&error) => {}
            answer => return answer,
        }
    }
    get(client, collection, ids, None).await
}

/// The records among `points`.
pub(super) fn by_id(points: Vec<RetrievedPoint>) -> Result<HashMap<PointId, Payload>, StoreError> {
    points.into_iter().map(convert::record).collect()
}

pub(super) async fn get(
    client: &Client,
    collection: &str,
    ids: &[PointId],
    consistency: Option<ReadConsistencyType>,
) -> Result<GetResponse, QdrantError> {
    let ids: Vec<_> = ids.iter().copied().map(convert::id).collect();
    let mut request = GetPointsBuilder::new(collection, ids)
        .with_payload(PayloadIncludeSelector { fields: vec![RESERVED_KEY.to_owned()] })
        .with_vectors(false);
    if let Some(consistency) = consistency {
        request = request.read_consistency(read_consistency::Value::Type(consistency.into()));
    }
    client.get_points(request).await
}
