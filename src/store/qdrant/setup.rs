//! Creates missing collections and aliases, and checks existing ones.

use std::collections::HashMap;

use qdrant_client::qdrant::quantization_config::Quantization as QuantizationKind;
use qdrant_client::qdrant::vectors_config::Config as VectorsKind;
use qdrant_client::qdrant::{
    CollectionInfo, CreateAlias, CreateCollection, CreateFieldIndexCollection, Distance, FieldType, HnswConfigDiff,
    QuantizationConfig, QuantizationType, ScalarQuantization, Value, VectorParams, VectorParamsMap, VectorsConfig,
};

use super::client::Client;
use super::wordings::ALREADY_EXISTS;
use super::{QdrantStore, error};
use crate::domain::{Class, Fingerprint, Modality, Reason, StoreReason};
use crate::store::definition::SCALAR_QUANTILE;
use crate::store::{
    CollectionDefinition, CollectionSpec, PayloadIndexKind, Quantization, StoreError, fingerprint_differences,
};

/// Metadata key of the collection's fingerprint, an object.
const FINGERPRINT_KEY: &str = "clipstream_fingerprint";

/// First server version with insert-only upserts. Older servers ignore the mode and would overwrite every point that a
/// patch touches, so they are refused.
const VERSION_MIN: (u64, u64) = (1, 17);

impl QdrantStore {
    pub(super) async fn ensure_collection(&self, spec: &CollectionSpec) -> Result<(), StoreError> {
        self.check_versions().await?;
        let client = self.client()?;
        let info = match self.info(&client, &spec.name).await? {
            Some(info) => info,
            None => {
                self.create(&client, spec).await?;
                self.info(&client, &spec.name).await?.ok_or_else(|| StoreError::collection_missing(&spec.name))?
            }
        };
        let differences = differences(&info, &spec.fingerprint)?;
        if !differences.is_empty() {
            return Err(StoreError::collection_differs(&spec.name, &differences));
        }
        self.create_indexes(&client, spec, &info).await?;
        let target = self.target_of(&client, spec).await?;
        self.known.insert(spec, target);
        Ok(())
    }

    /// The version of each node, with its redacted address. An error only if no node answers.
    pub(super) async fn versions(&self) -> Result<Vec<(String, Result<String, StoreError>)>, StoreError> {
        let client = self.client()?;
        let urls: Vec<String> = client.urls().map(str::to_owned).collect();
        let ask = |(node, url): (usize, &String)| {
            let (client, url) = (client.clone(), url.clone());
            async move {
                let said = client.health_of(node).await;
                let said = said.map(|reply| reply.version).map_err(|e| error::from_client(e, &url, "health check"));
                (url, said)
            }
        };
        let found = futures::future::join_all(urls.iter().enumerate().map(ask)).await;
        let first = found.iter().find_map(|(_, said)| said.as_ref().err());
        match first {
            Some(error) if found.iter().all(|(_, said)| said.is_err()) => Err(error.clone()),
            _ => Ok(found),
        }
    }

    async fn check_versions(&self) -> Result<(), StoreError> {
        for (url, said) in self.versions().await? {
            match said {
                Ok(version) => check_version(&url, &version)?,
                Err(error) => tracing::warn!(node = url, reason = error.reason.as_str(), "{error}"),
            }
        }
        Ok(())
    }

    pub(super) async fn info(&self, client: &Client, collection: &str) -> Result<Option<CollectionInfo>, StoreError> {
        match client.collection_info(collection).await {
            Ok(response) => Ok(response.result),
            Err(e) => match self.failed_for_all(e, &format!("read about collection {collection}")) {
                missing if missing.reason == StoreReason::CollectionMissing => Ok(None),
                other => Err(other),
            },
        }
    }

    async fn create(&self, client: &Client, spec: &CollectionSpec) -> Result<(), StoreError> {
        let request = create_request(spec)?;
        match client.create_collection(request).await {
            Ok(_) => Ok(()),
            Err(e) => {
                let error = self.failed(e, &format!("create collection {}", spec.name));
                // Another worker created it first: the check that follows decides whether it fits.
                if error.class == Class::Permanent && ALREADY_EXISTS.is_in(&error.message) {
                    return Ok(());
                }
                // A definition that the server refuses concerns every message.
                let class = if error.class == Class::Permanent { Class::Outage } else { error.class };
                Err(error.class(class))
            }
        }
    }

    async fn create_indexes(
        &self,
        client: &Client,
        spec: &CollectionSpec,
        info: &CollectionInfo,
    ) -> Result<(), StoreError> {
        for index in &spec.definition.payload_indexes {
            if info.payload_schema.contains_key(&index.field) {
                continue;
            }
            let doing = format!("index field {} of collection {}", index.field, spec.name);
            let request = CreateFieldIndexCollection {
                collection_name: spec.name.clone(),
                wait: Some(true),
                field_name: index.field.clone(),
                field_type: Some(field_type(index.kind).into()),
                ..CreateFieldIndexCollection::default()
            };
            let response = client.create_field_index(request).await.map_err(|e| self.failed_for_all(e, &doing))?;
            if let Some(result) = response.result {
                error::check_completed(result.status, &self.url, &doing)?;
            }
        }
        Ok(())
    }

    pub(super) async fn read_fingerprint(&self, collection: &str) -> Result<Option<Fingerprint>, StoreError> {
        let info =
            self.info(&self.client()?, collection).await?.ok_or_else(|| StoreError::collection_missing(collection))?;
        fingerprint(&info)
    }

    pub(super) async fn create_alias_if_free(&self, alias: &str, collection: &str) -> Result<String, StoreError> {
        let client = self.client()?;
        if let Some(target) = self.alias_target(&client, alias).await? {
            return Ok(target);
        }
        // There is no such alias, but a collection may have the name.
        if self.info(&client, alias).await?.is_some() {
            return Ok(alias.to_owned());
        }
        let request = CreateAlias { collection_name: collection.to_owned(), alias_name: alias.to_owned() };
        let created = client.create_alias(request).await;
        // Another worker may have been first: the alias's current target counts.
        match (self.alias_target(&client, alias).await?, created) {
            (Some(target), _) => Ok(target),
            (None, Err(e)) => Err(self.failed_for_all(e, &format!("create alias {alias} of collection {collection}"))),
            (None, Ok(_)) => {
                let message = format!("Qdrant at {} created alias {alias} and does not list it", self.url);
                Err(StoreError::new(StoreReason::Busy, message))
            }
        }
    }

    async fn alias_target(&self, client: &Client, alias: &str) -> Result<Option<String>, StoreError> {
        let aliases = client.list_aliases().await.map_err(|e| self.failed_for_all(e, "list aliases"))?.aliases;
        Ok(aliases.into_iter().find(|a| a.alias_name == alias).map(|a| a.collection_name))
    }
}

fn check_version(url: &str, version: &str) -> Result<(), StoreError> {
    match version_of(version) {
        Some(found) if found < VERSION_MIN => {
            let (major, minor) = VERSION_MIN;
            let message = format!("Qdrant at {url}: found version {version}, expected {major}.{minor} or newer");
            Err(StoreError::new(StoreReason::VersionUnsupported, message))
        }
        _ => Ok(()),
    }
}

/// Major and minor of `1.18.3`; `None` for a version without numbers (a development build).
fn version_of(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.trim_start_matches('v').split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

// Newer servers replace these fields by `memory`; the oldest supported servers know only these.
#[expect(deprecated, reason = "older servers do not know the successors")]
fn create_request(spec: &CollectionSpec) -> Result<CreateCollection, StoreError> {
    let CollectionDefinition {
        shard_number,
        replication_factor,
        on_disk_payload,
        vectors,
        hnsw,
        quantization,
        payload_indexes: _,
    } = &spec.definition;
    let params = |modality: Modality| {
        let params = VectorParams {
            size: spec.fingerprint.dimension as u64,
            distance: Distance::Cosine.into(),
            on_disk: Some(vectors.on_disk),
            ..VectorParams::default()
        };
        (modality.as_str().to_owned(), params)
    };
    let map = Modality::ALL.into_iter().map(params).collect();
    let fingerprint = serde_json::to_value(&spec.fingerprint).map_err(|e| {
        StoreError::new(StoreReason::FingerprintInvalid, format!("cannot write the model's fingerprint: {e}"))
    })?;
    let quantization = match quantization {
        Quantization::None => None,
        Quantization::ScalarInt8 => Some(QuantizationConfig {
            quantization: Some(QuantizationKind::Scalar(ScalarQuantization {
                r#type: QuantizationType::Int8.into(),
                quantile: Some(SCALAR_QUANTILE),
                always_ram: Some(true),
                ..ScalarQuantization::default()
            })),
        }),
    };
    Ok(CreateCollection {
        collection_name: spec.name.clone(),
        hnsw_config: Some(HnswConfigDiff {
            m: Some(hnsw.m.into()),
            ef_construct: Some(hnsw.ef_construct.into()),
            ..HnswConfigDiff::default()
        }),
        shard_number: *shard_number,
        replication_factor: *replication_factor,
        on_disk_payload: Some(on_disk_payload.unwrap_or(true)),
        vectors_config: Some(VectorsConfig { config: Some(VectorsKind::ParamsMap(VectorParamsMap { map })) }),
        quantization_config: quantization,
        metadata: HashMap::from([(FINGERPRINT_KEY.to_owned(), Value::from(fingerprint))]),
        ..CreateCollection::default()
    })
}

fn field_type(kind: PayloadIndexKind) -> FieldType {
    match kind {
        PayloadIndexKind::Keyword => FieldType::Keyword,
        PayloadIndexKind::Integer => FieldType::Integer,
        PayloadIndexKind::Float => FieldType::Float,
        PayloadIndexKind::Bool => FieldType::Bool,
        PayloadIndexKind::Datetime => FieldType::Datetime,
        PayloadIndexKind::Text => FieldType::Text,
        PayloadIndexKind::Uuid => FieldType::Uuid,
    }
}

fn fingerprint(info: &CollectionInfo) -> Result<Option<Fingerprint>, StoreError> {
    let Some(value) = info.config.as_ref().and_then(|config| config.metadata.get(FINGERPRINT_KEY)) else {
        return Ok(None);
    };
    serde_json::from_value(value.clone().into_json()).map(Some).map_err(|e| {
        let message = format!(
            "the collection's metadata key {FINGERPRINT_KEY} cannot be read: {e}; expected what clipstream wrote"
        );
        StoreError::new(StoreReason::FingerprintInvalid, message)
    })
}

/// Every difference between the collection and what the model needs, as found and expected.
pub(super) fn differences(info: &CollectionInfo, expected: &Fingerprint) -> Result<Vec<String>, StoreError> {
    let vectors =
        info.config.as_ref().and_then(|config| config.params.as_ref()).and_then(|p| p.vectors_config.as_ref());
    let no_vectors = HashMap::new();
    let named = match vectors.and_then(|v| v.config.as_ref()) {
        Some(VectorsKind::ParamsMap(map)) => &map.map,
        Some(VectorsKind::Params(_)) | None => &no_vectors,
    };
    let mut found = Vec::new();
    for modality in Modality::ALL {
        let Some(params) = named.get(modality.as_str()) else {
            let wanted = expected.dimension;
            found.push(format!("vector {modality}: found none, expected a named vector of {wanted} dimensions"));
            continue;
        };
        if params.size != expected.dimension as u64 {
            found.push(format!("vector {modality}: found {} dimensions, expected {}", params.size, expected.dimension));
        }
        if params.distance() != Distance::Cosine {
            let distance = params.distance().as_str_name();
            found.push(format!("vector {modality}: found distance {distance}, expected Cosine"));
        }
    }
    found.extend(fingerprint_differences(expected, fingerprint(info)?.as_ref()));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(version_of("1.18.3"), Some((1, 18)));
        assert_eq!(version_of("v1.9.0-dev"), Some((1, 9)));
        assert!(version_of("1.9.0") < Some(VERSION_MIN));
        assert_eq!(version_of("dev"), None);
    }

    #[test]
    fn every_difference_is_named() {
        let expected = Fingerprint {
            variant: "v".into(),
            checkpoint: "c".into(),
            dimension: 512,
            preprocessing: "p".into(),
            tokenizer: "t".into(),
            graph: "g".into(),
            activation: None,
            precision: None,
        };
        let definition = CollectionDefinition::built_in();
        let spec = CollectionSpec { name: "a".into(), fingerprint: expected.clone(), definition };
        let mut request = create_request(&spec).unwrap();
        let Some(VectorsConfig { config: Some(VectorsKind::ParamsMap(map)) }) = &mut request.vectors_config else {
            panic!("named vectors");
        };
        map.map.remove("text");
        let image = map.map.get_mut("image").unwrap();
        image.size = 768;
        image.set_distance(Distance::Dot);
        let params =
            qdrant_client::qdrant::CollectionParams { vectors_config: request.vectors_config, ..Default::default() };
        let config = qdrant_client::qdrant::CollectionConfig { params: Some(params), ..Default::default() };
        let info = CollectionInfo { config: Some(config), ..CollectionInfo::default() };
        let found = differences(&info, &expected).unwrap().join("; ");
        assert_eq!(
            found,
            "vector image: found 768 dimensions, expected 512; vector image: found distance Dot, expected Cosine; \
             vector text: found none, expected a named vector of 512 dimensions; \
             fingerprint: found none (clipstream did not create it), expected v c"
        );
    }
}
