//! Between Qdrant's protocol and the engine's types. What has no counterpart is refused, never dropped.

pub mod config;
pub mod filter;
pub mod index;
pub mod point;
pub mod selector;

use qdrant_client::qdrant::{PointId, Value, point_id::PointIdOptions, value::Kind};
use qdrant_edge::external::uuid::Uuid;
use qdrant_edge::{JsonPath, Payload};
use serde_json::{Map, Number, Value as Json};
use std::collections::HashMap;
use tonic::Status;

pub fn id_in(id: Option<PointId>) -> Result<qdrant_edge::PointId, Status> {
    match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Num(number)) => Ok(qdrant_edge::PointId::NumId(number)),
        Some(PointIdOptions::Uuid(uuid)) => Uuid::parse_str(&uuid)
            .map(qdrant_edge::PointId::Uuid)
            .map_err(|_| Status::invalid_argument(format!("Unable to parse UUID: {uuid}"))),
        None => Err(Status::invalid_argument("No ID options provided")),
    }
}

pub fn ids_in(ids: Vec<PointId>) -> Result<Vec<qdrant_edge::PointId>, Status> {
    ids.into_iter().map(|id| id_in(Some(id))).collect()
}

pub fn id_out(id: qdrant_edge::PointId) -> PointId {
    let options = match id {
        qdrant_edge::PointId::NumId(number) => PointIdOptions::Num(number),
        qdrant_edge::PointId::Uuid(uuid) => PointIdOptions::Uuid(uuid.to_string()),
    };
    PointId { point_id_options: Some(options) }
}

pub fn path_in(path: &str) -> Result<JsonPath, Status> {
    path.parse().map_err(|_| Status::invalid_argument(format!("Invalid json path: '{path}'")))
}

pub fn paths_in(paths: Vec<String>) -> Result<Vec<JsonPath>, Status> {
    paths.iter().map(|path| path_in(path)).collect()
}

pub fn payload_in(payload: HashMap<String, Value>) -> Result<Payload, Status> {
    object_in(payload).map(Payload)
}

fn object_in(fields: HashMap<String, Value>) -> Result<Map<String, Json>, Status> {
    fields.into_iter().map(|(key, value)| Ok((key, json_in(value)?))).collect()
}

fn json_in(value: Value) -> Result<Json, Status> {
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(bool)) => Json::Bool(bool),
        Some(Kind::IntegerValue(integer)) => Json::from(integer),
        Some(Kind::DoubleValue(double)) => Number::from_f64(double)
            .map(Json::Number)
            .ok_or_else(|| Status::invalid_argument(format!("cannot convert {double} to a JSON number")))?,
        Some(Kind::StringValue(string)) => Json::String(string),
        Some(Kind::ListValue(list)) => {
            Json::Array(list.values.into_iter().map(json_in).collect::<Result<_, Status>>()?)
        }
        Some(Kind::StructValue(object)) => Json::Object(object_in(object.fields)?),
    })
}

pub fn payload_out(payload: Option<Payload>) -> HashMap<String, Value> {
    payload
        .map(|payload| payload.0.into_iter().map(|(key, value)| (key, Value::from(value))).collect())
        .unwrap_or_default()
}
