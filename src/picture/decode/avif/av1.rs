//! AV1 data to samples, by rav1d: dav1d, which Pillow's packages have, in Rust. Its interface is dav1d's own, in C.
//!
//! A panic within it would end the process, since it has that interface: `pipeline/trial` then finds the message.

use std::ffi::c_int;
use std::ptr::NonNull;

use rav1d::include::dav1d::data::Dav1dData;
use rav1d::include::dav1d::dav1d::{Dav1dContext, Dav1dLogger, Dav1dSettings};
use rav1d::include::dav1d::headers::{
    DAV1D_PIXEL_LAYOUT_I400, DAV1D_PIXEL_LAYOUT_I420, DAV1D_PIXEL_LAYOUT_I422, Dav1dPixelLayout, Dav1dSequenceHeader,
};
use rav1d::include::dav1d::picture::Dav1dPicture;
use rav1d::src::lib::{
    dav1d_close, dav1d_data_create, dav1d_data_unref, dav1d_default_settings, dav1d_get_picture, dav1d_open,
    dav1d_parse_sequence_header, dav1d_picture_unref, dav1d_send_data,
};

use super::coded::Tile;
use super::properties::Colors;

/// More frames than a picture of four layers has. Each may cost a pass over all of its pixels, however few bytes it has.
pub(super) const FRAMES_MAX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Grey,
    /// Chroma of half the width and height.
    Quarter,
    /// Chroma of half the width.
    Half,
    Full,
}

fn layout(said: Dav1dPixelLayout) -> Layout {
    match said {
        DAV1D_PIXEL_LAYOUT_I400 => Layout::Grey,
        DAV1D_PIXEL_LAYOUT_I420 => Layout::Quarter,
        DAV1D_PIXEL_LAYOUT_I422 => Layout::Half,
        _ => Layout::Full,
    }
}

/// What a sequence header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    pub has_grain: bool,
    pub width: u64,
    pub height: u64,
    layout: Layout,
    sample_bytes: u64,
}

impl Sequence {
    /// Of all planes of a picture.
    pub fn bytes(self, width: u64, height: u64) -> u64 {
        let samples_of_two_pixels = match self.layout {
            Layout::Grey => 2,
            Layout::Quarter => 3,
            Layout::Half => 4,
            Layout::Full => 6,
        };
        width * height * samples_of_two_pixels * self.sample_bytes / 2
    }

    /// The first one in `data`.
    pub fn read(data: &[u8]) -> Result<Self, &'static str> {
        let mut header = std::mem::MaybeUninit::<Dav1dSequenceHeader>::uninit();
        // SAFETY: `data` is a slice that is not written to, and `header` has the room for what is written to it.
        let result = unsafe {
            dav1d_parse_sequence_header(
                NonNull::new(header.as_mut_ptr()),
                NonNull::new(data.as_ptr().cast_mut()),
                data.len(),
            )
        };
        if result.0 != 0 {
            return Err("its AV1 data has no sequence header");
        }
        // SAFETY: it has been written, since the result is 0.
        let header = unsafe { header.assume_init() };
        let side = |side: c_int| u64::try_from(side).unwrap_or(u64::MAX);
        Ok(Self {
            has_grain: header.film_grain_present != 0,
            width: side(header.max_width),
            height: side(header.max_height),
            layout: layout(header.layout),
            sample_bytes: if header.hbd == 0 { 1 } else { 2 },
        })
    }
}

/// A decoded picture; its samples belong to the library.
pub(super) struct Frame {
    picture: Dav1dPicture,
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: a picture of the library, or an empty one.
        unsafe { dav1d_picture_unref(NonNull::new(&raw mut self.picture)) }
    }
}

/// A plane of samples, row by row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plane<'a, T> {
    pub samples: &'a [T],
    pub stride: usize,
}

impl<'a, T> Plane<'a, T> {
    pub fn row(&self, y: usize, width: usize) -> &'a [T] {
        &self.samples[y * self.stride..][..width]
    }
}

impl Frame {
    fn empty() -> Self {
        Self { picture: Dav1dPicture::default() }
    }

    pub fn size(&self) -> (usize, usize) {
        (self.picture.p.w.max(0) as usize, self.picture.p.h.max(0) as usize)
    }

    pub fn depth(&self) -> u8 {
        self.picture.p.bpc as u8
    }

    pub fn layout(&self) -> Layout {
        layout(self.picture.p.layout)
    }

    /// What its sequence header says of colours.
    pub fn colors(&self) -> Colors {
        // SAFETY: a picture that was given out has its sequence header, for as long as it lives.
        let header = self.picture.seq_hdr.map(|header| unsafe { header.as_ref() });
        header.map_or(Colors { primaries: 2, matrix: 2, full_range: false }, |header| Colors {
            primaries: header.pri as u16,
            matrix: header.mtrx as u16,
            full_range: header.color_range != 0,
        })
    }

    fn layer(&self) -> Option<u8> {
        // SAFETY: as for the sequence header.
        self.picture.frame_hdr.map(|header| unsafe { header.as_ref() }.spatial_id)
    }

    /// Width and height of a plane.
    pub fn plane_size(&self, plane: usize) -> (usize, usize) {
        let (width, height) = self.size();
        match (plane, self.layout()) {
            (0, _) | (_, Layout::Full) => (width, height),
            (_, Layout::Grey) => (0, 0),
            (_, Layout::Half) => (width.div_ceil(2), height),
            (_, Layout::Quarter) => (width.div_ceil(2), height.div_ceil(2)),
        }
    }

    /// Of one whose depth `T` is for: `u8` for 8 bits, else `u16`.
    pub fn plane<T: Copy>(&self, plane: usize) -> Option<Plane<'_, T>> {
        let (width, height) = self.plane_size(plane);
        let sample_bytes = if self.depth() == 8 { 1 } else { 2 };
        let data = self.picture.data[plane]?.cast::<T>();
        let stride = usize::try_from(self.picture.stride[plane.min(1)]).ok()? / sample_bytes;
        if size_of::<T>() != sample_bytes || !data.is_aligned() || width == 0 || height == 0 || stride < width {
            return None;
        }
        // SAFETY: the library's own allocator: rows are `stride` apart, upwards, and all of them are initialised. The
        // picture is not written to any more, and lives as long as the slice.
        let samples = unsafe { std::slice::from_raw_parts(data.as_ptr(), (height - 1) * stride + width) };
        Some(Plane { samples, stride })
    }
}

/// What the library says where it needs more data first.
fn again() -> c_int {
    rustix::io::Errno::AGAIN.raw_os_error()
}

/// One decoder of the library, without threads.
struct Decoder {
    context: Option<Dav1dContext>,
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: a context that was opened, or none.
        unsafe { dav1d_close(NonNull::new(&raw mut self.context)) }
    }
}

impl Decoder {
    fn open(tile: &Tile<'_>) -> Result<Self, &'static str> {
        let mut settings = std::mem::MaybeUninit::<Dav1dSettings>::uninit();
        let mut context = None;
        // SAFETY: the settings are written as a whole before they are read, and the context is written to.
        let result = unsafe {
            dav1d_default_settings(NonNull::from(&mut settings).cast());
            let settings = settings.assume_init_mut();
            settings.n_threads = 1;
            settings.max_frame_delay = 1;
            settings.operating_point = c_int::from(tile.operating_point);
            settings.all_layers = c_int::from(tile.layer.is_some());
            settings.frame_size_limit = tile.width.saturating_mul(tile.height);
            // Nothing is printed.
            settings.logger = Dav1dLogger::new(None, None);
            dav1d_open(NonNull::new(&raw mut context), NonNull::new(settings))
        };
        if result.0 == 0 { Ok(Self { context }) } else { Err("the AV1 decoder does not start") }
    }

    /// The next picture; none where more data is needed.
    fn picture(&self) -> Result<Option<Frame>, &'static str> {
        let mut frame = Frame::empty();
        // SAFETY: the context is open, and the picture empty.
        let result = unsafe { dav1d_get_picture(self.context, NonNull::new(&raw mut frame.picture)) };
        match result.0 {
            0 => Ok(Some(frame)),
            code if code == -again() => Ok(None),
            _ => Err("its AV1 data is damaged"),
        }
    }
}

/// Bytes that belong to the library until it has read them.
struct Input {
    data: Dav1dData,
}

impl Drop for Input {
    fn drop(&mut self) {
        // SAFETY: data of the library, or empty.
        unsafe { dav1d_data_unref(NonNull::new(&raw mut self.data)) }
    }
}

impl Input {
    fn copy(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut input = Self { data: Dav1dData::default() };
        // SAFETY: what is given back is either null or has room for that many bytes.
        unsafe {
            let room = dav1d_data_create(NonNull::new(&raw mut input.data), bytes.len());
            if room.is_null() {
                return Err("the AV1 decoder has no memory for its data");
            }
            room.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        Ok(input)
    }
}

/// The picture of a tile. In the same steps as libavif: what is left in the decoder afterwards has to be sound, too.
pub(super) fn decode(tile: &Tile<'_>) -> Result<Frame, &'static str> {
    const NONE: &str = "its AV1 data has no picture";
    let decoder = Decoder::open(tile)?;
    let mut input = Input::copy(&tile.data)?;
    let frame = loop {
        if input.data.data.is_some() {
            // SAFETY: the context is open, and the data is the library's own.
            let result = unsafe { dav1d_send_data(decoder.context, NonNull::new(&raw mut input.data)) };
            if result.0 < 0 && result.0 != -again() {
                return Err("its AV1 data is damaged");
            }
        }
        match decoder.picture()? {
            Some(frame) if tile.layer.is_none_or(|layer| frame.layer() == Some(layer)) => break frame,
            Some(_) => {}
            None if input.data.data.is_some() => {}
            None => return Err(NONE),
        }
    };
    while decoder.picture()?.is_some() {}
    Ok(frame)
}

/// How many frames `data` may have, shown or not: headers of frames, by the kinds of its units (AV1 specification, 5.3).
/// Fewer where it is damaged: the decoder stops there.
pub(super) fn frames(mut data: &[u8]) -> usize {
    let mut frames = 0;
    while let [head, rest @ ..] = data {
        let (kind, has_extension, has_size) = (head >> 3 & 15, head >> 2 & 1 == 1, head >> 1 & 1 == 1);
        let Some(mut rest) = rest.get(usize::from(has_extension)..) else { break };
        let mut length = rest.len();
        if has_size {
            let Some((size, bytes)) = leb128(rest) else { break };
            rest = &rest[bytes..];
            let Some(size) = usize::try_from(size).ok().filter(|size| *size <= rest.len()) else { break };
            length = size;
        }
        // OBU_FRAME_HEADER and OBU_FRAME.
        frames += usize::from(matches!(kind, 3 | 6));
        data = &rest[length..];
    }
    frames
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
    fn frames_are_counted_by_their_units() {
        // A temporal delimiter, a sequence header of two bytes, a frame of one, a frame header, and a frame without a size.
        let data = [0x12, 0, 0x0A, 2, 1, 2, 0x32, 0x81, 0, 9, 0x1A, 1, 0, 0x36 & !2, 0, 5, 5];
        assert_eq!(frames(&data), 3);
        assert_eq!(frames(&data[..9]), 0);
        assert_eq!(frames(&[]), 0);
    }

    #[test]
    fn damaged_data_is_refused() {
        let tile =
            |data: &'static [u8]| Tile { data: data.into(), width: 8, height: 8, operating_point: 0, layer: None };
        for data in [&b"\x12\0"[..], b"\x0A\x02\0\0", b"\xFF\xFF\xFF"] {
            assert!(decode(&tile(data)).is_err(), "{data:?}");
            assert!(Sequence::read(data).is_err(), "{data:?}");
        }
    }
}
