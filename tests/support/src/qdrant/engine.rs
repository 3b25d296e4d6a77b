//! The collections and aliases, on disk and open.
//!
//! ```text
//! <dir>/aliases.json                        {"alias": "collection"}
//! <dir>/collections/<name>/definition.pb    the `CreateCollection` message, with later changes of its metadata
//! <dir>/collections/<name>/shard/           the engine's own files
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use prost::Message;
use qdrant_client::qdrant::{CreateCollection, StrictModeConfig, Value, vectors_config};
use qdrant_edge::{EdgeShard, UpdateOperation};
use tonic::Status;

use super::convert::config::engine_config;
use super::status::{collection_exists, from_engine, internal, name_is_an_alias, no_collection, wrong_input};
use super::strict;
use super::usage::Usage;

/// How long a collection that is closed or deleted may still be in use by a call.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Engine {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    collections: HashMap<String, Arc<Collection>>,
    aliases: BTreeMap<String, String>,
    /// Whose place another has taken.
    aside: HashMap<String, Arc<Collection>>,
    closed: bool,
}

pub struct Collection {
    dir: PathBuf,
    definition: RwLock<CreateCollection>,
    /// The number of updates applied since the start, and the right to apply one.
    updates: Mutex<u64>,
    /// What strict mode has counted.
    pub usage: Usage,
    pub shard: EdgeShard,
}

impl Engine {
    /// Opens what is in `dir`, or starts empty.
    pub fn open(dir: &Path) -> Result<Self, Status> {
        let collections_dir = dir.join("collections");
        fs::create_dir_all(&collections_dir).map_err(internal)?;
        let mut state = State::default();
        for entry in fs::read_dir(&collections_dir).map_err(internal)? {
            let path = entry.map_err(internal)?.path();
            match fs::read(path.join("definition.pb")) {
                Ok(bytes) => {
                    let definition = CreateCollection::decode(bytes.as_slice()).map_err(internal)?;
                    let name = definition.collection_name.clone();
                    let shard = EdgeShard::load(&path.join("shard"), None).map_err(from_engine)?;
                    state.collections.insert(name, Arc::new(Collection::new(path, definition, shard)));
                }
                // The definition is written last and removed first: this one was being created or deleted.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    fs::remove_dir_all(&path).map_err(internal)?;
                }
                Err(error) => return Err(internal(error)),
            }
        }
        match fs::read(dir.join("aliases.json")) {
            Ok(bytes) => state.aliases = serde_json::from_slice(&bytes).map_err(internal)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(internal(error)),
        }
        Ok(Self { dir: dir.to_owned(), state: Mutex::new(state) })
    }

    /// Writes everything down and lets go of the files. Later calls are `Unavailable`.
    pub fn close(&self) {
        let collections = {
            let mut state = lock(&self.state);
            state.closed = true;
            let aside = std::mem::take(&mut state.aside);
            std::mem::take(&mut state.collections).into_values().chain(aside.into_values()).collect::<Vec<_>>()
        };
        for collection in collections {
            release(collection);
        }
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, Status> {
        let state = lock(&self.state);
        if state.closed { Err(Status::unavailable("the test endpoint is stopping")) } else { Ok(state) }
    }

    /// The collection of this name, or that this alias names.
    pub fn collection(&self, name: &str) -> Result<Arc<Collection>, Status> {
        let state = self.state()?;
        let name = state.aliases.get(name).map_or(name, String::as_str);
        state.collections.get(name).cloned().ok_or_else(|| no_collection(name))
    }

    pub fn names(&self) -> Result<Vec<String>, Status> {
        Ok(self.state()?.collections.keys().cloned().collect())
    }

    pub fn aside(&self) -> Result<Vec<String>, Status> {
        Ok(self.state()?.aside.keys().cloned().collect())
    }

    pub fn create(&self, definition: CreateCollection) -> Result<(), Status> {
        let name = definition.collection_name.clone();
        check_name(&name)?;
        let config = engine_config(&definition)?;
        let mut state = self.state()?;
        if state.collections.contains_key(&name) {
            return Err(collection_exists(&name));
        }
        if state.aliases.contains_key(&name) {
            return Err(name_is_an_alias(&name));
        }
        let dir = self.dir.join("collections").join(&name);
        let shard_dir = dir.join("shard");
        fs::create_dir_all(&shard_dir).map_err(internal)?;
        let shard = EdgeShard::new(&shard_dir, config).map_err(from_engine)?;
        let collection = Collection::new(dir, definition, shard);
        collection.save_definition()?;
        state.collections.insert(name, Arc::new(collection));
        Ok(())
    }

    /// Whether there was one to delete.
    pub fn delete(&self, name: &str) -> Result<bool, Status> {
        let collection = {
            let mut state = self.state()?;
            let Some(collection) = state.collections.remove(name) else { return Ok(false) };
            state.aliases.retain(|_, collection| collection != name);
            self.save_aliases(&state.aliases)?;
            collection
        };
        let dir = collection.dir.clone();
        fs::remove_file(dir.join("definition.pb")).map_err(internal)?;
        release(collection);
        fs::remove_dir_all(&dir).map_err(internal)?;
        Ok(true)
    }

    /// Somebody deletes the collection, and with it its aliases. It is kept aside until [`Self::put_back`].
    pub fn put_aside(&self, name: &str) -> Result<(), Status> {
        let mut state = self.state()?;
        let ours = state.collections.remove(name).ok_or_else(|| no_collection(name))?;
        state.aliases.retain(|_, collection| collection != name);
        self.save_aliases(&state.aliases)?;
        state.aside.insert(name.to_owned(), ours);
        Ok(())
    }

    /// Somebody makes a collection in the place of one that was put aside, which is not ours: with vectors of `dimension`, and
    /// without metadata.
    pub fn supplant(&self, name: &str, dimension: u64) -> Result<(), Status> {
        let mut state = self.state()?;
        let mut definition = state.aside.get(name).ok_or_else(|| no_collection(name))?.definition();
        definition.metadata.clear();
        if let Some(vectors_config::Config::ParamsMap(map)) =
            definition.vectors_config.as_mut().and_then(|config| config.config.as_mut())
        {
            map.map.values_mut().for_each(|params| params.size = dimension);
        }
        let dir = self.dir.join("supplanted").join(name);
        let shard_dir = dir.join("shard");
        fs::create_dir_all(&shard_dir).map_err(internal)?;
        let shard = EdgeShard::new(&shard_dir, engine_config(&definition)?).map_err(from_engine)?;
        state.collections.insert(name.to_owned(), Arc::new(Collection::new(dir, definition, shard)));
        Ok(())
    }

    /// Undoes the two, but for the aliases, as restoring a snapshot does; says how many points were written into what took the
    /// place.
    pub fn put_back(&self, name: &str) -> Result<usize, Status> {
        let other = {
            let mut state = self.state()?;
            let ours = state.aside.remove(name).ok_or_else(|| no_collection(name))?;
            state.collections.insert(name.to_owned(), ours)
        };
        let Some(other) = other else { return Ok(0) };
        let (points, dir) = (other.shard.info().points_count, other.dir.clone());
        release(other);
        fs::remove_dir_all(&dir).map_err(internal)?;
        Ok(points)
    }

    pub fn aliases(&self) -> Result<BTreeMap<String, String>, Status> {
        Ok(self.state()?.aliases.clone())
    }

    /// Applies `change` to the aliases, given the names of the collections: all of it or, on error, nothing.
    pub fn change_aliases(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, String>, &dyn Fn(&str) -> bool) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let mut state = self.state()?;
        let mut aliases = state.aliases.clone();
        change(&mut aliases, &|name| state.collections.contains_key(name))?;
        self.save_aliases(&aliases)?;
        state.aliases = aliases;
        Ok(())
    }

    fn save_aliases(&self, aliases: &BTreeMap<String, String>) -> Result<(), Status> {
        replace_file(&self.dir.join("aliases.json"), &serde_json::to_vec(aliases).map_err(internal)?)
    }
}

impl Collection {
    fn new(dir: PathBuf, definition: CreateCollection, shard: EdgeShard) -> Self {
        let usage = Usage::of(shard.info().points_count as u64);
        Self { dir, definition: RwLock::new(definition), updates: Mutex::new(0), usage, shard }
    }

    pub fn definition(&self) -> CreateCollection {
        self.definition.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds to the metadata and to the limits, key by key.
    pub fn merge(&self, metadata: HashMap<String, Value>, limits: Option<StrictModeConfig>) -> Result<(), Status> {
        {
            let mut definition = self.definition.write().unwrap_or_else(PoisonError::into_inner);
            definition.metadata.extend(metadata);
            if let Some(limits) = limits {
                definition.strict_mode_config = Some(strict::merged(definition.strict_mode_config.take(), limits));
            }
        }
        self.save_definition()
    }

    fn save_definition(&self) -> Result<(), Status> {
        replace_file(&self.dir.join("definition.pb"), &self.definition().encode_to_vec())
    }

    /// Applies operations in order, up to the first that fails or is refused, and writes them to disk. Returns their numbers.
    ///
    /// The engine does not replay its write-ahead log on start, so what is not flushed would be lost with the process;
    /// a Qdrant server keeps what it has answered. As there, operations of other calls may come in between.
    pub fn apply(&self, operations: impl Iterator<Item = Result<UpdateOperation, Status>>) -> Result<Vec<u64>, Status> {
        let mut applied = Vec::new();
        let mut outcome = Ok(());
        for operation in operations {
            let operation = match operation {
                Ok(operation) => operation,
                Err(refused) => {
                    outcome = Err(refused);
                    break;
                }
            };
            {
                let mut updates = lock(&self.updates);
                outcome = self.shard.update(operation).map_err(from_engine);
                if outcome.is_err() {
                    break;
                }
                *updates += 1;
                applied.push(*updates);
            }
            thread::yield_now();
        }
        // Under the lock of `updates`: the engine's flush panics when an update is under way.
        let _updates = lock(&self.updates);
        self.shard.flush();
        outcome.map(|()| applied)
    }
}

/// Waits until no call uses the collection any more, then drops it, which flushes it and frees its files.
#[expect(clippy::disallowed_methods, reason = "runs on a blocking thread, and a count of references wakes nobody")]
fn release(collection: Arc<Collection>) {
    let deadline = Instant::now() + RELEASE_TIMEOUT;
    while Arc::strong_count(&collection) > 1 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
}

/// A panic of the engine in one call must not take the others down with a poisoned lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), Status> {
    let new = path.with_extension("new");
    fs::write(&new, bytes).and_then(|()| fs::rename(&new, path)).map_err(internal)
}

/// Qdrant's rule for names, which also keeps them inside the directory.
fn check_name(name: &str) -> Result<(), Status> {
    let refused = ['<', '>', ':', '"', '/', '\\', '|', '?', '*', '\0', '\u{1f}'];
    if name.is_empty() || name.len() > 255 || name.starts_with('.') || name.contains(refused) {
        return Err(wrong_input(format_args!("collection name {name:?} is not allowed")));
    }
    Ok(())
}
