//! What a picture takes in memory: while it is decoded, turned, and made small for its models. The sum is reserved before
//! any of it is allocated; `docs/operations.md` has the table that is made of the same numbers.

use super::{ExifOrientation, Header, PictureError};
use crate::picture::area::Size;
use crate::picture::need::Need;

/// What any decoder takes besides pixels: tables, rows, windows of unpackers.
const DECODER_BYTES: u64 = 1024 * 1024;

/// Bytes at the highest point of decoding and preprocessing, for all models of `need`, one after the other.
///
/// # Errors
///
/// `image_undecodable` for a file that is damaged where it says what it takes.
pub(super) fn bytes(header: &Header<'_>, orientation: ExifOrientation, need: &dyn Need) -> Result<u64, PictureError> {
    let size = header.size().size();
    let (whole, pixel_bytes) = match header {
        Header::Jpeg(jpeg) => (jpeg.whole(orientation, need), jpeg.channels()),
        other => (size, other.pixel_bytes()),
    };
    let samples = whole.width as u64 * whole.height as u64 * pixel_bytes;
    let decoding = match header {
        Header::Jpeg(header) => header.decode_bytes(orientation, need),
        Header::WebP(header) => header.decode_bytes()?,
        Header::Avif(header) => header.decode_bytes(),
        Header::Tiff(header) => header.decode_bytes(),
        Header::Ico(header) => header.decode_bytes(),
        Header::Png(_) | Header::Gif(_) | Header::Bmp(_) | Header::Pnm(_) => samples,
    };
    // Two rows of it are held where rows are unpacked; a picture may be one row.
    let rows = 2 * 2 * 4 * size.width as u64;
    // A turned picture is a copy.
    let turning = if orientation.is_upright() { samples } else { 2 * samples };
    let upright = |size: Size| orientation.size(size);
    let made = need.bytes(upright(size), upright(whole), pixel_bytes as usize) as u64;
    Ok((decoding + rows).max(turning).max(samples + made) + DECODER_BYTES)
}

impl Header<'_> {
    /// Bytes per pixel of what is decoded.
    fn pixel_bytes(&self) -> u64 {
        match self {
            Self::Jpeg(header) => header.channels(),
            Self::Png(header) => header.pixel_bytes(),
            Self::WebP(header) => header.pixel_bytes(),
            Self::Avif(header) => header.pixel_bytes(),
            Self::Gif(_) => 1,
            Self::Bmp(header) => header.pixel_bytes(),
            Self::Tiff(header) => header.pixel_bytes(),
            Self::Pnm(header) => header.pixel_bytes(),
            Self::Ico(header) => header.pixel_bytes(),
        }
    }
}
