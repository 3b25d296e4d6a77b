//! BMP, as PIL reads it: Windows headers of 40, 52, 56, 108 and 124 bytes, those of OS/2 of 12 and 64, and the one of 16
//! that PIL refuses. Pictures with a palette stay indexed, unless the palette is the plain grey ramp.

mod rle;

use super::rows::Layout;
use super::{Checked, Decoded, Limit, PictureError, Samples, opaque_palette};
use crate::picture::format::Format;

/// `biCompression`.
const RAW: u32 = 0;
const RLE8: u32 = 1;
const RLE4: u32 = 2;
const BIT_FIELDS: u32 = 3;

/// Most entries of a palette, as in PIL.
const COLORS_MAX: usize = 65_536;

/// Bytes before the header.
const FILE_HEADER_BYTES: usize = 14;

/// How a pixel's bytes are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pixel {
    /// Indices of 1, 4 or 8 bits.
    Index(usize),
    /// Run-length encoded indices; true for those of 4 bits.
    Runs(bool),
    /// Sixteen bits, the lowest five of them blue, then that many green.
    Packed { green_bits: u32 },
    /// So many bytes, and which of them are red, green, blue and perhaps alpha.
    Bytes { stride: usize, order: [usize; 4], channels: usize },
}

/// All that comes before the pixels.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub size: Checked,
    pixel: Pixel,
    bits: usize,
    top_down: bool,
    /// Of three bytes: blue, green, red; as many as the header says and the file has.
    colors: Vec<[u8; 3]>,
    colors_said: usize,
    bytes: &'a [u8],
    pixels_at: usize,
}

impl<'a> Header<'a> {
    pub fn read(bytes: &'a [u8], limit: Limit) -> Result<Self, PictureError> {
        let mut header = Self::dib(bytes, FILE_HEADER_BYTES, limit)?;
        let said = u32_at(bytes, 10)? as usize;
        let of_palette = if header.has_short_entries() { 3 } else { 4 } * header.colors_said;
        let behind_header = FILE_HEADER_BYTES + u32_at(bytes, FILE_HEADER_BYTES)? as usize;
        header.pixels_at = match said {
            // Not given: behind everything that was read.
            0 => header.pixels_at,
            // As PIL: writers that forget their palette.
            said if said == behind_header && header.bits <= 8 => said.saturating_add(of_palette),
            said => said,
        };
        Ok(header)
    }

    fn has_short_entries(&self) -> bool {
        u32_at(self.bytes, FILE_HEADER_BYTES).is_ok_and(|length| length == 12)
    }

    /// What an icon has, too: header, palette, pixels; `at`: where.
    pub fn dib(bytes: &'a [u8], at: usize, limit: Limit) -> Result<Self, PictureError> {
        let header_bytes = u32_at(bytes, at)? as usize;
        let number = |offset| u32_at(bytes, at + offset);
        let short = |offset| u16_at(bytes, at + offset);
        let (width, height, top_down, bits, compression, colors, entry_bytes) = match header_bytes {
            12 => (u32::from(short(4)?), u32::from(short(6)?), false, short(10)?, RAW, 0, 3),
            // OS/2's second header may end before the compression. PIL does not know that.
            16 => (number(4)?, number(8)?, false, short(14)?, RAW, 0, 4),
            40 | 52 | 56 | 64 | 108 | 124 => {
                let height = number(8)?;
                let top_down = height >> 24 == 0xFF;
                let height = if top_down { height.wrapping_neg() } else { height };
                (number(4)?, height, top_down, short(14)?, number(16)?, number(32)?, 4)
            }
            other => return Err(unsupported(format_args!("with a header of {other} bytes"))),
        };
        let size = limit.check(Format::Bmp, u64::from(width), u64::from(height))?;
        let bits = usize::from(bits);
        let mut next = at + header_bytes;
        let plain = |stride, channels| Pixel::Bytes { stride, order: [2, 1, 0, 3], channels };
        let pixel = match (compression, bits) {
            (RAW, 1 | 4 | 8) => Pixel::Index(bits),
            (RAW, 16) => Pixel::Packed { green_bits: 5 },
            (RAW, 24) => plain(3, 3),
            (RAW, 32) => plain(4, 3),
            (RLE8 | RLE4, 1 | 4 | 8) => Pixel::Runs(compression == RLE4),
            (BIT_FIELDS, 16 | 24 | 32) => {
                // Behind a header of 40 bytes, within a longer one, where alpha may be the fourth.
                let mask = |n: usize| number(40 + 4 * n);
                let masks = [mask(0)?, mask(1)?, mask(2)?, if header_bytes >= 56 { mask(3)? } else { 0 }];
                if header_bytes == 40 {
                    next += 12;
                }
                bit_fields(bits, masks).ok_or_else(|| {
                    let [r, g, b, a] = masks;
                    unsupported(format_args!("of {bits} bits with the masks {r:08x} {g:08x} {b:08x} {a:08x}"))
                })?
            }
            _ => return Err(unsupported(format_args!("of {bits} bits with compression {compression}"))),
        };
        let colors_said = if bits > 8 {
            0
        } else if colors == 0 {
            1 << bits
        } else {
            colors as usize
        };
        if colors_said > COLORS_MAX {
            return Err(unsupported(format_args!("with a palette of {colors_said} colours")));
        }
        let palette = bytes.get(next..).unwrap_or_default();
        let entries = palette.chunks_exact(entry_bytes).take(colors_said);
        let colors = entries.map(|entry| [entry[2], entry[1], entry[0]]).collect();
        next += (entry_bytes * colors_said).min(palette.len());
        Ok(Self { size, pixel, bits, top_down, colors, colors_said, bytes, pixels_at: next })
    }

    /// Where the pixels begin in the file.
    pub fn pixels_at(&self) -> usize {
        self.pixels_at
    }

    pub fn pixel_bytes(&self) -> u64 {
        match self.pixel {
            Pixel::Index(_) | Pixel::Runs(_) => 1,
            Pixel::Packed { .. } => 3,
            Pixel::Bytes { channels, .. } => channels as u64,
        }
    }

    pub fn decode(self) -> Result<Decoded, PictureError> {
        let size = self.size;
        let (width, height) = (size.width as usize, size.height as usize);
        let pixels = self.bytes.get(self.pixels_at..).unwrap_or_default();
        let channels = self.pixel_bytes() as usize;
        let mut data = vec![0; size.pixels() * channels];
        // Of row `n` of the file.
        let place = |n: usize| if self.top_down { n } else { height - 1 - n };
        if let Pixel::Runs(narrow) = self.pixel {
            rle::decode(pixels, self.pixels_at, narrow, width, height, |n, row| {
                data[place(n) * width..][..width].copy_from_slice(row);
            })
            .map_err(failed)?;
            return Ok(Decoded::whole((size, indexed(data, &self.colors, self.colors_said, true))));
        }
        // Rows begin at multiples of four bytes; the last one may miss what only fills it up.
        let row_bytes = width.checked_mul(self.bits).map(|bits| bits.div_ceil(8));
        let row_bytes = row_bytes.ok_or_else(|| failed("its rows are longer than memory"))?;
        let stride = row_bytes.next_multiple_of(4);
        for n in 0..height {
            let start = n.checked_mul(stride).and_then(|start| Some(start..start.checked_add(row_bytes)?));
            let row = start
                .and_then(|range| pixels.get(range))
                .ok_or_else(|| failed("the file is cut off: it holds fewer pixels than its header says"))?;
            self.row(row, &mut data[place(n) * width * channels..][..width * channels]);
        }
        let samples = match (self.pixel, channels) {
            (Pixel::Index(_), _) => indexed(data, &self.colors, self.colors_said, false),
            (_, 4) => Samples::Rgba(data),
            _ => Samples::Rgb { data, transparent: None },
        };
        Ok(Decoded::whole((size, samples)))
    }

    fn row(&self, row: &[u8], out: &mut [u8]) {
        match self.pixel {
            Pixel::Index(bits) => Layout::packed(bits, 1).unpack(row, out),
            Pixel::Runs(_) => {}
            Pixel::Packed { green_bits } => {
                for (pair, out) in row.as_chunks().0.iter().zip(out.as_chunks_mut::<3>().0) {
                    let packed = u16::from_le_bytes(*pair);
                    let part = |shift: u32, bits: u32| {
                        let most = (1u32 << bits) - 1;
                        ((u32::from(packed) >> shift & most) * 255 / most) as u8
                    };
                    *out = [part(5 + green_bits, 5), part(5, green_bits), part(0, 5)];
                }
            }
            Pixel::Bytes { stride, order, channels } => {
                for (pixel, out) in row.chunks_exact(stride).zip(out.chunks_exact_mut(channels)) {
                    for (out, at) in out.iter_mut().zip(order) {
                        *out = pixel[at];
                    }
                }
            }
        }
    }
}

/// The masks of red, green, blue and alpha that PIL knows.
fn bit_fields(bits: usize, masks: [u32; 4]) -> Option<Pixel> {
    let bytes = |order, channels| Some(Pixel::Bytes { stride: bits / 8, order, channels });
    match (bits, masks) {
        (32, [0xFF_0000, 0xFF00, 0xFF, 0]) => bytes([2, 1, 0, 3], 3),
        (32, [0xFF00_0000, 0xFF_0000, 0xFF00, 0]) => bytes([3, 2, 1, 0], 3),
        (32, [0xFF00_0000, 0xFF00, 0xFF, 0]) => bytes([3, 1, 0, 2], 3),
        (32, [0xFF00_0000, 0xFF_0000, 0xFF00, 0xFF]) => bytes([3, 2, 1, 0], 4),
        (32, [0xFF, 0xFF00, 0xFF_0000, 0xFF00_0000]) => bytes([0, 1, 2, 3], 4),
        (32, [0xFF_0000, 0xFF00, 0xFF, 0xFF00_0000] | [0, 0, 0, 0]) => bytes([2, 1, 0, 3], 4),
        (32, [0xFF00_0000, 0xFF00, 0xFF, 0xFF_0000]) => bytes([3, 1, 0, 2], 4),
        (24, [0xFF_0000, 0xFF00, 0xFF, _]) => bytes([2, 1, 0, 3], 3),
        (16, [0xF800, 0x7E0, 0x1F, _]) => Some(Pixel::Packed { green_bits: 6 }),
        (16, [0x7C00, 0x3E0, 0x1F, _]) => Some(Pixel::Packed { green_bits: 5 }),
        _ => None,
    }
}

/// PIL's rule: a palette of two is grey when it is black and white, another one when entry `i` is grey `i`. Run-length
/// encoded rows hold values, not bits.
fn indexed(mut data: Vec<u8>, colors: &[[u8; 3]], said: usize, runs: bool) -> Samples {
    let grey = |value: usize| [value as u8; 3];
    let is_grey = colors.len() == said
        && said <= 256
        && colors.iter().enumerate().all(|(i, color)| *color == grey(if said == 2 { i * 255 } else { i }));
    match (is_grey, said) {
        (true, ..=2) => {
            if !runs {
                data.iter_mut().for_each(|index| *index = if *index == 0 { 0 } else { 255 });
            }
            Samples::Bilevel { data, transparent: None }
        }
        (true, _) => Samples::Grey { data, transparent: None },
        (false, _) => Samples::Indexed { data, palette: opaque_palette(colors.as_flattened()) },
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, PictureError> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map(|pair| u16::from_le_bytes(*pair)).ok_or_else(cut_off)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, PictureError> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map(|four| u32::from_le_bytes(*four)).ok_or_else(cut_off)
}

fn cut_off() -> PictureError {
    failed("the file is cut off within its header")
}

fn unsupported(what: impl std::fmt::Display) -> PictureError {
    PictureError::unsupported(format_args!("a BMP picture {what}"))
}

fn failed(detail: impl std::fmt::Display) -> PictureError {
    PictureError::undecodable(Format::Bmp, detail)
}
