//! Qdrant's calls over channels of our own. `qdrant_client::Qdrant` opens its channels itself and trusts the system's
//! authorities only; its generated services take any channel.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use qdrant_client::QdrantError;
use qdrant_client::qdrant::alias_operations::Action;
use qdrant_client::qdrant::collections_client::CollectionsClient;
use qdrant_client::qdrant::points_client::PointsClient;
use qdrant_client::qdrant::qdrant_client::QdrantClient;
use qdrant_client::qdrant::{
    AliasOperations, ChangeAliases, CollectionOperationResponse, CountPoints, CountResponse, CreateAlias,
    CreateCollection, CreateFieldIndexCollection, GetCollectionInfoRequest, GetCollectionInfoResponse, GetPoints,
    GetResponse, HealthCheckReply, HealthCheckRequest, ListAliasesRequest, ListAliasesResponse,
    PointsOperationResponse, QueryPoints, QueryResponse, ScrollPoints, ScrollResponse, UpdateBatchPoints,
    UpdateBatchResponse,
};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::config::StoreSettings;
use crate::redact::{self, Secret};
use crate::tls;

/// Longest wait for a connection; a request may take all of `store.timeout_ms`.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// Connections, used in turn: one carries many calls, but only one packet at a time.
const CHANNELS: usize = 3;
const API_KEY: &str = "api-key";
/// How the message of a status begins that no server has sent: the connection could not be opened.
pub(super) const CONNECT_FAILED: &str = "cannot connect: ";

/// Why the settings allow no client.
pub(super) enum Unusable {
    Url(String),
    /// `store.ca_file` or `store.api_key`; says which.
    Setting(String),
}

/// A handle on shared connections; cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    endpoint: Endpoint,
    channels: Arc<[RwLock<Option<Channel>>; CHANNELS]>,
    turn: Arc<AtomicUsize>,
    api_key: Option<MetadataValue<Ascii>>,
}

impl Client {
    /// Connects with the first calls, and again after a connection broke.
    pub fn new(settings: &StoreSettings) -> Result<Self, Unusable> {
        let timeout = Duration::from_millis(settings.timeout_ms);
        let mut endpoint = Endpoint::from_shared(settings.url.clone())
            .and_then(|endpoint| endpoint.user_agent(concat!("clipstream/", env!("CARGO_PKG_VERSION"))))
            .map_err(|why| Unusable::Url(why.to_string()))?
            .timeout(timeout)
            .connect_timeout(timeout.min(CONNECT_TIMEOUT_MAX));
        match endpoint.uri().scheme_str() {
            Some("https") => {
                let trust = match &settings.ca_file {
                    Some(file) => {
                        let pem = tls::authority("store.ca_file", file).map_err(Unusable::Setting)?;
                        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
                    }
                    None => ClientTlsConfig::new().with_native_roots(),
                };
                endpoint = endpoint.tls_config(trust).map_err(|why| {
                    let why = redact::root_cause(&why);
                    Unusable::Setting(format!("TLS cannot be set up: {why}; check store.url and store.ca_file"))
                })?;
            }
            Some("http") => {}
            _ => return Err(Unusable::Url("it has no http:// or https://".to_owned())),
        }
        let api_key = match &settings.api_key {
            None => None,
            Some(key) => {
                let mut key = MetadataValue::try_from(Secret::expose(key)).map_err(|_| {
                    let why = "store.api_key has characters that no header can carry; copy it again";
                    Unusable::Setting(why.to_owned())
                })?;
                key.set_sensitive(true);
                Some(key)
            }
        };
        Ok(Self { endpoint, channels: Arc::default(), turn: Arc::default(), api_key })
    }

    /// Opens a connection in the place of what was there.
    async fn connect(&self, place: &RwLock<Option<Channel>>) -> Result<Channel, Status> {
        let opened = self.endpoint.connect().await;
        let channel =
            opened.map_err(|why| Status::unavailable(format!("{CONNECT_FAILED}{}", redact::root_cause(&why))))?;
        *place.write().unwrap_or_else(PoisonError::into_inner) = Some(channel.clone());
        Ok(channel)
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

    /// Calls once more when the connection broke or the request timed out. Every call of ours may be repeated.
    async fn call<T, F>(&self, call: impl Fn(Channel) -> F) -> Result<T, QdrantError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let place = &self.channels[self.turn.fetch_add(1, Ordering::Relaxed) % CHANNELS];
        let open = place.read().unwrap_or_else(PoisonError::into_inner).clone();
        let channel = match open {
            Some(channel) => channel,
            None => self.connect(place).await?,
        };
        let result = match call(channel).await {
            Err(status)
                if matches!(status.code(), Code::Internal | Code::Unavailable | Code::Cancelled | Code::Unknown) =>
            {
                // Anew, because the server's address may have changed.
                call(self.connect(place).await?).await
            }
            result => result,
        };
        Ok(result?.into_inner())
    }

    pub async fn list_aliases(&self) -> Result<ListAliasesResponse, QdrantError> {
        self.aliases(ListAliasesRequest {}).await
    }

    pub async fn health_check(&self) -> Result<HealthCheckReply, QdrantError> {
        self.health(HealthCheckRequest {}).await
    }

    pub async fn create_alias(
        &self,
        alias: impl Into<CreateAlias>,
    ) -> Result<CollectionOperationResponse, QdrantError> {
        let action = Some(Action::CreateAlias(alias.into()));
        self.change_aliases(ChangeAliases { actions: vec![AliasOperations { action }], timeout: None }).await
    }
}

/// Our name of a call: the service, its own name of it, what goes in and what comes out.
macro_rules! calls {
    ($($visibility:vis $name:ident: $service:ident.$method:ident($request:ty) -> $response:ty;)*) => {
        impl Client {
            $($visibility async fn $name(&self, request: impl Into<$request>) -> Result<$response, QdrantError> {
                let request = request.into();
                self.call(|channel| {
                    let mut service =
                        $service::with_interceptor(channel, self.key()).max_decoding_message_size(usize::MAX);
                    let request = request.clone();
                    async move { service.$method(request).await }
                })
                .await
            })*
        }
    };
}

calls! {
    pub update_points_batch: PointsClient.update_batch(UpdateBatchPoints) -> UpdateBatchResponse;
    pub get_points: PointsClient.get(GetPoints) -> GetResponse;
    pub query: PointsClient.query(QueryPoints) -> QueryResponse;
    pub scroll: PointsClient.scroll(ScrollPoints) -> ScrollResponse;
    pub count: PointsClient.count(CountPoints) -> CountResponse;
    pub create_field_index: PointsClient.create_field_index(CreateFieldIndexCollection) -> PointsOperationResponse;
    pub collection_info: CollectionsClient.get(GetCollectionInfoRequest) -> GetCollectionInfoResponse;
    pub create_collection: CollectionsClient.create(CreateCollection) -> CollectionOperationResponse;
    change_aliases: CollectionsClient.update_aliases(ChangeAliases) -> CollectionOperationResponse;
    aliases: CollectionsClient.list_aliases(ListAliasesRequest) -> ListAliasesResponse;
    health: QdrantClient.health_check(HealthCheckRequest) -> HealthCheckReply;
}
