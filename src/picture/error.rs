//! Why a file is no picture for us.

use super::format::Format;

/// Why a file is not a picture that can be embedded. Always permanent: the same bytes fail again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PictureError {
    /// `image_undecodable`, `image_too_large` or `image_unsupported`.
    pub reason: &'static str,
    /// What was found, what was expected, and the next step; holds no bytes of the file.
    pub message: String,
}

impl PictureError {
    pub(super) fn undecodable(format: Format, detail: impl std::fmt::Display) -> Self {
        let message = format!(
            "{format} picture cannot be decoded: {}; expected an intact file: store it again from its original",
            crate::redact::cut(&detail.to_string(), 160)
        );
        Self { reason: "image_undecodable", message }
    }

    /// For a decoder that panicked.
    pub(super) fn broken() -> Self {
        let message =
            "the decoder gave up on the picture's content; expected an intact file: store it again from its original";
        Self { reason: "image_undecodable", message: message.to_owned() }
    }

    pub(super) fn too_large(width: u64, height: u64, pixels_max: u64) -> Self {
        let message = format!(
            "picture of {width} x {height} pixels, expected at most {pixels_max} in all: \
             store a smaller picture or raise media.pixels_max"
        );
        Self { reason: "image_too_large", message }
    }

    /// For a picture that takes more memory to decode than all pictures together may.
    pub(super) fn too_costly(width: u32, height: u32, bytes: u64, decode_bytes_max: u64) -> Self {
        let mib = |bytes: u64| bytes.div_ceil(1024 * 1024);
        let message = format!(
            "picture of {width} x {height} pixels takes {} MiB to decode, expected at most {} MiB: \
             store a smaller picture or raise clip.decode_bytes_max",
            mib(bytes),
            mib(decode_bytes_max)
        );
        Self { reason: "image_too_large", message }
    }

    pub(super) fn unsupported(found: impl std::fmt::Display) -> Self {
        let message = format!(
            "{found}, which is not read; expected a JPEG, PNG, WebP, GIF, BMP, TIFF, PNM or ICO picture: convert it to one of them"
        );
        Self { reason: "image_unsupported", message }
    }
}
