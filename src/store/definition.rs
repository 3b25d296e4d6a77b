//! How a collection is set up: the file format of `migrations/`.

use std::path::Path;

use serde::Deserialize;

use super::StoreError;
use super::path::is_path;
use crate::domain::StoreReason;
use crate::redact;

/// `migrations/0001_collection.toml`, which also documents every key.
const BUILT_IN: &str = include_str!("../../migrations/0001_collection.toml");

/// Everything but the vectors' names, dimension and distance, which follow from the model. Settings apply when a
/// collection is created; of an existing one only missing payload indexes are added.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectionDefinition {
    /// Shards; `None`: one. The embedded engine always has one.
    pub shard_number: Option<u32>,
    /// Copies of each shard; `None`: one. The embedded engine always has one.
    pub replication_factor: Option<u32>,
    /// Payloads on disk instead of in memory; `None`: on disk.
    pub on_disk_payload: Option<bool>,
    pub vectors: VectorsDefinition,
    pub hnsw: HnswDefinition,
    pub quantization: Quantization,
    #[serde(rename = "payload_index")]
    pub payload_indexes: Vec<PayloadIndex>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VectorsDefinition {
    /// Original vectors on disk (memory-mapped) instead of in memory.
    pub on_disk: bool,
}

/// The index graph (Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical
/// Navigable Small World graphs", 2016). Defaults are Qdrant's.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HnswDefinition {
    /// Edges per node.
    pub m: u32,
    /// Candidates kept while the graph is built.
    pub ef_construct: u32,
}

impl Default for HnswDefinition {
    fn default() -> Self {
        Self { m: 16, ef_construct: 100 }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantization {
    #[default]
    None,
    /// 8-bit integers kept in memory; originals rescore the nearest.
    ScalarInt8,
}

/// Share of values that the 8-bit range spans; outliers beyond it are clipped (Qdrant's own advice for embeddings).
pub(super) const SCALAR_QUANTILE: f32 = 0.99;

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayloadIndex {
    /// Path of the field, for example `clipstream.asset_id`.
    pub field: String,
    pub kind: PayloadIndexKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayloadIndexKind {
    Keyword,
    Integer,
    Float,
    Bool,
    Datetime,
    Text,
    Uuid,
}

impl CollectionDefinition {
    /// The definition of `migrations/0001_collection.toml`.
    pub fn built_in() -> Self {
        // Cannot fail: the text is part of the binary and a unit test parses it.
        Self::parse(BUILT_IN, "migrations/0001_collection.toml").expect("the built-in definition is valid")
    }

    /// Adds an index, unless the definition has one of the field.
    pub fn add_index(&mut self, index: PayloadIndex) {
        if self.payload_indexes.iter().all(|other| other.field != index.field) {
            self.payload_indexes.push(index);
        }
    }

    /// Reads a definition file. The error names file, line, key, what was found and what was expected.
    pub fn from_file(path: &Path) -> Result<Self, StoreError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| {
            invalid(format!("cannot read the collection definition {file}: {e}"))
                .hint("set store.collection_definition to a readable file, or remove it to use the built-in definition")
        })?;
        Self::parse(&text, &file)
    }

    fn parse(text: &str, file: &str) -> Result<Self, StoreError> {
        let definition: Self = toml::from_str(text).map_err(|e| {
            let start = e.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..start].iter().filter(|b| **b == b'\n').count();
            let found = text.lines().nth(line).unwrap_or_default().trim();
            let said = e.message().trim().replace('\n', ", ");
            invalid(format!("{file}, line {}: `{}`: {said}", line + 1, redact::cut(found, 100)))
        })?;
        definition.validate().map_err(|problem| invalid(format!("{file}: {problem}")))?;
        Ok(definition)
    }

    fn validate(&self) -> Result<(), String> {
        let at_least = |key: &str, found: Option<u32>, least: u32| match found {
            Some(found) if found < least => Err(format!("{key}: found {found}, expected at least {least}")),
            _ => Ok(()),
        };
        at_least("shard_number", self.shard_number, 1)?;
        at_least("replication_factor", self.replication_factor, 1)?;
        at_least("hnsw.m", Some(self.hnsw.m), 2)?;
        at_least("hnsw.ef_construct", Some(self.hnsw.ef_construct), 4)?;
        for (n, index) in self.payload_indexes.iter().enumerate() {
            if !is_path(&index.field) {
                let field = redact::cut(&index.field, 100);
                return Err(format!(
                    "payload_index.field: found {field:?}, expected a payload path such as \"price\" or \"clipstream.version\""
                ));
            }
            if self.payload_indexes[..n].iter().any(|other| other.field == index.field) {
                return Err(format!(
                    "payload_index.field: found {:?} twice, expected one index per field",
                    index.field
                ));
            }
        }
        Ok(())
    }
}

fn invalid(message: String) -> StoreError {
    StoreError::new(StoreReason::DefinitionInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(text: &str) -> String {
        CollectionDefinition::parse(text, "own.toml").unwrap_err().message
    }

    #[test]
    fn the_built_in_definition_is_valid_and_spells_out_the_defaults() {
        let built_in = CollectionDefinition::built_in();
        assert_eq!(built_in.hnsw, HnswDefinition::default());
        assert_eq!(built_in.quantization, Quantization::None);
        assert_eq!((built_in.shard_number, built_in.replication_factor), (Some(1), Some(1)));
        let fields: Vec<_> = built_in.payload_indexes.iter().map(|i| i.field.as_str()).collect();
        let expected = ["clipstream.asset_id", "clipstream.tenant", "clipstream.version", "clipstream.deleted_at"];
        assert_eq!(fields, expected);
    }

    #[test]
    fn errors_name_file_line_key_found_and_expected() {
        let unknown = error_of("shard_number = 2\nreplicas = 3\n");
        assert!(unknown.starts_with("own.toml, line 2: `replicas = 3`: unknown field `replicas`"), "{unknown}");
        assert!(unknown.contains("replication_factor"), "{unknown}");
        let kind = error_of("[[payload_index]]\nfield = \"a\"\nkind = \"keywrod\"\n");
        assert!(kind.contains("line 3") && kind.contains("keywrod") && kind.contains("`keyword`"), "{kind}");
        let wrong = error_of("[hnsw]\nm = \"many\"\n");
        assert!(wrong.contains("line 2") && wrong.contains("\"many\"") && wrong.contains("expected"), "{wrong}");
        assert_eq!(error_of("[hnsw]\nef_construct = 1\n"), "own.toml: hnsw.ef_construct: found 1, expected at least 4");
        assert!(error_of("shard_number = 0").contains("found 0, expected at least 1"));
        let twice = "[[payload_index]]\nfield='a'\nkind='bool'\n[[payload_index]]\nfield='a'\nkind='text'\n";
        assert!(error_of(twice).contains("\"a\" twice"));
    }

    #[test]
    fn a_missing_file_is_named_with_the_next_step() {
        let error = CollectionDefinition::from_file(Path::new("no/such/file.toml")).unwrap_err();
        assert!(error.to_string().contains("no/such/file.toml"), "{}", error.message);
        assert!(error.to_string().contains("store.collection_definition"), "{}", error.message);
    }

    #[test]
    fn quantization_and_places_are_read() {
        let text = "quantization = 'scalar_int8'\non_disk_payload = false\n[vectors]\non_disk = true\n";
        let definition = CollectionDefinition::parse(text, "own.toml").unwrap();
        assert_eq!(definition.quantization, Quantization::ScalarInt8);
        assert!(definition.vectors.on_disk);
        assert_eq!(definition.on_disk_payload, Some(false));
    }
}
