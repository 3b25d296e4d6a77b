//! Settings of `[media]`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::http_url;
use super::reader::{Reader, Review};
use super::s3_buckets::S3Allowed;
use super::text::{Expected, Text};

/// `[media]`: how pictures are fetched.
#[derive(Clone, Debug)]
pub struct MediaSettings {
    /// Deadline for a whole fetch, including redirects and body.
    pub fetch_timeout_ms: u64,
    /// Deadline for the connection alone, TLS included.
    pub connect_timeout_ms: u64,
    /// How long a server may send nothing in the middle of a body.
    pub idle_timeout_ms: u64,
    /// Largest accepted file in bytes, counted while streaming.
    pub media_bytes_max: u64,
    /// Largest accepted picture in pixels, checked from the header before decoding.
    pub pixels_max: u64,
    /// Redirects that are followed, each checked like a first URL; 0: none.
    pub redirects_max: usize,
    /// Concurrent fetches from one host, at most; fewer while it is overloaded.
    pub per_host_concurrency: usize,
    /// How long the messages of a host that is down for everyone are held before they become dead letters; 0: not at all.
    pub host_outage_hold_ms: u64,
    /// Hosts (exact, or `.suffix`) that may be fetched from although their addresses are private.
    pub allow_hosts: Vec<String>,
    /// Networks in CIDR form that may be fetched from although they are private.
    pub allow_networks: Vec<IpNet>,
    /// Hosts (exact, or `.suffix`) that are never fetched from, whatever else allows them.
    pub deny_hosts: Vec<String>,
    /// Networks in CIDR form that are never fetched from, whatever else allows them.
    pub deny_networks: Vec<IpNet>,
    /// Folders that `file://` may read from; empty: `file://` is refused.
    pub allow_file_roots: Vec<String>,
    /// PEM file with certificate authorities that are trusted in addition to the system's, for `https` and S3.
    pub ca_file: Option<String>,
    /// Value of the `User-Agent` header.
    pub user_agent: String,
    /// S3-compatible endpoint; `None`: AWS.
    pub s3_endpoint: Option<String>,
    /// `None`: the SDK's chain (`AWS_REGION`, profile, instance).
    pub s3_region: Option<String>,
    /// `http://endpoint/bucket/key` instead of `http://bucket.endpoint/key`.
    pub s3_path_style: bool,
    /// What messages may name with `s3://`. Empty: any bucket of `s3_endpoint`; with `s3_anonymous`, any public bucket;
    /// otherwise none.
    pub s3_buckets: Vec<S3Allowed>,
    /// Unsigned requests, for public buckets.
    pub s3_anonymous: bool,
    /// Declare that the requester pays for the transfer.
    pub s3_requester_pays: bool,
}

impl Default for MediaSettings {
    fn default() -> Self {
        Self {
            fetch_timeout_ms: 30_000,
            connect_timeout_ms: 5_000,
            idle_timeout_ms: 10_000,
            media_bytes_max: 32 * 1024 * 1024,
            pixels_max: 100_000_000,
            redirects_max: 5,
            per_host_concurrency: 16,
            host_outage_hold_ms: 7_200_000,
            allow_hosts: Vec::new(),
            allow_networks: Vec::new(),
            deny_hosts: Vec::new(),
            deny_networks: Vec::new(),
            allow_file_roots: Vec::new(),
            ca_file: None,
            user_agent: concat!("clipstream/", env!("CARGO_PKG_VERSION")).into(),
            s3_endpoint: None,
            s3_region: None,
            s3_path_style: false,
            s3_buckets: Vec::new(),
            s3_anonymous: false,
            s3_requester_pays: false,
        }
    }
}

impl Text for IpNet {
    fn parse(text: &str) -> Result<Self, Expected> {
        text.parse().map_err(|_| {
            let expected = Expected::new("a network in CIDR form, for example 10.0.0.0/8");
            match text.parse::<IpAddr>() {
                Ok(address) => expected.hint(format!("for one address: {}", Self::from(address))),
                Err(_) => expected,
            }
        })
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl MediaSettings {
    pub(super) fn read(section: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            fetch_timeout_ms: section.number("fetch_timeout_ms", default.fetch_timeout_ms, 1..=3_600_000),
            connect_timeout_ms: section.number("connect_timeout_ms", default.connect_timeout_ms, 1..=3_600_000),
            idle_timeout_ms: section.number("idle_timeout_ms", default.idle_timeout_ms, 1..=3_600_000),
            media_bytes_max: section.number("media_bytes_max", default.media_bytes_max, 1..=4 << 30),
            pixels_max: section.number("pixels_max", default.pixels_max, 1..=10_000_000_000),
            redirects_max: section.number("redirects_max", default.redirects_max, 0..=50),
            per_host_concurrency: section.number("per_host_concurrency", default.per_host_concurrency, 1..=4096),
            host_outage_hold_ms: section.number("host_outage_hold_ms", default.host_outage_hold_ms, 0..=604_800_000),
            allow_hosts: section.list("allow_hosts", default.allow_hosts),
            allow_networks: section.list("allow_networks", default.allow_networks),
            deny_hosts: section.list("deny_hosts", default.deny_hosts),
            deny_networks: section.list("deny_networks", default.deny_networks),
            allow_file_roots: section.list("allow_file_roots", default.allow_file_roots),
            ca_file: section.optional("ca_file", default.ca_file),
            user_agent: section.value("user_agent", default.user_agent),
            s3_endpoint: section.optional("s3_endpoint", default.s3_endpoint),
            s3_region: section.optional("s3_region", default.s3_region),
            s3_path_style: section.flag("s3_path_style", default.s3_path_style),
            s3_buckets: section.list("s3_buckets", default.s3_buckets),
            s3_anonymous: section.flag("s3_anonymous", default.s3_anonymous),
            s3_requester_pays: section.flag("s3_requester_pays", default.s3_requester_pays),
        }
    }

    pub(super) fn review(&self, review: &mut Review<'_>) {
        review.expect(self.connect_timeout_ms <= self.fetch_timeout_ms, "media.connect_timeout_ms", || {
            Expected::new(format!("at most media.fetch_timeout_ms, which is {}", self.fetch_timeout_ms))
        });
        for (key, hosts) in [("media.allow_hosts", &self.allow_hosts), ("media.deny_hosts", &self.deny_hosts)] {
            for host in hosts {
                let ok = !host.contains(['/', '@', '*']) && !host.contains(char::is_whitespace) && host != ".";
                review.expect(ok, key, || {
                    Expected::new(
                        "host names, or .suffix for all hosts below a domain, with or without :port; no scheme or path",
                    )
                    .hint("for example minio.internal, .svc.cluster.local")
                });
            }
        }
        let printable = self.user_agent.chars().all(|c| c.is_ascii() && !c.is_ascii_control());
        review.expect(printable, "media.user_agent", || Expected::new("printable ASCII, as required in a header"));
        if let Some(endpoint) = &self.s3_endpoint {
            review.expect(http_url(endpoint), "media.s3_endpoint", || {
                Expected::new("http://host[:port] or https://host[:port]")
            });
        }
    }
}
