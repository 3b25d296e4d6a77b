//! PNG, in the modes in which PIL opens it, and as forgiving: what counts are the header, the palette and the pixels.
//! Checksums of the pixels' chunks are not looked at (there is one in the data), nor is anything that follows them.

mod chunks;
mod filter;
mod pixels;

use chunks::Chunks;

use super::rows::{Layout, spread};
use super::{Checked, Decoded, Limit, PictureError, Samples, opaque_palette};
use crate::picture::format::Format;

/// ISO/IEC 15948, 11.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Color {
    Grey,
    Rgb,
    Indexed,
    GreyAlpha,
    Rgba,
}

/// All that comes before the pixels.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub size: Checked,
    color: Color,
    bits: usize,
    interlaced: bool,
    palette: &'a [u8],
    transparent: &'a [u8],
    /// From the first chunk of pixels on.
    data: Chunks<'a>,
}

impl<'a> Header<'a> {
    pub fn read(bytes: &'a [u8], limit: Limit) -> Result<Self, PictureError> {
        let mut chunks = Chunks::new(bytes);
        let (mut head, mut palette, mut transparent) = (None, &[][..], &[][..]);
        loop {
            let rest = chunks.clone();
            let chunk = chunks.next().ok_or_else(|| failed("it ends before its pixels"))?;
            match &chunk.kind {
                b"IDAT" => {
                    let ((_, _, color, bits, interlaced), size) =
                        head.ok_or_else(|| failed("it has no header chunk (IHDR)"))?;
                    return Ok(Self { size, color, bits, interlaced, palette, transparent, data: rest });
                }
                b"IEND" => return Err(failed("it has no pixels (no IDAT chunk)")),
                b"IHDR" => {
                    chunk.intact().map_err(failed)?;
                    let read = ihdr(chunk.body)?;
                    head = Some((read, limit.check(Format::Png, u64::from(read.0), u64::from(read.1))?));
                }
                b"PLTE" => {
                    chunk.intact().map_err(failed)?;
                    palette = chunk.body;
                }
                b"tRNS" => transparent = chunk.body,
                // Texts, profiles, times: damage in them does not affect the pixels.
                _ => {}
            }
        }
    }

    /// Bytes per pixel of what is decoded.
    pub fn pixel_bytes(&self) -> u64 {
        match (self.color, self.bits) {
            (Color::Grey, 16) | (Color::GreyAlpha, _) => 2,
            (Color::Grey | Color::Indexed, _) => 1,
            (Color::Rgb, _) => 3,
            (Color::Rgba, _) => 4,
        }
    }

    fn layout(&self) -> Layout {
        let stored = match self.color {
            Color::Grey | Color::Indexed => 1,
            Color::GreyAlpha => 2,
            Color::Rgb => 3,
            Color::Rgba => 4,
        };
        Layout::packed(self.bits, stored)
    }

    pub fn decode(self) -> Result<Decoded, PictureError> {
        let size = self.size;
        if (self.color, self.bits) == (Color::Grey, 16) {
            let mut data = vec![0u16; size.pixels()];
            pixels::read(&self, |place, row| {
                for (x, pair) in row.as_chunks().0.iter().enumerate().take(place.count) {
                    data[place.first + x * place.step] = u16::from_be_bytes(*pair);
                }
            })?;
            return Ok(Decoded::whole((size, Samples::Grey16 { data, transparent: self.grey_transparent() })));
        }
        let (layout, channels) = (self.layout(), self.layout().kept);
        let mut data = vec![0u8; size.pixels() * channels];
        let mut line = vec![0; size.width as usize * channels];
        pixels::read(&self, |place, row| {
            if place.step == 1 {
                layout.unpack(row, &mut data[place.first * channels..][..place.count * channels]);
                return;
            }
            layout.unpack(row, &mut line);
            for (x, pixel) in line.chunks_exact(channels).enumerate().take(place.count) {
                let at = (place.first + x * place.step) * channels;
                data[at..at + channels].copy_from_slice(pixel);
            }
        })?;
        let samples = match self.color {
            Color::Grey if self.bits == 1 => {
                spread(&mut data, 1);
                Samples::Bilevel { data, transparent: self.grey_transparent() }
            }
            Color::Grey => {
                // 2 and 4 bits are spread over 0..=255; the transparent value is not, in PIL as here.
                if self.bits < 8 {
                    spread(&mut data, self.bits);
                }
                Samples::Grey { data, transparent: self.grey_transparent() }
            }
            Color::GreyAlpha => Samples::GreyAlpha(data),
            Color::Rgb => Samples::Rgb { data, transparent: self.rgb_transparent() },
            Color::Rgba => Samples::Rgba(data),
            Color::Indexed => {
                let mut palette = opaque_palette(self.palette);
                for (entry, &alpha) in palette.iter_mut().zip(self.transparent) {
                    entry[3] = alpha;
                }
                Samples::Indexed { data, palette }
            }
        };
        Ok(Decoded::whole((size, samples)))
    }

    /// PIL compares the low byte of the transparent value with the 8-bit pixel, and of one bit whether it is set.
    fn grey_transparent(&self) -> Option<u8> {
        let &[high, low, ..] = self.transparent else { return None };
        let value = if self.bits == 1 { if high | low == 0 { 0 } else { 255 } } else { low };
        Some(value)
    }

    fn rgb_transparent(&self) -> Option<[u8; 3]> {
        match *self.transparent {
            [_, r, _, g, _, b, ..] => Some([r, g, b]),
            _ => None,
        }
    }
}

/// Width, height, colour, bits per sample, whether it is interlaced.
fn ihdr(body: &[u8]) -> Result<(u32, u32, Color, usize, bool), PictureError> {
    let Some(&[w0, w1, w2, w3, h0, h1, h2, h3, bits, color, _, filter, interlace]) = body.first_chunk() else {
        return Err(failed("its header chunk (IHDR) is cut off"));
    };
    let color = match (color, bits) {
        (0, 1 | 2 | 4 | 8 | 16) => Color::Grey,
        (2, 8 | 16) => Color::Rgb,
        (3, 1 | 2 | 4 | 8) => Color::Indexed,
        (4, 8 | 16) => Color::GreyAlpha,
        (6, 8 | 16) => Color::Rgba,
        _ => {
            let message =
                format_args!("its header (IHDR) says colour type {color} of {bits} bits, which do not go together");
            return Err(failed(message));
        }
    };
    if filter != 0 {
        return Err(failed(format_args!("its header (IHDR) says filter method {filter}; there is only 0")));
    }
    let (width, height) = (u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3]));
    Ok((width, height, color, usize::from(bits), interlace != 0))
}

fn failed(detail: impl std::fmt::Display) -> PictureError {
    PictureError::undecodable(Format::Png, detail)
}
