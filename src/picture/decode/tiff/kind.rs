//! Which pictures a TIFF may hold, as PIL knows them (`TiffImagePlugin.OPEN_INFO`).

use super::directory::{
    BITS, BLACK_AND_WHITE, COEFFICIENTS, COMPRESSION, Directory, EXTRA_SAMPLES, FILL_ORDER, PHOTOMETRIC, PLANES,
    SAMPLE_FORMAT, SAMPLES, SUBSAMPLING,
};
use crate::picture::decode::rows::Order;

/// What the pixels become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Bilevel,
    Grey,
    Grey16,
    /// Whole numbers of 16 or 32 bits.
    Int,
    /// Numbers of 32 bits with a fraction.
    Float,
    GreyAlpha,
    Rgb,
    Rgba,
    Indexed,
    Cmyk,
    /// In JPEG: its decoder gives RGB.
    YCbCrJpeg,
    /// Uncompressed: PIL resizes it as it is.
    YCbCr,
    /// Compressed otherwise: libtiff gives RGB.
    YCbCrPacked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub mode: Mode,
    /// Bits per sample.
    pub bits: usize,
    /// Samples per pixel that are stored.
    pub stored: usize,
    /// White is 0.
    pub inverted: bool,
    /// Colours are multiplied by alpha.
    pub premultiplied: bool,
    /// Of whole numbers.
    pub signed: bool,
    /// The lowest bit of a byte is the first one.
    pub reversed: bool,
    /// Each sample of all pixels before the next one.
    pub planar: bool,
}

impl Kind {
    /// `None` for kinds that PIL does not open, and for the few that it cannot convert to RGB by itself.
    pub fn of(directory: &Directory) -> Option<Self> {
        const UNSPECIFIED: u64 = 0;
        const PREMULTIPLIED: u64 = 1;
        const ALPHA: u64 = 2;
        /// What Corel Draw 10 writes.
        const COREL: u64 = 999;
        let first = |tag, default| directory.first(tag).unwrap_or(default);
        let photometric = first(PHOTOMETRIC, 0);
        let format = match directory.numbers(SAMPLE_FORMAT) {
            [] => 1,
            [format, rest @ ..] if rest.iter().all(|other| other == format) => *format,
            _ => return None,
        };
        let planar = first(PLANES, 1) == 2;
        let mut extra = directory.numbers(EXTRA_SAMPLES);
        let mut stored = usize::try_from(first(SAMPLES, 1)).ok()?;
        let mut bits = if directory.numbers(BITS).is_empty() { &[1][..] } else { directory.numbers(BITS) };
        if planar && !extra.is_empty() && extra.iter().all(|kind| *kind == UNSPECIFIED) {
            // Planes without a meaning at the end are not read.
            bits = &bits[..bits.len().saturating_sub(extra.len())];
            stored = stored.checked_sub(extra.len())?;
            extra = &[];
        }
        if stored < bits.len() {
            bits = &bits[..stored];
        }
        let depth = *bits.first()?;
        if bits.iter().any(|bits| *bits != depth) || (bits.len() != stored && bits.len() != 1) {
            return None;
        }
        let order = first(FILL_ORDER, 1);
        let little = directory.order == Order::Little;
        let plain = Self {
            mode: Mode::Grey,
            bits: usize::try_from(depth).ok()?,
            stored,
            inverted: false,
            premultiplied: false,
            signed: format == 2,
            reversed: order == 2,
            planar: planar && stored > 1,
        };
        let rest_is_nothing = extra.iter().skip(1).all(|kind| *kind == UNSPECIFIED);
        let mode = match (photometric, format, depth, stored, extra) {
            (0 | 1, 1, 1, 1, []) => Mode::Bilevel,
            (0 | 1, 1, 2 | 4 | 8, 1, []) | (1, 2, 8, 1, []) | (6, 1, 8, 1, []) => Mode::Grey,
            (0 | 1, 1, 16, 1, []) if little || photometric == 1 => Mode::Grey16,
            (1, 1, 12, 1, []) if little => Mode::Grey16,
            (1, 2, 16 | 32, 1, []) => Mode::Int,
            (1, 1, 32, 1, []) if little => Mode::Int,
            (0 | 1, 3, 32, 1, []) => Mode::Float,
            (1, 1, 8, 2, [UNSPECIFIED]) => Mode::Grey,
            (1, 1, 8, 2, [ALPHA]) => Mode::GreyAlpha,
            (2, 1, 8 | 16, 3, []) => Mode::Rgb,
            (2, 1, 8 | 16, 4, []) => Mode::Rgba,
            (2, 1, 8, 4..=6, [UNSPECIFIED, ..]) | (2, 1, 16, 4, [UNSPECIFIED])
                if rest_is_nothing && stored == 3 + extra.len() =>
            {
                Mode::Rgb
            }
            (2, 1, 8, 4..=6, [PREMULTIPLIED | ALPHA, ..]) | (2, 1, 16, 4, [PREMULTIPLIED | ALPHA])
                if rest_is_nothing && stored == 3 + extra.len() =>
            {
                Mode::Rgba
            }
            (2, 1, 8, 4, [COREL]) => Mode::Rgba,
            (3, 1, 1 | 2 | 4 | 8, 1, []) | (3, 1, 8, 2, [UNSPECIFIED]) => Mode::Indexed,
            (5, 1, 8 | 16, 4, []) => Mode::Cmyk,
            (5, 1, 8, 5..=6, [UNSPECIFIED, ..]) if rest_is_nothing && stored == 4 + extra.len() => Mode::Cmyk,
            (6, 1, 8, 3, []) => match first(COMPRESSION, 1) {
                7 => Mode::YCbCrJpeg,
                // Only libtiff recognises subsampled chroma.
                1 if !planar => Mode::YCbCr,
                _ if !planar && is_plain_ycbcr(directory) => Mode::YCbCrPacked,
                _ => return None,
            },
            _ => return None,
        };
        // Of planes whose fourth is not explained, libtiff, and so PIL, believes the same where they are compressed.
        let is_guessed = plain.planar && extra.is_empty() && first(COMPRESSION, 1) != 1;
        let premultiplied = mode == Mode::Rgba && (extra.first() == Some(&PREMULTIPLIED) || is_guessed);
        // PIL does not turn 16 bits or fractions around.
        let inverted = photometric == 0 && matches!(mode, Mode::Bilevel | Mode::Grey);
        Some(Self { mode, premultiplied, inverted, ..plain })
    }

    /// Bytes per pixel of what is decoded.
    pub fn pixel_bytes(self) -> u64 {
        match self.mode {
            Mode::Bilevel | Mode::Grey | Mode::Indexed => 1,
            Mode::Grey16 | Mode::GreyAlpha => 2,
            Mode::Rgb | Mode::YCbCr | Mode::YCbCrJpeg | Mode::YCbCrPacked => 3,
            Mode::Rgba | Mode::Cmyk | Mode::Int | Mode::Float => 4,
        }
    }

    /// Samples per pixel that are kept, of those that are single bytes.
    pub fn kept(self) -> usize {
        match self.mode {
            Mode::GreyAlpha => 2,
            Mode::Rgb | Mode::YCbCr | Mode::YCbCrJpeg | Mode::YCbCrPacked => 3,
            Mode::Rgba | Mode::Cmyk => 4,
            _ => 1,
        }
    }
}

/// Chroma of every pixel, in the numbers of TIFF 6.0 (section 21).
fn is_plain_ycbcr(directory: &Directory) -> bool {
    let are = |tag, expected: &[f64]| {
        let numbers = directory.numbers(tag).as_chunks::<2>().0;
        let is = |([above, below], expected): (&[u64; 2], &f64)| *above as f64 / *below as f64 == *expected;
        numbers.is_empty() || (numbers.len() == expected.len() && numbers.iter().zip(expected).all(is))
    };
    directory.numbers(SUBSAMPLING) == [1, 1]
        && are(BLACK_AND_WHITE, &[0.0, 255.0, 128.0, 255.0, 128.0, 255.0])
        && are(COEFFICIENTS, &[0.299, 0.587, 0.114])
}
