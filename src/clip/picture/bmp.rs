//! BMP. Pictures with a palette stay indexed, unless the palette is the plain grey ramp.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::{ColorType, ImageDecoder};

use super::sniff::Format;
use super::{Checked, Limit, PictureError, Samples, opaque_palette};

pub(super) fn decode(bytes: &[u8], limit: Limit) -> Result<(Checked, Samples), PictureError> {
    let failed = |error| PictureError::undecodable(Format::Bmp, error);
    let mut decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    let size = limit.check(Format::Bmp, u64::from(width), u64::from(height))?;
    let palette = file_palette(bytes);
    decoder.set_indexed_color(palette.is_some());
    let color = decoder.color_type();
    let mut data = vec![0; size.pixels() * usize::from(color.bytes_per_pixel())];
    decoder.read_image(&mut data).map_err(failed)?;
    let samples = match palette {
        Some(colors) => indexed(data, &colors),
        None if color == ColorType::Rgba8 => Samples::Rgba(data),
        None => Samples::Rgb { data, transparent: None },
    };
    Ok((size, samples))
}

/// PIL's rule: a palette of two is grey when it is black and white, a longer one when entry `i` is grey `i`.
fn indexed(mut data: Vec<u8>, colors: &[[u8; 3]]) -> Samples {
    let grey = |value: usize| [value as u8; 3];
    if colors.len() == 2 && colors == [grey(0), grey(255)] {
        data.iter_mut().for_each(|index| *index = if *index == 0 { 0 } else { 255 });
        Samples::Bilevel { data, transparent: None }
    } else if colors.len() > 2 && colors.iter().enumerate().all(|(i, color)| *color == grey(i)) {
        Samples::Grey { data, transparent: None }
    } else {
        Samples::Indexed { data, palette: opaque_palette(colors.as_flattened()) }
    }
}

/// The colours (RGB) of a file with at most 8 bits per pixel; none for other depths.
fn file_palette(bytes: &[u8]) -> Option<Vec<[u8; 3]>> {
    let u16_at = |at: usize| bytes.get(at..at + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    let u32_at = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let header_bytes = u32_at(14)?;
    let (bits, used, entry_bytes) = match header_bytes {
        12 => (u16_at(24)?, 0, 3),
        16 => (u16_at(28)?, 0, 4),
        _ => (u16_at(28)?, u32_at(46)?, 4),
    };
    if !matches!(bits, 1..=8) {
        return None;
    }
    let count = if used == 0 { 1 << bits } else { used.min(256) };
    let entries = bytes.get(14 + header_bytes..)?.chunks_exact(entry_bytes).take(count);
    Some(entries.map(|entry| [entry[2], entry[1], entry[0]]).collect())
}
