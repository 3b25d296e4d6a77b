//! Points whose payload index does not match them. Conditions on an indexed field are tested against its index, so a write to such a
//! point is skipped every time, although the stored point allows it.
//!
//! Seen in Qdrant's engine after the server was killed: the index on `clipstream.version` had no version of one point in 7,617, or
//! one that the point never kept. Qdrant indexes a field again when a write sets it, not when one sets its neighbour
//! (`is_affected_by_value_set` in its `lib/segment/src/json_path`), so the whole record is set as it is.

use qdrant_client::qdrant::{Condition, CountPointsBuilder, PointsUpdateOperation};
use serde_json::Value;

use super::client::Client;
use super::{QdrantStore, condition, operations, ordering};
use crate::domain::{Guard, Payload, PointId, RESERVED_KEY, Reason, Recorded, Write};
use crate::store::StoreError;

impl QdrantStore {
    /// Checks writes that were not applied although nothing newer was stored (`found`). If the server's filters do not
    /// find the stored record, the point is indexed again, so that the next attempt passes. An error here is only
    /// logged: that attempt fails with it, too.
    pub(super) async fn index_anew(&self, client: &Client, collection: &str, unmade: &[(&Write, &Recorded)]) {
        for (write, found) in unmade {
            if let Err(error) = self.index_one_anew(client, collection, write, found).await {
                tracing::debug!(collection, reason = error.reason.as_str(), "an index is not compared: {error}");
            }
        }
    }

    async fn index_one_anew(
        &self,
        client: &Client,
        collection: &str,
        write: &Write,
        found: &Recorded,
    ) -> Result<(), StoreError> {
        let id = write.id();
        let Some(record) = self.record_of(client, collection, id).await? else { return Ok(()) };
        // Else another writer came in between, as it may below.
        let Some(conditions) = condition::unchanged(&record).filter(|_| Recorded::read(&record) == *found) else {
            return Ok(());
        };
        let all = [conditions.clone(), condition::not_newer(&write.record().stamp())].concat();
        if self.is_found(client, collection, id, all).await? {
            return Ok(());
        }
        // What the filters do find must hold when the record is set: nearly all fields have no index, and are read from the point.
        let mut holds = Vec::with_capacity(conditions.len());
        for one in conditions {
            if self.is_found(client, collection, id, vec![one.clone()]).await? {
                holds.push(one);
            }
        }
        if self.record_of(client, collection, id).await?.as_ref() != Some(&record) {
            return Ok(());
        }
        tracing::warn!(
            collection,
            point = %id,
            "Qdrant's payload index is out of step with a point: filters do not find the version or source that it has; it is indexed anew"
        );
        let doing = format!("index a point of collection {collection} anew");
        let set = || vec![set_again(id, record.clone(), holds.clone())];
        self.update(client, collection, set, ordering(Guard::Strict), &doing).await
    }

    async fn record_of(&self, client: &Client, collection: &str, id: PointId) -> Result<Option<Payload>, StoreError> {
        Ok(self.read_records(client, collection, &[id]).await?.pop().map(|(_, record)| record))
    }

    async fn is_found(
        &self,
        client: &Client,
        collection: &str,
        id: PointId,
        conditions: Vec<Condition>,
    ) -> Result<bool, StoreError> {
        let doing = format!("compare a point of collection {collection} with its index");
        let count = CountPointsBuilder::new(collection).filter(condition::each(vec![(id, conditions)])).exact(true);
        let count = client.count(count).await.map_err(|error| self.failed_for_all(error, &doing))?;
        Ok(count.result.is_some_and(|result| result.count > 0))
    }
}

/// Sets every key of the record that may have an index; null removes one that is not there.
fn set_again(id: PointId, record: Payload, holds: Vec<Condition>) -> PointsUpdateOperation {
    let absent =
        condition::COMPARED.into_iter().filter(|path| !path.contains('.')).map(|key| (key.to_owned(), Value::Null));
    let payload: Payload = absent.chain(record).collect();
    let set = operations::merge(payload, Some(RESERVED_KEY), id, Some(holds));
    PointsUpdateOperation { operation: Some(set) }
}
