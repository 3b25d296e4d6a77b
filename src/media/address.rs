//! Which network addresses a picture may be fetched from. Pure: no resolution, no sockets.
//!
//! Message producers write media URLs, so a URL must not reach what only this machine can reach (server-side request
//! forgery). Only globally reachable unicast is open. The ranges follow the IANA special-purpose address registries for
//! IPv4 and IPv6 (RFC 6890 and its successors). An address with an embedded IPv4 address (mapped, 6to4, NAT64) is
//! judged by that address. Configuration opens exceptions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::Host;

use super::MediaError;
use crate::config::MediaSettings;
use crate::domain::MediaReason;
use crate::redact;

/// IPv4 ranges that are not globally reachable unicast. The most specific name comes first.
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

/// Addresses where clouds serve credentials to the machine: AWS, GCP, Azure and others; Tencent; ECS and EKS tasks;
/// Azure's wire server; Oracle; Alibaba; AWS, EKS, GCP and OpenStack over IPv6.
const METADATA: [IpAddr; 11] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 0, 23)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
];

const METADATA_RANGE: &str = "cloud metadata";

/// Names of metadata services. Refused before they are resolved: in some networks they resolve to a proxy's address.
const METADATA_HOSTS: [&str; 6] = [
    "instance-data",
    "instance-data.ec2.internal",
    "metadata",
    "metadata.goog",
    "metadata.google.internal",
    "metadata.tencentyun.com",
];

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
        // Teredo, ORCHID, benchmarking, anycast services: nothing in 2001::/23 serves pictures.
        [0x2001, 0..=0x01ff, ..] => Some("reserved (IETF protocol assignments)"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => Some("documentation"),
        [0x2000..=0x3fff, ..] => None,
        // Only 2000::/3 is assigned for global unicast (RFC 4291 §2.4 and IANA's list).
        _ => Some("reserved (not global unicast)"),
    }
}

/// The IPv4 address that traffic to `ip` ends at: 6to4 (RFC 3056) and the well-known NAT64 prefix (RFC 6052). Mapped
/// addresses were converted to IPv4 before.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let o = ip.octets();
    match ip.segments() {
        [0x2002, ..] => Some(Ipv4Addr::new(o[2], o[3], o[4], o[5])),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(Ipv4Addr::new(o[12], o[13], o[14], o[15])),
        _ => None,
    }
}

/// Every IPv4 address that `ip` may stand for, even where it is refused anyway: IPv4-compatible (RFC 4291 §2.5.5.1),
/// 6to4, both NAT64 prefixes (RFC 6052 §2.2, RFC 8215), and the client of Teredo (RFC 4380 §4). Deny rules and metadata
/// addresses are checked against all of them.
fn carried_v4(ip: IpAddr) -> [Option<Ipv4Addr>; 2] {
    let IpAddr::V6(ip) = ip else { return [None, None] };
    let o = ip.octets();
    let last = Ipv4Addr::new(o[12], o[13], o[14], o[15]);
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, ..] => [Some(last), None],
        [0x64, 0xff9b, 1, ..] => [Some(last), Some(Ipv4Addr::new(o[6], o[7], o[9], o[10]))],
        [0x2001, 0, ..] => [Some(Ipv4Addr::from_bits(!last.to_bits())), None],
        _ => [embedded_v4(ip), None],
    }
}

/// Whether configuration names the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostTrust {
    /// Any other host: only globally reachable addresses and `allow_networks`.
    Unlisted,
    /// In `allow_hosts`: any address except metadata services.
    Listed,
}

/// Why a host or an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The address is in this range, which is not public and not allowed by configuration.
    Special(&'static str),
    /// In `deny_hosts`.
    DeniedHost,
    /// In `deny_networks`.
    DeniedNetwork,
}

/// An entry of `allow_hosts` or `deny_hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HostEntry {
    /// In the form that `url` gives hosts; a leading `.` matches every name below it.
    name: String,
    port: Option<u16>,
}

/// What configuration allows beyond the public internet, and what it denies. Deny rules win.
#[derive(Clone, Debug)]
pub(super) struct AddressPolicy {
    hosts: Vec<HostEntry>,
    networks: Vec<IpNet>,
    denied_hosts: Vec<HostEntry>,
    denied_networks: Vec<IpNet>,
}

impl AddressPolicy {
    /// # Errors
    /// `media_settings_invalid` for an entry that is not a host, `.suffix` or `host:port`.
    pub(super) fn new(settings: &MediaSettings) -> Result<Self, MediaError> {
        Ok(Self {
            hosts: hosts("allow_hosts", &settings.allow_hosts)?,
            networks: settings.allow_networks.clone(),
            denied_hosts: hosts("deny_hosts", &settings.deny_hosts)?,
            denied_networks: settings.deny_networks.clone(),
        })
    }

    /// The trust in `host` (as `Url::host_str` gives it) on `port`.
    pub(super) fn trust(&self, host: &str, port: u16) -> HostTrust {
        let host = plain(host);
        let listed = self.hosts.iter().any(|entry| entry.matches(host, port));
        if listed { HostTrust::Listed } else { HostTrust::Unlisted }
    }

    /// Whether `ip` may be connected to.
    pub(super) fn check(&self, ip: IpAddr, trust: HostTrust) -> Result<(), Refusal> {
        let canonical = ip.to_canonical();
        let carried = carried_v4(ip).into_iter().flatten().map(IpAddr::V4);
        let ways: Vec<IpAddr> = [ip, canonical].into_iter().chain(carried).collect();
        if self.denied_networks.iter().any(|net| ways.iter().any(|way| net.contains(way))) {
            return Err(Refusal::DeniedNetwork);
        }
        let mut allowed = self.networks.iter().filter(|net| net.contains(&canonical) || net.contains(&ip));
        if ways.iter().any(|way| METADATA.contains(way)) {
            // A metadata address may lie in a range that is allowed for other reasons (100.64.0.0/10, fd00::/8).
            return match allowed.any(|net| net.prefix_len() == net.max_prefix_len()) {
                true => Ok(()),
                false => Err(Refusal::Special(METADATA_RANGE)),
            };
        }
        match forbidden_range(ip) {
            Some(range) if trust == HostTrust::Unlisted && allowed.next().is_none() => Err(Refusal::Special(range)),
            _ => Ok(()),
        }
    }

    /// Whether `host` on `port` is refused by its name alone. A suffix entry does not open a metadata service.
    pub(super) fn check_name(&self, host: &str, port: u16) -> Result<(), Refusal> {
        let host = plain(host);
        if self.denied_hosts.iter().any(|entry| entry.matches(host, port)) {
            return Err(Refusal::DeniedHost);
        }
        let listed = self.hosts.iter().any(|entry| entry.name == host);
        if METADATA_HOSTS.contains(&host) && !listed { Err(Refusal::Special(METADATA_RANGE)) } else { Ok(()) }
    }
}

fn hosts(key: &str, entries: &[String]) -> Result<Vec<HostEntry>, MediaError> {
    let parse = |entry: &String| {
        HostEntry::parse(entry).ok_or_else(|| {
            let found = redact::cut(entry, 100);
            MediaError::new(
                MediaReason::SettingsInvalid,
                format!("media.{key} has \"{found}\"; expected a host, a .suffix, or either with :port"),
            )
        })
    };
    entries.iter().map(parse).collect()
}

impl HostEntry {
    fn matches(&self, host: &str, port: u16) -> bool {
        let name = match self.name.starts_with('.') {
            true => host.ends_with(&self.name),
            false => host == self.name,
        };
        name && self.port.is_none_or(|p| p == port)
    }

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

/// Removes the brackets of an IPv6 literal and the dot of a fully qualified name.
fn plain(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.')
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
