//! The Qdrant that a test runs against: the server that `CLIPSTREAM_TEST_QDRANT_URL` names (with
//! `CLIPSTREAM_TEST_QDRANT_API_KEY`, where it wants one), or else the double with Qdrant's own engine.
//!
//! A server is somebody's, and outlives the test. So every name begins with a prefix that nobody else has, and whatever begins
//! with it is deleted in the end, however the test ended.

use std::path::Path;
use std::process::Command;

use qdrant_client::Qdrant;
use tempfile::TempDir;

use super::QdrantEndpoint;

const URL: &str = "CLIPSTREAM_TEST_QDRANT_URL";
const API_KEY: &str = "CLIPSTREAM_TEST_QDRANT_API_KEY";

/// Where a server is, and the key that it wants.
#[derive(Clone, Debug)]
pub struct Address {
    pub url: String,
    pub api_key: Option<String>,
}

impl Address {
    /// Of a server that was there before.
    pub fn named() -> Option<Self> {
        let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Some(Self { url: given(URL)?, api_key: given(API_KEY) })
    }

    pub fn client(&self) -> Qdrant {
        // The first is as good as any of a cluster's.
        let url = self.url.split(',').next().unwrap_or_default();
        let client = Qdrant::from_url(url).api_key(self.api_key.clone()).skip_compatibility_check();
        client.build().unwrap_or_else(|error| panic!("a client of {URL}: {error}"))
    }

    /// Deletes every alias and collection whose name begins with `prefix`.
    pub async fn clean_up(&self, prefix: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        assert!(prefix.len() >= MINE.len() + 32, "{prefix:?} may be the beginning of somebody else's names");
        let client = self.client();
        for alias in client.list_aliases().await?.aliases {
            if alias.alias_name.starts_with(prefix) {
                client.delete_alias(alias.alias_name).await?;
            }
        }
        for collection in client.list_collections().await?.collections {
            if collection.name.starts_with(prefix) {
                client.delete_collection(collection.name).await?;
            }
        }
        Ok(())
    }
}

const MINE: &str = "clipstream-test-";

/// A beginning of names that nobody else has.
pub fn prefix() -> String {
    format!("{MINE}{}", uuid::Uuid::from_u128(rand::random()).simple())
}

/// Cleans up when it is dropped, also by a test that fails.
pub struct Leftovers {
    address: Address,
    prefix: String,
}

impl Leftovers {
    pub fn of(address: Address, prefix: String) -> Self {
        Self { address, prefix }
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        let (address, prefix) = (self.address.clone(), self.prefix.clone());
        // A runtime of its own: the test's may be what drops this, or gone.
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(address.clean_up(&prefix))
        });
        match cleaned.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("{URL}: collections {}* are left behind: {error}", self.prefix),
            Err(_) => eprintln!("{URL}: collections {}* are left behind", self.prefix),
        }
    }
}

pub struct Server {
    pub prefix: String,
    at: Address,
    /// None: a server that was there before.
    endpoint: Option<QdrantEndpoint>,
    _leftovers: Option<Leftovers>,
    _dir: Option<TempDir>,
}

impl Server {
    pub fn start() -> Self {
        let prefix = prefix();
        match Address::named() {
            Some(at) => {
                let leftovers = Some(Leftovers::of(at.clone(), prefix.clone()));
                Self { prefix, at, endpoint: None, _leftovers: leftovers, _dir: None }
            }
            None => {
                let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("a folder for the endpoint: {error}"));
                let server = Self::endpoint(prefix, dir.path());
                Self { _dir: Some(dir), ..server }
            }
        }
    }

    fn endpoint(prefix: String, dir: &Path) -> Self {
        let endpoint = QdrantEndpoint::start(dir);
        let at = Address { url: endpoint.url(), api_key: None };
        Self { prefix, at, endpoint: Some(endpoint), _leftovers: None, _dir: None }
    }

    pub fn address(&self) -> &Address {
        &self.at
    }

    /// Qdrant's own client, for what an operator does.
    pub fn client(&self) -> Qdrant {
        self.at.client()
    }

    /// Where faults can be asked for: not of a server that was there before.
    pub fn double(&self) -> Option<&QdrantEndpoint> {
        self.endpoint.as_ref()
    }

    /// Has a worker use it, under a catalog of the test's own.
    pub fn configure(&self, command: &mut Command) {
        for (key, value) in [("kind", "qdrant"), ("url", &self.at.url), ("catalog", &self.prefix)] {
            command.arg("--set").arg(format!("store.{key}={value}"));
        }
        if let Some(key) = &self.at.api_key {
            command.env("CLIPSTREAM__STORE__API_KEY", key);
        }
    }

    pub async fn stop(self) {
        if let Some(endpoint) = self.endpoint {
            endpoint.stop().await;
        }
    }
}
