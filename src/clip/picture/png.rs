//! PNG, in the modes in which PIL opens it.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, Limits, Transformations};

use super::sniff::Format;
use super::{Checked, Limit, PictureError, Samples, opaque_palette};

pub(super) fn decode(bytes: &[u8], limit: Limit) -> Result<(Checked, Samples), PictureError> {
    let failed = |error| PictureError::undecodable(Format::Png, error);
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: limit.bytes() });
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(failed)?;
    let size = limit.check(Format::Png, u64::from(header.width), u64::from(header.height))?;
    decoder.set_limits(Limits { bytes: limit.bytes_for(size) });
    let mut reader = decoder.read_info().map_err(failed)?;
    let packed_bytes = reader
        .output_buffer_size()
        .ok_or_else(|| PictureError::too_large(u64::from(size.width), u64::from(size.height), limit.pixels_max))?;
    let mut packed = vec![0; packed_bytes];
    reader.next_frame(&mut packed).map_err(failed)?;

    let info = reader.info();
    let (color, depth) = (info.color_type, info.bit_depth);
    let trns = info.trns.as_deref();
    let data = match depth {
        BitDepth::Eight | BitDepth::Sixteen => packed,
        below => super::unpack_bits(&packed, size.width as usize, below as usize),
    };
    let samples = match (color, depth) {
        (ColorType::Grayscale, BitDepth::Sixteen) => Samples::Grey16 {
            data: data.as_chunks().0.iter().map(|&pair| u16::from_be_bytes(pair)).collect(),
            transparent: grey_transparent(trns),
        },
        (ColorType::Grayscale, BitDepth::One) => Samples::Bilevel {
            data: data.into_iter().map(|bit| bit * 255).collect(),
            transparent: grey_transparent(trns),
        },
        (ColorType::Grayscale, depth) => {
            // 2 and 4 bits are spread over 0..=255; the transparent value is not, in PIL as here.
            let factor = 255 / ((1u16 << depth as u8) - 1) as u8;
            Samples::Grey {
                data: data.into_iter().map(|value| value * factor).collect(),
                transparent: grey_transparent(trns),
            }
        }
        (ColorType::GrayscaleAlpha, depth) => Samples::GreyAlpha(high_bytes(data, depth)),
        (ColorType::Rgb, depth) => Samples::Rgb { data: high_bytes(data, depth), transparent: rgb_transparent(trns) },
        (ColorType::Rgba, depth) => Samples::Rgba(high_bytes(data, depth)),
        (ColorType::Indexed, _) => {
            let mut palette = opaque_palette(info.palette.as_deref().unwrap_or_default());
            for (entry, &alpha) in palette.iter_mut().zip(trns.unwrap_or_default()) {
                entry[3] = alpha;
            }
            Samples::Indexed { data, palette }
        }
    };
    Ok((size, samples))
}

/// PIL compares the low byte of the transparent value with the 8-bit pixel. The decoder gives two bytes at depth 16 only.
fn grey_transparent(trns: Option<&[u8]>) -> Option<u8> {
    trns.and_then(|t| t.last()).copied()
}

fn rgb_transparent(trns: Option<&[u8]>) -> Option<[u8; 3]> {
    match *trns? {
        [r, g, b] | [_, r, _, g, _, b] => Some([r, g, b]),
        _ => None,
    }
}

/// PIL keeps the high byte of a 16-bit sample.
fn high_bytes(data: Vec<u8>, depth: BitDepth) -> Vec<u8> {
    if depth == BitDepth::Sixteen { data.as_chunks().0.iter().map(|&[high, _]| high).collect() } else { data }
}
