//! Reads records. They decide what is stale and what has been written, so a lagging replica must not answer alone.

use std::collections::{HashMap, HashSet};

use qdrant_client::QdrantError;
use qdrant_client::qdrant::{
    GetPointsBuilder, GetResponse, PayloadIncludeSelector, ReadConsistencyType, RetrievedPoint, read_consistency,
};

use super::client::Client;
use super::{QdrantStore, convert, error};
use crate::domain::{Payload, PointId, RESERVED_KEY, StoreReason};
use crate::store::StoreError;

/// A record counts if most replicas of its shard agree on it: by default a write needs one confirmation
/// (`write_consistency_factor` is 1), and a read asks one replica.
///
/// Replicas known to be dead serve no reads, but `Majority` counts them, and Qdrant refuses it while one is dead.
/// `Quorum` then needs most of all replicas to be alive and to agree. If too few are alive, any living replica must do.
const CONSISTENCIES: [ReadConsistencyType; 2] = [ReadConsistencyType::Majority, ReadConsistencyType::Quorum];

impl QdrantStore {
    /// Halves the request when it exceeds the collection's rate limit.
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
    // Missing here are points that do not exist and points without a majority, such as two replicas that differ. Those
    // are read from one replica, which may be old. Then a write is repeated because it seems not applied, or a stale
    // message seems fresh until the condition of its write decides.
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
