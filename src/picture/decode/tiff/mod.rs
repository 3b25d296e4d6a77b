//! The first page of a TIFF or BigTIFF: strips or tiles, in one plane or several, of every kind that PIL opens and turns
//! into RGB, unpacked row by row.

mod directory;
mod fax;
mod kind;
mod pieces;
mod unpack;

use directory::{COLOR_MAP, COMPRESSION, Directory, LENGTH, PREDICTOR, WIDTH};
use kind::{Kind, Mode};
use pieces::Pieces;

use super::rows::{Layout, Order, spread};
use super::{Checked, Decoded, Limit, PictureError, Samples, opaque_palette};
use crate::picture::format::Format;

/// `Compression`: those that are read.
const RAW: u64 = 1;
const FAX_RUNS: u64 = 2;
const FAX_3: u64 = 3;
const FAX_4: u64 = 4;
const LZW: u64 = 5;
const JPEG: u64 = 7;
const DEFLATE: u64 = 8;
const DEFLATE_OLD: u64 = 32_946;
const PACK_BITS: u64 = 32_773;

#[derive(Debug)]
pub(super) struct Header<'a> {
    pub size: Checked,
    kind: Kind,
    compression: u64,
    directory: Directory,
    bytes: &'a [u8],
}

impl<'a> Header<'a> {
    pub fn read(bytes: &'a [u8], limit: Limit) -> Result<Self, PictureError> {
        let directory = Directory::read(bytes).map_err(failed)?;
        let (Some(width), Some(height)) = (directory.first(WIDTH), directory.first(LENGTH)) else {
            return Err(failed("its directory says no size"));
        };
        let size = limit.check(Format::Tiff, width, height)?;
        let compression = directory.first(COMPRESSION).unwrap_or(RAW);
        if !matches!(compression, RAW | FAX_RUNS | FAX_3 | FAX_4 | LZW | JPEG | DEFLATE | DEFLATE_OLD | PACK_BITS) {
            return Err(unsupported(format_args!("with compression {compression}")));
        }
        let kind = Kind::of(&directory).ok_or_else(|| unsupported(describe(&directory)))?;
        let predictor = directory.first(PREDICTOR).unwrap_or(1);
        let can = match predictor {
            1 => true,
            2 => matches!(kind.bits, 8 | 16 | 32),
            3 => kind.mode == Mode::Float,
            _ => false,
        };
        if !can && matches!(compression, LZW | DEFLATE | DEFLATE_OLD) {
            return Err(unsupported(format_args!("of {} bits with predictor {predictor}", kind.bits)));
        }
        let is_fax = matches!(compression, FAX_RUNS | FAX_3 | FAX_4);
        if (is_fax && kind.bits * kind.stored != 1) || (compression == JPEG && (kind.bits != 8 || kind.planar)) {
            return Err(unsupported(format_args!("{} with compression {compression}", describe(&directory))));
        }
        Ok(Self { size, kind, compression, directory, bytes })
    }

    pub fn pixel_bytes(&self) -> u64 {
        self.kind.pixel_bytes()
    }

    /// Bytes that are held at once while it is decoded, what is made of it included.
    pub fn decode_bytes(&self) -> u64 {
        let samples = self.pixel_bytes() * self.size.pixels() as u64;
        // A strip or tile of JPEG is decoded as a whole, and put together with its tables before.
        let pieces = Pieces::of(self);
        let jpeg = if self.compression == JPEG { pieces.map_or(0, |p| p.jpeg_bytes(self)) } else { 0 };
        // Reversing the bits of a strip makes a copy of it.
        let reversed = if self.kind.reversed { self.bytes.len() as u64 } else { 0 };
        samples + jpeg + reversed
    }

    /// How the samples of a row are stored, in one plane of the picture.
    fn layout(&self) -> Layout {
        let stored = if self.kind.planar { 1 } else { self.kind.stored };
        let kept = if self.kind.planar { 1 } else { self.kind.kept() };
        Layout { bits: self.kind.bits, stored, kept, order: self.directory.order }
    }

    pub fn decode(self) -> Result<Decoded, PictureError> {
        let pieces = Pieces::of(&self).map_err(failed)?;
        let samples = match self.kind.mode {
            Mode::Grey16 => Samples::Grey16 { data: self.wide(&pieces, Self::short)?, transparent: None },
            Mode::Int => Samples::Int(self.wide(&pieces, Self::int)?),
            Mode::Float => Samples::Float(self.wide(&pieces, |header, bytes| f32::from_bits(header.long(bytes)))?),
            _ => self.narrow(&pieces)?,
        };
        Ok(Decoded::whole((self.size, samples)))
    }

    /// One number per pixel, of more than a byte.
    fn wide<T: Copy + Default>(
        &self,
        pieces: &Pieces<'_>,
        number: impl Fn(&Self, &[u8]) -> T,
    ) -> Result<Vec<T>, PictureError> {
        let width = self.size.width as usize;
        let mut data = vec![T::default(); self.size.pixels()];
        pieces
            .rows(self, |place, row| {
                let out = &mut data[place.y * width + place.x..][..place.count];
                if self.kind.bits == 12 {
                    for (x, out) in out.iter_mut().enumerate() {
                        // Twelve bits from the first byte or from the middle of the second one on.
                        let at = x * 12 / 8;
                        let pair = u16::from(row[at]) << 8 | u16::from(row[at + 1]);
                        let value = if x % 2 == 0 { pair >> 4 } else { pair & 0xFFF };
                        *out = number(self, &value.to_le_bytes());
                    }
                    return;
                }
                for (out, bytes) in out.iter_mut().zip(row.chunks_exact(self.kind.bits / 8)) {
                    *out = number(self, bytes);
                }
            })
            .map_err(failed)?;
        Ok(data)
    }

    fn short(&self, bytes: &[u8]) -> u16 {
        let pair = [bytes[0], bytes[1]];
        if self.directory.order == Order::Big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
    }

    fn long(&self, bytes: &[u8]) -> u32 {
        let four = [bytes[0], bytes[1], bytes[2], bytes[3]];
        if self.directory.order == Order::Big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
    }

    fn int(&self, bytes: &[u8]) -> i32 {
        if self.kind.bits == 16 { i32::from(self.short(bytes) as i16) } else { self.long(bytes) as i32 }
    }

    fn narrow(&self, pieces: &Pieces<'_>) -> Result<Samples, PictureError> {
        let Kind { mode, bits, stored, inverted, premultiplied, planar, .. } = self.kind;
        let (width, channels, layout) = (self.size.width as usize, self.kind.kept(), self.layout());
        let mut data = vec![0; self.size.pixels() * channels];
        let mut line = vec![0; if planar { width } else { 0 }];
        pieces
            .rows(self, |place, row| {
                let out = &mut data[(place.y * width + place.x) * channels..][..place.count * channels];
                if !planar {
                    layout.unpack(row, out);
                } else if place.plane < channels {
                    layout.unpack(row, &mut line[..place.count]);
                    for (value, pixel) in line.iter().zip(out.chunks_exact_mut(channels)) {
                        pixel[place.plane] = *value;
                    }
                }
            })
            .map_err(failed)?;
        if bits < 8 && mode != Mode::Indexed {
            spread(&mut data, bits);
        }
        if inverted {
            data.iter_mut().for_each(|sample| *sample = 255 - *sample);
        }
        Ok(match mode {
            Mode::Bilevel => Samples::Bilevel { data, transparent: None },
            Mode::GreyAlpha => Samples::GreyAlpha(data),
            Mode::Rgb | Mode::YCbCrJpeg => Samples::Rgb { data, transparent: None },
            Mode::YCbCr => Samples::YCbCr(data),
            Mode::YCbCrPacked => Samples::Rgb { data: rgb_by_libtiff(data), transparent: None },
            Mode::Rgba if premultiplied => Samples::Rgba(unpremultiplied(data)),
            Mode::Rgba => Samples::Rgba(data),
            Mode::Cmyk => Samples::Cmyk(data),
            Mode::Indexed => Samples::Indexed { data, palette: self.palette(bits * stored.min(1)) },
            Mode::Grey | Mode::Grey16 | Mode::Int | Mode::Float => Samples::Grey { data, transparent: None },
        })
    }

    /// All reds, then all greens, then all blues, of 16 bits of which PIL keeps the high byte.
    fn palette(&self, bits: usize) -> Box<[[u8; 4]; 256]> {
        let map = self.directory.numbers(COLOR_MAP);
        let count = (map.len() / 3).min(1 << bits);
        let part = |n: usize, channel: usize| (map[n + channel * (map.len() / 3)] >> 8) as u8;
        let colors: Vec<[u8; 3]> = (0..count).map(|n| [part(n, 0), part(n, 1), part(n, 2)]).collect();
        opaque_palette(colors.as_flattened())
    }
}

/// PIL's `RGBa` unpacker: colours divided by alpha, rounded down.
fn unpremultiplied(mut data: Vec<u8>) -> Vec<u8> {
    for [r, g, b, alpha] in data.as_chunks_mut().0 {
        for channel in [r, g, b] {
            *channel = match *alpha {
                0 => 0,
                255 => *channel,
                a => (u16::from(*channel) * 255 / u16::from(a)).min(255) as u8,
            };
        }
    }
    data
}

/// libtiff's conversion (`tif_color.c`): sixteen fraction bits.
fn rgb_by_libtiff(mut data: Vec<u8>) -> Vec<u8> {
    const HALF: i32 = 1 << 15;
    let fixed = |factor: f32| (factor * 65_536.0 + 0.5) as i32;
    let red = 2.0f32 - 2.0 * 0.299;
    let blue = 2.0f32 - 2.0 * 0.114;
    let (of_red, of_blue) = (fixed(red), fixed(blue));
    let (green_of_red, green_of_blue) = (-fixed(0.299 * red / 0.587), -fixed(0.114 * blue / 0.587));
    for [first, second, third] in data.as_chunks_mut().0 {
        let (y, cb, cr) = (i32::from(*first), i32::from(*second) - 128, i32::from(*third) - 128);
        let green = (green_of_blue * cb + HALF + green_of_red * cr) >> 16;
        let light = [y + ((of_red * cr + HALF) >> 16), y + green, y + ((of_blue * cb + HALF) >> 16)];
        [*first, *second, *third] = light.map(|light| light.clamp(0, 255) as u8);
    }
    data
}

/// What the directory says of the pixels, in words.
fn describe(directory: &Directory) -> String {
    let first = |tag, default| directory.first(tag).unwrap_or(default);
    let list = |tag| directory.numbers(tag).iter().take(8).map(u64::to_string).collect::<Vec<_>>().join(", ");
    format!(
        "with photometric interpretation {}, {} samples of [{}] bits, sample format [{}], extra samples [{}]",
        first(directory::PHOTOMETRIC, 0),
        first(directory::SAMPLES, 1),
        list(directory::BITS),
        list(directory::SAMPLE_FORMAT),
        list(directory::EXTRA_SAMPLES),
    )
}

fn unsupported(what: impl std::fmt::Display) -> PictureError {
    PictureError::unsupported(format_args!("a TIFF picture {what}"))
}

fn failed(detail: impl std::fmt::Display) -> PictureError {
    PictureError::undecodable(Format::Tiff, detail)
}
