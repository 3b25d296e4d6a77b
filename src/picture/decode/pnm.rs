//! PBM, PGM and PPM, plain and raw, and grey PFM: netpbm's formats, as PIL reads them.

use super::rows::Layout;
use super::{Checked, Decoded, Limit, PictureError, Samples};
use crate::picture::format::Format;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// 1 = black.
    Bitmap,
    Grey,
    Rgb,
    Float,
}

#[derive(Debug)]
pub(super) struct Header<'a> {
    pub size: Checked,
    kind: Kind,
    /// In words instead of bytes.
    is_plain: bool,
    /// The value of white.
    most: u32,
    little: bool,
    data: &'a [u8],
}

/// Longest number that PIL reads.
const DIGITS_MAX: usize = 10;

/// The formats' white space, and what Python takes for it.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C)
}

/// Whether it begins as one of them: a name, then a blank.
pub(super) fn is_pnm(bytes: &[u8]) -> bool {
    matches!(bytes, [b'P', b'1'..=b'6' | b'f', blank, ..] if is_blank(*blank))
}

impl<'a> Header<'a> {
    pub fn read(bytes: &'a [u8], limit: Limit) -> Result<Self, PictureError> {
        let name = bytes.get(1).copied().unwrap_or(0);
        let (kind, is_plain) = match name {
            b'1' | b'4' => (Kind::Bitmap, name == b'1'),
            b'2' | b'5' => (Kind::Grey, name == b'2'),
            b'f' => (Kind::Float, false),
            _ => (Kind::Rgb, name == b'3'),
        };
        let mut words = Words { rest: bytes.get(3..).unwrap_or_default() };
        let (width, height) = (words.number()?, words.number()?);
        let size = limit.check(Format::Pnm, width, height)?;
        let (mut most, mut little) = (1, false);
        match kind {
            Kind::Bitmap => {}
            Kind::Float => {
                let scale: Option<f64> = std::str::from_utf8(words.word()?).ok().and_then(|word| word.parse().ok());
                let scale = scale.filter(|scale| scale.is_finite() && *scale != 0.0);
                little = scale.ok_or_else(|| failed("its scale is not a number"))? < 0.0;
            }
            Kind::Grey | Kind::Rgb => {
                most = u32::try_from(words.number()?).unwrap_or(0);
                if !(1..65_536).contains(&most) {
                    return Err(failed(format_args!("its largest value is {most}; there are 1 to 65535")));
                }
            }
        }
        Ok(Self { size, kind, is_plain, most, little, data: words.rest })
    }

    fn is_wide(&self) -> bool {
        self.kind == Kind::Grey && self.most > 255
    }

    pub fn pixel_bytes(&self) -> u64 {
        match self.kind {
            Kind::Bitmap => 1,
            Kind::Grey if !self.is_wide() => 1,
            Kind::Rgb => 3,
            Kind::Grey | Kind::Float => 4,
        }
    }

    pub fn decode(self) -> Result<Decoded, PictureError> {
        let pixels = self.size.pixels();
        let samples = match self.kind {
            Kind::Bitmap => Samples::Bilevel { data: self.bitmap()?, transparent: None },
            Kind::Float => Samples::Float(self.floats()?),
            Kind::Grey if self.is_wide() => {
                let mut data = Vec::with_capacity(pixels);
                self.values(pixels, 65_535, |value| data.push(value as i32))?;
                Samples::Int(data)
            }
            Kind::Grey => {
                let mut data = Vec::with_capacity(pixels);
                self.values(pixels, 255, |value| data.push(value as u8))?;
                Samples::Grey { data, transparent: None }
            }
            Kind::Rgb => {
                let mut data = Vec::with_capacity(3 * pixels);
                self.values(3 * pixels, 255, |value| data.push(value as u8))?;
                Samples::Rgb { data, transparent: None }
            }
        };
        Ok(Decoded::whole((self.size, samples)))
    }

    fn bitmap(&self) -> Result<Vec<u8>, PictureError> {
        let (width, pixels) = (self.size.width as usize, self.size.pixels());
        let mut data = vec![0; pixels];
        if self.is_plain {
            // Each digit is a pixel, with blanks between them or not.
            let mut digits = Words { rest: self.data };
            for out in &mut data {
                *out = match digits.digit()? {
                    b'0' => 255,
                    b'1' => 0,
                    other => return Err(failed(format_args!("a pixel is {}, not 0 or 1", other.escape_ascii()))),
                };
            }
            return Ok(data);
        }
        let layout = Layout::packed(1, 1);
        let rows = data.chunks_exact_mut(width).zip(self.data.chunks_exact(width.div_ceil(8)));
        if rows.len() < self.size.height as usize {
            return Err(cut_off());
        }
        rows.for_each(|(out, row)| layout.unpack(row, out));
        data.iter_mut().for_each(|bit| *bit = if *bit == 0 { 255 } else { 0 });
        Ok(data)
    }

    /// `count` values, from `0..=self.most` to `0..=white`.
    fn values(&self, count: usize, white: u32, mut each: impl FnMut(u32)) -> Result<(), PictureError> {
        let scaled = |value: u32| if self.most == white { value } else { scaled(value, self.most, white) };
        if self.is_plain {
            let mut words = Words { rest: self.data };
            for _ in 0..count {
                let value = words.number()?;
                match u32::try_from(value) {
                    Ok(value) if value <= self.most => each(scaled(value)),
                    _ => return Err(failed(format_args!("a value is {value}, more than its largest one"))),
                }
            }
            return Ok(());
        }
        let bytes = if self.most > 255 { 2 } else { 1 };
        let values = self.data.chunks_exact(bytes).take(count);
        if values.len() < count {
            return Err(cut_off());
        }
        values.for_each(|value| {
            let value = value.iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
            each(scaled(value).min(white));
        });
        Ok(())
    }

    /// From the bottom up.
    fn floats(&self) -> Result<Vec<f32>, PictureError> {
        let width = self.size.width as usize;
        let mut data = vec![0.0; self.size.pixels()];
        let rows = data.chunks_exact_mut(width).rev().zip(self.data.chunks_exact(4 * width));
        if rows.len() < self.size.height as usize {
            return Err(cut_off());
        }
        for (out, row) in rows {
            for (out, four) in out.iter_mut().zip(row.as_chunks().0) {
                *out = if self.little { f32::from_le_bytes(*four) } else { f32::from_be_bytes(*four) };
            }
        }
        Ok(data)
    }
}

/// As Python: `round(value / most * white)`, half to even.
fn scaled(value: u32, most: u32, white: u32) -> u32 {
    (f64::from(value) / f64::from(most) * f64::from(white)).round_ties_even() as u32
}

struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    /// The next word; comments run from `#` to the end of their line. The one blank behind it is taken, too.
    fn word(&mut self) -> Result<&'a [u8], PictureError> {
        self.skip();
        let length = self.rest.iter().position(|byte| is_blank(*byte) || *byte == b'#').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(length);
        if word.is_empty() {
            return Err(cut_off());
        }
        self.rest = if rest.first() == Some(&b'#') { rest } else { rest.get(1..).unwrap_or_default() };
        Ok(word)
    }

    fn number(&mut self) -> Result<u64, PictureError> {
        let word = self.word()?;
        let number = std::str::from_utf8(word).ok().filter(|word| word.len() <= DIGITS_MAX);
        number
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| failed("a number in it is not made of digits, or too long"))
    }

    fn digit(&mut self) -> Result<u8, PictureError> {
        self.skip();
        let (&digit, rest) = self.rest.split_first().ok_or_else(cut_off)?;
        self.rest = rest;
        Ok(digit)
    }

    /// Blanks and comments.
    fn skip(&mut self) {
        while let Some(&byte) = self.rest.first() {
            if byte == b'#' {
                let end = self.rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(self.rest.len());
                self.rest = &self.rest[end..];
            } else if is_blank(byte) {
                self.rest = &self.rest[1..];
            } else {
                return;
            }
        }
    }
}

fn cut_off() -> PictureError {
    failed("the file is cut off: it holds fewer pixels than its header says")
}

fn failed(detail: impl std::fmt::Display) -> PictureError {
    PictureError::undecodable(Format::Pnm, detail)
}
