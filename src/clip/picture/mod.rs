//! Files to pixels. The format is read from the bytes themselves; names and headers of the source are not trusted.
//!
//! Pixels stay in the mode in which PIL would open the file (grey, palette, RGBA, CMYK, …), because OpenCLIP resizes
//! before it converts to RGB, and PIL resizes each mode in its own way.

mod bmp;
mod buffer;
mod gif;
mod jpeg;
mod png;
mod reduced;
mod sniff;
mod tiff;
mod turbo;
mod turn;
mod webp;

use sniff::Format;
use turn::Turn;

use super::area::{Region, Size};
use super::preprocess::{Need, Preprocess};
use crate::domain::Orientation;

/// Most bytes that one pixel takes while it is decoded (16-bit RGBA).
const PIXEL_BYTES_MAX: u64 = 8;

/// What decoders may allocate besides the pixels (tables, rows, metadata).
const DECODER_OVERHEAD_BYTES: u64 = 16 * 1024 * 1024;

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
    fn undecodable(format: Format, detail: impl std::fmt::Display) -> Self {
        let message = format!(
            "{format} picture cannot be decoded: {}; expected an intact file: store it again from its original",
            crate::redact::cut(&detail.to_string(), 160)
        );
        Self { reason: "image_undecodable", message }
    }

    fn too_large(width: u64, height: u64, pixels_max: u64) -> Self {
        let message = format!(
            "picture of {width} x {height} pixels, expected at most {pixels_max} in all: \
             store a smaller picture or raise media.pixels_max"
        );
        Self { reason: "image_too_large", message }
    }

    fn unsupported(found: impl std::fmt::Display) -> Self {
        let message =
            format!("{found}, expected a JPEG, PNG, WebP, GIF, BMP or TIFF picture: convert it to one of them");
        Self { reason: "image_unsupported", message }
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
    pub(in crate::clip) size: Size,
    /// The same as far as the decoder has made it smaller.
    pub(in crate::clip) decoded: Size,
    /// The part of `decoded` that `samples` holds.
    pub(in crate::clip) held: Region,
    pub(in crate::clip) samples: Samples,
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

/// Rows from the top, pixels from the left, channels interleaved. PIL's name of each mode in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::clip) enum Samples {
    /// `1`: 0 or 255 per pixel.
    Bilevel { data: Vec<u8>, transparent: Option<u8> },
    /// `L`. A pixel equal to `transparent` is see-through; it matters only where a background is asked for.
    Grey { data: Vec<u8>, transparent: Option<u8> },
    /// `I;16`
    Grey16 { data: Vec<u16>, transparent: Option<u8> },
    /// `LA`
    GreyAlpha(Vec<u8>),
    /// `RGB`
    Rgb { data: Vec<u8>, transparent: Option<[u8; 3]> },
    /// `RGBA`
    Rgba(Vec<u8>),
    /// `P`: indices into `palette`, which has 256 RGBA entries; what the file leaves out is opaque black.
    Indexed { data: Vec<u8>, palette: Box<[[u8; 4]; 256]> },
    /// `CMYK`, 255 = full ink.
    Cmyk(Vec<u8>),
}

impl Samples {
    fn channels(&self) -> usize {
        match self {
            Self::Bilevel { .. } | Self::Grey { .. } | Self::Grey16 { .. } | Self::Indexed { .. } => 1,
            Self::GreyAlpha(_) => 2,
            Self::Rgb { .. } => 3,
            Self::Rgba(_) | Self::Cmyk(_) => 4,
        }
    }

    /// Number of samples.
    fn len(&self) -> usize {
        match self {
            Self::Bilevel { data, .. } | Self::Grey { data, .. } | Self::Indexed { data, .. } => data.len(),
            Self::GreyAlpha(data) | Self::Rgb { data, .. } | Self::Rgba(data) | Self::Cmyk(data) => data.len(),
            Self::Grey16 { data, .. } => data.len(),
        }
    }
}

/// One byte per sample from rows of `width` samples of `bits` (1, 2 or 4) each, first sample in the high bits; rows
/// begin at a byte.
fn unpack_bits(packed: &[u8], width: usize, bits: usize) -> Vec<u8> {
    let per_byte = 8 / bits;
    let mask = (1u8 << bits) - 1;
    let row_bytes = width.div_ceil(per_byte);
    let mut out = Vec::with_capacity(packed.len() * per_byte);
    for row in packed.chunks_exact(row_bytes) {
        out.extend((0..width).map(|x| (row[x / per_byte] >> (8 - bits - x % per_byte * bits)) & mask));
    }
    out
}

/// An opaque palette from `colors` of three bytes; entries beyond it are black, as in PIL.
fn opaque_palette(colors: &[u8]) -> Box<[[u8; 4]; 256]> {
    let mut palette = Box::new([[0, 0, 0, 255]; 256]);
    for (entry, color) in palette.iter_mut().zip(colors.chunks_exact(3)) {
        entry[..3].copy_from_slice(color);
    }
    palette
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

    /// What a decoder may hold at once, whatever the size.
    fn bytes(self) -> usize {
        let bytes = self.pixels_max.saturating_mul(PIXEL_BYTES_MAX).saturating_add(DECODER_OVERHEAD_BYTES);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// The same for a picture of this size.
    fn bytes_for(self, size: Checked) -> usize {
        Self { pixels_max: size.pixels() as u64 }.bytes()
    }
}

/// Decodes a JPEG, PNG, WebP, GIF, BMP or TIFF file for `models`: the first frame of an animation, the first page of a
/// TIFF. One picture serves all of them, which have one setting of orientation and decoding.
///
/// # Errors
///
/// `image_unsupported` for anything else, `image_too_large` above `pixels_max`, `image_undecodable` for a file that
/// is cut off or damaged.
pub fn decode_picture(bytes: &[u8], pixels_max: u64, models: &[&Preprocess]) -> Result<Picture, PictureError> {
    let format = sniff::format(bytes)?;
    let limit = Limit { pixels_max };
    let need = Need::of(models);
    // PIL turns a TIFF when it loads it, so OpenCLIP sees it upright; it leaves the other formats alone.
    let turned = need.orientation() == Orientation::Apply || format == Format::Tiff;
    let turn = if turned { turn::read(format, bytes) } else { Turn::default() };
    // Decoders meet hostile bytes. A bug in one of them must cost this file only, not the worker; nothing is shared
    // with the closure that a panic could leave half done.
    let Decoded { size, samples, whole, held } = std::panic::catch_unwind(|| match format {
        Format::Jpeg => jpeg::decode(bytes, limit, turn, need),
        Format::Png => png::decode(bytes, limit).map(Decoded::whole),
        Format::WebP => webp::decode(bytes, limit).map(Decoded::whole),
        Format::Gif => gif::decode(bytes, limit).map(Decoded::whole),
        Format::Bmp => bmp::decode(bytes, limit).map(Decoded::whole),
        Format::Tiff => tiff::decode(bytes, limit).map(Decoded::whole),
    })
    .unwrap_or_else(|_| Err(PictureError::undecodable(format, "the decoder gave up on its content")))?;
    // What follows indexes by these sizes; no decoder is trusted to have kept them.
    if samples.len() != held.width * held.height * samples.channels() {
        return Err(PictureError::undecodable(format, "it holds fewer pixels than its header says"));
    }
    Ok(Picture {
        width: size.width,
        height: size.height,
        mime: format.mime(),
        size: turn.size(size.size()),
        decoded: turn.size(whole),
        held: turn.region(whole, held),
        samples: turn.samples(samples, Size { width: held.width, height: held.height }),
    })
}

#[cfg(test)]
mod tests;
