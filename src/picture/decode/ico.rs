//! ICO: its largest picture, a PNG or a BMP without its file header, as PIL reads it. What its mask hides is transparent.

use super::rows::Layout;
use super::{Checked, Decoded, Limit, PictureError, Samples, bmp, png};
use crate::picture::format::Format;

#[derive(Debug)]
pub(super) struct Header<'a> {
    inner: Inner<'a>,
}

#[derive(Debug)]
enum Inner<'a> {
    Png(png::Header<'a>),
    Bmp { header: bmp::Header<'a>, alpha: Alpha<'a> },
}

/// Where the alpha of a BMP comes from.
#[derive(Debug)]
enum Alpha<'a> {
    /// Every fourth byte of the pixels.
    Pixels(&'a [u8]),
    /// A bit per pixel, 1 = clear; rows of whole 32 bits.
    Mask(&'a [u8]),
}

/// One picture of the file.
struct Entry {
    pixels: u32,
    depth: u32,
    bits: u16,
    length: usize,
    at: usize,
}

impl<'a> Header<'a> {
    pub fn read(bytes: &'a [u8], limit: Limit) -> Result<Self, PictureError> {
        let count = bytes.get(4..6).and_then(|count| count.first_chunk()).map_or(0, |count| u16::from_le_bytes(*count));
        let entries: Vec<&[u8; 16]> =
            bytes.get(6..).unwrap_or_default().as_chunks().0.iter().take(usize::from(count)).collect();
        if entries.len() < usize::from(count) || count == 0 {
            return Err(failed("the file is cut off: its list of pictures is not in it"));
        }
        let entry = |entry: &[u8; 16]| {
            let [w, h, colors, _, _, _, b0, b1, l0, l1, l2, l3, a0, a1, a2, a3] = *entry;
            let side = |side: u8| if side == 0 { 256 } else { u32::from(side) };
            let bits = u16::from_le_bytes([b0, b1]);
            // Colours distinguish pictures of one size.
            let depth = match (bits, colors) {
                (0, 0) => 256,
                (0, colors) => f64::from(colors).log2().ceil() as u32,
                (bits, _) => u32::from(bits),
            };
            // For one colour PIL computes 0 bits, which it takes for a depth that is not given.
            let depth = if depth == 0 { 256 } else { depth };
            Entry {
                pixels: side(w) * side(h),
                depth,
                bits,
                length: u32::from_le_bytes([l0, l1, l2, l3]) as usize,
                at: u32::from_le_bytes([a0, a1, a2, a3]) as usize,
            }
        };
        // The largest; of those the one with the fewest colours, which is the first of its size in PIL's order.
        let best = entries.into_iter().map(entry).min_by_key(|entry| (std::cmp::Reverse(entry.pixels), entry.depth));
        let best = best.ok_or_else(|| failed("it has no picture"))?;
        let outside = || failed("the file is cut off: its largest picture is not in it");
        let inside = bytes.get(best.at..).ok_or_else(outside)?;
        if inside.starts_with(b"\x89PNG\r\n\x1a\n") {
            return Ok(Self { inner: Inner::Png(png::Header::read(inside, limit)?) });
        }
        let mut header = bmp::Header::dib(bytes, best.at, limit)?;
        // The mask counts as half of the height.
        header.size.height /= 2;
        if header.size.height == 0 {
            return Err(failed("its largest picture has no rows"));
        }
        let alpha = if best.bits == 32 {
            let pixels = bytes.get(header.pixels_at()..).and_then(|pixels| pixels.get(..header.size.pixels() * 4));
            Alpha::Pixels(pixels.ok_or_else(outside)?)
        } else {
            let mask_bytes = (header.size.width as usize).next_multiple_of(32) / 8 * header.size.height as usize;
            let from = (best.at + best.length).checked_sub(mask_bytes).ok_or_else(outside)?;
            Alpha::Mask(bytes.get(from..from + mask_bytes).ok_or_else(outside)?)
        };
        Ok(Self { inner: Inner::Bmp { header, alpha } })
    }

    pub fn size(&self) -> Checked {
        match &self.inner {
            Inner::Png(header) => header.size,
            Inner::Bmp { header, .. } => header.size,
        }
    }

    pub fn pixel_bytes(&self) -> u64 {
        match &self.inner {
            Inner::Png(header) => header.pixel_bytes(),
            Inner::Bmp { .. } => 4,
        }
    }

    /// Bytes that are held at once while it is decoded: a BMP is made `RGBA`.
    pub fn decode_bytes(&self) -> u64 {
        let own = match &self.inner {
            Inner::Png(header) => header.pixel_bytes(),
            Inner::Bmp { header, .. } => header.pixel_bytes() + 4,
        };
        own * self.size().pixels() as u64
    }

    pub fn decode(self) -> Result<Decoded, PictureError> {
        let (header, alpha) = match self.inner {
            Inner::Png(header) => return header.decode(),
            Inner::Bmp { header, alpha } => (header, alpha),
        };
        let size = header.size;
        let (width, height) = (size.width as usize, size.height as usize);
        let decoded = header.decode()?.samples;
        let mut data = rgba(&decoded);
        // Both are from the bottom up.
        match alpha {
            Alpha::Pixels(pixels) => {
                for (row, line) in pixels.chunks_exact(4 * width).zip(data.chunks_exact_mut(4 * width).rev()) {
                    for (pixel, out) in row.as_chunks::<4>().0.iter().zip(line.as_chunks_mut::<4>().0) {
                        out[3] = pixel[3];
                    }
                }
            }
            Alpha::Mask(mask) => {
                let mut clear = vec![0; width];
                for (row, line) in mask.chunks_exact(mask.len() / height).zip(data.chunks_exact_mut(4 * width).rev()) {
                    Layout::packed(1, 1).unpack(row, &mut clear);
                    for (clear, out) in clear.iter().zip(line.as_chunks_mut::<4>().0) {
                        out[3] = if *clear == 0 { 255 } else { 0 };
                    }
                }
            }
        }
        Ok(Decoded::whole((size, Samples::Rgba(data))))
    }
}

/// What a BMP may be, opaque.
fn rgba(samples: &Samples) -> Vec<u8> {
    match samples {
        Samples::Bilevel { data, .. } | Samples::Grey { data, .. } => {
            data.iter().flat_map(|&grey| [grey, grey, grey, 255]).collect()
        }
        Samples::Indexed { data, palette } => data.iter().flat_map(|&index| palette[usize::from(index)]).collect(),
        Samples::Rgb { data, .. } => data.as_chunks().0.iter().flat_map(|&[r, g, b]| [r, g, b, 255]).collect(),
        Samples::Rgba(data) => data.clone(),
        _ => Vec::new(),
    }
}

fn failed(detail: impl std::fmt::Display) -> PictureError {
    PictureError::undecodable(Format::Ico, detail)
}
