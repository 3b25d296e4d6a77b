//! Redaction of URL queries.

use url::form_urlencoded::{Serializer, parse};

use super::hash;

/// Query parameters that grant access or sign a request (S3, GCS, Azure SAS, CloudFront, plain tokens). Compared in
/// lower case, by prefix or as a whole. A URL with a new signature is the same URL, so their values are ignored.
const SECRET_PREFIXES: [&str; 3] = ["x-amz-", "x-goog-", "x-oss-"];
const SECRET: [&str; 33] = [
    "__gda__",
    "access_key",
    "access_token",
    "api_key",
    "apikey",
    "auth",
    "authorization",
    "awsaccesskeyid",
    "code",
    "credential",
    "googleaccessid",
    "hdnea",
    "hdnts",
    "hmac",
    "jwt",
    "key",
    "key-pair-id",
    "pass",
    "passwd",
    "password",
    "policy",
    "pwd",
    "secret",
    "se",
    "session",
    "session_id",
    "sessionid",
    "sid",
    "sig",
    "sign",
    "signature",
    "sp",
    "token",
];

/// Parameters of image servers for size, quality or shape. Their values are shown if they look like that.
const NUMBERS: [&str; 9] = ["dpr", "h", "height", "maxheight", "maxwidth", "q", "quality", "w", "width"];
const WORDS: [&str; 8] = ["auto", "crop", "fit", "fm", "format", "mode", "resize", "size"];

/// S3's version id, which grants no access.
const VERSION: &str = "versionId";

/// `query` with unchanged harmless parameters, signature parameters without their value, and a hash of all others.
pub(super) fn shown(query: &str) -> String {
    let mut shown = Serializer::new(String::new());
    let mut hidden = Serializer::new(String::new());
    let mut hides = false;
    for (name, value) in parse(query.as_bytes()) {
        if is_harmless(&name, &value) {
            shown.append_pair(&name, &value);
        } else if is_secret(&name) {
            shown.append_pair(&name, "REDACTED");
        } else {
            hides = true;
            hidden.append_pair(&name, &value);
        }
    }
    if hides {
        shown.append_pair("redacted", &hash(&hidden.finish()));
    }
    shown.finish()
}

fn is_harmless(name: &str, value: &str) -> bool {
    if name == VERSION {
        return value.len() <= 64
            && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    }
    let lower = name.to_ascii_lowercase();
    if NUMBERS.contains(&lower.as_str()) {
        return value.len() <= 6 && value.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    }
    // Ordinary words: short, and only letters, or digits with a sign.
    WORDS.contains(&lower.as_str())
        && value.len() <= 16
        && value.split([',', '-', '_', 'x', ':']).all(|part| {
            let (letters, digits) = (|b: u8| b.is_ascii_lowercase(), |b: u8| b.is_ascii_digit());
            part.len() <= 10 && (part.bytes().all(letters) || part.bytes().all(digits))
        })
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_PREFIXES.iter().any(|p| name.starts_with(p))
        || SECRET.contains(&name.as_str())
        || ["token", "secret", "password", "signature"].iter().any(|s| name.contains(s))
}
