//! Searches a store by text or picture.

use std::sync::Arc;

use serde_json::Value;

use super::{EmbedError, Embedder};
use crate::config::{Settings, StoreSettings};
use crate::domain::{Embedding, Explain, Finding, Modality, ModelId, Payload, PointId, StoreReason};
use crate::store::{self, Hit, Query, Store, StoreError, asset_id};

/// Finds points by text or picture, with the model that indexed them.
#[derive(Clone)]
pub struct Searcher {
    embedder: Embedder,
    store: Arc<dyn Store>,
    collection: String,
}

#[derive(Clone, Debug)]
pub struct SearchRequest {
    pub query: Embedding,
    /// What `query` is the vector of.
    pub of: Modality,
    /// The named vector to search in.
    pub modality: Modality,
    pub limit: usize,
    /// Qdrant's own filter in its REST form.
    pub filter: Option<Value>,
}

/// A point that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchHit {
    pub id: PointId,
    /// Cosine similarity.
    pub score: f32,
    /// Probability that text and picture belong together, by the model's scale and bias. None where the model records no bias
    /// (it was trained with a softmax, so that none follows from a single pair), and between two texts or two pictures.
    pub probability: Option<f32>,
    /// The whole payload, the reserved key included.
    pub payload: Payload,
}

impl SearchHit {
    /// The catalog's own id; `None` for points that another program wrote.
    pub fn asset_id(&self) -> Option<&str> {
        asset_id(&self.payload)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    #[error(transparent)]
    Embed(#[from] EmbedError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{}", self.explain())]
    NoCollection { collection: String },
    #[error("{}", self.explain())]
    Foreign { collection: String },
    #[error("{}", self.explain())]
    Incomparable { collection: String, differences: Vec<String> },
}

impl Explain for SearchError {
    fn explain(&self) -> Finding {
        match self {
            Self::Embed(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::NoCollection { collection } => {
                Finding::new(format!("collection {collection} does not exist in the store"))
                    .hint("index something first, or check store.catalog and clip.models")
            }
            Self::Foreign { collection } => {
                Finding::new(format!("collection {collection} records no model, so clipstream did not create it"))
                    .hint("set store.catalog or store.collection_template to another name")
            }
            Self::Incomparable { collection, differences } => Finding::new(format!(
                "collection {collection} belongs to another model, whose vectors cannot be compared with this one's: {}",
                differences.join("; ")
            )),
        }
    }
}

impl Searcher {
    /// Opens the store and loads the model; refuses a collection of another model.
    pub async fn open(settings: &Settings, model: Option<&ModelId>) -> Result<Self, SearchError> {
        let store = store::open(&settings.store).await?;
        let embedder = Embedder::open(settings, model).await?;
        Self::new(embedder, store, &settings.store).await
    }

    pub async fn new(embedder: Embedder, store: Arc<dyn Store>, settings: &StoreSettings) -> Result<Self, SearchError> {
        let collection = embedder.model().collection(&settings.collection_template, &settings.catalog);
        let found = match store.fingerprint(&collection).await {
            Ok(Some(found)) => found,
            Ok(None) => return Err(SearchError::Foreign { collection }),
            Err(e) if e.reason == StoreReason::CollectionMissing => {
                return Err(SearchError::NoCollection { collection });
            }
            Err(e) => return Err(e.into()),
        };
        let differences = embedder.fingerprint().await?.differences(&found);
        if differences.is_empty() {
            Ok(Self { embedder, store, collection })
        } else {
            Err(SearchError::Incomparable { collection, differences })
        }
    }

    pub fn embedder(&self) -> &Embedder {
        &self.embedder
    }

    pub fn collection(&self) -> &str {
        &self.collection
    }

    /// Nearest first.
    pub async fn search(&self, request: SearchRequest) -> Result<Vec<SearchHit>, SearchError> {
        let SearchRequest { query, of, modality, limit, filter } = request;
        let query = Query { vector: query, modality, limit, filter };
        let logits = self.embedder.logits().filter(|_| of != modality);
        let hit = |Hit { id, score, payload }| {
            let probability = logits.and_then(|logits| logits.probability(score));
            SearchHit { id, score, probability, payload }
        };
        Ok(self.store.search(&self.collection, &query).await?.into_iter().map(hit).collect())
    }

    pub async fn close(&self) -> Result<(), SearchError> {
        Ok(self.store.close().await?)
    }
}
