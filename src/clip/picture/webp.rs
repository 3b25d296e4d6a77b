//! WebP; the first frame of an animation on its canvas.

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::sniff::Format;
use super::{Checked, Limit, PictureError, Samples};

pub(super) fn decode(bytes: &[u8], limit: Limit) -> Result<(Checked, Samples), PictureError> {
    let failed = |error| PictureError::undecodable(Format::WebP, error);
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    decoder.set_memory_limit(limit.bytes());
    let (width, height) = decoder.dimensions();
    let size = limit.check(Format::WebP, u64::from(width), u64::from(height))?;
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    let mut data = vec![0; size.pixels() * channels];
    if decoder.is_animated() {
        // What the first frame does not cover is see-through.
        decoder.set_background_color([0; 4]).map_err(failed)?;
    }
    decoder.read_image(&mut data).map_err(failed)?;
    let samples = if channels == 4 { Samples::Rgba(data) } else { Samples::Rgb { data, transparent: None } };
    Ok((size, samples))
}
