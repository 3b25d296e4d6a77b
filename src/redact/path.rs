//! Redaction of URL paths. Most secrets in a path look like ordinary names; these are recognisable.

use super::hash;

/// Path parts that are followed by a secret.
const BEFORE_SECRETS: [&str; 7] = ["auth", "hmac", "jwt", "sig", "signature", "sign", "token"];
/// A mixed part of at least this length is a key or a signature (imgproxy and similar: 43 characters).
const OPAQUE_CHARS_MIN: usize = 32;

/// `path` without recognisable secrets. `on_web`: also without parts that look like a key or a signature; names of buckets and
/// folders may look like that.
pub(super) fn shown(path: &str, on_web: bool) -> String {
    let mut before = "";
    let parts: Vec<String> = path
        .split('/')
        .map(|part| {
            let follows = BEFORE_SECRETS.contains(&before.to_ascii_lowercase().as_str()) && !part.contains('.');
            before = part;
            if (follows && !part.is_empty()) || is_token(part) {
                "REDACTED".to_owned()
            } else if on_web && is_opaque(part) {
                format!("redacted-{}", hash(part))
            } else {
                assignments(part)
            }
        })
        .collect();
    parts.join("/")
}

/// Redacts `name=value` of secret names, also several in one part (`;jsessionid=1`, `exp=1~hmac=2`).
fn assignments(part: &str) -> String {
    if !part.contains('=') {
        return part.to_owned();
    }
    let mut out = String::with_capacity(part.len());
    for piece in part.split_inclusive([';', '~', '&', ',']) {
        let end = piece.trim_end_matches([';', '~', '&', ',']).len();
        let (pair, separator) = piece.split_at(end);
        match pair.split_once('=') {
            Some((name, _)) if is_secret(name) => {
                out.push_str(name);
                out.push_str("=REDACTED");
            }
            _ => out.push_str(pair),
        }
        out.push_str(separator);
    }
    out
}

/// Fewer names than in a query: `key=` and `code=` are folders in many data sets.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["hmac", "password", "secret", "sessionid", "signature", "token"].iter().any(|part| name.contains(part))
        || ["__gda__", "hdnea", "hdnts", "jwt", "sig", "sign"].contains(&name.as_str())
}

/// A JSON web token, or Cloudinary's signature.
fn is_token(part: &str) -> bool {
    let jwt = part.starts_with("eyJ") && part.len() >= 16;
    jwt || (part.len() > 6 && part.starts_with("s--") && part.ends_with("--"))
}

/// Upper case, lower case and digits without a dot: not an ordinary name.
fn is_opaque(part: &str) -> bool {
    let has = |what: fn(&u8) -> bool| part.as_bytes().iter().any(what);
    part.len() >= OPAQUE_CHARS_MIN
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'='))
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_digit)
}
