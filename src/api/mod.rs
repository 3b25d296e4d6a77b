//! The library's API: embed pictures and texts, label pictures, search a store. Queries are embedded with the same code as in the worker.

mod alone;
mod embedder;
mod labels;
mod searcher;

pub use alone::{Need, Needs, needs_alone, processor_time};
pub use embedder::{EmbedError, Embedder, ImageInput};
pub use labels::Labels;
pub use searcher::{SearchError, SearchHit, SearchRequest, Searcher};
