//! AVIF, as Pillow's own plugin reads it: libavif with dav1d and libyuv. The container is read here, by libavif's rules;
//! rav1d, a port of dav1d, decodes; the samples become RGB as libyuv and libavif make it. Of a sequence the first picture.

mod av1;
mod boxes;
mod coded;
mod container;
mod fixed;
mod float;
mod items;
mod planes;
mod properties;
mod sequence;
mod tracks;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use boxes::Problem;
use coded::Coded;
use container::Picture;
pub(in crate::picture::decode) use container::is_avif;
use planes::{Canvas, Held, Planes, Sample};
use sequence::{FRAMES_MAX, Sequence};

use super::{Checked, Decoded, Limit, PictureError, Samples};
use crate::picture::format::Format;

/// Whether the decoder was built with its SIMD code.
pub const HAS_SIMD: bool = cfg!(feature = "avif-simd");

/// What its tables have for each pixel: levels of filters, motion, segments.
const TABLE_BYTES: u64 = 1;

#[derive(Debug)]
pub(super) struct Header<'a> {
    pub size: Checked,
    picture: Picture<'a>,
    decode_bytes: u64,
}

impl<'a> Header<'a> {
    pub fn read(bytes: &'a [u8], limit: Limit) -> Result<Self, PictureError> {
        let picture = container::read(bytes).map_err(|problem| match problem {
            Problem::Damaged(what) => failed(what),
            Problem::Unsupported(what) => PictureError::unsupported(what),
        })?;
        Self::of(picture, limit)
    }

    fn of(picture: Picture<'a>, limit: Limit) -> Result<Self, PictureError> {
        let size = limit.check(Format::Avif, u64::from(picture.width), u64::from(picture.height))?;
        // Alpha may say another size; tiles of a grid may hang over its edges, by less than one of them.
        for coded in [Some(&picture.color), picture.alpha.as_ref()].into_iter().flatten() {
            let grid = coded.grid.map(|grid| (grid.width, grid.height));
            for (width, height) in coded.tiles.iter().map(|tile| (tile.width, tile.height)).chain(grid) {
                limit.check(Format::Avif, u64::from(width), u64::from(height))?;
            }
        }
        let decode_bytes = decode_bytes(&picture)?;
        Ok(Self { size, picture, decode_bytes })
    }

    pub fn pixel_bytes(&self) -> u64 {
        match (&self.picture.alpha, self.picture.color.config.is_grey()) {
            (Some(_), _) => 4,
            (None, true) => 1,
            (None, false) => 3,
        }
    }

    /// Bytes that are held at once while it is decoded, what is made of it included.
    pub fn decode_bytes(&self) -> u64 {
        self.decode_bytes + self.size.pixels() as u64 * self.pixel_bytes()
    }

    /// Pillow's: what `irot` and `imir` say stands, and EXIF does not.
    pub fn orientation(&self) -> u32 {
        self.picture.orientation
    }

    pub fn decode(self) -> Result<Decoded, PictureError> {
        match self.picture.color.config.depth() {
            8 => self.decode_as::<u8>(),
            _ => self.decode_as::<u16>(),
        }
    }

    fn decode_as<T: Sample>(self) -> Result<Decoded, PictureError> {
        const OTHER: &str = "its coded data is not what its container says";
        let Picture { color, alpha, premultiplied, .. } = &self.picture;
        let (held, coded_colors) = planes_of::<T>(color, false)?;
        let planes = held.planes().ok_or_else(|| failed(OTHER))?;
        let is_of_size = |planes: &Planes<'_, T>| {
            (planes.width, planes.height) == (self.size.width as usize, self.size.height as usize)
        };
        if !is_of_size(&planes) {
            return Err(scaled());
        }
        if planes.depth != color.config.depth() || (planes.layout == av1::Layout::Grey) != color.config.is_grey() {
            return Err(failed(OTHER));
        }
        let colors = self.picture.colors.unwrap_or(coded_colors);
        let held_alpha = alpha.as_ref().map(|alpha| planes_of::<T>(alpha, true)).transpose()?;
        let alpha = match &held_alpha {
            None => None,
            Some((held, _)) => {
                let is_alike = |alpha: &Planes<'_, T>| is_of_size(alpha) && alpha.depth == planes.depth;
                let planes = held.planes().filter(is_alike).ok_or_else(|| failed("its alpha is unlike its colours"))?;
                Some(planes.luma)
            }
        };
        let full;
        let alpha = match (alpha, &held_alpha) {
            (Some(alpha), Some((_, coded))) if !coded.full_range => {
                full = full_range(&alpha, planes.width, planes.height, planes.depth);
                Some(av1::Plane { samples: &full, stride: planes.width })
            }
            (alpha, _) => alpha,
        };
        let samples = converted(&planes, alpha, colors, *premultiplied)?;
        Ok(Decoded::whole((self.size, samples)))
    }
}

/// Samples in the mode in which Pillow opens the picture.
fn converted<T: Sample>(
    planes: &Planes<'_, T>,
    alpha: Option<av1::Plane<'_, T>>,
    colors: properties::Colors,
    premultiplied: bool,
) -> Result<Samples, PictureError> {
    let is_grey = planes.layout == av1::Layout::Grey;
    if is_grey && alpha.is_none() {
        let data = float::grey(planes, colors).map_err(PictureError::unsupported)?;
        return Ok(Samples::Grey { data, transparent: None });
    }
    let data = match fixed::constants(colors, is_grey) {
        Some(constants) => {
            let mut data = fixed::convert(planes, alpha, constants);
            if premultiplied && alpha.is_some() {
                fixed::unmultiply(&mut data);
            }
            data
        }
        None => float::convert(planes, alpha, colors, premultiplied).map_err(PictureError::unsupported)?,
    };
    Ok(if alpha.is_some() { Samples::Rgba(data) } else { Samples::Rgb { data, transparent: None } })
}

/// All planes, or luma alone of alpha; and the colours that the first frame names.
fn planes_of<T: Sample>(coded: &Coded<'_>, is_alpha: bool) -> Result<(Held<T>, properties::Colors), PictureError> {
    let Some(grid) = coded.grid else {
        let frame = av1::decode(&coded.tiles[0]).map_err(failed)?;
        let colors = frame.colors();
        return Ok((Held::Frame(frame), colors));
    };
    let mut canvas: Option<(Canvas<T>, properties::Colors)> = None;
    for (number, tile) in coded.tiles.iter().enumerate() {
        let frame = av1::decode(tile).map_err(failed)?;
        let (canvas, colors) = match &mut canvas {
            Some(canvas) => canvas,
            none => {
                let made =
                    Canvas::new(grid, &frame, is_alpha).ok_or_else(|| failed("its tiles do not fill its grid"))?;
                none.insert((made, frame.colors()))
            }
        };
        if frame.colors() != *colors || canvas.put(number, &frame).is_none() {
            return Err(failed("the tiles of its grid are of different kinds"));
        }
    }
    canvas.map(|(canvas, colors)| (Held::Canvas(canvas), colors)).ok_or_else(|| failed("its grid has no tiles"))
}

/// Alpha of limited range, stretched as libavif does it.
fn full_range<T: Sample>(alpha: &av1::Plane<'_, T>, width: usize, height: usize, depth: u8) -> Vec<T> {
    let (low, high, full) = (16 << (depth - 8), 235 << (depth - 8), (1 << depth) - 1);
    let stretch = |sample: &T| {
        let sample: u16 = (*sample).into();
        let value = ((i32::from(sample) - low) * full + (high - low) / 2) / (high - low);
        T::try_from(value.clamp(0, full) as u16).unwrap_or_default()
    };
    (0..height).flat_map(|y| alpha.row(y, width)).map(stretch).collect()
}

/// What the decoder takes at most besides the pixels that are made: copies of the data, frames that it keeps, its tables,
/// and planes that are put together from tiles.
fn decode_bytes(picture: &Picture<'_>) -> Result<u64, PictureError> {
    let (held, work) = coded_bytes(&picture.color)?;
    let Some(alpha) = &picture.alpha else { return Ok(held + work) };
    // Alpha is stretched into a copy where it is of limited range.
    let sample_bytes = if picture.color.config.depth() == 8 { 1 } else { 2 };
    let stretched = u64::from(picture.width) * u64::from(picture.height) * sample_bytes;
    let (held_alpha, work_alpha) = coded_bytes(alpha)?;
    Ok(held + held_alpha + stretched + work.max(work_alpha))
}

/// What stays until the pixels are made, and what the decoder takes besides in the meantime.
fn coded_bytes(coded: &Coded<'_>) -> Result<(u64, u64), PictureError> {
    let (mut held, mut work, mut copied) = (0, 0, 0);
    for tile in &coded.tiles {
        let sequence = Sequence::read(&tile.data).map_err(failed)?;
        if sequence.frames > FRAMES_MAX {
            return Err(PictureError::unsupported(format_args!(
                "an AVIF picture of {} frames where {FRAMES_MAX} are expected at most",
                sequence.frames
            )));
        }
        let pixels = u64::from(tile.width) * u64::from(tile.height);
        if sequence.pixels > pixels {
            return Err(scaled());
        }
        let samples = sequence.samples(pixels);
        let frame = sequence.bytes(samples);
        let frames = sequence.frames.max(1) as u64 + sequence.copies;
        // Of all frames one is what stays.
        work = work.max((frames - 1) * frame + samples * TABLE_BYTES + tile.data.len() as u64);
        held = held.max(match coded.grid {
            Some(grid) => sequence.bytes(u64::from(grid.width) * u64::from(grid.height)) + frame,
            None => frame,
        });
        copied += if matches!(tile.data, Cow::Owned(_)) { tile.data.len() as u64 } else { 0 };
    }
    Ok((held + copied, work))
}

/// libavif scales such a picture.
fn scaled() -> PictureError {
    PictureError::unsupported("an AVIF picture whose coded size is not that of its container")
}

fn failed(what: impl std::fmt::Display) -> PictureError {
    PictureError::undecodable(Format::Avif, what)
}
