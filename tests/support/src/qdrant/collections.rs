//! The services `qdrant.Qdrant` and `qdrant.Collections`.

use std::time::Instant;

use qdrant_client::qdrant::alias_operations::Action;
use qdrant_client::qdrant::collections_server::Collections;
use qdrant_client::qdrant::qdrant_server::Qdrant;
use qdrant_client::qdrant::{
    AliasDescription, ChangeAliases, CollectionClusterInfoRequest, CollectionClusterInfoResponse,
    CollectionDescription, CollectionExists, CollectionExistsRequest, CollectionExistsResponse, CollectionInfo,
    CollectionOperationResponse, CollectionStatus, CreateCollection, CreateShardKeyRequest, CreateShardKeyResponse,
    DeleteCollection, DeleteShardKeyRequest, DeleteShardKeyResponse, GetCollectionInfoRequest,
    GetCollectionInfoResponse, HealthCheckReply, HealthCheckRequest, ListAliasesRequest, ListAliasesResponse,
    ListCollectionAliasesRequest, ListCollectionsRequest, ListCollectionsResponse, ListShardKeysRequest,
    ListShardKeysResponse, OptimizerStatus, UpdateCollection, UpdateCollectionClusterSetupRequest,
    UpdateCollectionClusterSetupResponse,
};
use tonic::{Code, Request, Response, Status};

use super::convert::config::config_out;
use super::convert::index::index_out;
use super::engine::{Collection, Engine};
use super::service::{Service, refuse};
use super::status::{absent, collection_exists, no_alias, no_collection};
use super::{IMITATES, strict};

#[tonic::async_trait]
impl Qdrant for Service {
    async fn health_check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckReply>, Status> {
        Ok(Response::new(HealthCheckReply {
            title: "clipstream test endpoint on qdrant-edge 0.7.2".to_owned(),
            // The suffix tells that this is not a Qdrant server.
            version: format!("{IMITATES}-test-endpoint"),
            commit: None,
        }))
    }
}

#[tonic::async_trait]
impl Collections for Service {
    async fn get(
        &self,
        request: Request<GetCollectionInfoRequest>,
    ) -> Result<Response<GetCollectionInfoResponse>, Status> {
        let start = Instant::now();
        let name = request.into_inner().collection_name;
        let result = self.run(None, move |engine| Ok(info(&*engine.collection(&name)?))).await?;
        Ok(Response::new(GetCollectionInfoResponse { result: Some(result), time: seconds(start) }))
    }

    async fn list(&self, _: Request<ListCollectionsRequest>) -> Result<Response<ListCollectionsResponse>, Status> {
        let start = Instant::now();
        let names = self.run(None, Engine::names).await?;
        let collections = names.into_iter().map(|name| CollectionDescription { name }).collect();
        Ok(Response::new(ListCollectionsResponse { collections, time: seconds(start) }))
    }

    async fn create(
        &self,
        request: Request<CreateCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let mut definition = request.into_inner();
        self.change(definition.timeout.take(), move |engine| engine.create(definition).map(|()| true)).await
    }

    async fn update(
        &self,
        request: Request<UpdateCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let UpdateCollection {
            collection_name,
            optimizers_config,
            timeout,
            params,
            hnsw_config,
            vectors_config,
            quantization_config,
            sparse_vectors_config,
            strict_mode_config,
            metadata,
        } = request.into_inner();
        absent(&optimizers_config, "changes of `optimizers_config`")?;
        absent(&params, "changes of `params`")?;
        absent(&hnsw_config, "changes of `hnsw_config`")?;
        absent(&vectors_config, "changes of `vectors_config`")?;
        absent(&quantization_config, "changes of `quantization_config`")?;
        absent(&sparse_vectors_config, "changes of `sparse_vectors_config`")?;
        strict_mode_config.as_ref().map_or(Ok(()), strict::supported)?;
        let change = move |engine: &Engine| {
            engine.collection(&collection_name)?.merge(metadata, strict_mode_config).map(|()| true)
        };
        self.change(timeout, change).await
    }

    async fn delete(
        &self,
        request: Request<DeleteCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let DeleteCollection { collection_name, timeout } = request.into_inner();
        self.change(timeout, move |engine| engine.delete(&collection_name)).await
    }

    async fn update_aliases(
        &self,
        request: Request<ChangeAliases>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let ChangeAliases { actions, timeout } = request.into_inner();
        let actions = actions
            .into_iter()
            .map(|operation| operation.action.ok_or_else(|| Status::invalid_argument("Malformed AliasOperation type")))
            .collect::<Result<Vec<_>, _>>()?;
        self.change(timeout, move |engine| change_aliases(engine, actions).map(|()| true)).await
    }

    async fn list_collection_aliases(
        &self,
        request: Request<ListCollectionAliasesRequest>,
    ) -> Result<Response<ListAliasesResponse>, Status> {
        let name = request.into_inner().collection_name;
        self.list_aliases_of(move |collection| collection == name).await
    }

    async fn list_aliases(&self, _: Request<ListAliasesRequest>) -> Result<Response<ListAliasesResponse>, Status> {
        self.list_aliases_of(|_| true).await
    }

    async fn collection_exists(
        &self,
        request: Request<CollectionExistsRequest>,
    ) -> Result<Response<CollectionExistsResponse>, Status> {
        let start = Instant::now();
        let name = request.into_inner().collection_name;
        let exists = self
            .run(None, move |engine| match engine.collection(&name) {
                Ok(_) => Ok(true),
                Err(status) if status.code() == Code::NotFound => Ok(false),
                Err(status) => Err(status),
            })
            .await?;
        Ok(Response::new(CollectionExistsResponse { result: Some(CollectionExists { exists }), time: seconds(start) }))
    }

    refuse! { "Collections":
        collection_cluster_info(CollectionClusterInfoRequest) -> CollectionClusterInfoResponse;
        update_collection_cluster_setup(UpdateCollectionClusterSetupRequest) -> UpdateCollectionClusterSetupResponse;
        create_shard_key(CreateShardKeyRequest) -> CreateShardKeyResponse;
        delete_shard_key(DeleteShardKeyRequest) -> DeleteShardKeyResponse;
        list_shard_keys(ListShardKeysRequest) -> ListShardKeysResponse;
    }
}

impl Service {
    async fn change(
        &self,
        timeout: Option<u64>,
        change: impl FnOnce(&Engine) -> Result<bool, Status> + Send + 'static,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let start = Instant::now();
        let result = self.run(timeout, change).await?;
        Ok(Response::new(CollectionOperationResponse { result, time: seconds(start) }))
    }

    async fn list_aliases_of(&self, wanted: impl Fn(&str) -> bool) -> Result<Response<ListAliasesResponse>, Status> {
        let start = Instant::now();
        let aliases = self
            .run(None, Engine::aliases)
            .await?
            .into_iter()
            .filter(|(_, collection)| wanted(collection))
            .map(|(alias_name, collection_name)| AliasDescription { alias_name, collection_name })
            .collect();
        Ok(Response::new(ListAliasesResponse { aliases, time: seconds(start) }))
    }
}

fn info(collection: &Collection) -> CollectionInfo {
    let shard = collection.shard.info();
    CollectionInfo {
        // The endpoint runs no optimizer, so there is never one at work.
        status: CollectionStatus::Green as i32,
        optimizer_status: Some(OptimizerStatus { ok: true, error: String::new() }),
        segments_count: shard.segments_count as u64,
        config: Some(config_out(collection.definition())),
        payload_schema: shard.payload_schema.iter().map(|(key, info)| (key.to_string(), index_out(info))).collect(),
        points_count: Some(shard.points_count as u64),
        indexed_vectors_count: Some(shard.indexed_vectors_count as u64),
        ..CollectionInfo::default()
    }
}

fn change_aliases(engine: &Engine, actions: Vec<Action>) -> Result<(), Status> {
    engine.change_aliases(|aliases, is_collection| {
        let free = |alias: &str| {
            if is_collection(alias) {
                return Err(collection_exists(alias));
            }
            Ok(())
        };
        for action in actions {
            match action {
                Action::CreateAlias(create) => {
                    if !is_collection(&create.collection_name) {
                        return Err(no_collection(&create.collection_name));
                    }
                    free(&create.alias_name)?;
                    aliases.insert(create.alias_name, create.collection_name);
                }
                Action::RenameAlias(rename) => {
                    free(&rename.new_alias_name)?;
                    let collection =
                        aliases.remove(&rename.old_alias_name).ok_or_else(|| no_alias(&rename.old_alias_name))?;
                    aliases.insert(rename.new_alias_name, collection);
                }
                Action::DeleteAlias(delete) => {
                    aliases.remove(&delete.alias_name);
                }
            }
        }
        Ok(())
    })
}

pub(super) fn seconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64()
}
