use std::path::PathBuf;

use crate::redact::Secret;

/// `[store]`: where points go.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    pub kind: StoreKind,
    /// Qdrant's gRPC address, for example `http://localhost:6334`.
    pub url: String,
    pub api_key: Option<Secret>,
    /// Folder of the embedded engine.
    pub path: PathBuf,
    /// Name of the catalog: the alias of the default model's collection.
    pub catalog: String,
    /// Collection name with `{catalog}`, `{variant}`, `{checkpoint}`.
    pub collection_template: String,
    /// Definition of collections; none: the one that is built in (`migrations/`).
    pub collection_definition: Option<PathBuf>,
    /// Most points in one write.
    pub batch_points_max: usize,
    /// Most bytes in one write, roughly counted.
    pub batch_bytes_max: usize,
    /// Writes under way at once, per collection.
    pub writes_in_flight_max: usize,
    pub timeout_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// A Qdrant server over gRPC.
    Qdrant,
    /// Qdrant's engine in this process.
    Embedded,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            kind: StoreKind::Embedded,
            url: "http://localhost:6334".into(),
            api_key: None,
            path: PathBuf::from("data/store"),
            catalog: "catalog".into(),
            collection_template: "{catalog}__{variant}__{checkpoint}".into(),
            collection_definition: None,
            batch_points_max: 256,
            batch_bytes_max: 8 * 1024 * 1024,
            writes_in_flight_max: 2,
            timeout_ms: 60_000,
        }
    }
}
