//! What AV1 data says before it is decoded: how large its frames may be, and how many there are.

use std::ffi::c_int;
use std::ptr::NonNull;

use rav1d::include::dav1d::headers::Dav1dSequenceHeader;
use rav1d::src::lib::dav1d_parse_sequence_header;

use super::av1::{Layout, layout};

/// More frames than a picture of four layers has. Each may cost a pass over all of its pixels, however few bytes it has.
pub(super) const FRAMES_MAX: usize = 8;

/// Sides of the decoder's frames are multiples of it.
const BLOCK: u64 = 128;

/// The most that any of the sequence headers says: there may be several, and each begins anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    /// Of the picture that is announced.
    pub pixels: u64,
    /// Frames, shown or not. Fewer where the data is damaged: the decoder stops there.
    pub frames: usize,
    /// Frames that the decoder makes of one besides it: with grain, and of its full width.
    pub copies: u64,
    /// What a frame may say that its sides are.
    width_max: u64,
    height_max: u64,
    /// Whether frames have the announced sides, and say none.
    is_fixed: bool,
    layout: Layout,
    sample_bytes: u64,
}

impl Sequence {
    pub fn read(data: &[u8]) -> Result<Self, &'static str> {
        let (mut most, mut frames) = (None::<Self>, 0);
        for (kind, unit) in units(data) {
            match kind {
                // OBU_SEQUENCE_HEADER.
                1 => {
                    let one = Self::of_header(unit)?;
                    most = Some(most.map_or(one, |most| most.max(one)));
                }
                // OBU_FRAME_HEADER, OBU_FRAME, OBU_REDUNDANT_FRAME_HEADER, which begins a frame where none has begun.
                3 | 6 | 7 => frames += 1,
                _ => {}
            }
        }
        most.map(|most| Self { frames, ..most }).ok_or("its AV1 data has no sequence header")
    }

    fn of_header(unit: &[u8]) -> Result<Self, &'static str> {
        let mut header = std::mem::MaybeUninit::<Dav1dSequenceHeader>::uninit();
        // SAFETY: `unit` is a slice that is not written to, and `header` has the room for what is written to it.
        let result = unsafe {
            dav1d_parse_sequence_header(
                NonNull::new(header.as_mut_ptr()),
                NonNull::new(unit.as_ptr().cast_mut()),
                unit.len(),
            )
        };
        if result.0 != 0 {
            return Err("its AV1 sequence header is damaged");
        }
        // SAFETY: it has been written, since the result is 0.
        let header = unsafe { header.assume_init() };
        let side = |side: c_int| u64::try_from(side).unwrap_or(u64::from(u32::MAX));
        let (width, height) = (side(header.max_width), side(header.max_height));
        let is_fixed = header.reduced_still_picture_header != 0;
        let of_bits = |bits: u8| 1u64 << bits.min(16);
        let (width_max, height_max) =
            if is_fixed { (width, height) } else { (of_bits(header.width_n_bits), of_bits(header.height_n_bits)) };
        Ok(Self {
            pixels: width * height,
            frames: 0,
            copies: u64::from(header.film_grain_present != 0) + u64::from(header.super_res != 0),
            width_max,
            height_max,
            is_fixed,
            layout: layout(header.layout),
            sample_bytes: if header.hbd == 0 { 1 } else { 2 },
        })
    }

    fn max(self, other: Self) -> Self {
        Self {
            pixels: self.pixels.max(other.pixels),
            frames: self.frames.max(other.frames),
            copies: self.copies.max(other.copies),
            width_max: self.width_max.max(other.width_max),
            height_max: self.height_max.max(other.height_max),
            is_fixed: self.is_fixed && other.is_fixed,
            layout: self.layout.max(other.layout),
            sample_bytes: self.sample_bytes.max(other.sample_bytes),
        }
    }

    /// Samples of luma that the decoder allocates at most for a frame of at most so many pixels. A frame may say other sides than
    /// its sequence: long, thin ones grow the most when they are made whole blocks.
    pub fn samples(&self, pixels: u64) -> u64 {
        if self.is_fixed {
            return self.width_max.next_multiple_of(BLOCK) * self.height_max.next_multiple_of(BLOCK);
        }
        let most = BLOCK - 1;
        pixels + most * (self.width_max.min(pixels) + self.height_max.min(pixels)) + most * most
    }

    /// Of all planes, with so many samples of luma.
    pub fn bytes(&self, samples: u64) -> u64 {
        let samples_of_two_pixels = match self.layout {
            Layout::Grey => 2,
            Layout::Quarter => 3,
            Layout::Half => 4,
            Layout::Full => 6,
        };
        samples * samples_of_two_pixels * self.sample_bytes / 2
    }
}

/// Kind and bytes of each unit (AV1 specification, 5.3), as far as they are intact.
fn units(mut data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let head = *data.first()?;
        let (kind, has_extension, has_size) = (head >> 3 & 15, head >> 2 & 1 == 1, head >> 1 & 1 == 1);
        let body = 1 + usize::from(has_extension);
        let mut end = data.len();
        if has_size {
            let (size, bytes) = leb128(data.get(body..)?)?;
            end = (body + bytes).checked_add(usize::try_from(size).ok()?)?;
        }
        let (unit, rest) = data.split_at_checked(end)?;
        data = rest;
        Some((kind, unit))
    })
}

/// A number of up to eight bytes, seven bits each, and how many bytes it has.
fn leb128(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (n, byte) in bytes.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7F) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((value, n + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_told_apart() {
        // A temporal delimiter, a sequence header of two bytes, a frame of one, a frame header, a redundant one, and a frame
        // without a size.
        let data = [0x12, 0, 0x0A, 2, 1, 2, 0x32, 0x81, 0, 9, 0x1A, 1, 0, 0x3A, 1, 0, 0x36 & !2, 0, 5, 5];
        let kinds = |data: &[u8]| units(data).map(|(kind, _)| kind).collect::<Vec<_>>();
        assert_eq!(kinds(&data), [2, 1, 6, 3, 7, 6]);
        assert_eq!(kinds(&data[..9]), [2, 1], "a unit that is cut off is none");
        assert!(kinds(&[]).is_empty());
        assert_eq!(units(&data).map(|(_, unit)| unit.len()).sum::<usize>(), data.len());
        for damaged in [&b"\x12\0"[..], b"\x0A\x02\0\0", b"\xFF\xFF\xFF"] {
            assert!(Sequence::read(damaged).is_err(), "{damaged:?}");
        }
    }

    #[test]
    fn the_thinnest_frames_are_reserved_for() {
        let sequence = Sequence {
            pixels: 0,
            frames: 1,
            copies: 0,
            width_max: 1 << 16,
            height_max: 1 << 9,
            is_fixed: false,
            layout: Layout::Full,
            sample_bytes: 2,
        };
        for pixels in [1u64, 100, 65_536, 1_000_000] {
            for width in [1u64, 2, 127, 129, 1000, 65_536].into_iter().filter(|width| *width <= pixels) {
                let height = (pixels / width).min(1 << 9);
                let allocated = width.next_multiple_of(BLOCK) * height.next_multiple_of(BLOCK);
                assert!(sequence.samples(pixels) >= allocated, "{width} x {height}");
            }
        }
        let fixed = Sequence { is_fixed: true, width_max: 300, height_max: 2, ..sequence };
        assert_eq!(fixed.samples(600), 384 * 128);
    }
}
