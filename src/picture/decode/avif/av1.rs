//! AV1 data to samples, by rav1d: dav1d, which Pillow's packages have, in Rust. Its interface is dav1d's own, in C.
//!
//! A panic within it would end the process, since it has that interface: `pipeline/trial` then finds the message.

use std::ffi::c_int;
use std::ptr::NonNull;

use rav1d::include::dav1d::data::Dav1dData;
use rav1d::include::dav1d::dav1d::{Dav1dContext, Dav1dLogger, Dav1dSettings};
use rav1d::include::dav1d::headers::{
    DAV1D_PIXEL_LAYOUT_I400, DAV1D_PIXEL_LAYOUT_I420, DAV1D_PIXEL_LAYOUT_I422, Dav1dPixelLayout,
};
use rav1d::include::dav1d::picture::Dav1dPicture;
use rav1d::src::lib::{
    dav1d_close, dav1d_data_create, dav1d_data_unref, dav1d_default_settings, dav1d_get_picture, dav1d_open,
    dav1d_picture_unref, dav1d_send_data,
};

use super::coded::Tile;
use super::properties::Colors;

/// From the fewest samples to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layout {
    Grey,
    /// Chroma of half the width and height.
    Quarter,
    /// Chroma of half the width.
    Half,
    Full,
}

pub(super) fn layout(said: Dav1dPixelLayout) -> Layout {
    match said {
        DAV1D_PIXEL_LAYOUT_I400 => Layout::Grey,
        DAV1D_PIXEL_LAYOUT_I420 => Layout::Quarter,
        DAV1D_PIXEL_LAYOUT_I422 => Layout::Half,
        _ => Layout::Full,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_data_is_refused() {
        let tile =
            |data: &'static [u8]| Tile { data: data.into(), width: 8, height: 8, operating_point: 0, layer: None };
        for data in [&b"\x12\0"[..], b"\x0A\x02\0\0", b"\xFF\xFF\xFF"] {
            assert!(decode(&tile(data)).is_err(), "{data:?}");
        }
    }
}
