//! Updates: each operation of the protocol as the engine's.

use qdrant_client::qdrant as proto;
use qdrant_client::qdrant::points_update_operation::{self as batch, Operation};
use qdrant_edge::{
    ConditionalInsertOperation, DeletePayloadOp, Filter, PayloadOps, PointIdsList, PointInsertOperations,
    PointOperations, SetPayloadOp, UpdateMode, UpdateOperation, UpdateVectorsOp, VectorOperations,
};
use tonic::Status;

use super::convert::filter::optional_filter_in;
use super::convert::point::{point_in, point_vectors_in};
use super::convert::selector::{Points, points_in};
use super::convert::{path_in, paths_in, payload_in};
use super::status::absent;

pub fn operation_in(operation: proto::PointsUpdateOperation) -> Result<UpdateOperation, Status> {
    match operation.operation.ok_or_else(|| Status::invalid_argument("Operation is missing"))? {
        Operation::Upsert(upsert) => upsert_in(upsert),
        Operation::SetPayload(set) => set_payload_in(set),
        Operation::OverwritePayload(overwrite) => overwrite_payload_in(overwrite),
        Operation::DeletePayload(delete) => delete_payload_in(delete),
        Operation::UpdateVectors(update) => update_vectors_in(update),
        Operation::DeleteVectors(delete) => delete_vectors_in(delete),
        Operation::DeletePoints(delete) => {
            single_shard(&delete.shard_key_selector)?;
            delete_points_in(delete.points)
        }
        Operation::ClearPayload(clear) => {
            single_shard(&clear.shard_key_selector)?;
            clear_payload_in(clear.points)
        }
        #[allow(deprecated)]
        Operation::DeleteDeprecated(points) => delete_points_in(Some(points)),
        #[allow(deprecated)]
        Operation::ClearPayloadDeprecated(points) => clear_payload_in(Some(points)),
    }
}

/// A collection here is one shard.
pub fn single_shard(selector: &Option<proto::ShardKeySelector>) -> Result<(), Status> {
    absent(selector, "shard keys")
}

fn upsert_in(upsert: batch::PointStructList) -> Result<UpdateOperation, Status> {
    let batch::PointStructList { points, shard_key_selector, update_filter, update_mode } = upsert;
    single_shard(&shard_key_selector)?;
    let points_op = PointInsertOperations::PointsList(points.into_iter().map(point_in).collect::<Result<_, Status>>()?);
    let mode = match update_mode.map(proto::UpdateMode::try_from) {
        None => None,
        Some(Ok(proto::UpdateMode::Upsert)) => Some(UpdateMode::Upsert),
        Some(Ok(proto::UpdateMode::InsertOnly)) => Some(UpdateMode::InsertOnly),
        Some(Ok(proto::UpdateMode::UpdateOnly)) => Some(UpdateMode::UpdateOnly),
        Some(Err(_)) => return Err(Status::invalid_argument("unknown update mode")),
    };
    let operation = match (optional_filter_in(update_filter)?, mode) {
        (None, None | Some(UpdateMode::Upsert)) => PointOperations::UpsertPoints(points_op),
        (condition, update_mode) => PointOperations::UpsertPointsConditional(ConditionalInsertOperation {
            points_op,
            // An empty filter matches every point.
            condition: condition.unwrap_or_else(Filter::new),
            update_mode,
        }),
    };
    Ok(UpdateOperation::PointOperation(operation))
}

fn delete_points_in(points: Option<proto::PointsSelector>) -> Result<UpdateOperation, Status> {
    Ok(UpdateOperation::PointOperation(match points_in(points)? {
        Points::Ids(ids) => PointOperations::DeletePoints { ids },
        Points::Matching(filter) => PointOperations::DeletePointsByFilter(filter),
    }))
}

fn update_vectors_in(update: batch::UpdateVectors) -> Result<UpdateOperation, Status> {
    let batch::UpdateVectors { points, shard_key_selector, update_filter } = update;
    single_shard(&shard_key_selector)?;
    Ok(UpdateOperation::VectorOperation(VectorOperations::UpdateVectors(UpdateVectorsOp {
        points: points.into_iter().map(point_vectors_in).collect::<Result<_, Status>>()?,
        update_filter: optional_filter_in(update_filter)?,
    })))
}

fn delete_vectors_in(delete: batch::DeleteVectors) -> Result<UpdateOperation, Status> {
    let batch::DeleteVectors { points_selector, vectors, shard_key_selector } = delete;
    single_shard(&shard_key_selector)?;
    let names = vectors.ok_or_else(|| Status::invalid_argument("VectorsSelector is expected"))?.names;
    Ok(UpdateOperation::VectorOperation(match points_in(points_selector)? {
        Points::Ids(ids) => VectorOperations::DeleteVectors(PointIdsList::from(ids), names),
        Points::Matching(filter) => VectorOperations::DeleteVectorsByFilter(filter, names),
    }))
}

fn set_payload_in(set: batch::SetPayload) -> Result<UpdateOperation, Status> {
    let batch::SetPayload { payload, points_selector, shard_key_selector, key } = set;
    single_shard(&shard_key_selector)?;
    let (points, filter) = points_in(points_selector)?.split();
    Ok(UpdateOperation::PayloadOperation(PayloadOps::SetPayload(SetPayloadOp {
        payload: payload_in(payload)?,
        points,
        filter,
        key: key.map(|key| path_in(&key)).transpose()?,
    })))
}

fn overwrite_payload_in(overwrite: batch::OverwritePayload) -> Result<UpdateOperation, Status> {
    let batch::OverwritePayload { payload, points_selector, shard_key_selector, key } = overwrite;
    single_shard(&shard_key_selector)?;
    // The engine overwrites whole payloads only.
    absent(&key, "overwriting a payload under a key")?;
    let (points, filter) = points_in(points_selector)?.split();
    Ok(UpdateOperation::PayloadOperation(PayloadOps::OverwritePayload(SetPayloadOp {
        payload: payload_in(payload)?,
        points,
        filter,
        key: None,
    })))
}

fn delete_payload_in(delete: batch::DeletePayload) -> Result<UpdateOperation, Status> {
    let batch::DeletePayload { keys, points_selector, shard_key_selector } = delete;
    single_shard(&shard_key_selector)?;
    let (points, filter) = points_in(points_selector)?.split();
    Ok(UpdateOperation::PayloadOperation(PayloadOps::DeletePayload(DeletePayloadOp {
        keys: paths_in(keys)?,
        points,
        filter,
    })))
}

fn clear_payload_in(points: Option<proto::PointsSelector>) -> Result<UpdateOperation, Status> {
    Ok(UpdateOperation::PayloadOperation(match points_in(points)? {
        Points::Ids(points) => PayloadOps::ClearPayload { points },
        Points::Matching(filter) => PayloadOps::ClearPayloadByFilter(filter),
    }))
}
