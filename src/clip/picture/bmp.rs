//! BMP. Pictures with a palette stay indexed, unless the palette is the plain grey ramp.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::{ColorType, ImageDecoder as _};

use super::sniff::Format;
use super::{Checked, Limit, PictureError, Samples, opaque_palette};

pub(super) fn decode(bytes: &[u8], limit: Limit) -> Result<(Checked, Samples), PictureError> {
    let failed = |error| PictureError::undecodable(Format::Bmp, error);
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    let size = limit.check(Format::Bmp, u64::from(width), u64::from(height))?;
    // The decoder keeps indices of 8-bit files only (it panics on others), so plain indexed rows are read here.
    // Run-length encoded ones come out as RGB: equal colours, but resized by the filter instead of nearest neighbour.
    if let Some(file) = Indexed::read(bytes) {
        let data = file.indices(bytes, size).ok_or_else(|| {
            PictureError::undecodable(Format::Bmp, "the file is cut off: it holds fewer pixels than its header says")
        })?;
        return Ok((size, indexed(data, &file.colors)));
    }
    let color = decoder.color_type();
    let mut data = vec![0; size.pixels() * usize::from(color.bytes_per_pixel())];
    decoder.read_image(&mut data).map_err(failed)?;
    let samples =
        if color == ColorType::Rgba8 { Samples::Rgba(data) } else { Samples::Rgb { data, transparent: None } };
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

/// An uncompressed file with 1, 4 or 8 bits per pixel.
struct Indexed {
    bits: usize,
    colors: Vec<[u8; 3]>,
    pixels_at: usize,
    top_down: bool,
}

impl Indexed {
    fn read(bytes: &[u8]) -> Option<Self> {
        let u16_at = |at: usize| bytes.get(at..at + 2).map(|b| usize::from(u16::from_le_bytes([b[0], b[1]])));
        let u32_at = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let header_bytes = u32_at(14)? as usize;
        // OS/2's first header has narrower fields and entries of three bytes.
        let old = header_bytes == 12;
        let (bits, entry_bytes) = if old { (u16_at(24)?, 3) } else { (u16_at(28)?, 4) };
        // OS/2's 16-byte header ends before the compression.
        let compressed = !old && header_bytes > 16 && u32_at(30)? != 0;
        if !matches!(bits, 1 | 4 | 8) || compressed {
            return None;
        }
        let used = if old || header_bytes == 16 { 0 } else { u32_at(46)? as usize };
        let count = if used == 0 { 1 << bits } else { used.min(256) };
        let entries = bytes.get(14 + header_bytes..)?.chunks_exact(entry_bytes).take(count);
        Some(Self {
            bits,
            colors: entries.map(|entry| [entry[2], entry[1], entry[0]]).collect(),
            pixels_at: u32_at(10)? as usize,
            top_down: !old && (u32_at(22)? as i32) < 0,
        })
    }

    /// Rows begin at multiples of four bytes, from the bottom up unless the height is negative.
    fn indices(&self, bytes: &[u8], size: Checked) -> Option<Vec<u8>> {
        let (width, height) = (size.width as usize, size.height as usize);
        let row_bytes = (width * self.bits).div_ceil(32) * 4;
        let rows = bytes.get(self.pixels_at..)?.get(..row_bytes * height)?;
        let mut out = Vec::with_capacity(size.pixels());
        for y in 0..height {
            let from = if self.top_down { y } else { height - 1 - y };
            let row = &rows[from * row_bytes..(from + 1) * row_bytes];
            if self.bits == 8 {
                out.extend_from_slice(&row[..width]);
            } else {
                out.extend(super::unpack_bits(&row[..(width * self.bits).div_ceil(8)], width, self.bits));
            }
        }
        Some(out)
    }
}
