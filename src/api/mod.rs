//! The library's verbs: embed pictures and texts, search a store. What the worker indexes with, a query is embedded with.

mod alone;
mod embedder;
mod searcher;

pub use alone::rate_alone;
pub use embedder::{EmbedError, Embedder, ImageInput};
pub use searcher::{SearchError, SearchRequest, Searcher};
