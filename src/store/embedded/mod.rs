//! Qdrant's engine in this process (`qdrant-edge`): the same collections, filters and scores, no server.
//!
//! One folder per collection below `store.path`, plus `store.json` (fingerprints, aliases) and `store.lock`: one
//! process at a time. Calls run on the blocking thread pool; a collection has one writer at a time, and searches run
//! beside it. A write is on disk (synced) when it returns.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use qdrant_edge as edge;
use serde_json::Value;

use super::{
    CollectionSpec, Hit, Query, Store, StoreError, StoredPoint, Written, fingerprint_differences, not_tombstones,
    of_tenants, tombstones_before,
};
use crate::domain::{AssetId, Fingerprint, Guard, Payload, PointId, StoreReason, Write};
use crate::redact;

mod catalog;
mod collection;
mod convert;
mod disk_budget;

use catalog::{Catalog, Entry};
use collection::Collection;
use disk_budget::DiskBudget;

/// Of `qdrant-edge`, which does not export it; a test compares.
const VERSION: &str = "0.7.2";
/// Longest collection name, because it is also a folder name.
const NAME_BYTES_MAX: usize = 200;

pub struct EmbeddedStore {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    disk: Arc<DiskBudget>,
    state: Mutex<State>,
}

struct State {
    /// `None` after close.
    lock: Option<File>,
    catalog: Catalog,
    /// Loaded collections; others are loaded on first use.
    open: HashMap<String, Arc<Collection>>,
}

impl EmbeddedStore {
    /// Opens the store in the folder `path`, and creates the folder if needed. Fails if another process uses it. Writes that
    /// would leave less than `disk_free_bytes_min` of free disk space are outages.
    pub async fn open(path: &Path, disk_free_bytes_min: u64) -> Result<Self, StoreError> {
        let path = path.to_owned();
        blocking(move || {
            let lock = catalog::lock(&path)?;
            let catalog = Catalog::read(&path)?;
            let state = Mutex::new(State { lock: Some(lock), catalog, open: HashMap::new() });
            let disk = Arc::new(DiskBudget::new(&path, disk_free_bytes_min));
            Ok(Self { inner: Arc::new(Inner { path, disk, state }) })
        })
        .await
    }

    /// Runs `call` with the collection `name` (a name or an alias) on a blocking thread.
    async fn with<T: Send + 'static>(
        &self,
        name: &str,
        call: impl FnOnce(&Collection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        blocking(move || call(&*inner.collection(&name)?)).await
    }

    async fn count_matching(&self, collection: &str, filter: &Value) -> Result<u64, StoreError> {
        let request = edge::CountRequest { filter: Some(convert::read_filter(filter)?), exact: true };
        let count = self.with(collection, move |collection| collection.read(|shard| shard.count(request))).await?;
        Ok(count as u64)
    }
}

/// Runs `call` on the blocking thread pool. A panic of the engine becomes an outage.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(call).await {
        Ok(outcome) => outcome,
        Err(e) => {
            let why = match e.try_into_panic() {
                Ok(panic) => panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                    .unwrap_or_else(|| "no message".to_owned()),
                Err(e) => e.to_string(),
            };
            let message = format!("the embedded engine panicked: {}", redact::cut(&why, 300));
            Err(StoreError::new(StoreReason::Panicked, message))
        }
    }
}

impl Inner {
    fn state(&self) -> Result<std::sync::MutexGuard<'_, State>, StoreError> {
        // The state is changed last and in one step, so a panic leaves it consistent.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.lock.is_none() { Err(StoreError::closed()) } else { Ok(state) }
    }

    fn collection(&self, name: &str) -> Result<Arc<Collection>, StoreError> {
        let mut state = self.state()?;
        let name = state.catalog.resolve(name)?.to_owned();
        if let Some(collection) = state.open.get(&name) {
            return Ok(Arc::clone(collection));
        }
        let collection = Arc::new(Collection::load(&name, &self.folder(&name), &self.disk)?);
        state.open.insert(name, Arc::clone(&collection));
        Ok(collection)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.path.join("collections").join(name)
    }

    fn ensure(&self, spec: &CollectionSpec) -> Result<(), StoreError> {
        check_name(&spec.name)?;
        {
            let mut state = self.state()?;
            match state.catalog.collections.get(&spec.name) {
                Some(entry) => {
                    let differences = fingerprint_differences(&spec.fingerprint, Some(&entry.fingerprint));
                    if !differences.is_empty() {
                        return Err(StoreError::collection_differs(&spec.name, &differences));
                    }
                }
                None => {
                    if let Some(target) = state.catalog.aliases.get(&spec.name) {
                        let message = format!(
                            "{} is an alias of {target}; expected a free name for a new collection (store.collection_template)",
                            spec.name
                        );
                        return Err(StoreError::new(StoreReason::CollectionNameTaken, message));
                    }
                    let folder = self.folder(&spec.name);
                    let collection =
                        Collection::create(&spec.name, &folder, &self.disk, &spec.fingerprint, &spec.definition)?;
                    let parent = self.path.join("collections");
                    catalog::sync_folder(&parent).map_err(|e| catalog::unusable(&parent, "sync", &e))?;
                    let mut catalog = state.catalog.clone();
                    catalog.collections.insert(spec.name.clone(), Entry { fingerprint: spec.fingerprint.clone() });
                    catalog.write(&self.path)?;
                    state.catalog = catalog;
                    state.open.insert(spec.name.clone(), Arc::new(collection));
                }
            }
        }
        self.collection(&spec.name)?.ensure_indexes(&spec.definition)
    }

    fn ensure_alias(&self, alias: &str, collection: &str) -> Result<String, StoreError> {
        check_name(alias)?;
        let mut state = self.state()?;
        if state.catalog.collections.contains_key(alias) {
            return Ok(alias.to_owned());
        }
        if let Some(target) = state.catalog.aliases.get(alias) {
            return Ok(target.clone());
        }
        let target = state.catalog.resolve(collection)?.to_owned();
        let mut catalog = state.catalog.clone();
        catalog.aliases.insert(alias.to_owned(), target.clone());
        catalog.write(&self.path)?;
        state.catalog = catalog;
        Ok(target)
    }

    fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, collection) in state.open.drain() {
            collection.close();
        }
        // Last, because then the next process may open the files.
        state.lock = None;
    }
}

/// A collection's name is its folder's name, on every system.
fn check_name(name: &str) -> Result<(), StoreError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.starts_with('.') && name.chars().all(allowed) {
        return Ok(());
    }
    let message = format!(
        "collection name {:?}; expected 1 to {NAME_BYTES_MAX} of A-Z, a-z, 0-9, `-`, `_` and `.`, not starting with `.` (store.catalog, store.collection_template)",
        redact::cut(name, 100)
    );
    Err(StoreError::new(StoreReason::CollectionNameInvalid, message))
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn ensure(&self, spec: &CollectionSpec) -> Result<(), StoreError> {
        let (inner, spec) = (Arc::clone(&self.inner), spec.clone());
        blocking(move || inner.ensure(&spec)).await
    }

    async fn fingerprint(&self, collection: &str) -> Result<Option<Fingerprint>, StoreError> {
        let (inner, collection) = (Arc::clone(&self.inner), collection.to_owned());
        blocking(move || {
            let state = inner.state()?;
            let name = state.catalog.resolve(&collection)?;
            Ok(state.catalog.collections.get(name).map(|entry| entry.fingerprint.clone()))
        })
        .await
    }

    async fn ensure_alias(&self, alias: &str, collection: &str) -> Result<String, StoreError> {
        let (inner, alias, collection) = (Arc::clone(&self.inner), alias.to_owned(), collection.to_owned());
        blocking(move || inner.ensure_alias(&alias, &collection)).await
    }

    async fn write(&self, collection: &str, writes: &[Write], guard: Guard) -> Result<Vec<Written>, StoreError> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let writes = writes.to_vec();
        self.with(collection, move |collection| collection.write(&writes, guard)).await
    }

    async fn records(&self, collection: &str, ids: &[PointId]) -> Result<Vec<(PointId, Payload)>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids = ids.to_vec();
        let found = self.with(collection, move |collection| collection.records(&ids)).await?;
        found.into_iter().map(convert::record).collect()
    }

    async fn search(&self, collection: &str, query: &Query) -> Result<Vec<Hit>, StoreError> {
        let request = convert::search(query)?;
        let hits = self.with(collection, move |collection| collection.read(|shard| shard.search(request))).await?;
        hits.into_iter().map(convert::hit).collect()
    }

    async fn scroll(
        &self,
        collection: &str,
        after: Option<PointId>,
        limit: usize,
    ) -> Result<Vec<StoredPoint>, StoreError> {
        let Some(from) = super::scroll_start(after) else { return Ok(Vec::new()) };
        let request = edge::ScrollRequest {
            offset: from.map(convert::id),
            limit: Some(limit),
            filter: None,
            with_payload: Some(edge::WithPayloadInterface::Bool(true)),
            with_vector: edge::WithVector::Bool(true),
            order_by: None,
        };
        let (points, _) =
            self.with(collection, move |collection| collection.read(|shard| shard.scroll(request))).await?;
        points.into_iter().map(convert::stored).collect()
    }

    async fn count(&self, collection: &str) -> Result<u64, StoreError> {
        self.count_matching(collection, &not_tombstones()).await
    }

    async fn count_of_tenants(&self, collection: &str, asset: &AssetId) -> Result<u64, StoreError> {
        self.count_matching(collection, &of_tenants(asset)).await
    }

    async fn purge_tombstones(&self, collection: &str, before: DateTime<Utc>) -> Result<u64, StoreError> {
        let old = convert::read_filter(&tombstones_before(before))?;
        self.with(collection, move |collection| collection.purge_tombstones(old)).await
    }

    async fn check(&self) -> Result<String, StoreError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let collections = inner.state()?.catalog.collections.len();
            Ok(format!(
                "embedded Qdrant engine (qdrant-edge {VERSION}) in {}, collections: {collections}",
                inner.path.display()
            ))
        })
        .await
    }

    async fn close(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            inner.close();
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_shown_is_the_one_that_is_built() {
        let manifest: toml::Table = include_str!("../../../Cargo.toml").parse().unwrap();
        let required = manifest["dependencies"]["qdrant-edge"]["version"].as_str().unwrap();
        assert_eq!(required, format!("={}", super::VERSION));
    }
}
