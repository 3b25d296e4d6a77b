//! Redaction: keeps secrets out of logs, errors, payloads and dead letters.

mod path;
mod query;

use std::error::Error;

use sha2::{Digest as _, Sha256};
use url::Url;

/// Longest quoted URL or value, in characters.
const QUOTED_CHARS_MAX: usize = 200;

/// `url` without anything that may grant access, cut to a quotable length: the form that is stored, logged and added to dead
/// letters.
///
/// - Userinfo, fragment and recognisable secrets in the path are removed.
/// - Only harmless parts of the query stay (sizes, formats, S3's version), because no list of secret names can be complete.
///   Values of known signature parameters become `REDACTED`. All other parameters, with their names, become one `redacted=` with
///   a hash of them, so that two URLs that differ there remain distinguishable.
/// - `data:` URLs keep only their media type. Text that cannot be parsed is cut at the first `?`, `#` or `@`.
pub fn url(url: &str) -> String {
    let url = url.trim();
    if url.get(..5).is_some_and(|s| s.eq_ignore_ascii_case("data:")) {
        return data_url(url);
    }
    // Without `//` after the scheme, user info is not recognised (for example `joe:pw@host`).
    let Some(mut parsed) = Url::parse(url).ok().filter(|parsed| !parsed.cannot_be_a_base()) else {
        let tail = url.rsplit('@').next().unwrap_or_default();
        let tail = tail.split(['?', '#']).next().unwrap_or_default();
        // A local path is shown unchanged.
        let shown = if url.contains(':') || url.starts_with("//") { path::shown(tail, true) } else { tail.to_owned() };
        return cut(&shown, QUOTED_CHARS_MAX);
    };
    // Both fail only for URLs that cannot have userinfo.
    let _ = parsed.set_username("");
    let _ = parsed.set_password(None);
    parsed.set_fragment(None);
    let shown = path::shown(parsed.path(), matches!(parsed.scheme(), "http" | "https"));
    if shown != parsed.path() {
        parsed.set_path(&shown);
    }
    if let Some(asked) = parsed.query().filter(|query| !query.is_empty()) {
        let shown = query::shown(asked);
        parsed.set_query(Some(&shown));
    }
    cut(parsed.as_str(), QUOTED_CHARS_MAX)
}

fn data_url(url: &str) -> String {
    let head = url.split([',', ';']).next().unwrap_or_default();
    // Text that does not look like a media type may be data.
    let is_type = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '+' | '-');
    let kind = &head["data:".len()..];
    let known = head.len() < url.len() && kind.len() <= 40 && kind.contains('/') && kind.chars().all(is_type);
    format!("{},…({} bytes)", if known { head } else { &head[.."data:".len()] }, url.len())
}

/// Whether another URL with the same redacted form ([`url()`]) is the same URL: nothing was removed except what the hash covers.
pub fn shows_all(url: &str) -> bool {
    let shown = self::url(url);
    if is_cut(&shown) || shown.contains("REDACTED") {
        return false;
    }
    // For other schemes, the `url` crate and the server may normalise paths differently.
    shown == url
        || Url::parse(url).is_ok_and(|parsed| {
            let web = matches!(parsed.scheme(), "http" | "https");
            web && parsed.username().is_empty() && parsed.password().is_none() && parsed.fragment().is_none()
        })
}

/// Whether [`cut`] has shortened the text.
pub fn is_cut(text: &str) -> bool {
    text.ends_with('…')
}

/// Distinguishes secrets without showing them: 48 bits of their SHA-256. A guess of the secret could be confirmed, but keys and
/// signatures cannot be guessed.
fn hash(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The innermost cause of an error, as text without URLs. Outer layers only repeat the message.
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    let last = causes(error).last().map(ToString::to_string).unwrap_or_default();
    cut(&last, 200)
}

/// `error` and its causes. An `io::Error` counts as caused by the error that it wraps, which its own `source` skips; rustls and
/// the HTTP client wrap their errors this way.
pub fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => (*error).source(),
        }
    })
}

/// At most `chars` characters of `text`, with `…` if it was cut. Invisible characters (control characters, byte order marks,
/// zero-width characters, blanks other than the space) are escaped, and count with the length of their escape.
pub fn cut(text: &str, chars: usize) -> String {
    let (mut out, mut left) = (String::new(), chars);
    for c in text.chars() {
        let hidden = is_invisible(c);
        let size = if hidden { c.escape_default().len() } else { 1 };
        if size > left {
            out.push('…');
            break;
        }
        left -= size;
        if hidden {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether `c` is invisible or looks like a space: control characters, other blanks, and Unicode's
/// `Default_Ignorable_Code_Point` (DerivedCoreProperties.txt), which includes byte order, direction and zero-width marks.
pub fn is_invisible(c: char) -> bool {
    let ignorable = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}');
    ignorable || c.is_control() || (c != ' ' && c.is_whitespace())
}

/// Like [`cut`], for external text that may contain URLs. It ends before the first URL (`:/`, or an escape that may be one),
/// because passwords cannot be recognised in text that may be malformed.
pub fn excerpt(text: &str, chars: usize) -> String {
    let url = [":/", ":\\", "\\u"].iter().filter_map(|start| text.find(start)).min();
    match url {
        Some(at) if text[..at].chars().take(chars).count() < chars => format!("{}…", cut(&text[..at], chars)),
        _ => cut(text, chars),
    }
}

/// A secret from the configuration. It has no `Display`, and its `Debug` output is redacted.
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
        assert_eq!(url(" https://a.example/x y.jpg\n"), "https://a.example/x%20y.jpg");
        assert!(!url("https://x/?refresh_token=tok123&Sig=s3cr3t").contains("tok123"));
        assert!(!url("https://x/?refresh_token=tok123&Sig=s3cr3t").contains("s3cr3t"));
    }

    #[test]
    fn parameters_of_unknown_names_are_hashed_together_and_stay_distinguishable() {
        let one = url("https://a.example/i.php?id=7&w=10");
        assert_eq!(one.len(), "https://a.example/i.php?w=10&redacted=".len() + 12, "{one}");
        assert!(one.starts_with("https://a.example/i.php?w=10&redacted="), "{one}");
        assert_ne!(one, url("https://a.example/i.php?id=8&w=10"));
        assert_eq!(
            one,
            url("https://a.example/i.php?id=7&w=10&X-Amz-Signature=1").replace("&X-Amz-Signature=REDACTED", "")
        );
        // No name, no value, no order of them can be read.
        for hidden in [
            "?7",
            "?w=<script>",
            "?w=10000000000",
            "?width=c2VjcmV0",
            "?fit=A1b2C3d4E5f6",
            "?size=planted-secret-value",
        ] {
            let shown = url(&format!("https://a.example/{hidden}"));
            assert!(shown.starts_with("https://a.example/?redacted="), "{shown}");
        }
        assert_eq!(url("https://a.example/?"), "https://a.example/?");
    }

    #[test]
    fn what_is_shown_is_all_or_not() {
        for (url, all) in [
            ("https://a.example/x.jpg", true),
            ("https://a.example/i.php?id=7", true),
            ("https://a.example/i.php?sig=7", false),
            ("https://joe@a.example/x.jpg", false),
            ("https://a.example/x.jpg#a", false),
            ("https://a.example/token=1/x.jpg", false),
            ("s3://bucket/x.jpg", true),
            ("s3://bucket/x.jpg?a", false),
            ("s3://bucket/x.jpg#a", false),
        ] {
            assert_eq!(shows_all(url), all, "{url}");
        }
        assert!(!shows_all(&format!("https://a.example/{}", "x".repeat(300))));
    }

    #[test]
    fn secrets_in_paths_go() {
        for (given, shown) in [
            ("https://c.example/token=abc123/a.jpg", "https://c.example/token=REDACTED/a.jpg"),
            ("https://c.example/exp=1~acl=/*~hmac=abc123/a.jpg", "https://c.example/exp=1~acl=/*~hmac=REDACTED/a.jpg"),
            ("https://c.example/a.jpg;jsessionid=abc123", "https://c.example/a.jpg;jsessionid=REDACTED"),
            ("https://c.example/u/eyJhbGciOiJIUzI1NiJ9.e30.c2ln/a.jpg", "https://c.example/u/REDACTED/a.jpg"),
            (
                "https://res.example/demo/image/upload/s--Ab3_x-9Z--/a.jpg",
                "https://res.example/demo/image/upload/REDACTED/a.jpg",
            ),
            ("https://c.example/sig/abc123/a.jpg", "https://c.example/sig/REDACTED/a.jpg"),
            // Dates and content hashes are not secrets.
            ("s3://bucket/date=2026-11-29/a.jpg", "s3://bucket/date=2026-11-29/a.jpg"),
            (
                "https://c.example/9f86d081884c7d659a2feaa0c55ad015/a.jpg",
                "https://c.example/9f86d081884c7d659a2feaa0c55ad015/a.jpg",
            ),
        ] {
            assert_eq!(url(given), shown);
        }
        let signed = "https://proxy.example/AfrOrF3gWeDA6VOlDG4TzxMv39O7MXnF4CXpKUwGqRM/fit/300/a.jpg";
        let shown = url(signed);
        assert!(shown.starts_with("https://proxy.example/redacted-") && shown.ends_with("/fit/300/a.jpg"), "{shown}");
        assert_ne!(shown, url(&signed.replace("AfrOr", "BfrOr")));
    }

    #[test]
    fn data_urls_and_garbage_show_no_content() {
        assert_eq!(url("data:image/png;base64,AAAA"), "data:image/png,…(26 bytes)");
        assert_eq!(url("data:;base64,AAAA"), "data:,…(17 bytes)");
        assert_eq!(url("data:secret"), "data:,…(11 bytes)");
        assert_eq!(url("data:sec ret/x,AAAA"), "data:,…(19 bytes)");
        assert_eq!(url("//joe:pw@host/x?sig=1"), "host/x");
        assert_eq!(url("joe:pw@host/x?sig=1"), "host/x");
        assert_eq!(url("https://x/a?v=eyJhbGciOiJIUzI1NiJ9.e30.c2ln").split("redacted=").count(), 2);
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
        assert_eq!(cut("\u{feff}a\u{200b}\u{a0}é ß", 80), "\\u{feff}a\\u{200b}\\u{a0}é ß");
        // Found by fuzzing: 200 of them were a line of 1,200 characters.
        assert_eq!(cut("a\0\0", 8), "a\\u{0}…");
    }
}
