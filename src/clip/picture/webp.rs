//! WebP; the first frame of an animation on its canvas.

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::sniff::Format;
use super::{Checked, Limit, PictureError, Samples};

pub(super) fn decode(bytes: &[u8], limit: Limit) -> Result<(Checked, Samples), PictureError> {
    let failed = |error| failed_with(error);
    // As libwebp: what is missing may be the end of the picture, or what says how it is turned.
    let announced = bytes.get(4..8).map_or(0, |size| u32::from_le_bytes([size[0], size[1], size[2], size[3]]));
    if announced as usize > bytes.len().saturating_sub(8) {
        return Err(failed_with("the file is cut off: it is shorter than its header says"));
    }
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    decoder.set_memory_limit(limit.bytes());
    let (width, height) = decoder.dimensions();
    let size = limit.check(Format::WebP, u64::from(width), u64::from(height))?;
    if let Some((frame_width, frame_height)) = lossy_frames(bytes).find(|&(w, h)| w > width || h > height) {
        return Err(failed_with(format_args!(
            "a frame is {frame_width} x {frame_height} pixels, the picture {width} x {height}"
        )));
    }
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

fn failed_with(error: impl std::fmt::Display) -> PictureError {
    PictureError::undecodable(Format::WebP, error)
}

/// Sizes of the lossy frames. The decoder allocates for a frame by the frame's own header, and compares it with the
/// picture's only afterwards.
fn lossy_frames(bytes: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    // Frames of animations are chunks within chunks, behind a header of 16 bytes and perhaps their alpha.
    let inner =
        |(kind, body): ([u8; 4], _)| if &kind == b"ANMF" { Chunks(<[u8]>::get(body, 16..)) } else { Chunks(None) };
    let outer = Chunks(bytes.get(12..));
    let all = outer.clone().chain(outer.flat_map(inner));
    all.filter(|(kind, _)| kind == b"VP8 ").filter_map(|(_, body)| {
        // RFC 6386 §9.1: three bytes, a start code of three, sides of 14 bits each.
        let sides = body.get(6..10)?;
        let side = |at: usize| u32::from(u16::from_le_bytes([sides[at], sides[at + 1]]) & 0x3FFF);
        Some((side(0), side(2)))
    })
}

/// Kind and body of RIFF chunks, which begin at even bytes. One that is cut off has what is there of it.
#[derive(Clone)]
struct Chunks<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Chunks<'a> {
    type Item = ([u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (kind, rest) = self.0?.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        self.0 = rest.get(length + length % 2..);
        Some((*kind, rest.get(..length).unwrap_or(rest)))
    }
}
