//! Points whose payload index is out of step with them. Conditions are tested against indexes, so that a write to such a point is
//! passed over again and again, although what is stored allows it.
//!
//! Seen in Qdrant's engine after the server was killed: of one point in 7,617 the index on `clipstream.version` had lost the version.
//! Any change below the record's key has the point indexed anew.

use qdrant_client::qdrant::{Condition, CountPointsBuilder, Filter};

use super::client::Client;
use super::{QdrantStore, condition, convert, operations, ordering};
use crate::domain::{Guard, Reason, Recorded, Write};
use crate::store::StoreError;

impl QdrantStore {
    /// Looks at writes that were not made although nothing newer was stored (`found`). Where the server's filters do not find what
    /// it shows, it is made to index the point anew, so that the next attempt passes. What fails here fails again in that attempt, and
    /// is told there.
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
        // Not if somebody has written in between.
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
