//! The service `qdrant.Points`.

use std::sync::Arc;
use std::time::Instant;

use prost::Message;
use qdrant_client::qdrant as proto;
use qdrant_client::qdrant::points_server::Points;
use qdrant_client::qdrant::points_update_operation::{self as batch, Operation};
use qdrant_edge::{CreateIndex, FieldIndexOperations, UpdateOperation};
use tonic::{Request, Response, Status};

use super::collections::seconds;
use super::convert::index::schema_in;
use super::convert::path_in;
use super::engine::{Collection, Engine};
use super::operations::operation_in;
use super::service::{Service, refuse};
use super::{reads, strict};

/// What every update carries beside its operation.
struct Target {
    collection: String,
    wait: Option<bool>,
    ordering: Option<proto::WriteOrdering>,
    timeout: Option<u64>,
}

/// Takes the [`Target`] out of a request.
macro_rules! target {
    ($request:expr) => {
        Target {
            collection: $request.collection_name,
            wait: $request.wait,
            ordering: $request.ordering,
            timeout: $request.timeout,
        }
    };
}

/// One operation of an update, as it came.
enum Step {
    Points(Option<Operation>),
    Index(FieldIndexOperations),
}

impl Step {
    /// As the engine takes it, when nothing stands before it.
    fn admitted(self, collection: &Collection, timeout: Option<u64>) -> Result<UpdateOperation, Status> {
        match self {
            Self::Points(operation) => {
                if let Some(operation) = &operation {
                    strict::check_update(collection, operation, timeout)?;
                }
                operation_in(proto::PointsUpdateOperation { operation })
            }
            Self::Index(operation) => {
                if matches!(operation, FieldIndexOperations::CreateIndex(_)) {
                    strict::check_index(collection)?;
                }
                Ok(UpdateOperation::FieldIndexOperation(operation))
            }
        }
    }
}

type Updated = Result<Response<proto::PointsOperationResponse>, Status>;

#[tonic::async_trait]
impl Points for Service {
    async fn upsert(&self, request: Request<proto::UpsertPoints>) -> Updated {
        let request = request.into_inner();
        let operation = Operation::Upsert(batch::PointStructList {
            points: request.points,
            shard_key_selector: request.shard_key_selector,
            update_filter: request.update_filter,
            update_mode: request.update_mode,
        });
        self.update_one(target!(request), operation).await
    }

    async fn delete(&self, request: Request<proto::DeletePoints>) -> Updated {
        let request = request.into_inner();
        let operation = Operation::DeletePoints(batch::DeletePoints {
            points: request.points,
            shard_key_selector: request.shard_key_selector,
        });
        self.update_one(target!(request), operation).await
    }

    async fn update_vectors(&self, request: Request<proto::UpdatePointVectors>) -> Updated {
        let request = request.into_inner();
        let operation = Operation::UpdateVectors(batch::UpdateVectors {
            points: request.points,
            shard_key_selector: request.shard_key_selector,
            update_filter: request.update_filter,
        });
        self.update_one(target!(request), operation).await
    }

    async fn delete_vectors(&self, request: Request<proto::DeletePointVectors>) -> Updated {
        let request = request.into_inner();
        let operation = Operation::DeleteVectors(batch::DeleteVectors {
            points_selector: request.points_selector,
            vectors: request.vectors,
            shard_key_selector: request.shard_key_selector,
        });
        self.update_one(target!(request), operation).await
    }

    async fn set_payload(&self, request: Request<proto::SetPayloadPoints>) -> Updated {
        let request = request.into_inner();
        let operation = Operation::SetPayload(batch::SetPayload {
            payload: request.payload,
            points_selector: request.points_selector,
            shard_key_selector: request.shard_key_selector,
            key: request.key,
        });
        self.update_one(target!(request), operation).await
    }

    async fn overwrite_payload(&self, request: Request<proto::SetPayloadPoints>) -> Updated {
        let request = request.into_inner();
        let operation = Operation::OverwritePayload(batch::OverwritePayload {
            payload: request.payload,
            points_selector: request.points_selector,
            shard_key_selector: request.shard_key_selector,
            key: request.key,
        });
        self.update_one(target!(request), operation).await
    }

    async fn delete_payload(&self, request: Request<proto::DeletePayloadPoints>) -> Updated {
        let request = request.into_inner();
        let operation = Operation::DeletePayload(batch::DeletePayload {
            keys: request.keys,
            points_selector: request.points_selector,
            shard_key_selector: request.shard_key_selector,
        });
        self.update_one(target!(request), operation).await
    }

    async fn clear_payload(&self, request: Request<proto::ClearPayloadPoints>) -> Updated {
        let request = request.into_inner();
        let operation = Operation::ClearPayload(batch::ClearPayload {
            points: request.points,
            shard_key_selector: request.shard_key_selector,
        });
        self.update_one(target!(request), operation).await
    }

    async fn create_field_index(&self, request: Request<proto::CreateFieldIndexCollection>) -> Updated {
        let request = request.into_inner();
        let operation = FieldIndexOperations::CreateIndex(CreateIndex {
            field_name: path_in(&request.field_name)?,
            field_schema: Some(schema_in(request.field_type, request.field_index_params)?),
        });
        self.updated(target!(request), Step::Index(operation)).await
    }

    async fn delete_field_index(&self, request: Request<proto::DeleteFieldIndexCollection>) -> Updated {
        let request = request.into_inner();
        let operation = FieldIndexOperations::DeleteIndex(path_in(&request.field_name)?);
        self.updated(target!(request), Step::Index(operation)).await
    }

    async fn update_batch(
        &self,
        request: Request<proto::UpdateBatchPoints>,
    ) -> Result<Response<proto::UpdateBatchResponse>, Status> {
        let start = Instant::now();
        let request = request.into_inner();
        self.faults.count_update(request.operations.len(), request.encoded_len());
        let steps = request.operations.into_iter().map(|operation| Step::Points(operation.operation)).collect();
        let result = self.update(target!(request), steps).await?;
        Ok(Response::new(proto::UpdateBatchResponse { result, time: seconds(start), usage: None }))
    }

    async fn get(&self, request: Request<proto::GetPoints>) -> Result<Response<proto::GetResponse>, Status> {
        let start = Instant::now();
        let request = request.into_inner();
        // With one replica every consistency holds.
        self.faults.read_with(request.read_consistency.as_ref())?;
        let asked_bytes = request.encoded_len();
        let result = self.run(request.timeout, move |engine| reads::get(engine, request)).await?;
        let response = proto::GetResponse { result, time: seconds(start), usage: None };
        self.faults.count_read(asked_bytes + response.encoded_len());
        Ok(Response::new(response))
    }

    async fn scroll(&self, request: Request<proto::ScrollPoints>) -> Result<Response<proto::ScrollResponse>, Status> {
        let start = Instant::now();
        let request = request.into_inner();
        let (result, next_page_offset) =
            self.run(request.timeout, move |engine| reads::scroll(engine, request)).await?;
        Ok(Response::new(proto::ScrollResponse { next_page_offset, result, time: seconds(start), usage: None }))
    }

    async fn count(&self, request: Request<proto::CountPoints>) -> Result<Response<proto::CountResponse>, Status> {
        let start = Instant::now();
        let request = request.into_inner();
        let count = self.run(request.timeout, move |engine| reads::count(engine, request)).await?;
        let result = Some(proto::CountResult { count });
        Ok(Response::new(proto::CountResponse { result, time: seconds(start), usage: None }))
    }

    async fn query(&self, request: Request<proto::QueryPoints>) -> Result<Response<proto::QueryResponse>, Status> {
        let start = Instant::now();
        let request = request.into_inner();
        let result = self.run(request.timeout, move |engine| reads::query(engine, request)).await?;
        Ok(Response::new(proto::QueryResponse { result, time: seconds(start), usage: None }))
    }

    async fn search(&self, request: Request<proto::SearchPoints>) -> Result<Response<proto::SearchResponse>, Status> {
        let start = Instant::now();
        let request = request.into_inner();
        let result = self.run(request.timeout, move |engine| reads::search(engine, request)).await?;
        Ok(Response::new(proto::SearchResponse { result, time: seconds(start), usage: None }))
    }

    refuse! { "Points":
        create_vector_name(proto::CreateVectorNameRequest) -> proto::PointsOperationResponse;
        delete_vector_name(proto::DeleteVectorNameRequest) -> proto::PointsOperationResponse;
        search_batch(proto::SearchBatchPoints) -> proto::SearchBatchResponse;
        search_groups(proto::SearchPointGroups) -> proto::SearchGroupsResponse;
        recommend(proto::RecommendPoints) -> proto::RecommendResponse;
        recommend_batch(proto::RecommendBatchPoints) -> proto::RecommendBatchResponse;
        recommend_groups(proto::RecommendPointGroups) -> proto::RecommendGroupsResponse;
        discover(proto::DiscoverPoints) -> proto::DiscoverResponse;
        discover_batch(proto::DiscoverBatchPoints) -> proto::DiscoverBatchResponse;
        query_batch(proto::QueryBatchPoints) -> proto::QueryBatchResponse;
        query_groups(proto::QueryPointGroups) -> proto::QueryGroupsResponse;
        facet(proto::FacetCounts) -> proto::FacetResponse;
        search_matrix_pairs(proto::SearchMatrixPoints) -> proto::SearchMatrixPairsResponse;
        search_matrix_offsets(proto::SearchMatrixPoints) -> proto::SearchMatrixOffsetsResponse;
    }
}

impl Service {
    async fn update_one(&self, target: Target, operation: Operation) -> Updated {
        self.updated(target, Step::Points(Some(operation))).await
    }

    async fn updated(&self, target: Target, step: Step) -> Updated {
        let start = Instant::now();
        let result = self.update(target, vec![step]).await?.pop();
        Ok(Response::new(proto::PointsOperationResponse { result, time: seconds(start), usage: None }))
    }

    /// Applies the operations in order and answers one result for each.
    ///
    /// An update is applied before it is answered even without `wait`, and its error is then told too; a Qdrant server
    /// answers `Acknowledged` and only logs it. With one shard and one replica every write ordering holds.
    async fn update(&self, target: Target, steps: Vec<Step>) -> Result<Vec<proto::UpdateResult>, Status> {
        let Target { collection, wait, ordering, timeout } = target;
        if ordering.is_some_and(|ordering| proto::WriteOrderingType::try_from(ordering.r#type).is_err()) {
            return Err(Status::invalid_argument("Unknown write ordering"));
        }
        let count = steps.len();
        let faults = Arc::clone(&self.faults);
        let apply = move |engine: &Engine| {
            let collection = engine.collection(&collection)?;
            // One after the other, as the server does: what is refused was preceded by what was not.
            let operations = steps.into_iter().map(|step| {
                faults.linger();
                step.admitted(&collection, timeout)
            });
            collection.apply(operations)
        };
        let applied = self.within(timeout, apply).await?;
        let status = match (wait.unwrap_or_default(), &applied) {
            (true, Some(_)) if self.faults.take_wait_timeout() => proto::UpdateStatus::WaitTimeout,
            (true, Some(_)) => proto::UpdateStatus::Completed,
            (true, None) => proto::UpdateStatus::WaitTimeout,
            (false, _) => proto::UpdateStatus::Acknowledged,
        };
        let ids = applied.map_or_else(|| vec![None; count], |ids| ids.into_iter().map(Some).collect());
        Ok(ids.into_iter().map(|operation_id| proto::UpdateResult { operation_id, status: status as i32 }).collect())
    }
}
