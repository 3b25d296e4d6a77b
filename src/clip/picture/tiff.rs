//! The first page of a TIFF.

use std::io::Cursor;

use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use super::sniff::Format;
use super::{Checked, Limit, PictureError, Samples};

/// Largest directory entry that is read (strip offsets, colour map, metadata).
const DIRECTORY_ENTRY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// `ExtraSamples` values: not alpha, and alpha that is already multiplied in.
const EXTRA_UNSPECIFIED: u16 = 0;
const EXTRA_PREMULTIPLIED: u16 = 1;

pub(super) fn decode(bytes: &[u8], limit: Limit) -> Result<(Checked, Samples), PictureError> {
    let failed = |error| PictureError::undecodable(Format::Tiff, error);
    let limits = |bytes| {
        let mut limits = Limits::default();
        limits.decoding_buffer_size = bytes;
        limits.intermediate_buffer_size = bytes;
        limits.ifd_value_size = DIRECTORY_ENTRY_BYTES_MAX;
        limits
    };
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(failed)?.with_limits(limits(limit.bytes()));
    let (width, height) = decoder.dimensions().map_err(failed)?;
    let size = limit.check(Format::Tiff, u64::from(width), u64::from(height))?;
    // A small picture may say that its strips or tiles are huge.
    let mut decoder = decoder.with_limits(limits(limit.bytes_for(size)));
    let color =
        decoder.colortype().map_err(|error| PictureError::unsupported(format_args!("a TIFF picture: {error}")))?;
    let extra = match decoder.find_tag(Tag::ExtraSamples).map_err(failed)? {
        Some(value) => value.into_u16_vec().map_err(failed)?.first().copied(),
        None => None,
    };
    let result = decoder.read_image().map_err(failed)?;
    let unsupported = || PictureError::unsupported(format_args!("a TIFF picture of the kind {color:?}"));
    // PIL keeps the high byte of 16-bit samples, except for plain grey.
    let data = match result {
        DecodingResult::U8(data) => data,
        DecodingResult::U16(data) if color == ColorType::Gray(16) => {
            return Ok((size, Samples::Grey16 { data, transparent: None }));
        }
        DecodingResult::U16(data) => data.into_iter().map(|value| (value >> 8) as u8).collect(),
        _ => return Err(unsupported()),
    };
    let samples = match color {
        ColorType::Gray(1) => Samples::Bilevel {
            data: super::unpack_bits(&data, size.width as usize, 1).into_iter().map(|bit| bit * 255).collect(),
            transparent: None,
        },
        ColorType::Gray(bits @ (2 | 4)) => {
            let factor = 255 / ((1 << bits) - 1);
            let data = super::unpack_bits(&data, size.width as usize, usize::from(bits));
            Samples::Grey { data: data.into_iter().map(|value| value * factor).collect(), transparent: None }
        }
        ColorType::Gray(8) => Samples::Grey { data, transparent: None },
        ColorType::Multiband { bit_depth: 8, num_samples: 2 } => match extra {
            Some(EXTRA_UNSPECIFIED) => {
                Samples::Grey { data: data.as_chunks().0.iter().map(|&[grey, _]| grey).collect(), transparent: None }
            }
            Some(EXTRA_PREMULTIPLIED) => return Err(unsupported()),
            _ => Samples::GreyAlpha(data),
        },
        ColorType::RGB(8 | 16) => Samples::Rgb { data, transparent: None },
        ColorType::RGBA(8 | 16) => match extra {
            Some(EXTRA_UNSPECIFIED) => Samples::Rgb { data: without_fourth(&data), transparent: None },
            Some(EXTRA_PREMULTIPLIED) => Samples::Rgba(unpremultiplied(data)),
            _ => Samples::Rgba(data),
        },
        ColorType::CMYK(8 | 16) => Samples::Cmyk(data),
        _ => return Err(unsupported()),
    };
    Ok((size, samples))
}

fn without_fourth(data: &[u8]) -> Vec<u8> {
    data.as_chunks().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect()
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
