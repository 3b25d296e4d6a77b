//! Points whose payload index does not match them. Conditions are tested against indexes, so a write to such a point is
//! skipped every time, although the stored point allows it.
//!
//! Seen in Qdrant's engine after the server was killed: the index on `clipstream.version` had lost the version of one
//! point in 7,617. Any change below the record's key makes Qdrant index the point again.

use qdrant_client::qdrant::{Condition, CountPointsBuilder, Filter};

use super::client::Client;
use super::{QdrantStore, condition, convert, operations, ordering};
use crate::domain::{Guard, Reason, Recorded, Write};
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
        let (id, doing) = (write.id(), format!("compare a point of collection {collection} with its index"));
        let allowed = condition::each(vec![(id, condition::not_newer(&write.record().stamp()))]);
        let count = CountPointsBuilder::new(collection).filter(allowed).exact(true);
        let count = client.count(count).await.map_err(|error| self.failed_for_all(error, &doing))?;
        if count.result.is_none_or(|result| result.count > 0) {
            return Ok(());
        }
        // Unless another writer came in between.
        let now = self.read_records(client, collection, &[id]).await?;
        if !now.iter().any(|(_, record)| Recorded::read(record) == *found) {
            return Ok(());
        }
        tracing::warn!(
            collection,
            point = %id,
            "Qdrant's payload index is out of step with a point: filters do not find the version or source that it has; it is indexed anew"
        );
        let point = Filter::must([Condition::has_id([convert::id(id)])]);
        let touch = || vec![operations::touch(point.clone())];
        self.update(client, collection, touch, ordering(Guard::Strict), &doing).await
    }
}
