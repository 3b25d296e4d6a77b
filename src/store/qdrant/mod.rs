//! A Qdrant server over gRPC. Needs Qdrant 1.17 or newer: patches use insert-only upserts (`update_mode`), and the
//! fingerprint is kept in the collection's metadata.

use std::sync::{PoisonError, RwLock};

use async_trait::async_trait;
use qdrant_client::QdrantError;
use qdrant_client::qdrant::{
    CountPointsBuilder, GetPointsBuilder, PayloadIncludeSelector, QueryPointsBuilder, ScrollPointsBuilder,
    UpdateBatchPointsBuilder,
};
use url::{Host, Url};

use super::batch::Batch;
use super::{CollectionSpec, Hit, Query, Store, StoreError, StoredPoint, filter};
use crate::config::StoreSettings;
use crate::domain::{Fingerprint, Payload, PointId, RESERVED_KEY, Write};
use crate::redact;

mod client;
mod convert;
mod error;
mod setup;

use client::{Client, Unusable};

/// The client reconnects and sends a request once more by itself when the connection broke or a request timed out;
/// beyond that nothing is retried here. Every write of ours may be repeated.
pub struct QdrantStore {
    /// None after close.
    client: RwLock<Option<Client>>,
    /// Redacted, for messages.
    url: String,
}

impl QdrantStore {
    /// Prepares the client. The server is contacted by the first call, so this succeeds while it is down.
    ///
    /// # Errors
    /// `store_url_invalid`, or `store_settings_invalid` for `store.ca_file` and `store.api_key`.
    pub fn connect(settings: &StoreSettings) -> Result<Self, StoreError> {
        let url = redact::url(&settings.url);
        let client = Client::new(settings).map_err(|unusable| match unusable {
            Unusable::Url(why) => error::invalid_url(&url, &why),
            Unusable::Setting(why) => StoreError::outage("store_settings_invalid", why),
        })?;
        if settings.api_key.is_some() && is_open(&settings.url) {
            tracing::warn!(url, "store.api_key is sent without TLS, for everybody on the way to read: use https");
        }
        Ok(Self { client: RwLock::new(Some(client)), url })
    }

    /// A handle on the shared connections.
    fn client(&self) -> Result<Client, StoreError> {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(StoreError::closed)
    }

    fn failed(&self, error: QdrantError, doing: &str) -> StoreError {
        error::from_client(error, &self.url, doing)
    }
}

/// Whether what is sent to `url` passes over a network without TLS.
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

    async fn write(&self, collection: &str, writes: &[Write]) -> Result<(), StoreError> {
        if writes.is_empty() {
            return Ok(());
        }
        let operations = convert::operations(&Batch::new(writes)?);
        let expected = operations.len();
        let doing = format!("write {} points to collection {collection}", writes.len());
        let request = UpdateBatchPointsBuilder::new(collection, operations).wait(true);
        let response = self.client()?.update_points_batch(request).await.map_err(|e| self.failed(e, &doing))?;
        if response.result.len() != expected {
            let message = format!(
                "Qdrant at {}, {doing}: found {} results, expected {expected}",
                self.url,
                response.result.len()
            );
            return Err(StoreError::transient("store_update_incomplete", message));
        }
        response.result.iter().try_for_each(|result| error::check_completed(result.status, &self.url, &doing))
    }

    async fn records(&self, collection: &str, ids: &[PointId]) -> Result<Vec<(PointId, Payload)>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = ids.iter().copied().map(convert::id).collect();
        let request = GetPointsBuilder::new(collection, ids)
            .with_payload(PayloadIncludeSelector { fields: vec![RESERVED_KEY.to_owned()] })
            .with_vectors(false);
        let doing = format!("read records of collection {collection}");
        let response = self.client()?.get_points(request).await.map_err(|e| self.failed(e, &doing))?;
        response.result.into_iter().map(convert::record).collect()
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
        let response = self.client()?.scroll(request).await.map_err(|e| self.failed(e, &doing))?;
        response.result.into_iter().map(convert::stored).collect()
    }

    async fn count(&self, collection: &str) -> Result<u64, StoreError> {
        let doing = format!("count points of collection {collection}");
        let request = CountPointsBuilder::new(collection).exact(true);
        let response = self.client()?.count(request).await.map_err(|e| self.failed(e, &doing))?;
        response.result.map(|result| result.count).ok_or_else(|| {
            let message = format!("Qdrant at {}, {doing}: found no result, expected a count", self.url);
            StoreError::outage("store_answer_invalid", message)
        })
    }

    async fn check(&self) -> Result<String, StoreError> {
        let reply = self.client()?.health_check().await.map_err(|e| self.failed(e, "health check"))?;
        Ok(format!("Qdrant {} at {}", reply.version, self.url))
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.client.write().unwrap_or_else(PoisonError::into_inner).take();
        Ok(())
    }
}
