//! The first frame of a GIF, as palette indices.

use std::io::Cursor;
use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, MemoryLimit};

use super::sniff::Format;
use super::{Checked, Limit, PictureError, Samples, opaque_palette};

pub(super) fn decode(bytes: &[u8], limit: Limit) -> Result<(Checked, Samples), PictureError> {
    let failed = |error| PictureError::undecodable(Format::Gif, error);
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    if let Some(bytes) = NonZeroU64::new(limit.bytes() as u64) {
        options.set_memory_limit(MemoryLimit::Bytes(bytes));
    }
    let mut decoder = options.read_info(Cursor::new(bytes)).map_err(failed)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let screen = (u64::from(decoder.width()), u64::from(decoder.height()));
    let frame = decoder
        .next_frame_info()
        .map_err(failed)?
        .ok_or_else(|| PictureError::undecodable(Format::Gif, "it has no frame"))?;
    // A frame that sticks out makes the picture larger, as in PIL.
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (frame_width, frame_height) = (usize::from(frame.width), usize::from(frame.height));
    let width = screen.0.max((left + frame_width) as u64);
    let height = screen.1.max((top + frame_height) as u64);
    let (transparent, palette) = (frame.transparent, frame.palette.clone().or(global));
    let size = limit.check(Format::Gif, width, height)?;

    let mut indices = vec![0; decoder.buffer_size()];
    decoder.read_into_buffer(&mut indices).map_err(failed)?;
    let mut data = vec![transparent.unwrap_or(0); size.pixels()];
    if frame_width > 0 {
        for (y, row) in indices.chunks_exact(frame_width).take(frame_height).enumerate() {
            let start = (top + y) * size.width as usize + left;
            data[start..start + frame_width].copy_from_slice(row);
        }
    }
    // PIL drops a palette that maps every index to its own grey, and one that is not there.
    let samples = match palette {
        Some(colors) if !is_grey_ramp(&colors) => {
            let mut palette = opaque_palette(&colors);
            if let Some(index) = transparent {
                palette[usize::from(index)][3] = 0;
            }
            Samples::Indexed { data, palette }
        }
        _ => Samples::Grey { data, transparent },
    };
    Ok((size, samples))
}

fn is_grey_ramp(colors: &[u8]) -> bool {
    colors.chunks_exact(3).enumerate().all(|(i, color)| color.iter().all(|&c| usize::from(c) == i))
}
