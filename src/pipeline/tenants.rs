//! Tombstones of assets that belong to tenants. A tombstone has no body to name its tenant. Unless headers or keys name
//! it, it means the asset without a tenant, and must not pass for the deletion of a tenant's asset.
//!
//! An asset has a tenant if the store or an earlier message says so. A message that is not settled is not in the store
//! yet, or waits in a retry topic. Everything settled before the partition was assigned is in the store, so within one
//! partition this is exact.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use crate::config::KeySettings;
use crate::domain::{AssetId, DecodeReason, Failure, IngestRequest, Message};
use crate::format::{QUOTED_CHARS_MAX, fail};
use crate::redact;

/// Most assets with tenants to remember, far more than are in flight. Hashes of 8 bytes, stored twice: about 6 MB.
const SEEN_MAX: usize = 1 << 18;

#[derive(Debug)]
pub(super) struct Tenants {
    /// Header or key names the tenant, so there is nothing to check.
    are_named_outside_body: bool,
    hasher: RandomState,
    seen: Mutex<Seen>,
}

/// Hashes of the latest assets that had tenants.
#[derive(Debug, Default)]
struct Seen {
    order: VecDeque<u64>,
    all: HashSet<u64>,
}

impl Tenants {
    pub(super) fn new(keys: &KeySettings) -> Self {
        Self { are_named_outside_body: keys.name_tenants(), hasher: RandomState::new(), seen: Mutex::default() }
    }

    /// Must see the messages of a partition in order.
    ///
    /// # Errors
    /// `tenant_unknown`: the message is a tombstone of an asset that has a tenant.
    pub(super) fn note(&self, message: &Message, request: &IngestRequest) -> Result<(), Failure> {
        if self.are_named_outside_body {
            return Ok(());
        }
        if request.tenant.is_some() {
            self.seen(|seen| seen.add(self.hash(&request.asset)));
        } else if message.value.is_none() && self.seen(|seen| seen.all.contains(&self.hash(&request.asset))) {
            return Err(unknown(request, "an earlier message has this asset for a tenant"));
        }
        Ok(())
    }

    /// Whether the store must be asked for tenants' points of the asset.
    pub(super) fn is_open(&self, message: &Message) -> bool {
        !self.are_named_outside_body && message.value.is_none()
    }

    fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn hash(&self, asset: &AssetId) -> u64 {
        self.hasher.hash_one(asset)
    }
}

impl Seen {
    fn add(&mut self, hash: u64) {
        if !self.all.insert(hash) {
            return;
        }
        self.order.push_back(hash);
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.all.remove(&oldest);
        }
    }
}

/// `why`: how it is known that the asset has a tenant.
pub(super) fn unknown(request: &IngestRequest, why: &str) -> Failure {
    let message = format!(
        "a tombstone of \"{}\" tells no tenant, and {why}; expected one",
        redact::excerpt(request.asset.as_str(), QUOTED_CHARS_MAX)
    );
    fail(DecodeReason::TenantUnknown, message).hint(
        "set kafka.tenant_header or kafka.key_template, or delete by a message with \"op\": \"delete\" and \"tenant\"",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Op, Payload, Tenant};

    fn request(asset: &str, tenant: Option<&str>) -> IngestRequest {
        IngestRequest {
            asset: AssetId::new(asset).unwrap(),
            tenant: tenant.map(|name| Tenant::new(name).unwrap()),
            op: Op::Delete,
            image: None,
            text: None,
            payload: Payload::new(),
            version: None,
            models: None,
        }
    }

    fn with_body() -> Message {
        Message { value: Some("{}".into()), ..Message::empty("t", 0, 0) }
    }

    #[test]
    fn a_tombstone_of_an_asset_that_had_a_tenant_is_refused() {
        let tenants = Tenants::new(&KeySettings::default());
        let tombstone = |asset| tenants.note(&Message::empty("t", 0, 1), &request(asset, None));
        tenants.note(&with_body(), &request("a", None)).unwrap();
        assert_eq!(tombstone("a"), Ok(()));
        tenants.note(&with_body(), &request("a", Some("acme"))).unwrap();
        let failure = tombstone("a").unwrap_err();
        assert_eq!(failure.fault.reason, DecodeReason::TenantUnknown.into());
        assert!(failure.to_string().contains("kafka.tenant_header"), "{failure}");
        assert_eq!(tombstone("b"), Ok(()));
        // A message with a body is not a tombstone.
        tenants.note(&with_body(), &request("a", None)).unwrap();
    }

    #[test]
    fn nothing_is_open_where_headers_tell() {
        let keys = KeySettings { tenant_header: Some("tenant".into()), ..Default::default() };
        let tenants = Tenants::new(&keys);
        tenants.note(&with_body(), &request("a", Some("acme"))).unwrap();
        tenants.note(&Message::empty("t", 0, 1), &request("a", None)).unwrap();
        assert!(!tenants.is_open(&Message::empty("t", 0, 1)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut seen = Seen::default();
        (0..3 * SEEN_MAX as u64).for_each(|hash| seen.add(hash / 2));
        assert_eq!((seen.order.len(), seen.all.len()), (SEEN_MAX, SEEN_MAX));
        assert!(!seen.all.contains(&0) && seen.all.contains(&(3 * SEEN_MAX as u64 / 2 - 1)));
    }
}
