//! `data:image/…;base64,…` (RFC 2397), and the percent-encoded form without `base64`.

use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::percent_decode_str;

use super::body::{Announced, Body, Bounds};
use super::deadline::Deadline;
use super::unpack::Unpacker;
use super::{Fetched, MediaError, Validators};
use crate::budget::Budget;
use crate::domain::MediaReason;
use crate::redact;

/// Decodes like browsers: padding may be missing, and bits after the last byte are ignored.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

pub(super) async fn fetch(
    url: &str,
    bytes_max: u64,
    budget: &Budget,
    deadline: &mut Deadline,
) -> Result<Fetched, MediaError> {
    let shown = redact::url(url);
    let bytes = decode(url).map_err(|why| {
        let message = format!("{shown}: {why}; expected data:image/TYPE;base64,DATA");
        MediaError::new(MediaReason::DataUrlInvalid, message)
    })?;
    let announced = Announced { bytes: Some(bytes.len() as u64), unpacker: Unpacker::new(std::iter::empty()) };
    let bounds = Bounds::new(bytes_max, Duration::MAX);
    let body = Body::begin(&shown, None, announced, bounds, budget, deadline).await?;
    let (bytes, reservation) = body.whole(&bytes, deadline).await?;
    Ok(Fetched { bytes, validators: Validators::default(), reservation })
}

/// `url` begins with `data:`, in any case.
fn decode(url: &str) -> Result<Vec<u8>, String> {
    let (head, data) = url["data:".len()..].split_once(',').ok_or("no comma")?;
    let mut parts = head.split(';').map(str::trim).peekable();
    // `data:base64,…` leaves out the type and its semicolon.
    let typed = parts.peek().is_some_and(|first| !first.eq_ignore_ascii_case("base64"));
    let media_type = if typed { parts.next().unwrap_or_default() } else { "" };
    // The type is often wrong, so it is mostly ignored. Only types that are clearly something else are refused: nobody
    // uses those for a picture by mistake.
    let kind = media_type.split('/').next().unwrap_or_default().to_ascii_lowercase();
    if matches!(kind.as_str(), "audio" | "font" | "model" | "multipart" | "text" | "video") {
        return Err(format!("the media type is \"{}\"", redact::cut(media_type, 60)));
    }
    let bytes: Vec<u8> = percent_decode_str(data).collect();
    if !parts.any(|p| p.eq_ignore_ascii_case("base64")) {
        return Ok(bytes);
    }
    // Maps the URL-safe alphabet (RFC 4648 §5) to the standard one.
    let packed: Vec<u8> = bytes
        .into_iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => other,
        })
        .collect();
    LENIENT.decode(&packed).map_err(|error| format!("bad base64 ({error})"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn get(url: &str) -> Result<Vec<u8>, MediaError> {
        let mut deadline = Deadline::after(Duration::from_secs(1));
        fetch(url, 10, &Budget::new(1 << 20), &mut deadline).await.map(|f| f.bytes.to_vec())
    }

    #[tokio::test]
    async fn base64_and_percent_encoding() {
        let cases = [
            ("data:image/png;base64,aGVsbG8=", &b"hello"[..]),
            ("DATA:Image/PNG;charset=x;BASE64,aGVsbG8", b"hello"),
            ("data:image/png;base64,aGVs%0AbG8%3D", b"hello"),
            ("data:image/png;base64,aG Vs\nbG8=", b"hello"),
            ("data:image/svg+xml,%3Csvg/%3E", b"<svg/>"),
            ("data:image/x,a,b", b"a,b"),
            ("data:application/octet-stream;base64,aGVsbG8=", b"hello"),
            ("data:Binary/Octet-Stream;base64,aGVsbG8=", b"hello"),
            ("data:;base64,aGVsbG8=", b"hello"),
            ("data:base64,aGVsbG8=", b"hello"),
            ("data:;charset=utf-8;base64,aGVsbG8=", b"hello"),
            ("data:,hello", b"hello"),
            // The URL-safe alphabet.
            ("data:image/png;base64,_-8", b"\xff\xef"),
        ];
        for (url, expected) in cases {
            assert_eq!(get(url).await.unwrap(), expected, "{url}");
        }
    }

    #[tokio::test]
    async fn refusals_name_the_cause_and_show_no_content() {
        let cases = [
            ("data:image/png", MediaReason::DataUrlInvalid, "no comma"),
            ("data:text/plain,secret", MediaReason::DataUrlInvalid, "the media type is \"text/plain\""),
            ("data:text/html;base64,c2VjcmV0", MediaReason::DataUrlInvalid, "the media type is \"text/html\""),
            ("data:image/png;base64,a!", MediaReason::DataUrlInvalid, "bad base64"),
            ("data:image/png;base64,", MediaReason::Empty, "0 bytes"),
            ("data:image/png;base64,aGVsbG8gaGVsbG8=", MediaReason::TooLarge, "11 bytes; expected at most 10"),
        ];
        for (url, reason, part) in cases {
            let error = get(url).await.unwrap_err();
            assert_eq!(error.reason, reason, "{url}");
            assert!(error.to_string().contains(part) && !error.to_string().contains("secret"), "{}", error.message);
        }
    }
}
