//! What a file is, from its first bytes.

use super::PictureError;
use crate::picture::format::Format;

/// How far into a text file its kind is looked for.
const TEXT_PREFIX_BYTES: usize = 1024;

const HEIF: &str = "a HEIF picture";

/// # Errors
///
/// `image_unsupported`, with the kind that was found instead.
pub(super) fn format(bytes: &[u8]) -> Result<Format, PictureError> {
    match bytes {
        [0xFF, 0xD8, 0xFF, ..] => Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Ok(Format::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::WebP),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok(Format::Gif),
        [b'B', b'M', ..] if is_bmp(bytes) => Ok(Format::Bmp),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Ok(Format::Tiff),
        [b'I', b'I', 43, 0, ..] | [b'M', b'M', 0, 43, ..] => Ok(Format::Tiff),
        // The order of the bytes wrong once: PIL believes the first two.
        [b'I', b'I', 0, 42, ..] | [b'M', b'M', 42, 0, ..] => Ok(Format::Tiff),
        [0, 0, 1, 0, ..] => Ok(Format::Ico),
        _ if super::avif::is_avif(bytes) => Ok(Format::Avif),
        _ if super::pnm::is_pnm(bytes) => Ok(Format::Pnm),
        _ => Err(refused(bytes)),
    }
}

/// With what to do about it.
fn refused(bytes: &[u8]) -> PictureError {
    let error = PictureError::unsupported(other(bytes));
    match kind(bytes) {
        HEIF => error.hint(
            "convert it to JPEG, PNG or AVIF, for example with heif-convert of libheif; phones can be set to take JPEG",
        ),
        _ => error,
    }
}

/// `BM` alone is also how plain text may begin: the header size behind it must be one of the known ones.
fn is_bmp(bytes: &[u8]) -> bool {
    bytes.get(14..18).is_some_and(|size| matches!(size, [12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0]))
}

/// The kind of a file that is not one of ours, in words.
fn other(bytes: &[u8]) -> String {
    let mut head = String::new();
    for byte in bytes.iter().take(8) {
        head.push_str(&format!(" {byte:02x}"));
    }
    match kind(bytes) {
        "" => format!("unknown content of {} bytes that begins with{head}", bytes.len()),
        kind => kind.to_owned(),
    }
}

/// As above; empty where it is not known.
pub(super) fn kind(bytes: &[u8]) -> &'static str {
    match bytes {
        [] => "an empty file",
        [b'%', b'P', b'D', b'F', ..] => "a PDF file",
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => match brand.get(..4) {
            Some(b"avif" | b"avis") => "an AVIF picture",
            Some(b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1") => HEIF,
            _ => "an MP4 or other ISO media file",
        },
        [0xFF, 0x0A, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => "a JPEG XL picture",
        [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] | [0xFF, 0x4F, 0xFF, 0x51, ..] => "a JPEG 2000 picture",
        [b'8', b'B', b'P', b'S', ..] => "a Photoshop file",
        [b'P', b'K', 3, 4, ..] => "a ZIP archive",
        [0x1F, 0x8B, ..] => "a gzip file",
        [0x1A, 0x45, 0xDF, 0xA3, ..] => "a Matroska or WebM file",
        _ => text_kind(bytes),
    }
}

/// SVG, HTML, XML, JSON or plain text; empty for what is none of them.
fn text_kind(bytes: &[u8]) -> &'static str {
    let head = &bytes[..bytes.len().min(TEXT_PREFIX_BYTES)];
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.contains("<svg") {
        "an SVG drawing"
    } else if text.starts_with("<!doctype html") || text.contains("<html") {
        "an HTML page"
    } else if text.starts_with("<?xml") {
        "an XML document"
    } else if text.starts_with(['{', '[']) {
        "JSON text"
    } else if !head.iter().any(|b| *b < 9 || (14..32).contains(b)) && std::str::from_utf8(head).is_ok() {
        "plain text"
    } else {
        ""
    }
}
