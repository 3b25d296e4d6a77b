//! WebP; the first frame of an animation on its canvas. The container is read here, by libwebp's rules; the frame is
//! handed to its decoder in a container of its own.

mod container;
mod lossless_cost;
mod prefix_codes;

use std::io::Cursor;

use container::{Coded, Frame, Picture};
use image_webp::WebPDecoder;
use lossless_cost::Head;

use super::{Checked, Decoded, Limit, PictureError, Samples};
use crate::picture::format::Format;

const DAMAGED_CODES: &str = "the prefix codes of its lossless stream are damaged";

#[derive(Debug)]
pub(super) struct Header<'a> {
    pub size: Checked,
    picture: Picture<'a>,
}

impl<'a> Header<'a> {
    pub fn read(bytes: &'a [u8], limit: Limit) -> Result<Self, PictureError> {
        let picture = container::read(bytes).map_err(failed)?;
        let size = limit.check(Format::WebP, u64::from(picture.width), u64::from(picture.height))?;
        Ok(Self { size, picture })
    }

    pub fn pixel_bytes(&self) -> u64 {
        if self.picture.alpha { 4 } else { 3 }
    }

    /// Bytes that are held at once while the frame is decoded, what is made of it included. What is left is within what
    /// every decoder may take.
    ///
    /// # Errors
    ///
    /// `image_undecodable` where a lossless stream is damaged before its pixels.
    pub fn decode_bytes(&self) -> Result<u64, PictureError> {
        let Frame { width, height, coded, .. } = self.picture.frame;
        let pixels = u64::from(width) * u64::from(height);
        let whole_blocks = u64::from(width.next_multiple_of(16)) * u64::from(height.next_multiple_of(16));
        let frame = match coded {
            // Planes of luma and of chroma at half the size, RGB, and the file's partitions once more.
            Coded::Lossy { body, alpha: None } => whole_blocks * 3 / 2 + 3 * pixels + body.len() as u64,
            // RGBA instead, and alpha as a picture of its own and then as a plane.
            Coded::Lossy { body, alpha: Some(_) } => whole_blocks * 3 / 2 + (4 + 4 + 1) * pixels + body.len() as u64,
            // RGBA, and RGB made of it.
            Coded::Lossless { alpha: false, .. } => (4 + 3) * pixels,
            Coded::Lossless { alpha: true, .. } => 4 * pixels,
        };
        let codes = match lossless_stream(coded) {
            Some(stream) => Head::read(stream, width, height).ok_or_else(|| failed(DAMAGED_CODES))?.bytes(),
            None => 0,
        };
        let copy = match coded {
            Coded::Lossy { body, alpha } => body.len() + alpha.map_or(0, <[u8]>::len),
            Coded::Lossless { body, .. } => body.len(),
        };
        // On a canvas of its own size it stays as it is.
        let canvas = if self.fills_canvas() && self.frame_channels() == self.pixel_bytes() { 0 } else { 1 };
        Ok(frame + codes + copy as u64 + canvas * self.pixel_bytes() * self.size.pixels() as u64)
    }

    fn fills_canvas(&self) -> bool {
        let Picture { width, height, frame, .. } = self.picture;
        (frame.width, frame.height) == (width, height)
    }

    fn frame_channels(&self) -> u64 {
        match self.picture.frame.coded {
            Coded::Lossy { alpha: None, .. } | Coded::Lossless { alpha: false, .. } => 3,
            Coded::Lossy { alpha: Some(_), .. } | Coded::Lossless { alpha: true, .. } => 4,
        }
    }

    pub fn decode(self) -> Result<Decoded, PictureError> {
        let Picture { alpha, frame, .. } = self.picture;
        let channels = self.frame_channels() as usize;
        let mut data = vec![0; frame.width as usize * frame.height as usize * channels];
        let mut decoder = WebPDecoder::new(Cursor::new(alone(&frame))).map_err(failed)?;
        if decoder.dimensions() != (frame.width, frame.height) || decoder.output_buffer_size() != Some(data.len()) {
            return Err(failed("its frame is not what its header says"));
        }
        decoder.read_image(&mut data).map_err(failed)?;
        let wanted = self.pixel_bytes() as usize;
        if !self.fills_canvas() || channels != wanted {
            data = self.on_canvas(&data, channels, wanted);
        }
        let samples = if alpha { Samples::Rgba(data) } else { Samples::Rgb { data, transparent: None } };
        Ok(Decoded::whole((self.size, samples)))
    }

    /// What the frame does not cover is see-through; a frame without alpha is opaque.
    fn on_canvas(&self, data: &[u8], channels: usize, wanted: usize) -> Vec<u8> {
        let frame = self.picture.frame;
        let stride = self.size.width as usize * wanted;
        let mut canvas = vec![0; stride * self.size.height as usize];
        let rows = data.chunks_exact(frame.width as usize * channels);
        for (row, line) in rows.zip(canvas.chunks_exact_mut(stride).skip(frame.top as usize)) {
            let line = line[frame.left as usize * wanted..].chunks_exact_mut(wanted);
            for (pixel, out) in row.chunks_exact(channels).zip(line) {
                out[..3].copy_from_slice(&pixel[..3]);
                if let Some(alpha) = out.get_mut(3) {
                    *alpha = pixel.get(3).copied().unwrap_or(255);
                }
            }
        }
        canvas
    }
}

/// From its transforms on: of a lossless frame, or of the alpha of a lossy one. What is wrong with the byte before that
/// is the decoder's to say.
fn lossless_stream(coded: Coded<'_>) -> Option<&[u8]> {
    match coded {
        Coded::Lossless { body, .. } => body.get(5..),
        Coded::Lossy { alpha: Some([how, stream @ ..]), .. } if how & 3 == 1 => Some(stream),
        Coded::Lossy { .. } => None,
    }
}

/// A file of this frame and nothing else.
fn alone(frame: &Frame<'_>) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WEBP".to_vec();
    let mut chunk = |kind: &[u8; 4], body: &[u8]| {
        file.extend_from_slice(kind);
        file.extend_from_slice(&(body.len() as u32).to_le_bytes());
        file.extend_from_slice(body);
        file.resize(file.len().next_multiple_of(2), 0);
    };
    match frame.coded {
        Coded::Lossless { body, .. } => chunk(b"VP8L", body),
        Coded::Lossy { body, alpha: None } => chunk(b"VP8 ", body),
        Coded::Lossy { body, alpha: Some(alpha) } => {
            let side = |side: u32| (side - 1).to_le_bytes();
            let ([w0, w1, w2, _], [h0, h1, h2, _]) = (side(frame.width), side(frame.height));
            chunk(b"VP8X", &[0x10, 0, 0, 0, w0, w1, w2, h0, h1, h2]);
            chunk(b"ALPH", alpha);
            chunk(b"VP8 ", body);
        }
    }
    let length = (file.len() - 8) as u32;
    file[4..8].copy_from_slice(&length.to_le_bytes());
    file
}

fn failed(error: impl std::fmt::Display) -> PictureError {
    PictureError::undecodable(Format::WebP, error)
}
