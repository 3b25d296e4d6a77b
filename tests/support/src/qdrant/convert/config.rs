//! A collection's definition as the engine takes it, and as the client reads it back.
//!
//! The definition is kept as it was sent. The engine gets what it has a setting for: vectors, payload storage, HNSW and
//! quantization. It is one shard in one process, so shard number, replication and consistency are only recorded, and
//! because it builds no index on its own, HNSW settings do not change what a search finds.

// `on_disk` and `always_ram` give way to `memory`, which the engine does not have yet.
#![allow(deprecated)]

use qdrant_client::qdrant as proto;
use qdrant_client::qdrant::quantization_config::Quantization;
use qdrant_client::qdrant::{Datatype, Distance, ShardingMethod, vectors_config};
use qdrant_edge::{
    BinaryQuantizationConfig, BinaryQuantizationEncoding, CompressionRatio, EdgeConfig, EdgeVectorParams,
    HnswIndexConfig, ProductQuantizationConfig, QuantizationConfig, ScalarQuantizationConfig, ScalarType,
    VectorStorageDatatype,
};
use tonic::Status;

use crate::qdrant::status::{absent, unsupported, wrong_input};
use crate::qdrant::strict;

pub fn engine_config(create: &proto::CreateCollection) -> Result<EdgeConfig, Status> {
    absent(&create.sparse_vectors_config, "sparse vectors")?;
    absent(&create.payload, "payload storage settings")?;
    absent(&create.id_tracker, "id tracker settings")?;
    create.strict_mode_config.as_ref().map_or(Ok(()), strict::supported)?;
    if create.sharding_method.is_some_and(|method| method != ShardingMethod::Auto as i32) {
        return Err(unsupported("custom sharding"));
    }
    let vectors = match create.vectors_config.clone().and_then(|config| config.config) {
        None => Vec::new(),
        Some(vectors_config::Config::Params(params)) => vec![(String::new(), vector_params(params)?)],
        Some(vectors_config::Config::ParamsMap(map)) => map
            .map
            .into_iter()
            .map(|(name, params)| Ok((name, vector_params(params)?)))
            .collect::<Result<_, Status>>()?,
    };
    Ok(EdgeConfig {
        on_disk_payload: create.on_disk_payload.unwrap_or(true),
        vectors: vectors.into_iter().collect(),
        hnsw_config: hnsw(create.hnsw_config)?.unwrap_or_default(),
        quantization_config: create.quantization_config.map(quantization).transpose()?,
        ..EdgeConfig::default()
    })
}

fn vector_params(params: proto::VectorParams) -> Result<EdgeVectorParams, Status> {
    absent(&params.multivector_config, "multi vectors")?;
    absent(&params.memory, "the vector setting `memory`")?;
    let distance = match Distance::try_from(params.distance) {
        Ok(Distance::Cosine) => qdrant_edge::Distance::Cosine,
        Ok(Distance::Euclid) => qdrant_edge::Distance::Euclid,
        Ok(Distance::Dot) => qdrant_edge::Distance::Dot,
        Ok(Distance::Manhattan) => qdrant_edge::Distance::Manhattan,
        Ok(Distance::UnknownDistance) | Err(_) => {
            return Err(Status::invalid_argument(format!("unknown distance {}", params.distance)));
        }
    };
    let datatype = match params.datatype.map(Datatype::try_from) {
        None | Some(Ok(Datatype::Default | Datatype::Float32)) => None,
        Some(Ok(Datatype::Float16)) => Some(VectorStorageDatatype::Float16),
        Some(Ok(Datatype::Uint8)) => Some(VectorStorageDatatype::Uint8),
        Some(Ok(Datatype::Turbo4 | Datatype::Turbo8 | Datatype::Turbo16) | Err(_)) => {
            return Err(unsupported("this vector datatype"));
        }
    };
    // The bounds are those of Qdrant's own validation.
    let size = usize::try_from(params.size)
        .ok()
        .filter(|size| (1..=65536).contains(size))
        .ok_or_else(|| wrong_input(format_args!("vector size {} must be from 1 to 65536", params.size)))?;
    Ok(EdgeVectorParams {
        size,
        distance,
        on_disk: params.on_disk,
        multivector_config: None,
        datatype,
        quantization_config: params.quantization_config.map(quantization).transpose()?,
        hnsw_config: hnsw(params.hnsw_config)?,
    })
}

fn hnsw(diff: Option<proto::HnswConfigDiff>) -> Result<Option<HnswIndexConfig>, Status> {
    let Some(diff) = diff else { return Ok(None) };
    absent(&diff.memory, "the HNSW setting `memory`")?;
    let mut config = HnswIndexConfig::default();
    let size =
        |value: u64| usize::try_from(value).map_err(|_| Status::invalid_argument(format!("{value} is too large")));
    if let Some(m) = diff.m {
        config.m = size(m)?;
    }
    if let Some(ef_construct) = diff.ef_construct {
        config.ef_construct = size(ef_construct)?;
    }
    if let Some(full_scan_threshold) = diff.full_scan_threshold {
        config.full_scan_threshold = size(full_scan_threshold)?;
    }
    if let Some(max_indexing_threads) = diff.max_indexing_threads {
        config.max_indexing_threads = size(max_indexing_threads)?;
    }
    config.on_disk = diff.on_disk.or(config.on_disk);
    config.payload_m = diff.payload_m.map(size).transpose()?;
    config.inline_storage = diff.inline_storage;
    Ok(Some(config))
}

fn quantization(config: proto::QuantizationConfig) -> Result<QuantizationConfig, Status> {
    match config.quantization {
        None => Err(Status::invalid_argument("Unable to convert quantization config")),
        Some(Quantization::Scalar(scalar)) => {
            absent(&scalar.memory, "the quantization setting `memory`")?;
            Ok(ScalarQuantizationConfig {
                r#type: ScalarType::Int8,
                quantile: scalar.quantile,
                always_ram: scalar.always_ram,
            }
            .into())
        }
        Some(Quantization::Product(product)) => {
            absent(&product.memory, "the quantization setting `memory`")?;
            let compression = match proto::CompressionRatio::try_from(product.compression) {
                Ok(proto::CompressionRatio::X4) => CompressionRatio::X4,
                Ok(proto::CompressionRatio::X8) => CompressionRatio::X8,
                Ok(proto::CompressionRatio::X16) => CompressionRatio::X16,
                Ok(proto::CompressionRatio::X32) => CompressionRatio::X32,
                Ok(proto::CompressionRatio::X64) => CompressionRatio::X64,
                Err(_) => return Err(Status::invalid_argument("unknown compression ratio")),
            };
            Ok(ProductQuantizationConfig { compression, always_ram: product.always_ram }.into())
        }
        Some(Quantization::Binary(binary)) => {
            absent(&binary.memory, "the quantization setting `memory`")?;
            absent(&binary.query_encoding, "the quantization setting `query_encoding`")?;
            let encoding = match binary.encoding.map(proto::BinaryQuantizationEncoding::try_from) {
                None => None,
                Some(Ok(proto::BinaryQuantizationEncoding::OneBit)) => Some(BinaryQuantizationEncoding::OneBit),
                Some(Ok(proto::BinaryQuantizationEncoding::TwoBits)) => Some(BinaryQuantizationEncoding::TwoBits),
                Some(Ok(proto::BinaryQuantizationEncoding::OneAndHalfBits)) => {
                    Some(BinaryQuantizationEncoding::OneAndHalfBits)
                }
                Some(Err(_)) => return Err(Status::invalid_argument("unknown binary encoding")),
            };
            Ok(BinaryQuantizationConfig { always_ram: binary.always_ram, encoding, query_encoding: None }.into())
        }
        Some(Quantization::Turboquant(_)) => Err(unsupported("turbo quantization")),
    }
}

/// What `Get` tells about the definition, with Qdrant's defaults filled in.
pub fn config_out(create: proto::CreateCollection) -> proto::CollectionConfig {
    proto::CollectionConfig {
        params: Some(proto::CollectionParams {
            shard_number: create.shard_number.unwrap_or(1),
            on_disk_payload: create.on_disk_payload.unwrap_or(true),
            vectors_config: create.vectors_config,
            replication_factor: Some(create.replication_factor.unwrap_or(1)),
            write_consistency_factor: Some(create.write_consistency_factor.unwrap_or(1)),
            sharding_method: create.sharding_method,
            ..proto::CollectionParams::default()
        }),
        hnsw_config: Some(create.hnsw_config.unwrap_or_default()),
        optimizer_config: Some(create.optimizers_config.unwrap_or_default()),
        wal_config: Some(create.wal_config.unwrap_or_default()),
        quantization_config: create.quantization_config,
        strict_mode_config: create.strict_mode_config,
        metadata: create.metadata,
    }
}
