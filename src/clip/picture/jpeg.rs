//! JPEG, by libjpeg-turbo as in PIL: accurate integer transform, smooth chroma upsampling. Baseline, progressive and
//! arithmetic-coded files, 8 bits per sample; every subsampling. In fast mode ordinary files go to [`reduced`] instead.

use turbojpeg::PixelFormat;

use super::sniff::Format;
use super::turbo::{Colors, Decoder, Header, Part};
use super::{Decoded, Limit, PictureError, Samples, Turn, buffer, reduced};
use crate::clip::area::{Region, Size};
use crate::clip::preprocess::Need;

/// Smooth upsampling looks at the neighbour of a chroma sample. What is cut off misses it, so this many blocks around
/// the needed part are decoded too.
const MARGIN_BLOCKS: usize = 1;

const CUT_OFF: &str = "the file is cut off: it has no end-of-image marker";

/// Reductions that the decoder has fast code for.
const REDUCTIONS: [usize; 4] = [8, 4, 2, 1];

pub(super) fn decode(bytes: &[u8], limit: Limit, turn: Turn, need: Need<'_>) -> Result<Decoded, PictureError> {
    let failed = |error: String| PictureError::undecodable(Format::Jpeg, error);
    let decoder = Decoder::new(limit.bytes()).map_err(failed)?;
    let header = decoder.header(bytes).map_err(failed)?;
    let stored = header.size;
    let size = limit.check(Format::Jpeg, stored.width as u64, stored.height as u64)?;
    if header.precision != 8 {
        return Err(PictureError::unsupported(format_args!("a JPEG picture of {} bits per sample", header.precision)));
    }
    if !is_complete(bytes) {
        return Err(failed(CUT_OFF.to_owned()));
    }

    let reduction = if header.lossless { 1 } else { reduction(need.reduction(turn.size(stored))) };
    let reduced = |side: usize| side.div_ceil(reduction);
    let whole = Size { width: reduced(stored.width), height: reduced(stored.height) };
    let needed = turn.stored_region(whole, need.region(turn.size(stored), turn.size(whole)));
    let (format, channels) = match header.colors {
        Colors::Grey => (PixelFormat::GRAY, 1),
        Colors::Rgb | Colors::YCbCr => (PixelFormat::RGB, 3),
        Colors::Cmyk => (PixelFormat::CMYK, 4),
    };
    let fill = |region: Option<Region>| {
        let held = region.unwrap_or(whole.whole());
        let mut data = buffer::take(held.width * held.height * channels);
        let warning = decoder.decode(bytes, Part { reduction, whole, region }, format, &mut data)?;
        // A part of the data may be damaged, as in PIL, but not missing.
        if warning.is_some_and(|warning| warning.contains("Premature end of JPEG file")) {
            return Err(CUT_OFF.to_owned());
        }
        Ok((held, data))
    };
    let quick = matches!(header.colors, Colors::Grey | Colors::YCbCr) && header.block.is_some() && reduction >= 4;
    let small = if quick { reduced::decode(bytes, stored, reduction, needed) } else { None };
    let (held, mut data) = match (small, cut(&header, reduction, whole, needed)) {
        (Some(data), _) => Ok((needed, data)),
        // Rare sampling factors look like common ones and cannot be cut after all.
        (None, Some(region)) => fill(Some(region)).or_else(|_| fill(None)),
        (None, None) => fill(None),
    }
    .map_err(failed)?;
    let samples = match header.colors {
        Colors::Grey => Samples::Grey { data, transparent: None },
        Colors::Rgb | Colors::YCbCr => Samples::Rgb { data, transparent: None },
        // PIL takes every CMYK JPEG for Adobe's, which stores inks inverted, marked or not.
        Colors::Cmyk => {
            data.iter_mut().for_each(|ink| *ink = 255 - *ink);
            Samples::Cmyk(data)
        }
    };
    Ok(Decoded { size, samples, whole, held })
}

/// The largest of the decoder's reductions that is not above `wanted`.
fn reduction(wanted: usize) -> usize {
    REDUCTIONS.into_iter().find(|reduction| *reduction <= wanted).unwrap_or(1)
}

/// `needed` with its margin, its left and top at a block's edge; none where that is the whole picture or cannot be cut.
fn cut(header: &Header, reduction: usize, whole: Size, needed: Region) -> Option<Region> {
    let block = header.block?;
    let (width, height) = (block.width.div_ceil(reduction), block.height.div_ceil(reduction));
    let before = |at: usize, block: usize| (at / block).saturating_sub(MARGIN_BLOCKS) * block;
    let (left, top) = (before(needed.left, width), before(needed.top, height));
    let right = (needed.right() + MARGIN_BLOCKS * width).min(whole.width);
    let bottom = (needed.bottom() + MARGIN_BLOCKS * height).min(whole.height);
    let region = Region { left, top, width: right - left, height: bottom - top };
    (region != whole.whole()).then_some(region)
}

/// Whether an end-of-image marker follows the first scan. The decoder would make up what is missing; PIL, and we,
/// refuse a file that is cut off. Markers are walked up to the scan, because a thumbnail inside has its own end.
fn is_complete(bytes: &[u8]) -> bool {
    let mut segments = segments(bytes);
    match segments.find(|(kind, _)| matches!(kind, 0xD9 | 0xDA)) {
        // From the back, where the marker is in an intact file.
        Some((0xDA, body)) => body.windows(2).rev().any(|pair| pair == [0xFF, 0xD9]),
        found => found.is_some(),
    }
}

/// Marker segments from the start of the file: kind and body. That of a scan (0xDA) is all that follows; the walk ends
/// there, at the end of the image, and where the file is damaged.
pub(super) fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = bytes.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        loop {
            match *rest {
                // Markers without a body, and an escaped 0xFF astray.
                [0xFF, 0x00 | 0x01 | 0xD0..=0xD8, ..] => rest = &rest[2..],
                [0xFF, kind @ (0xD9 | 0xDA), ..] => {
                    let body = &rest[2..];
                    rest = &[];
                    return Some((kind, body));
                }
                // Fill bytes.
                [0xFF, 0xFF, ..] => rest = &rest[1..],
                [0xFF, kind, high, low, ..] => {
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    let body = rest.get(4..2 + length);
                    rest = rest.get(2 + length..).unwrap_or_default();
                    return Some((kind, body?));
                }
                // Stray bytes between segments: libjpeg skips them.
                [_, _, ..] => rest = &rest[1..],
                _ => return None,
            }
        }
    })
}
