use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{AddressPolicy, HostTrust};

/// Resolves names for the HTTP client and hands over only addresses that the policy allows. The client connects to
/// exactly what it is given here, so a name cannot be checked as one address and connected as another (DNS rebinding).
#[derive(Debug)]
pub(super) struct CheckedResolver {
    pub(super) policy: Arc<AddressPolicy>,
    pub(super) trust: HostTrust,
}

/// Every address of a name is in a forbidden range.
#[derive(Debug, thiserror::Error)]
#[error("{host} resolves to {range} addresses only")]
pub(super) struct AddressForbidden {
    host: String,
    pub(super) range: &'static str,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, trust, host) = (self.policy.clone(), self.trust, name.as_str().to_owned());
        Box::pin(async move {
            let mut refused = None;
            // Port 0: the client puts in the URL's own.
            let allowed: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0))
                .await?
                .filter(|found| policy.check(found.ip(), trust).map_err(|range| refused = Some(range)).is_ok())
                .collect();
            match (allowed.is_empty(), refused) {
                (true, Some(range)) => Err(AddressForbidden { host, range }.into()),
                (true, None) => Err("the name has no addresses".into()),
                (false, _) => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}
