//! Decoders. The format is read from the bytes themselves; names and headers of the source are not trusted.
//!
//! Pixels stay in the mode in which PIL would open the file (grey, palette, RGBA, CMYK, …), because OpenCLIP resizes
//! before it converts to RGB, and PIL resizes each mode in its own way.

mod avif;
mod bmp;
mod buffer;
mod cost;
mod gif;
mod ico;
mod jpeg;
mod jpeg_segments;
mod orientation;
mod png;
mod pnm;
mod rows;
mod sniff;
mod tiff;
mod turbo;
mod webp;

pub use avif::HAS_SIMD as AVIF_HAS_SIMD;
use orientation::ExifOrientation;
pub use turbo::HAS_SIMD as JPEG_HAS_SIMD;

use super::area::{Region, Size};
use super::error::PictureError;
use super::format::Format;
use super::need::Need;
use super::samples::{Samples, opaque_palette};
use crate::domain::Orientation;

/// Whether a file that begins with `head` (a thousand bytes will do) is of a format that is decoded; else what it is, in words.
pub fn sniff_picture(head: &[u8]) -> Result<(), &'static str> {
    match sniff::format(head) {
        Ok(_) => Ok(()),
        Err(_) => Err(Some(sniff::kind(head)).filter(|kind| !kind.is_empty()).unwrap_or("unknown content")),
    }
}

/// A picture, decoded for certain models: as much of it as they need.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Of the file, before it is turned.
    pub width: u32,
    pub height: u32,
    /// Media type of the format that was found, for example `image/jpeg`.
    pub mime: &'static str,
    /// Size of the upright picture that the models see.
    pub(super) size: Size,
    /// The same as far as the decoder has made it smaller.
    pub(super) decoded: Size,
    /// The part of `decoded` that `samples` holds.
    pub(super) held: Region,
    pub(super) samples: Samples,
}

impl Drop for Picture {
    fn drop(&mut self) {
        if let Samples::Grey { data, .. } | Samples::Rgb { data, .. } | Samples::Cmyk(data) = &mut self.samples {
            buffer::keep(std::mem::take(data));
        }
    }
}

/// What a decoder gives: the file's size, and pixels as they are stored.
struct Decoded {
    size: Checked,
    samples: Samples,
    /// Sides of the stored picture, as far as the decoder has made it smaller.
    whole: Size,
    /// The part of `whole` that `samples` holds.
    held: Region,
}

impl Decoded {
    /// By a decoder that knows whole pictures only.
    fn whole((size, samples): (Checked, Samples)) -> Self {
        let whole = size.size();
        Self { size, samples, whole, held: whole.whole() }
    }
}

/// Width and height of a header, once they are known to be in bounds.
#[derive(Clone, Copy, Debug)]
struct Checked {
    width: u32,
    height: u32,
}

impl Checked {
    fn pixels(self) -> usize {
        self.width as usize * self.height as usize
    }

    fn size(self) -> Size {
        Size { width: self.width as usize, height: self.height as usize }
    }
}

/// The cap on pixels, applied to the header before anything large is allocated.
#[derive(Clone, Copy, Debug)]
struct Limit {
    pixels_max: u64,
}

impl Limit {
    fn check(self, format: Format, width: u64, height: u64) -> Result<Checked, PictureError> {
        if width == 0 || height == 0 {
            return Err(PictureError::undecodable(format, format_args!("it is {width} x {height} pixels")));
        }
        if width.saturating_mul(height) > self.pixels_max {
            return Err(PictureError::too_large(width, height, self.pixels_max));
        }
        match (u32::try_from(width), u32::try_from(height)) {
            (Ok(width), Ok(height)) => Ok(Checked { width, height }),
            _ => Err(PictureError::too_large(width, height, self.pixels_max)),
        }
    }
}

/// What is read of a file before it is decoded.
enum Header<'a> {
    Jpeg(jpeg::Header<'a>),
    Png(png::Header<'a>),
    WebP(webp::Header<'a>),
    Avif(avif::Header<'a>),
    Gif(gif::Header<'a>),
    Bmp(bmp::Header<'a>),
    Tiff(tiff::Header<'a>),
    Pnm(pnm::Header<'a>),
    Ico(ico::Header<'a>),
}

impl<'a> Header<'a> {
    fn read(format: Format, bytes: &'a [u8], limit: Limit) -> Result<Self, PictureError> {
        Ok(match format {
            Format::Jpeg => Self::Jpeg(jpeg::Header::read(bytes, limit)?),
            Format::Png => Self::Png(png::Header::read(bytes, limit)?),
            Format::WebP => Self::WebP(webp::Header::read(bytes, limit)?),
            Format::Avif => Self::Avif(avif::Header::read(bytes, limit)?),
            Format::Gif => Self::Gif(gif::Header::read(bytes, limit)?),
            Format::Bmp => Self::Bmp(bmp::Header::read(bytes, limit)?),
            Format::Tiff => Self::Tiff(tiff::Header::read(bytes, limit)?),
            Format::Pnm => Self::Pnm(pnm::Header::read(bytes, limit)?),
            Format::Ico => Self::Ico(ico::Header::read(bytes, limit)?),
        })
    }

    /// Sides of the file's picture.
    fn size(&self) -> Checked {
        match self {
            Self::Jpeg(header) => header.size,
            Self::Png(header) => header.size,
            Self::WebP(header) => header.size,
            Self::Avif(header) => header.size,
            Self::Gif(header) => header.size,
            Self::Bmp(header) => header.size,
            Self::Tiff(header) => header.size,
            Self::Pnm(header) => header.size,
            Self::Ico(header) => header.size(),
        }
    }

    fn decode(self, orientation: ExifOrientation, need: &dyn Need) -> Result<Decoded, PictureError> {
        match self {
            Self::Jpeg(header) => header.decode(orientation, need),
            Self::Png(header) => header.decode(),
            Self::WebP(header) => header.decode(),
            Self::Avif(header) => header.decode(),
            Self::Gif(header) => header.decode(),
            Self::Bmp(header) => header.decode(),
            Self::Tiff(header) => header.decode(),
            Self::Pnm(header) => header.decode(),
            Self::Ico(header) => header.decode(),
        }
    }
}

/// A file whose header has been read.
struct Opened<'a> {
    format: Format,
    header: Header<'a>,
    orientation: ExifOrientation,
}

impl<'a> Opened<'a> {
    fn read(bytes: &'a [u8], limit: Limit, need: &dyn Need) -> Result<Self, PictureError> {
        let format = sniff::format(bytes)?;
        // PIL turns a TIFF when it loads it, so OpenCLIP sees it upright; it leaves the other formats alone.
        let turned = need.orientation() == Orientation::Apply || format == Format::Tiff;
        let header = Header::read(format, bytes, limit)?;
        let orientation = match &header {
            _ if !turned => ExifOrientation::default(),
            Header::Avif(header) => ExifOrientation::from_exif(header.orientation()),
            _ => orientation::read(format, bytes),
        };
        Ok(Self { format, header, orientation })
    }
}

/// Runs a decoder. They meet hostile bytes: a bug in one of them must cost this file only, not the worker; nothing is
/// shared with the closure that a panic could leave half done.
fn guarded<T>(decode: impl FnOnce() -> Result<T, PictureError>) -> Result<T, PictureError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode)).unwrap_or_else(|_| Err(PictureError::broken()))
}

/// Bytes that decoding a file takes at most, and making of it what is needed, read from its header.
///
/// # Errors
///
/// As [`decode`], and `image_too_large` for a picture that takes more than `decode_bytes_max` alone.
pub(super) fn bytes_needed(
    bytes: &[u8],
    pixels_max: u64,
    decode_bytes_max: u64,
    need: &dyn Need,
) -> Result<u64, PictureError> {
    guarded(|| {
        let opened = Opened::read(bytes, Limit { pixels_max }, need)?;
        let (taken, size) = (cost::bytes(&opened.header, opened.orientation, need)?, opened.header.size());
        if taken > decode_bytes_max {
            return Err(PictureError::too_costly(size.width, size.height, taken, decode_bytes_max));
        }
        Ok(taken)
    })
}

/// As much of a file's picture as is needed.
///
/// # Errors
///
/// See [`super::decode_picture`].
pub(super) fn decode(bytes: &[u8], pixels_max: u64, need: &dyn Need) -> Result<Picture, PictureError> {
    guarded(|| {
        let Opened { format, header, orientation } = Opened::read(bytes, Limit { pixels_max }, need)?;
        let Decoded { size, samples, whole, held } = header.decode(orientation, need)?;
        // What follows indexes by these sizes; no decoder is trusted to have kept them.
        if samples.len() != held.width * held.height * samples.channels() {
            return Err(PictureError::undecodable(format, "it holds fewer pixels than its header says"));
        }
        Ok(Picture {
            width: size.width,
            height: size.height,
            mime: format.mime(),
            size: orientation.size(size.size()),
            decoded: orientation.size(whole),
            held: orientation.region(whole, held),
            samples: orientation.samples(samples, Size { width: held.width, height: held.height }),
        })
    })
}
