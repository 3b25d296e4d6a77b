//! The name that updates are sent to: an alias of our own, which Qdrant removes with its collection. An update under way
//! then fails if someone deletes the collection and creates another of the same name. By the collection's own name it
//! would be written into that one, since no condition can tell whose collection a new point goes to.
//!
//! Qdrant removes the aliases of a collection before the collection (`delete_collection` in its
//! `lib/storage/src/content_manager/toc/collection_meta_ops.rs`, read at v1.18.3).

use qdrant_client::qdrant::CreateAlias;

use super::client::Client;
use super::{QdrantStore, setup};
use crate::domain::{Reason, StoreReason};
use crate::store::{CollectionSpec, StoreError};

/// Documented in `docs/operations.md`.
const SUFFIX: &str = ".clipstream-writes";

impl QdrantStore {
    /// The collection's alias for updates, which is created if it is missing. The collection's own name where the server
    /// refuses the alias: the API key may not create one, or the configured name is an alias itself.
    pub(super) async fn target_of(&self, client: &Client, spec: &CollectionSpec) -> Result<String, StoreError> {
        let alias = format!("{}{SUFFIX}", spec.name);
        match self.check_is_ours(client, spec, &alias).await {
            Err(missing) if missing.reason == StoreReason::CollectionMissing => {}
            Err(refused) if refused.reason == StoreReason::Unauthorized => {
                // Else the key is refused altogether, which may pass.
                self.check_is_ours(client, spec, &spec.name).await?;
                return Ok(self.without(spec, &refused));
            }
            checked => return checked.map(|()| alias),
        }
        self.check_is_ours(client, spec, &spec.name).await?;
        let create = CreateAlias { collection_name: spec.name.clone(), alias_name: alias.clone() };
        if let Err(e) = client.create_alias(create).await {
            let error = self.failed(e, &format!("create alias {alias} of collection {}", spec.name));
            return match error.reason {
                StoreReason::Unauthorized
                | StoreReason::Unsupported
                | StoreReason::Rejected
                | StoreReason::CollectionMissing => Ok(self.without(spec, &error)),
                _ => Err(error),
            };
        }
        // Someone may have replaced the collection since it was checked.
        let checked = self.check_is_ours(client, spec, &alias).await;
        if let Err(error) = &checked
            && error.reason == StoreReason::CollectionDiffers
            && let Err(also) = client.delete_alias(alias.clone()).await
        {
            let also = self.failed(also, &format!("delete alias {alias}"));
            tracing::warn!(
                alias,
                reason = also.reason.as_str(),
                "an alias of a collection that is not ours is left: {also}"
            );
        }
        checked.map(|()| alias)
    }

    fn without(&self, spec: &CollectionSpec, refused: &StoreError) -> String {
        tracing::warn!(
            collection = spec.name,
            reason = refused.reason.as_str(),
            "updates use the collection's name instead of an alias, so one that is under way while another client replaces \
             the collection may reach the new one: {refused}"
        );
        spec.name.clone()
    }

    /// `name`: the collection's own or an alias.
    pub(super) async fn check_is_ours(
        &self,
        client: &Client,
        spec: &CollectionSpec,
        name: &str,
    ) -> Result<(), StoreError> {
        let info = self.info(client, name).await?.ok_or_else(|| StoreError::collection_missing(name))?;
        match setup::differences(&info, &spec.fingerprint)? {
            differences if differences.is_empty() => Ok(()),
            differences => Err(StoreError::collection_differs(name, &differences)),
        }
    }
}
