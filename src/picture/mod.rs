//! Files to pixels: what is in a picture's file, and what an image tower takes of it.
//!
//! `decode` reads files in the modes of PIL; `preprocess` makes of them what OpenCLIP's eval transform makes. A decoder
//! leaves out what is not needed. It asks through the trait `need::Need`, so that it depends on no model. Nothing here runs a model,
//! waits, or has threads.

mod area;
mod decode;
mod error;
mod format;
mod need;
mod preprocess;
mod samples;

pub use decode::{AVIF_HAS_SIMD, JPEG_HAS_SIMD, Picture, sniff_picture};
pub use error::PictureError;
use preprocess::Models;
pub use preprocess::{InvalidPreprocess, Pixels, Preprocess};

/// Bytes that decoding a file for `models`, and preprocessing it for them, takes at most, read from its header.
///
/// # Errors
///
/// As [`decode_picture`], and `image_too_large` for a picture that takes more than `decode_bytes_max` alone.
pub fn picture_bytes(
    bytes: &[u8],
    pixels_max: u64,
    decode_bytes_max: u64,
    models: &[&Preprocess],
) -> Result<u64, PictureError> {
    decode::bytes_needed(bytes, pixels_max, decode_bytes_max, &Models(models))
}

/// Decodes a JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, PNM or ICO file for `models`: the first frame of an animation, the
/// first page of a TIFF. One picture serves all of them, which have one setting of orientation and decoding.
///
/// # Errors
///
/// `image_unsupported` for anything else, `image_too_large` above `pixels_max`, `image_undecodable` for a file that
/// is cut off or damaged.
pub fn decode_picture(bytes: &[u8], pixels_max: u64, models: &[&Preprocess]) -> Result<Picture, PictureError> {
    decode::decode(bytes, pixels_max, &Models(models))
}

#[cfg(test)]
mod tests;
