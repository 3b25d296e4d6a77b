//! Errors as Qdrant answers them: the gRPC code and the wording of its `StorageError`.

use qdrant_edge::OperationError;
use tonic::Status;

/// A request that is well formed for Qdrant, but not for this endpoint: what exactly it does not do.
pub fn unsupported(what: &str) -> Status {
    Status::unimplemented(format!("the test endpoint does not support {what}"))
}

/// Refuses a field that the endpoint would otherwise ignore.
pub fn absent<T>(field: &Option<T>, what: &str) -> Result<(), Status> {
    if field.is_some() { Err(unsupported(what)) } else { Ok(()) }
}

pub fn wrong_input(message: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("Wrong input: {message}"))
}

pub fn no_collection(name: &str) -> Status {
    Status::not_found(format!("Not found: Collection `{name}` doesn't exist!"))
}

pub fn internal(error: impl std::fmt::Display) -> Status {
    Status::internal(format!("Service internal error: {error}"))
}

/// The engine's error, as Qdrant's server passes it on.
pub fn from_engine(error: OperationError) -> Status {
    match error {
        OperationError::PointIdError { missed_point_id } => {
            Status::not_found(format!("Not found: No point with id {missed_point_id} found"))
        }
        OperationError::WrongVectorDimension { .. }
        | OperationError::VectorNameNotExists { .. }
        | OperationError::TypeError { .. }
        | OperationError::TypeInferenceError { .. }
        | OperationError::ValidationError { .. }
        | OperationError::WrongSparse
        | OperationError::WrongMulti
        | OperationError::MissingRangeIndexForOrderBy { .. }
        | OperationError::MissingMapIndexForFacet { .. }
        | OperationError::VariableTypeError { .. }
        | OperationError::NonFiniteNumber { .. } => wrong_input(error),
        OperationError::Timeout { .. } => Status::deadline_exceeded(error.to_string()),
        OperationError::ServiceError { .. }
        | OperationError::InconsistentStorage { .. }
        | OperationError::OutOfMemory { .. }
        | OperationError::Cancelled { .. } => internal(error),
    }
}
