//! Qdrant's calls over our own channels. `qdrant_client::Qdrant` opens its channels itself and trusts only the system's
//! certificate authorities; its generated services accept any channel.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use qdrant_client::QdrantError;
use qdrant_client::qdrant::alias_operations::Action;
use qdrant_client::qdrant::collections_client::CollectionsClient;
use qdrant_client::qdrant::points_client::PointsClient;
use qdrant_client::qdrant::qdrant_client::QdrantClient;
use qdrant_client::qdrant::{
    AliasOperations, ChangeAliases, CollectionOperationResponse, CountPoints, CountResponse, CreateAlias,
    CreateCollection, CreateFieldIndexCollection, DeleteAlias, GetCollectionInfoRequest, GetCollectionInfoResponse,
    GetPoints, GetResponse, HealthCheckReply, HealthCheckRequest, ListAliasesRequest, ListAliasesResponse,
    PointsOperationResponse, QueryPoints, QueryResponse, ScrollPoints, ScrollResponse, UpdateBatchPoints,
    UpdateBatchResponse,
};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use super::error;
use super::nodes::{Home, Nodes};
use crate::config::StoreSettings;
use crate::domain::{Finding, StoreReason};
use crate::redact::{self, Secret};
use crate::store::StoreError;
use crate::tls;

/// Longest wait for a connection; a request may take all of `store.timeout_ms`.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);
const API_KEY: &str = "api-key";

/// A handle on shared connections; cheap to clone. Its calls go to one cluster node while that can serve them, so that
/// each call sees what the previous ones saw.
#[derive(Clone)]
pub(super) struct Client {
    nodes: Arc<Nodes>,
    home: Home,
    api_key: Option<MetadataValue<Ascii>>,
}

impl Client {
    /// Connects on the first call, and again after a connection broke.
    ///
    /// # Errors
    /// `store_url_invalid`, or `store_settings_invalid` for `store.ca_file` and `store.api_key`.
    pub fn new(settings: &StoreSettings) -> Result<Self, StoreError> {
        let endpoints = settings.urls().map(|url| Ok((redact::url(url), endpoint(url, settings)?)));
        let endpoints = endpoints.collect::<Result<Vec<_>, StoreError>>()?;
        if endpoints.is_empty() {
            return Err(error::invalid_url("", &"it is empty"));
        }
        let api_key = match &settings.api_key {
            None => None,
            Some(key) => {
                let mut key = MetadataValue::try_from(Secret::expose(key)).map_err(|_| {
                    let message = "store.api_key has characters that no header can carry";
                    StoreError::new(StoreReason::SettingsInvalid, message).hint("copy it again")
                })?;
                key.set_sensitive(true);
                Some(key)
            }
        };
        Ok(Self { nodes: Arc::new(Nodes::new(endpoints)), home: Home::default(), api_key })
    }

    /// A handle for a sequence of calls, at the next node in turn.
    pub fn begin(&self) -> Self {
        Self { home: self.nodes.home(), ..self.clone() }
    }

    /// The node that answered last, and how often a connection to it was opened.
    pub fn place(&self) -> (usize, u64) {
        let node = self.home.load(Ordering::Relaxed);
        (node, self.nodes.opened(node))
    }

    /// Redacted addresses of the nodes.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.nodes.urls()
    }

    /// The health reply of one node, by its index in [`Self::urls`].
    pub async fn health_of(&self, node: usize) -> Result<HealthCheckReply, QdrantError> {
        let answer = self.nodes.call_at(node, |channel| {
            let mut service = QdrantClient::with_interceptor(channel, self.key());
            async move { service.health_check(HealthCheckRequest {}).await }
        });
        Ok(answer.await?)
    }

    /// Adds the key to a call.
    fn key(&self) -> impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + use<> {
        let key = self.api_key.clone();
        move |mut request| {
            if let Some(key) = &key {
                request.metadata_mut().insert(API_KEY, key.clone());
            }
            Ok(request)
        }
    }

    /// `request` is called for each attempt.
    pub async fn update_points_batch(
        &self,
        request: impl Fn() -> UpdateBatchPoints,
    ) -> Result<UpdateBatchResponse, QdrantError> {
        let answer = self.nodes.call(&self.home, |channel| {
            let mut service = PointsClient::with_interceptor(channel, self.key()).max_decoding_message_size(usize::MAX);
            let request = request();
            async move { service.update_batch(request).await }
        });
        Ok(answer.await?)
    }

    pub async fn list_aliases(&self) -> Result<ListAliasesResponse, QdrantError> {
        self.aliases(ListAliasesRequest {}).await
    }

    pub async fn create_alias(
        &self,
        alias: impl Into<CreateAlias>,
    ) -> Result<CollectionOperationResponse, QdrantError> {
        self.change_alias(Action::CreateAlias(alias.into())).await
    }

    pub async fn delete_alias(&self, alias_name: String) -> Result<CollectionOperationResponse, QdrantError> {
        self.change_alias(Action::DeleteAlias(DeleteAlias { alias_name })).await
    }

    async fn change_alias(&self, action: Action) -> Result<CollectionOperationResponse, QdrantError> {
        let actions = vec![AliasOperations { action: Some(action) }];
        self.change_aliases(ChangeAliases { actions, timeout: None }).await
    }
}

/// One address with the shared connection settings.
fn endpoint(url: &str, settings: &StoreSettings) -> Result<Endpoint, StoreError> {
    let timeout = Duration::from_millis(settings.timeout_ms);
    let invalid = |why: &dyn Display| error::invalid_url(&redact::url(url), why);
    let unusable = |found| StoreError::found(StoreReason::SettingsInvalid, found);
    let endpoint = Endpoint::from_shared(url.to_owned())
        .and_then(|endpoint| endpoint.user_agent(concat!("clipstream/", env!("CARGO_PKG_VERSION"))))
        .map_err(|why| invalid(&why))?
        .timeout(timeout)
        .connect_timeout(timeout.min(CONNECT_TIMEOUT_MAX));
    match endpoint.uri().scheme_str() {
        Some("https") => {
            let trust = match &settings.ca_file {
                Some(file) => {
                    let pem = tls::authority("store.ca_file", file).map_err(unusable)?;
                    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
                }
                None => ClientTlsConfig::new().with_native_roots(),
            };
            endpoint.tls_config(trust).map_err(|why| {
                let found = Finding::new(format!("TLS cannot be set up: {}", redact::root_cause(&why)));
                unusable(found.hint("check store.url and store.ca_file"))
            })
        }
        Some("http") => Ok(endpoint),
        _ => Err(invalid(&"it has no http:// or https://")),
    }
}

/// Our name of a call: the service, its method, the request and the response.
macro_rules! calls {
    ($($visibility:vis $name:ident: $service:ident.$method:ident($request:ty) -> $response:ty;)*) => {
        impl Client {
            $($visibility async fn $name(&self, request: impl Into<$request>) -> Result<$response, QdrantError> {
                let request = request.into();
                let answer = self.nodes.call(&self.home, |channel| {
                    let mut service =
                        $service::with_interceptor(channel, self.key()).max_decoding_message_size(usize::MAX);
                    let request = request.clone();
                    async move { service.$method(request).await }
                });
                Ok(answer.await?)
            })*
        }
    };
}

calls! {
    pub get_points: PointsClient.get(GetPoints) -> GetResponse;
    pub query: PointsClient.query(QueryPoints) -> QueryResponse;
    pub scroll: PointsClient.scroll(ScrollPoints) -> ScrollResponse;
    pub count: PointsClient.count(CountPoints) -> CountResponse;
    pub create_field_index: PointsClient.create_field_index(CreateFieldIndexCollection) -> PointsOperationResponse;
    pub collection_info: CollectionsClient.get(GetCollectionInfoRequest) -> GetCollectionInfoResponse;
    pub create_collection: CollectionsClient.create(CreateCollection) -> CollectionOperationResponse;
    change_aliases: CollectionsClient.update_aliases(ChangeAliases) -> CollectionOperationResponse;
    aliases: CollectionsClient.list_aliases(ListAliasesRequest) -> ListAliasesResponse;
}
