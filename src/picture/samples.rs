//! Pixels as they are decoded, in the modes in which PIL opens a file.

use super::area::Region;

/// Rows from the top, pixels from the left, channels interleaved. PIL's name of each mode in brackets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Samples {
    /// `1`: 0 or 255 per pixel.
    Bilevel { data: Vec<u8>, transparent: Option<u8> },
    /// `L`. A pixel equal to `transparent` is see-through; it matters only where a background is asked for.
    Grey { data: Vec<u8>, transparent: Option<u8> },
    /// `I;16`
    Grey16 { data: Vec<u16>, transparent: Option<u8> },
    /// `I`
    Int(Vec<i32>),
    /// `F`
    Float(Vec<f32>),
    /// `LA`
    GreyAlpha(Vec<u8>),
    /// `RGB`
    Rgb { data: Vec<u8>, transparent: Option<[u8; 3]> },
    /// `RGBA`
    Rgba(Vec<u8>),
    /// `YCbCr`
    YCbCr(Vec<u8>),
    /// `P`: indices into `palette`, which has 256 RGBA entries; what the file leaves out is opaque black.
    Indexed { data: Vec<u8>, palette: Box<[[u8; 4]; 256]> },
    /// `CMYK`, 255 = full ink.
    Cmyk(Vec<u8>),
}

impl Samples {
    pub(super) fn channels(&self) -> usize {
        match self {
            Self::Bilevel { .. } | Self::Grey { .. } | Self::Grey16 { .. } | Self::Indexed { .. } => 1,
            Self::Int(_) | Self::Float(_) => 1,
            Self::GreyAlpha(_) => 2,
            Self::Rgb { .. } | Self::YCbCr(_) => 3,
            Self::Rgba(_) | Self::Cmyk(_) => 4,
        }
    }

    /// Number of samples.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bilevel { data, .. } | Self::Grey { data, .. } | Self::Indexed { data, .. } => data.len(),
            Self::GreyAlpha(data)
            | Self::YCbCr(data)
            | Self::Rgb { data, .. }
            | Self::Rgba(data)
            | Self::Cmyk(data) => data.len(),
            Self::Grey16 { data, .. } => data.len(),
            Self::Int(data) => data.len(),
            Self::Float(data) => data.len(),
        }
    }

    /// `part` of a picture of which these are the part `held`.
    pub fn part(&self, held: Region, part: Region) -> Self {
        fn cut<T: Copy>(data: &[T], channels: usize, held: Region, part: Region) -> Vec<T> {
            let mut out = Vec::with_capacity(part.width * part.height * channels);
            let left = (part.left - held.left) * channels;
            let rows = data.chunks_exact(held.width * channels).skip(part.top - held.top).take(part.height);
            rows.for_each(|row| out.extend_from_slice(&row[left..left + part.width * channels]));
            out
        }
        let bytes = |data: &[u8]| cut(data, self.channels(), held, part);
        match self {
            Self::Bilevel { data, transparent } => Self::Bilevel { data: bytes(data), transparent: *transparent },
            Self::Grey { data, transparent } => Self::Grey { data: bytes(data), transparent: *transparent },
            Self::Grey16 { data, transparent } => {
                Self::Grey16 { data: cut(data, 1, held, part), transparent: *transparent }
            }
            Self::Int(data) => Self::Int(cut(data, 1, held, part)),
            Self::Float(data) => Self::Float(cut(data, 1, held, part)),
            Self::GreyAlpha(data) => Self::GreyAlpha(bytes(data)),
            Self::Rgb { data, transparent } => Self::Rgb { data: bytes(data), transparent: *transparent },
            Self::Rgba(data) => Self::Rgba(bytes(data)),
            Self::Indexed { data, palette } => Self::Indexed { data: bytes(data), palette: palette.clone() },
            Self::YCbCr(data) => Self::YCbCr(bytes(data)),
            Self::Cmyk(data) => Self::Cmyk(bytes(data)),
        }
    }
}

/// An opaque palette from `colors` of three bytes; entries beyond it are black, as in PIL.
pub(super) fn opaque_palette(colors: &[u8]) -> Box<[[u8; 4]; 256]> {
    let mut palette = Box::new([[0, 0, 0, 255]; 256]);
    for (entry, color) in palette.iter_mut().zip(colors.chunks_exact(3)) {
        entry[..3].copy_from_slice(color);
    }
    palette
}
