//! Which network addresses a picture may be fetched from. Pure: no resolution, no sockets.
//!
//! A media URL is written by whoever produces the messages, so it must not reach what only this machine can reach
//! (server-side request forgery). Only globally reachable unicast is open; the ranges follow the IANA special-purpose
//! address registries for IPv4 and IPv6 (RFC 6890 and its successors), and what is reachable only through an embedded
//! IPv4 address (mapped, 6to4, NAT64) is judged by that address. Configuration opens exceptions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::Host;

use super::MediaError;
use crate::redact;

/// IPv4 ranges that are not globally reachable unicast, most telling name first.
const FORBIDDEN_V4: [(Ipv4Addr, u8, &str); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "unspecified (this network)"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared address space (CGNAT)"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "reserved (IETF protocol assignments)"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "reserved (6to4 relay)"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmark"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// Addresses where clouds serve credentials to the machine itself: AWS, GCP, Azure and others; ECS and EKS tasks;
/// Azure's wire server; Oracle; Alibaba; AWS and GCP over IPv6.
const METADATA: [IpAddr; 8] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

const METADATA_RANGE: &str = "cloud metadata";

/// Names of metadata services; refused before they are resolved, because some networks answer them with a proxy's address.
const METADATA_HOSTS: [&str; 3] = ["metadata", "metadata.goog", "metadata.google.internal"];

/// The special range that `ip` is in; `None`: globally reachable unicast.
pub(super) fn forbidden_range(ip: IpAddr) -> Option<&'static str> {
    let ip = ip.to_canonical();
    if METADATA.contains(&ip) {
        return Some(METADATA_RANGE);
    }
    match ip {
        IpAddr::V4(ip) => forbidden_v4(ip),
        IpAddr::V6(ip) => forbidden_v6(ip),
    }
}

fn forbidden_v4(ip: Ipv4Addr) -> Option<&'static str> {
    if ip == Ipv4Addr::BROADCAST {
        return Some("broadcast");
    }
    let within = |net: Ipv4Addr, prefix: u8| ip.to_bits() >> (32 - prefix) == net.to_bits() >> (32 - prefix);
    FORBIDDEN_V4.iter().find(|(net, prefix, _)| within(*net, *prefix)).map(|(_, _, range)| *range)
}

fn forbidden_v6(ip: Ipv6Addr) -> Option<&'static str> {
    if let Some(v4) = embedded_v4(ip) {
        return forbidden_range(IpAddr::V4(v4));
    }
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("loopback"),
        [0, 0, 0, 0, 0, 0, ..] => Some("reserved (IPv4-compatible)"),
        [0x64, 0xff9b, 1, ..] => Some("private (local-use NAT64)"),
        [0xfc00..=0xfdff, ..] => Some("private (unique local)"),
        [0xfe80..=0xfebf, ..] => Some("link-local"),
        [0xfec0..=0xfeff, ..] => Some("private (site-local)"),
        [0xff00..=0xffff, ..] => Some("multicast"),
        // Teredo, ORCHID, benchmarking, anycast services: 2001::/23 as a whole serves no pictures.
        [0x2001, 0..=0x01ff, ..] => Some("reserved (IETF protocol assignments)"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => Some("documentation"),
        [0x2000..=0x3fff, ..] => None,
        // Only 2000::/3 is assigned for global unicast (RFC 4291 §2.4 and IANA's list).
        _ => Some("reserved (not global unicast)"),
    }
}

/// The IPv4 address that traffic to `ip` ends at: 6to4 (RFC 3056) and the well-known NAT64 prefix (RFC 6052).
/// Mapped addresses are canonical IPv4 by then.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let o = ip.octets();
    match ip.segments() {
        [0x2002, ..] => Some(Ipv4Addr::new(o[2], o[3], o[4], o[5])),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(Ipv4Addr::new(o[12], o[13], o[14], o[15])),
        _ => None,
    }
}

/// Whether configuration names the host that is fetched from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostTrust {
    /// Any host of the internet: only globally reachable addresses and `allow_networks`.
    Unlisted,
    /// In `allow_hosts`: any address but the metadata services'.
    Listed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct AllowedHost {
    /// In the form that `url` gives hosts; a leading `.` matches every name below it.
    name: String,
    port: Option<u16>,
}

/// What configuration allows beyond the public internet.
#[derive(Clone, Debug)]
pub(super) struct AddressPolicy {
    hosts: Vec<AllowedHost>,
    networks: Vec<IpNet>,
}

impl AddressPolicy {
    /// # Errors
    /// `media_settings_invalid` for an entry of `hosts` that is no host, `.suffix` or `host:port`.
    pub(super) fn new(hosts: &[String], networks: &[IpNet]) -> Result<Self, MediaError> {
        let hosts = hosts.iter().map(|entry| {
            AllowedHost::parse(entry).ok_or_else(|| {
                let found = redact::cut(entry, 100);
                MediaError::permanent(
                    "media_settings_invalid",
                    format!("media.allow_hosts has \"{found}\"; expected a host, a .suffix, or either with :port"),
                )
            })
        });
        Ok(Self { hosts: hosts.collect::<Result<_, _>>()?, networks: networks.to_vec() })
    }

    /// How `host` (as `Url::host_str` gives it) on `port` is to be treated.
    pub(super) fn trust(&self, host: &str, port: u16) -> HostTrust {
        let host = plain(host);
        let listed = self.hosts.iter().any(|allowed| {
            let name = match allowed.name.starts_with('.') {
                true => host.ends_with(&allowed.name),
                false => host == allowed.name,
            };
            name && allowed.port.is_none_or(|p| p == port)
        });
        if listed { HostTrust::Listed } else { HostTrust::Unlisted }
    }

    /// `Err` names the special range that `ip` is in.
    pub(super) fn check(&self, ip: IpAddr, trust: HostTrust) -> Result<(), &'static str> {
        let canonical = ip.to_canonical();
        if self.networks.iter().any(|net| net.contains(&canonical) || net.contains(&ip)) {
            return Ok(());
        }
        match forbidden_range(ip) {
            None => Ok(()),
            Some(range) if trust == HostTrust::Listed && range != METADATA_RANGE => Ok(()),
            Some(range) => Err(range),
        }
    }

    /// `Err` names why `host` is refused by its name alone. A suffix entry does not open a metadata service.
    pub(super) fn check_name(&self, host: &str) -> Result<(), &'static str> {
        let host = plain(host);
        let listed = self.hosts.iter().any(|allowed| allowed.name == host);
        if METADATA_HOSTS.contains(&host) && !listed { Err(METADATA_RANGE) } else { Ok(()) }
    }
}

impl AllowedHost {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim();
        if let Ok(ip) = entry.parse::<IpAddr>() {
            return Some(Self { name: ip.to_string(), port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse::<u16>().ok()?)),
            _ => (entry, None),
        };
        let (dot, host) = match host.strip_prefix('.') {
            Some(suffix) => (".", suffix),
            None => ("", host),
        };
        let name = Host::parse(host).ok()?.to_string();
        Some(Self { name: format!("{dot}{}", plain(&name)), port })
    }
}

/// Without the brackets of an IPv6 literal and the dot of a fully qualified name.
fn plain(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.')
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
