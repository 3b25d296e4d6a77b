//! A Qdrant server over gRPC. Needs Qdrant 1.17 or newer: patches use insert-only upserts (`update_mode`), and the
//! fingerprint is kept in the collection's metadata.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use qdrant_client::QdrantError;
use qdrant_client::qdrant::{
    CountPointsBuilder, PointsUpdateOperation, QueryPointsBuilder, ScrollPointsBuilder, UpdateBatchPointsBuilder,
    WriteOrdering, WriteOrderingType,
};
use serde_json::Value;
use url::{Host, Url};

use super::batch::Batch;
use super::guard::{looks, outcome};
use super::{
    CollectionSpec, Hit, Query, Store, StoreError, StoredPoint, Written, filter, not_tombstones, of_tenants,
    tombstones_before,
};
use crate::config::StoreSettings;
use crate::domain::{AssetId, Class, Fingerprint, Guard, Payload, PointId, Reason, Recorded, StoreReason, Write};

mod blame;
mod client;
mod condition;
mod convert;
mod error;
mod index;
mod nodes;
mod operations;
mod records;
mod setup;
mod single;
mod target;
mod verify;
mod wordings;

use client::Client;
use single::{Plan, Single};
use verify::Known;

/// When a connection breaks or a request times out, the client reconnects and sends the request once more. In a cluster
/// it also tries the other nodes. Nothing else is retried here. Every write may be repeated safely.
pub struct QdrantStore {
    /// `None` after close.
    client: RwLock<Option<Client>>,
    /// Redacted, for messages.
    url: String,
    /// The collections that [`Store::ensure`] was called for.
    known: Known,
}

impl QdrantStore {
    /// Prepares the client. The server is contacted by the first call, so this succeeds while it is down.
    ///
    /// # Errors
    /// `store_url_invalid`, or `store_settings_invalid` for `store.ca_file` and `store.api_key`.
    pub fn connect(settings: &StoreSettings) -> Result<Self, StoreError> {
        let client = Client::new(settings)?;
        let url = client.urls().collect::<Vec<_>>().join(", ");
        if settings.api_key.is_some() && settings.urls().any(is_open) {
            tracing::warn!(url, "store.api_key is sent without TLS, for everybody on the way to read: use https");
        }
        Ok(Self { client: RwLock::new(Some(client)), url, known: Known::default() })
    }

    /// A client for one call or a sequence of calls, on the shared connections.
    fn client(&self) -> Result<Client, StoreError> {
        let client = self.client.read().unwrap_or_else(PoisonError::into_inner);
        client.as_ref().map(Client::begin).ok_or_else(StoreError::closed)
    }

    /// Writes one batch.
    async fn apply(
        &self,
        client: &Client,
        collection: &str,
        writes: &[Write],
        guard: Guard,
    ) -> Result<Vec<Written>, StoreError> {
        let batch = Batch::new(writes, guard)?;
        let Plan { singles, stale } = self.plan(client, collection, &batch.changes, guard).await?;
        let done = self.apply_singles(client, collection, batch, guard, (&singles, &stale)).await?;
        let is_known = |write: &Write| stale.contains(&write.id()) || done.contains(&write.id());
        // Conditional writes may not have been applied.
        let open = |write: &Write| looks(write, guard) && !is_known(write);
        let ids: Vec<PointId> = writes.iter().filter(|write| open(write)).map(Write::id).collect();
        let records = self.read_records(client, collection, &ids).await?;
        let stored: HashMap<_, _> = records.into_iter().map(|(id, record)| (id, Recorded::read(&record))).collect();
        let fate = |write: &Write| match open(write) {
            true => outcome(write, stored.get(&write.id()), guard),
            false if stale.contains(&write.id()) => Written::Stale,
            false => Written::Applied,
        };
        let written: Vec<_> = writes.iter().map(fate).collect();
        if guard == Guard::Strict {
            let unmade = writes.iter().zip(&written).filter(|(_, written)| **written == Written::Conflict);
            let unmade: Vec<_> = unmade.filter_map(|(write, _)| Some((write, stored.get(&write.id())?))).collect();
            self.index_anew(client, collection, &unmade).await;
        }
        Ok(written)
    }

    /// Applies `batch` but for what is stale: `singles` by one operation each, the rest in steps, and then in steps what one
    /// operation did not do. Says which of `singles` need no steps.
    async fn apply_singles(
        &self,
        client: &Client,
        collection: &str,
        mut batch: Batch<'_>,
        guard: Guard,
        (singles, stale): (&[Single<'_>], &HashSet<PointId>),
    ) -> Result<HashSet<PointId>, StoreError> {
        batch.changes.retain(|change| !stale.contains(&change.id));
        if singles.is_empty() {
            return self.steps(client, collection, batch, guard).await.map(|()| HashSet::new());
        }
        let all = batch.clone();
        let of_one: HashSet<PointId> = singles.iter().map(Single::id).collect();
        batch.changes.retain(|change| !of_one.contains(&change.id));
        let steps = Mutex::new(batch);
        let operations = || {
            let mut batch = steps.lock().unwrap_or_else(PoisonError::into_inner);
            batch.resend();
            let mut operations = operations::of(&batch, guard);
            operations.extend(single::operations(singles));
            operations
        };
        let doing = format!("write {} points to collection {collection}", all.len());
        match self.update(client, collection, operations, ordering(guard), &doing).await {
            Ok(()) => {}
            // A limit, or a point in it. Steps are what is known to be good, and are blamed.
            Err(error) if single::is_for_steps(&error) => {
                if single::lacks_index(&error) {
                    self.known.note_lacking_indexes(collection);
                }
                return self.steps(client, collection, all, guard).await.map(|()| HashSet::new());
            }
            Err(error) => return Err(error),
        }
        let done = self.confirm(client, collection, singles).await?;
        let undone = singles.iter().filter(|single| !done.contains(&single.id())).map(|single| single.change);
        let rest = Batch { changes: undone.collect(), ..Batch::default() };
        self.steps(client, collection, rest, guard).await?;
        Ok(done)
    }

    /// Applies `batch` in steps.
    async fn steps(&self, client: &Client, collection: &str, batch: Batch<'_>, guard: Guard) -> Result<(), StoreError> {
        if batch.len() == 0 {
            return Ok(());
        }
        let doing = format!("write {} points to collection {collection}", batch.len());
        let batch = Mutex::new(batch);
        let locked = || batch.lock().unwrap_or_else(PoisonError::into_inner);
        let operations = || {
            let mut batch = locked();
            batch.resend();
            operations::of(&batch, guard)
        };
        let Err(error) = self.update(client, collection, operations, ordering(guard), &doing).await else {
            return Ok(());
        };
        let withdrawal = operations::withdrawal(&locked(), guard).filter(|_| error.class == Class::Permanent);
        if let Some(withdrawal) = withdrawal
            && let Err(also) =
                self.update(client, collection, || vec![withdrawal.clone()], ordering(guard), &doing).await
        {
            // Harmless: the next write of the point breaks the claim and removes the hashes that it affects.
            tracing::debug!(collection, reason = also.reason.as_str(), "a claim stays behind: {also}");
        }
        Err(error)
    }

    /// `operations` is called for each attempt.
    async fn update(
        &self,
        client: &Client,
        collection: &str,
        operations: impl Fn() -> Vec<PointsUpdateOperation>,
        ordering: WriteOrderingType,
        doing: &str,
    ) -> Result<(), StoreError> {
        // Reads may have taken long since the last look.
        self.verify(client, collection).await?;
        let target = self.known.target(collection);
        let sent = AtomicUsize::new(0);
        let request = || {
            let operations = operations();
            sent.store(operations.len(), Ordering::Relaxed);
            let request = UpdateBatchPointsBuilder::new(&target, operations).wait(true);
            request.ordering(WriteOrdering { r#type: ordering.into() }).build()
        };
        let response = match client.update_points_batch(request).await {
            Ok(response) => response,
            Err(e) => {
                let error = self.failed(e, doing);
                if error.reason == StoreReason::CollectionMissing {
                    self.known.doubt(collection);
                    // Says what is in its place, or makes the alias again for the next attempt.
                    self.verify(client, collection).await?;
                }
                return Err(error);
            }
        };
        let expected = sent.into_inner();
        if response.result.len() != expected {
            let message = format!(
                "Qdrant at {}, {doing}: found {} results, expected {expected}",
                self.url,
                response.result.len()
            );
            return Err(StoreError::new(StoreReason::UpdateIncomplete, message));
        }
        response.result.iter().try_for_each(|result| error::check_completed(result.status, &self.url, doing))
    }

    async fn count_matching(&self, collection: &str, filter: &Value) -> Result<u64, StoreError> {
        let doing = format!("count points of collection {collection}");
        let request = CountPointsBuilder::new(collection).filter(filter::parse(filter)?).exact(true);
        let response = self.client()?.count(request).await.map_err(|e| self.failed_for_all(e, &doing))?;
        response.result.map(|result| result.count).ok_or_else(|| {
            let message = format!("Qdrant at {}, {doing}: found no result, expected a count", self.url);
            StoreError::new(StoreReason::AnswerInvalid, message)
        })
    }

    fn failed(&self, error: QdrantError, doing: &str) -> StoreError {
        error::from_client(error, &self.url, doing)
    }

    /// For calls without any message's content: a refusal concerns all messages.
    fn failed_for_all(&self, error: QdrantError, doing: &str) -> StoreError {
        match self.failed(error, doing) {
            rejected if rejected.class == Class::Permanent => error::refused_to_all(rejected),
            error => error,
        }
    }
}

fn ordering(guard: Guard) -> WriteOrderingType {
    match guard {
        // With a weaker ordering, each replica could apply the writes in its own order.
        Guard::Strict => WriteOrderingType::Strong,
        Guard::Off | Guard::Check => WriteOrderingType::Weak,
    }
}

/// Whether data sent to `url` crosses a network without TLS.
fn is_open(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let is_local = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "http" && !is_local
}

#[async_trait]
impl Store for QdrantStore {
    async fn ensure(&self, spec: &CollectionSpec) -> Result<(), StoreError> {
        self.ensure_collection(spec).await
    }

    async fn fingerprint(&self, collection: &str) -> Result<Option<Fingerprint>, StoreError> {
        self.read_fingerprint(collection).await
    }

    async fn ensure_alias(&self, alias: &str, collection: &str) -> Result<String, StoreError> {
        self.create_alias_if_free(alias, collection).await
    }

    async fn write(&self, collection: &str, writes: &[Write], guard: Guard) -> Result<Vec<Written>, StoreError> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        // Rejects batches that no server would accept, without a request.
        Batch::new(writes, guard)?;
        let client = self.client()?;
        self.verify(&client, collection).await?;
        let mut written = Vec::with_capacity(writes.len());
        let mut open = vec![writes];
        while let Some(writes) = open.pop() {
            match self.apply(&client, collection, writes, guard).await {
                Ok(some) => written.extend(some),
                // The batch costs more than the collection's rate limit ever allows at once.
                Err(error) if error.reason == StoreReason::Limited && writes.len() > 1 => {
                    let (some, others) = writes.split_at(writes.len() / 2);
                    open.extend([others, some]);
                }
                Err(error) if error.class == Class::Permanent => {
                    written.extend(self.blamed(&client, collection, writes, guard, error).await?);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    async fn records(&self, collection: &str, ids: &[PointId]) -> Result<Vec<(PointId, Payload)>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let client = self.client()?;
        self.verify(&client, collection).await?;
        self.read_records(&client, collection, ids).await
    }

    async fn search(&self, collection: &str, query: &Query) -> Result<Vec<Hit>, StoreError> {
        let mut request = QueryPointsBuilder::new(collection)
            .query(query.vector.as_slice().to_vec())
            .using(query.modality.as_str())
            .limit(query.limit as u64)
            .with_payload(true);
        if let Some(json) = &query.filter {
            request = request.filter(filter::parse(json)?);
        }
        let doing = format!("search collection {collection}");
        let response = self.client()?.query(request).await.map_err(|e| self.failed(e, &doing))?;
        response.result.into_iter().map(convert::hit).collect()
    }

    async fn scroll(
        &self,
        collection: &str,
        after: Option<PointId>,
        limit: usize,
    ) -> Result<Vec<StoredPoint>, StoreError> {
        let Some(from) = super::scroll_start(after) else { return Ok(Vec::new()) };
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let mut request = ScrollPointsBuilder::new(collection).limit(limit).with_payload(true).with_vectors(true);
        if let Some(from) = from {
            request = request.offset(convert::id(from));
        }
        let doing = format!("scroll collection {collection}");
        let response = self.client()?.scroll(request).await.map_err(|e| self.failed_for_all(e, &doing))?;
        response.result.into_iter().map(convert::stored).collect()
    }

    async fn count(&self, collection: &str) -> Result<u64, StoreError> {
        self.count_matching(collection, &not_tombstones()).await
    }

    async fn count_of_tenants(&self, collection: &str, asset: &AssetId) -> Result<u64, StoreError> {
        self.count_matching(collection, &of_tenants(asset)).await
    }

    async fn purge_tombstones(&self, collection: &str, before: DateTime<Utc>) -> Result<u64, StoreError> {
        let client = self.client()?;
        self.verify(&client, collection).await?;
        let old = tombstones_before(before);
        let found = self.count_matching(collection, &old).await?;
        if found > 0 {
            let doing = format!("purge tombstones of collection {collection}");
            let operation = operations::delete_matching(filter::parse(&old)?);
            let operations = || vec![operation.clone()];
            self.update(&client, collection, operations, WriteOrderingType::Strong, &doing).await?;
        }
        Ok(found)
    }

    async fn check(&self) -> Result<String, StoreError> {
        let found = self.versions().await?;
        let shown = found.into_iter().map(|(url, version)| match version {
            Ok(version) => format!("Qdrant {version} at {url}"),
            Err(error) => format!("{url} is away ({})", error.message),
        });
        Ok(shown.collect::<Vec<_>>().join(", "))
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.client.write().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }
}
