use ipnet::IpNet;

/// `[media]`: how pictures are fetched.
#[derive(Clone, Debug)]
pub struct MediaSettings {
    /// One deadline for a whole fetch, redirects and body included.
    pub fetch_timeout_ms: u64,
    pub connect_timeout_ms: u64,
    /// Largest accepted file in bytes, counted while streaming.
    pub media_bytes_max: u64,
    /// Largest accepted picture in pixels, checked from the header before decoding.
    pub pixels_max: u64,
    pub redirects_max: usize,
    /// Fetches under way at once from one host.
    pub per_host_concurrency: usize,
    /// Hosts (exact, or `.suffix`) that may be fetched from although their addresses are private.
    pub allow_hosts: Vec<String>,
    /// Networks in CIDR form that may be fetched from although they are private.
    pub allow_networks: Vec<IpNet>,
    /// Folders that `file://` may read from; none: `file://` is refused.
    pub allow_file_roots: Vec<String>,
    pub user_agent: String,
    /// S3-compatible endpoint; none: AWS.
    pub s3_endpoint: Option<String>,
    pub s3_region: Option<String>,
    /// `http://endpoint/bucket/key` instead of `http://bucket.endpoint/key`.
    pub s3_path_style: bool,
    /// Unsigned requests, for public buckets.
    pub s3_anonymous: bool,
    /// Say that the requester pays for the transfer.
    pub s3_requester_pays: bool,
}

impl Default for MediaSettings {
    fn default() -> Self {
        Self {
            fetch_timeout_ms: 30_000,
            connect_timeout_ms: 5_000,
            media_bytes_max: 32 * 1024 * 1024,
            pixels_max: 100_000_000,
            redirects_max: 5,
            per_host_concurrency: 16,
            allow_hosts: Vec::new(),
            allow_networks: Vec::new(),
            allow_file_roots: Vec::new(),
            user_agent: concat!("clipstream/", env!("CARGO_PKG_VERSION")).into(),
            s3_endpoint: None,
            s3_region: None,
            s3_path_style: false,
            s3_anonymous: false,
            s3_requester_pays: false,
        }
    }
}
