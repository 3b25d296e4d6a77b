//! Why a file is not a picture for us.

use super::format::Format;
use crate::domain::{Fault, PictureReason};

/// Why a file is not a picture that can be embedded. Always permanent: the same bytes fail again. Holds no bytes of the file.
pub type PictureError = Fault<PictureReason>;

impl PictureError {
    pub(super) fn undecodable(format: Format, detail: impl std::fmt::Display) -> Self {
        let detail = detail.to_string();
        let detail = crate::redact::cut(&detail, 160);
        let message = format!("{format} picture cannot be decoded: {detail}; expected an intact file");
        Self::new(PictureReason::Undecodable, message)
    }

    /// For a decoder that panicked.
    pub(super) fn broken() -> Self {
        let message = "the decoder gave up on the picture's content; expected an intact file";
        Self::new(PictureReason::Undecodable, message)
    }

    pub(super) fn too_large(width: u64, height: u64, pixels_max: u64) -> Self {
        let message = format!("picture of {width} x {height} pixels, expected at most {pixels_max} in all");
        Self::new(PictureReason::TooLarge, message).hint("store a smaller picture, or raise media.pixels_max")
    }

    /// For a picture that takes more memory to decode than all pictures together may.
    pub(super) fn too_costly(width: u32, height: u32, bytes: u64, decode_bytes_max: u64) -> Self {
        let mib = |bytes: u64| bytes.div_ceil(1024 * 1024);
        let message = format!(
            "picture of {width} x {height} pixels takes {} MiB to decode, expected at most {} MiB",
            mib(bytes),
            mib(decode_bytes_max)
        );
        Self::new(PictureReason::TooLarge, message).hint("store a smaller picture, or raise clip.decode_bytes_max")
    }

    pub(super) fn unsupported(found: impl std::fmt::Display) -> Self {
        let message =
            format!("{found}, which is not read; expected a JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, PNM or ICO picture");
        Self::new(PictureReason::Unsupported, message)
    }
}
