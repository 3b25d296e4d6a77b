//! Nothing secret leaves through a log line, an error, a payload or a dead letter.

use std::error::Error;

use url::Url;

/// Longest URL or value that is quoted in a message, in characters.
const QUOTED_CHARS_MAX: usize = 200;

/// Query parameters that grant access or sign a request (S3, GCS, Azure SAS, CloudFront, plain tokens). Compared in
/// lower case, by prefix or whole.
const SECRET_PARAMETER_PREFIXES: [&str; 3] = ["x-amz-", "x-goog-", "x-oss-"];
const SECRET_PARAMETERS: [&str; 33] = [
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

/// `url` without userinfo, signatures, tokens and fragment, cut to a quotable length. `data:` URLs keep only their
/// media type. What cannot be parsed is cut at the first `?`, `#` or `@`, whatever it is.
pub fn url(url: &str) -> String {
    if url.get(..5).is_some_and(|s| s.eq_ignore_ascii_case("data:")) {
        let head = url.split([',', ';']).next().unwrap_or("data:");
        return format!("{},…({} bytes)", cut(head, 60), url.len());
    }
    // Without `//` after its scheme it has no user info that could be taken out (`joe:pw@host` is such a one).
    let Some(mut parsed) = Url::parse(url).ok().filter(|parsed| !parsed.cannot_be_a_base()) else {
        let tail = url.rsplit('@').next().unwrap_or_default();
        return cut(tail.split(['?', '#']).next().unwrap_or_default(), QUOTED_CHARS_MAX);
    };
    // Both fail only on URLs that cannot carry userinfo at all.
    let _ = parsed.set_username("");
    let _ = parsed.set_password(None);
    parsed.set_fragment(None);
    if parsed.query().is_some() {
        let kept: Vec<(String, String)> = parsed
            .query_pairs()
            .map(|(k, v)| {
                // A JSON web token is one under any name.
                let secret = is_secret_parameter(&k) || v.starts_with("eyJ");
                (k.into_owned(), if secret { "REDACTED".to_owned() } else { v.into_owned() })
            })
            .collect();
        parsed.query_pairs_mut().clear().extend_pairs(kept);
    }
    cut(parsed.as_str(), QUOTED_CHARS_MAX)
}

/// Whether [`cut`] has cut something off.
pub fn is_cut(text: &str) -> bool {
    text.ends_with('…')
}

fn is_secret_parameter(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_PARAMETER_PREFIXES.iter().any(|p| name.starts_with(p))
        || SECRET_PARAMETERS.contains(&name.as_str())
        || ["token", "secret", "password", "signature"].iter().any(|s| name.contains(s))
}

/// The innermost cause of an error, in words and without URLs: outer layers only repeat what a message says already.
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    let last = causes(error).last().map(ToString::to_string).unwrap_or_default();
    cut(&last, 200)
}

/// `error` and its causes. An `io::Error` counts as caused by what it wraps, which its own `source` skips; rustls and
/// the HTTP client hand their errors over in such wrappings.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => (*error).source(),
        }
    })
}

/// At most `chars` characters of `text`, with `…` where something was cut. Control characters are escaped, and count as
/// what they are written as.
pub fn cut(text: &str, chars: usize) -> String {
    let (mut out, mut left) = (String::new(), chars);
    for c in text.chars() {
        let size = if c.is_control() { c.escape_default().len() } else { 1 };
        if size > left {
            out.push('…');
            break;
        }
        left -= size;
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// As [`cut`], for text of somebody else that may hold URLs: it ends where the first one begins (`:/`, or an escape that
/// may be one), because nothing tells a password from the rest in text that may be broken.
pub fn excerpt(text: &str, chars: usize) -> String {
    let url = [":/", ":\\", "\\u"].iter().filter_map(|start| text.find(start)).min();
    match url {
        Some(at) if text[..at].chars().take(chars).count() < chars => format!("{}…", cut(&text[..at], chars)),
        _ => cut(text, chars),
    }
}

/// A secret from configuration: has no `Display`, and its `Debug` shows nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("REDACTED")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn userinfo_and_signatures_go_and_the_rest_stays() {
        assert_eq!(url("https://joe:hunter2@cdn.example/a.jpg?w=10"), "https://cdn.example/a.jpg?w=10");
        assert_eq!(
            url("https://b.s3.amazonaws.com/k?X-Amz-Signature=abc&versionId=3#frag"),
            "https://b.s3.amazonaws.com/k?X-Amz-Signature=REDACTED&versionId=3"
        );
        assert_eq!(url("s3://bucket/key.jpg"), "s3://bucket/key.jpg");
        assert!(!url("https://x/?refresh_token=tok123&Sig=s3cr3t").contains("tok123"));
        assert!(!url("https://x/?refresh_token=tok123&Sig=s3cr3t").contains("s3cr3t"));
    }

    #[test]
    fn data_urls_and_garbage_show_no_content() {
        assert_eq!(url("data:image/png;base64,AAAA"), "data:image/png,…(26 bytes)");
        assert_eq!(url("//joe:pw@host/x?sig=1"), "host/x");
        assert_eq!(url("joe:pw@host/x?sig=1"), "host/x");
        assert_eq!(url("https://x/a?v=eyJhbGciOiJIUzI1NiJ9.e30.c2ln"), "https://x/a?v=REDACTED");
    }

    #[test]
    fn excerpts_end_before_a_url() {
        assert_eq!(excerpt(r#"{"image": "https://joe:pw@host/a"#, 80), r#"{"image": "https…"#);
        assert_eq!(excerpt(r#"{"image": "https:\/\/joe:pw@host"#, 80), r#"{"image": "https…"#);
        assert_eq!(excerpt(r#"{"image": "\u0068ttps"#, 80), r#"{"image": "…"#);
        assert_eq!(excerpt("{\"a\": 1}", 80), "{\"a\": 1}");
        assert_eq!(excerpt("abcdef https://x", 3), "abc…");
    }

    #[test]
    fn long_text_is_cut_and_control_characters_are_visible() {
        assert_eq!(cut("abcdef", 3), "abc…");
        assert_eq!(cut("a\nb", 9), "a\\nb");
        // Found by fuzzing: 200 of them were a line of 1,200 characters.
        assert_eq!(cut("a\0\0", 8), "a\\u{0}…");
    }
}
