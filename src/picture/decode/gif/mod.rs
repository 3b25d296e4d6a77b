//! The first frame of a GIF, as palette indices. Nothing behind its last pixel is looked at.

mod lzw;

use super::{Checked, Decoded, Limit, PictureError, Samples, opaque_palette};
use crate::picture::format::Format;
use lzw::Codes;

/// All that comes before the first frame's pixels.
#[derive(Debug)]
pub(super) struct Header<'a> {
    /// Of the screen; a frame that sticks out makes it larger, as in PIL.
    pub size: Checked,
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    interlaced: bool,
    /// `None`: each index is its own grey, as in PIL if no palette is needed or the file has no palette.
    palette: Option<&'a [u8]>,
    transparent: Option<u8>,
    /// From the smallest code's size on.
    data: &'a [u8],
}

impl<'a> Header<'a> {
    pub fn read(bytes: &'a [u8], limit: Limit) -> Result<Self, PictureError> {
        let mut input = Input(bytes.get(6..).unwrap_or_default());
        let (screen_width, screen_height) = (input.number()?, input.number()?);
        let [flags, _background, _aspect] = input.take()?;
        let global = if flags & 0x80 == 0 { None } else { Some(input.palette(flags)?) };
        let mut transparent = None;
        loop {
            let [kind] = input.take()?;
            match kind {
                b'!' => {
                    let [label] = input.take()?;
                    let control = input.block()?;
                    // Graphic control: flags, delay, transparent index.
                    if let (0xF9, &[flags, _, _, index, ..]) = (label, control)
                        && flags & 1 == 1
                    {
                        transparent = Some(index);
                    }
                    let mut block = control;
                    while !block.is_empty() {
                        block = input.block()?;
                    }
                }
                b',' => break,
                b';' => return Err(failed("it has no frame")),
                // PIL skips what it does not know.
                _ => {}
            }
        }
        let [left, top, width, height] = [input.number()?, input.number()?, input.number()?, input.number()?];
        let [flags] = input.take()?;
        let local = if flags & 0x80 == 0 { None } else { Some(input.palette(flags)?) };
        let screen = (screen_width.max(left + width), screen_height.max(top + height));
        let size = limit.check(Format::Gif, screen.0 as u64, screen.1 as u64)?;
        if width == 0 || height == 0 {
            return Err(failed(format_args!("its first frame is {width} x {height} pixels")));
        }
        let palette = local.or(global).filter(|colors| !is_grey_ramp(colors));
        Ok(Self { size, left, top, width, height, interlaced: flags & 0x40 != 0, palette, transparent, data: input.0 })
    }

    pub fn decode(self) -> Result<Decoded, PictureError> {
        let stride = self.size.width as usize;
        let mut data = vec![self.transparent.unwrap_or(0); self.size.pixels()];
        let rows = rows(self.height, self.interlaced);
        let mut codes =
            Codes::new(self.data).ok_or_else(|| failed("its pixels have codes of a size that there is not"))?;
        for y in rows {
            let start = (self.top + y) * stride + self.left;
            codes.fill(&mut data[start..start + self.width]).map_err(failed)?;
        }
        let samples = match self.palette {
            Some(colors) => {
                let mut palette = opaque_palette(colors);
                if let Some(index) = self.transparent {
                    palette[usize::from(index)][3] = 0;
                }
                Samples::Indexed { data, palette }
            }
            None => Samples::Grey { data, transparent: self.transparent },
        };
        Ok(Decoded::whole((self.size, samples)))
    }
}

/// Rows in the order of the file.
fn rows(height: usize, interlaced: bool) -> Vec<usize> {
    let passes: &[(usize, usize)] = if interlaced { &[(0, 8), (4, 8), (2, 4), (1, 2)] } else { &[(0, 1)] };
    passes.iter().flat_map(|&(first, step)| (first..height).step_by(step)).collect()
}

fn is_grey_ramp(colors: &[u8]) -> bool {
    colors.chunks_exact(3).enumerate().all(|(i, color)| color.iter().all(|&c| usize::from(c) == i))
}

/// What is left of the file.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], PictureError> {
        let (&taken, rest) = self.0.split_first_chunk().ok_or_else(cut_off)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<usize, PictureError> {
        Ok(usize::from(u16::from_le_bytes(self.take()?)))
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], PictureError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(cut_off)?;
        self.0 = rest;
        Ok(taken)
    }

    fn palette(&mut self, flags: u8) -> Result<&'a [u8], PictureError> {
        self.bytes(3 << ((flags & 7) + 1))
    }

    /// Empty for the last one.
    fn block(&mut self) -> Result<&'a [u8], PictureError> {
        let [length] = self.take()?;
        self.bytes(usize::from(length))
    }
}

fn cut_off() -> PictureError {
    failed("the file is cut off before its pixels")
}

fn failed(detail: impl std::fmt::Display) -> PictureError {
    PictureError::undecodable(Format::Gif, detail)
}
