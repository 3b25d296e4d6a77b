//! What the services share: engine calls on blocking threads, and refusals.

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

use super::engine::Engine;
use super::gate::Faults;
use super::status::internal;

#[derive(Clone)]
pub struct Service {
    pub engine: Arc<Engine>,
    pub faults: Arc<Faults>,
}

impl Service {
    /// Runs an engine call; `None` when it takes longer than `timeout_secs`, in which case it still goes on.
    pub async fn within<T: Send + 'static>(
        &self,
        timeout_secs: Option<u64>,
        call: impl FnOnce(&Engine) -> Result<T, Status> + Send + 'static,
    ) -> Result<Option<T>, Status> {
        let engine = Arc::clone(&self.engine);
        let call = tokio::task::spawn_blocking(move || call(&engine));
        let outcome = match timeout_secs {
            None => call.await,
            Some(secs) => match tokio::time::timeout(Duration::from_secs(secs), call).await {
                Ok(outcome) => outcome,
                Err(_) => return Ok(None),
            },
        };
        outcome.map_err(internal)?.map(Some)
    }

    pub async fn run<T: Send + 'static>(
        &self,
        timeout_secs: Option<u64>,
        call: impl FnOnce(&Engine) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        self.within(timeout_secs, call)
            .await?
            .ok_or_else(|| Status::deadline_exceeded(format!("Timeout: the call took over {timeout_secs:?} seconds")))
    }
}

/// Methods of a service that the endpoint does not have: each answers `Unimplemented` with its name.
///
/// `async_trait` does not see into a macro, so these are written as it would expand them.
macro_rules! refuse {
    ($service:literal: $($name:ident($request:ty) -> $response:ty;)*) => {$(
        fn $name<'life0, 'async_trait>(
            &'life0 self,
            _: tonic::Request<$request>,
        ) -> std::pin::Pin<
            Box<dyn Future<Output = Result<tonic::Response<$response>, tonic::Status>> + Send + 'async_trait>,
        >
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async {
                Err($crate::qdrant::status::unsupported(concat!("the call ", $service, "/", stringify!($name))))
            })
        }
    )*};
}
pub(crate) use refuse;
