use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{AddressPolicy, HostTrust, Refusal};

/// Where the addresses of a name come from.
pub(super) trait Lookup: fmt::Debug + Send + Sync {
    fn addresses(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The system's own resolver.
#[derive(Debug)]
pub(super) struct SystemLookup;

impl Lookup for SystemLookup {
    fn addresses(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(
            async move { Ok(tokio::net::lookup_host((host.as_str(), 0)).await?.map(|found| found.ip()).collect()) },
        )
    }
}

/// Resolves names for the HTTP client and hands over only addresses that the policy allows: of an answer that mixes
/// public and private addresses, the public ones. The client connects to exactly what it is given here, so a name
/// cannot be checked as one address and connected as another (DNS rebinding).
#[derive(Clone, Debug)]
pub(super) struct CheckedResolver {
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) policy: Arc<AddressPolicy>,
    pub(super) trust: HostTrust,
}

/// None of a name's addresses may be connected to.
#[derive(Debug, thiserror::Error)]
#[error("no address of {host} is allowed")]
pub(super) struct AddressForbidden {
    host: String,
    pub(super) refusal: Refusal,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (own, host) = (self.clone(), name.as_str().to_owned());
        Box::pin(async move {
            let mut refused = None;
            let found = own.lookup.addresses(host.clone()).await?;
            // Port 0: the client puts in the URL's own.
            let allowed: Vec<SocketAddr> = found
                .into_iter()
                .filter(|ip| own.policy.check(*ip, own.trust).map_err(|refusal| refused = Some(refusal)).is_ok())
                .map(|ip| SocketAddr::new(ip, 0))
                .collect();
            match (allowed.is_empty(), refused) {
                (true, Some(refusal)) => Err(AddressForbidden { host, refusal }.into()),
                (true, None) => Err("the name has no addresses".into()),
                (false, _) => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}
