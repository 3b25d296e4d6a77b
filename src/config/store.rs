//! Settings of `[store]`.

use std::path::PathBuf;

use super::http_url;
use super::reader::{Reader, Review};
use super::text::{Expected, Text, choice};
use crate::domain::{Guard, ModelId};
use crate::redact::Secret;

/// Ten years.
const TOMBSTONE_RETENTION_S_MAX: u64 = 10 * 365 * 24 * 3600;

/// `[store]`: where points go.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// `qdrant` or `embedded`.
    pub kind: StoreKind,
    /// Qdrant's gRPC address, for example `http://localhost:6334`; for a cluster several, separated by commas.
    pub url: String,
    /// Qdrant's API key; never shown.
    pub api_key: Option<Secret>,
    /// PEM file with the certificate authority of an `https` server; `None`: the system's.
    pub ca_file: Option<String>,
    /// Folder of the embedded engine.
    pub path: PathBuf,
    /// Free disk space that the embedded engine preserves.
    pub disk_free_bytes_min: u64,
    /// Name of the catalog: the alias of the default model's collection.
    pub catalog: String,
    /// Collection name with `{catalog}`, `{variant}`, `{checkpoint}`.
    pub collection_template: String,
    /// Definition of collections; `None`: the built-in one (`migrations/`).
    pub collection_definition: Option<PathBuf>,
    /// What keeps an older write from overwriting a newer one.
    pub guard: Guard,
    /// Seconds for which a deleted asset's version is kept.
    pub tombstone_retention_s: u64,
    /// Points in one write, at most.
    pub batch_points_max: usize,
    /// Approximate size of one write in bytes, at most.
    pub batch_bytes_max: usize,
    /// Concurrent writes per collection, at most.
    pub writes_in_flight_max: usize,
    /// Deadline of one request to a Qdrant server.
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
            ca_file: None,
            path: PathBuf::from("data/store"),
            disk_free_bytes_min: 256 * 1024 * 1024,
            catalog: "catalog".into(),
            collection_template: "{catalog}__{variant}__{checkpoint}".into(),
            collection_definition: None,
            guard: Guard::Check,
            tombstone_retention_s: 7 * 24 * 3600,
            batch_points_max: 256,
            batch_bytes_max: 8 * 1024 * 1024,
            writes_in_flight_max: 2,
            timeout_ms: 60_000,
        }
    }
}

impl Text for StoreKind {
    fn parse(text: &str) -> Result<Self, Expected> {
        choice(text, [("qdrant", Self::Qdrant), ("embedded", Self::Embedded)])
    }

    fn text(&self) -> String {
        match self {
            Self::Qdrant => "qdrant",
            Self::Embedded => "embedded",
        }
        .to_owned()
    }
}

impl Text for Guard {
    fn parse(text: &str) -> Result<Self, Expected> {
        choice(text, [("off", Self::Off), ("check", Self::Check), ("strict", Self::Strict)])
    }

    fn text(&self) -> String {
        match self {
            Self::Off => "off",
            Self::Check => "check",
            Self::Strict => "strict",
        }
        .to_owned()
    }
}

impl StoreSettings {
    pub(super) fn read(section: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            kind: section.value("kind", default.kind),
            url: section.list("url", vec![default.url]).join(","),
            api_key: section.secret("api_key"),
            ca_file: section.optional("ca_file", default.ca_file),
            path: section.value("path", default.path),
            disk_free_bytes_min: section.number("disk_free_bytes_min", default.disk_free_bytes_min, 0..=1 << 50),
            catalog: section.value("catalog", default.catalog),
            collection_template: section.value("collection_template", default.collection_template),
            collection_definition: section.optional("collection_definition", default.collection_definition),
            guard: section.value("guard", default.guard),
            tombstone_retention_s: section.number(
                "tombstone_retention_s",
                default.tombstone_retention_s,
                60..=TOMBSTONE_RETENTION_S_MAX,
            ),
            batch_points_max: section.number("batch_points_max", default.batch_points_max, 1..=4096),
            batch_bytes_max: section.number("batch_bytes_max", default.batch_bytes_max, 1 << 10..=1 << 30),
            writes_in_flight_max: section.number("writes_in_flight_max", default.writes_in_flight_max, 1..=64),
            timeout_ms: section.number("timeout_ms", default.timeout_ms, 1..=3_600_000),
        }
    }

    /// The addresses of [`Self::url`].
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.url.split(',').map(str::trim).filter(|url| !url.is_empty())
    }

    pub(super) fn review(&self, review: &mut Review<'_>) {
        review.expect(self.urls().next().is_some() && self.urls().all(http_url), "store.url", || {
            Expected::new("http://host:port or https://host:port, or a list of the nodes of one cluster")
                .hint("Qdrant's gRPC port is 6334, REST is 6333")
        });
        review.expect(
            self.ca_file.is_none() || self.urls().any(|url| url.starts_with("https://")),
            "store.ca_file",
            || Expected::new("not to be set unless store.url begins with https://"),
        );
        review.expect(!ModelId::slug(&self.catalog).is_empty(), "store.catalog", || {
            Expected::new("a name with letters or digits")
        });
        for part in ["{variant}", "{checkpoint}"] {
            review.expect(self.collection_template.contains(part), "store.collection_template", || {
                Expected::new(format!("a name with {{variant}} and {{checkpoint}}; {part} is missing"))
                    .hint("otherwise models would share a collection")
            });
        }
        let mut rest = self.collection_template.clone();
        for part in ["{catalog}", "{variant}", "{checkpoint}"] {
            rest = rest.replace(part, "");
        }
        // Qdrant refuses these characters in names (`validate_collection_name`), and braces are unknown placeholders.
        let illegal = |c: char| "{}<>:\"/\\|?*".contains(c) || c.is_control();
        review.expect(!rest.contains(illegal), "store.collection_template", || {
            Expected::new("{catalog}, {variant}, {checkpoint} and letters, digits, - or _ between them")
        });
    }
}
