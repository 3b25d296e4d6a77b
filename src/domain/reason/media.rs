//! Reasons of `media`: fetching a picture. `media/signs` says for each what it shows about the host.

use super::reasons;

reasons! {
    /// Why a picture was not fetched.
    MediaReason {
        // The URL, and where it leads.
        SchemeUnsupported = "scheme_unsupported", Permanent;
        UrlInvalid = "url_invalid", Permanent;
        DataUrlInvalid = "data_url_invalid", Permanent;
        AddressForbidden = "address_forbidden", Permanent,
            "if it is meant to be fetched from, add the host to media.allow_hosts or its network to media.allow_networks";
        AddressDenied = "address_denied", Permanent, "use another host, or take it out of media.deny_networks";
        HostDenied = "host_denied", Permanent, "use another host, or take it out of media.deny_hosts";
        RedirectForbidden = "redirect_forbidden", Permanent;
        RedirectsExceeded = "redirects_exceeded", Permanent, "check for a loop, or raise media.redirects_max";

        // The connection.
        DnsFailed = "dns_failed", Transient;
        /// No answer at all. (An answer that the name does not exist is `DnsFailed`.)
        DnsUnanswered = "dns_unanswered", Transient;
        ConnectFailed = "connect_failed", Transient;
        ConnectTimeout = "connect_timeout", Transient;
        TlsCertificateUntrusted = "tls_certificate_untrusted", Permanent,
            "check the server's certificate, or trust its authority with media.ca_file";

        // The answer.
        HttpNotFound = "http_not_found", Permanent, "check that the file is still there";
        HttpGone = "http_gone", Permanent;
        HttpForbidden = "http_forbidden", Permanent,
            "check the URL's signature, its expiry and the server's access rules";
        HttpStatus = "http_status", Permanent;
        HttpThrottled = "http_throttled", Transient, "lower media.per_host_concurrency if this goes on";
        HttpUnavailable = "http_unavailable", Transient, "lower media.per_host_concurrency if this goes on";
        HttpServerError = "http_server_error", Transient, "check the server if this goes on";
        HttpPartial = "http_partial", Transient, "check the server or its cache";
        HttpMalformed = "http_malformed", Transient;
        /// The connection broke before an answer.
        HttpFailed = "http_failed", Transient;
        HttpEncodingUnsupported = "http_encoding_unsupported", Permanent;

        // The body.
        ContentEncodingInvalid = "content_encoding_invalid", Permanent, "store or send it as it is";
        BodyIncomplete = "body_incomplete", Transient;
        BodyStalled = "body_stalled", Transient;
        FetchTimeout = "fetch_timeout", Transient, "raise media.fetch_timeout_ms if the server is merely slow";
        Empty = "media_empty", Permanent, "check the file at its source";
        TooLarge = "media_too_large", Permanent, "raise media.media_bytes_max to accept it";
        /// The answer is "not modified", although the request had no condition.
        NotModifiedUnexpected = "not_modified_unexpected", Transient;

        // Files.
        FileForbidden = "file_forbidden", Permanent;
        FileNotFound = "file_not_found", Permanent;
        FileNotRegular = "file_not_regular", Permanent;
        FileFailed = "file_failed", Transient;

        // S3.
        S3BucketForbidden = "s3_bucket_forbidden", Permanent;
        S3NoSuchBucket = "s3_no_such_bucket", Permanent, "check the bucket's name";
        S3NoSuchKey = "s3_no_such_key", Permanent, "check that the object is still there";
        S3NoSuchVersion = "s3_no_such_version", Permanent, "check the versionId";
        S3Archived = "s3_archived", Permanent, "restore the object from its archive first";
        S3WrongRegion = "s3_wrong_region", Permanent, "set media.s3_region";
        S3AccessDenied = "s3_access_denied", Permanent,
            "allow s3:GetObject on it (and s3:GetObjectVersion for versions)";
        S3Status = "s3_status", Permanent;
        S3Timeout = "s3_timeout", Transient;
        S3Throttled = "s3_throttled", Transient, "lower media.per_host_concurrency if this goes on";
        S3ServerError = "s3_server_error", Transient, "check S3 if this goes on";
        S3Failed = "s3_failed", Transient;
        /// An outage where all buckets have one endpoint.
        S3Unreachable = "s3_unreachable", Outage;
        S3CredentialsMissing = "s3_credentials_missing", Outage,
            "give the process AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role, or set \
             media.s3_anonymous for public buckets";
        S3CredentialsRefused = "s3_credentials_refused", Outage,
            "S3 refuses the credentials; check them, their expiry and this machine's clock";
        S3AccountRefused = "s3_account_refused", Outage,
            "S3 refuses the account; check the one whose credentials are used, and the bucket's";
        S3RegionMissing = "s3_region_missing", Outage, "set media.s3_region";

        // This machine, and this process.
        ResolverUnavailable = "resolver_unavailable", Outage, "check this machine's DNS";
        TlsTrustBroken = "tls_trust_broken", Outage,
            "check the system's CA certificates, media.ca_file and this machine's clock";
        SettingsInvalid = "media_settings_invalid", Permanent;
        ClientFailed = "media_client_failed", Outage,
            "install the system's CA certificates (package ca-certificates), name a file with SSL_CERT_FILE, or set \
             media.ca_file";
        FileDescriptorsExhausted = "file_descriptors_exhausted", Outage,
            "raise its limit (ulimit -n, LimitNOFILE=), or lower media.per_host_concurrency and pipeline.in_flight_max";
        PortsExhausted = "ports_exhausted", Outage,
            "widen net.ipv4.ip_local_port_range, or lower media.per_host_concurrency";
        MemoryExhausted = "memory_exhausted", Outage,
            "give it more, or lower what docs/operations.md lists under Sizing";
        DiskFull = "disk_full", Outage, "make room";
        DiskReadOnly = "disk_read_only", Outage, "mount it writable";
    }
}

impl MediaReason {
    /// Whether this process lacks something that all items need, from any host.
    pub fn is_of_process(self) -> bool {
        use MediaReason::{DiskFull, DiskReadOnly, FileDescriptorsExhausted, MemoryExhausted, PortsExhausted};
        matches!(self, FileDescriptorsExhausted | PortsExhausted | MemoryExhausted | DiskFull | DiskReadOnly)
    }
}
