//! Checks that a collection is still the one that was ensured. Someone else may delete and recreate it at any time. The
//! new collection of that name is not ours, and nothing may be written to it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::QdrantStore;
use super::client::Client;
use crate::store::{CollectionSpec, StoreError};

/// How long a check is valid if nothing suggests a change. Documented in `docs/operations.md`.
const PERIOD: Duration = Duration::from_secs(1);

/// The ensured collections, and when each was last checked.
#[derive(Default)]
pub(super) struct Known {
    state: Mutex<HashMap<String, Collection>>,
}

struct Collection {
    spec: Arc<CollectionSpec>,
    /// What updates are sent to: an alias, or the collection's own name.
    target: String,
    /// By node: nodes may belong to different clusters, or differ in state.
    seen: HashMap<usize, Seen>,
    /// It takes no filter on fields without an index.
    lacks_indexes: bool,
}

struct Seen {
    at: Instant,
    /// Connections opened to the node at that time.
    opened: u64,
}

impl Known {
    pub fn insert(&self, spec: &CollectionSpec, target: String) {
        let collection =
            Collection { spec: Arc::new(spec.clone()), target, seen: HashMap::new(), lacks_indexes: false };
        self.state().insert(spec.name.clone(), collection);
    }

    pub fn spec(&self, collection: &str) -> Option<Arc<CollectionSpec>> {
        self.state().get(collection).map(|known| known.spec.clone())
    }

    /// What updates of `collection` are sent to: its own name if it was never ensured.
    pub fn target(&self, collection: &str) -> String {
        self.state().get(collection).map_or_else(|| collection.to_owned(), |known| known.target.clone())
    }

    fn set_target(&self, collection: &str, target: String) {
        if let Some(known) = self.state().get_mut(collection) {
            known.target = target;
        }
    }

    /// The collection may have changed: the next write checks it first.
    pub fn doubt(&self, collection: &str) {
        if let Some(known) = self.state().get_mut(collection) {
            known.seen.clear();
        }
    }

    /// It refused a filter on a field without an index.
    pub fn note_lacking_indexes(&self, collection: &str) {
        if let Some(known) = self.state().get_mut(collection) {
            known.lacks_indexes = true;
        }
    }

    fn is_fresh(&self, collection: &str, (node, opened): (usize, u64)) -> bool {
        let state = self.state();
        let seen = state.get(collection).and_then(|known| known.seen.get(&node));
        seen.is_some_and(|seen| seen.opened == opened && seen.at.elapsed() < PERIOD)
    }

    fn saw(&self, collection: &str, (node, opened): (usize, u64), at: Instant) {
        if let Some(known) = self.state().get_mut(collection) {
            known.seen.insert(node, Seen { at, opened });
        }
    }

    fn state(&self) -> MutexGuard<'_, HashMap<String, Collection>> {
        // A poisoned lock is safe to use: every change is one call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QdrantStore {
    pub(super) fn lacks_indexes(&self, collection: &str) -> bool {
        self.known.state().get(collection).is_some_and(|known| known.lacks_indexes)
    }

    /// Call before relying on the collection. Checks it if the last check is older than [`PERIOD`], after a new
    /// connection, and after [`Known::doubt`]. Skips collections that were never ensured.
    pub(super) async fn verify(&self, client: &Client, collection: &str) -> Result<(), StoreError> {
        match self.known.spec(collection) {
            Some(spec) if !self.known.is_fresh(collection, client.place()) => self.look(client, &spec).await,
            _ => Ok(()),
        }
    }

    /// Checks the collection now. It is not recreated if it is gone: that would hide that it is empty.
    pub(super) async fn look(&self, client: &Client, spec: &CollectionSpec) -> Result<(), StoreError> {
        let at = Instant::now();
        let looked = async {
            match self.known.target(&spec.name) {
                name if name == spec.name => self.check_is_ours(client, spec, &name).await,
                // An alias that is gone is created again if the collection is still ours: it may have been restored.
                _ => self.target_of(client, spec).await.map(|target| self.known.set_target(&spec.name, target)),
            }
        };
        match looked.await {
            Ok(()) => self.known.saw(&spec.name, client.place(), at),
            Err(error) => {
                self.known.doubt(&spec.name);
                return Err(error);
            }
        }
        Ok(())
    }
}
