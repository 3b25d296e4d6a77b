//! Payload indexes.

// `on_disk` and `always_ram` give way to `memory`, which the engine does not have yet.
#![allow(deprecated)]

use qdrant_client::qdrant as proto;
use qdrant_client::qdrant::payload_index_params::IndexParams;
use qdrant_client::qdrant::{FieldType, PayloadSchemaType as ProtoType};
use qdrant_edge::{
    BoolIndexParams, DatetimeIndexParams, FloatIndexParams, IntegerIndexParams, KeywordIndexParams, PayloadFieldSchema,
    PayloadIndexInfo, PayloadSchemaParams, PayloadSchemaType, TextIndexParams, TokenizerType, UuidIndexParams,
};
use tonic::Status;

use crate::qdrant::status::{absent, unsupported};

/// Refuses the settings that every kind of index has and the engine does not.
macro_rules! no_newer_settings {
    ($params:expr) => {
        absent(&$params.memory, "the index setting `memory`")?;
        absent(&$params.nested, "the index setting `nested`")?;
    };
}

pub fn schema_in(
    field_type: Option<i32>,
    params: Option<proto::PayloadIndexParams>,
) -> Result<PayloadFieldSchema, Status> {
    let kind = match field_type.map(FieldType::try_from) {
        None => None,
        Some(Ok(FieldType::Keyword)) => Some(PayloadSchemaType::Keyword),
        Some(Ok(FieldType::Integer)) => Some(PayloadSchemaType::Integer),
        Some(Ok(FieldType::Float)) => Some(PayloadSchemaType::Float),
        Some(Ok(FieldType::Geo)) => Some(PayloadSchemaType::Geo),
        Some(Ok(FieldType::Text)) => Some(PayloadSchemaType::Text),
        Some(Ok(FieldType::Bool)) => Some(PayloadSchemaType::Bool),
        Some(Ok(FieldType::Datetime)) => Some(PayloadSchemaType::Datetime),
        Some(Ok(FieldType::Uuid)) => Some(PayloadSchemaType::Uuid),
        Some(Err(_)) => return Err(Status::invalid_argument("cannot convert field type")),
    };
    let params = params.and_then(|params| params.index_params).map(params_in).transpose()?;
    match (kind, params) {
        (None, None) => Err(Status::invalid_argument("a field index needs a field type or index parameters")),
        (Some(kind), None) => Ok(PayloadFieldSchema::FieldType(kind)),
        (None, Some(params)) => Ok(PayloadFieldSchema::FieldParams(params)),
        (Some(kind), Some(params)) if params.kind() == kind => Ok(PayloadFieldSchema::FieldParams(params)),
        (Some(_), Some(_)) => Err(Status::invalid_argument("field type and index parameters are of different kinds")),
    }
}

fn params_in(params: IndexParams) -> Result<PayloadSchemaParams, Status> {
    Ok(match params {
        IndexParams::KeywordIndexParams(params) => {
            no_newer_settings!(params);
            absent(&params.prefix, "the index setting `prefix`")?;
            PayloadSchemaParams::Keyword(KeywordIndexParams {
                is_tenant: params.is_tenant,
                on_disk: params.on_disk,
                enable_hnsw: params.enable_hnsw,
                ..KeywordIndexParams::default()
            })
        }
        IndexParams::IntegerIndexParams(params) => {
            no_newer_settings!(params);
            PayloadSchemaParams::Integer(IntegerIndexParams {
                lookup: params.lookup,
                range: params.range,
                is_principal: params.is_principal,
                on_disk: params.on_disk,
                enable_hnsw: params.enable_hnsw,
                ..IntegerIndexParams::default()
            })
        }
        IndexParams::FloatIndexParams(params) => {
            no_newer_settings!(params);
            PayloadSchemaParams::Float(FloatIndexParams {
                is_principal: params.is_principal,
                on_disk: params.on_disk,
                enable_hnsw: params.enable_hnsw,
                ..FloatIndexParams::default()
            })
        }
        IndexParams::BoolIndexParams(params) => {
            no_newer_settings!(params);
            PayloadSchemaParams::Bool(BoolIndexParams {
                on_disk: params.on_disk,
                enable_hnsw: params.enable_hnsw,
                ..BoolIndexParams::default()
            })
        }
        IndexParams::DatetimeIndexParams(params) => {
            no_newer_settings!(params);
            PayloadSchemaParams::Datetime(DatetimeIndexParams {
                is_principal: params.is_principal,
                on_disk: params.on_disk,
                enable_hnsw: params.enable_hnsw,
                ..DatetimeIndexParams::default()
            })
        }
        IndexParams::UuidIndexParams(params) => {
            no_newer_settings!(params);
            PayloadSchemaParams::Uuid(UuidIndexParams {
                is_tenant: params.is_tenant,
                on_disk: params.on_disk,
                enable_hnsw: params.enable_hnsw,
                ..UuidIndexParams::default()
            })
        }
        IndexParams::TextIndexParams(params) => {
            no_newer_settings!(params);
            text_in(params)?
        }
        IndexParams::GeoIndexParams(_) => return Err(unsupported("parameters of geo indexes")),
    })
}

fn text_in(params: proto::TextIndexParams) -> Result<PayloadSchemaParams, Status> {
    absent(&params.stopwords, "the index setting `stopwords`")?;
    absent(&params.stemmer, "the index setting `stemmer`")?;
    absent(&params.scoring, "the index setting `scoring`")?;
    let tokenizer = match proto::TokenizerType::try_from(params.tokenizer) {
        Ok(proto::TokenizerType::Prefix) => TokenizerType::Prefix,
        Ok(proto::TokenizerType::Whitespace) => TokenizerType::Whitespace,
        Ok(proto::TokenizerType::Word) => TokenizerType::Word,
        Ok(proto::TokenizerType::Multilingual) => TokenizerType::Multilingual,
        Ok(proto::TokenizerType::Code) => return Err(unsupported("the tokenizer `code`")),
        Ok(proto::TokenizerType::Unknown) | Err(_) => {
            return Err(Status::invalid_argument("unknown tokenizer type"));
        }
    };
    let length = |length: u64| {
        usize::try_from(length).map_err(|_| Status::invalid_argument(format!("token length {length} is too large")))
    };
    Ok(PayloadSchemaParams::Text(TextIndexParams {
        tokenizer,
        min_token_len: params.min_token_len.map(length).transpose()?,
        max_token_len: params.max_token_len.map(length).transpose()?,
        lowercase: params.lowercase,
        ascii_folding: params.ascii_folding,
        phrase_matching: params.phrase_matching,
        on_disk: params.on_disk,
        enable_hnsw: params.enable_hnsw,
        ..TextIndexParams::default()
    }))
}

/// The kind of an index and how many points it covers; its parameters are not told.
pub fn index_out(info: &PayloadIndexInfo) -> proto::PayloadSchemaInfo {
    let kind = match info.data_type {
        PayloadSchemaType::Keyword => ProtoType::Keyword,
        PayloadSchemaType::Integer => ProtoType::Integer,
        PayloadSchemaType::Float => ProtoType::Float,
        PayloadSchemaType::Geo => ProtoType::Geo,
        PayloadSchemaType::Text => ProtoType::Text,
        PayloadSchemaType::Bool => ProtoType::Bool,
        PayloadSchemaType::Datetime => ProtoType::Datetime,
        PayloadSchemaType::Uuid => ProtoType::Uuid,
    };
    proto::PayloadSchemaInfo { data_type: kind as i32, params: None, points: u64::try_from(info.points).ok() }
}
