//! JPEG, by libjpeg-turbo as in PIL: accurate integer transform, smooth chroma upsampling. Baseline, progressive and
//! arithmetic-coded files, 8 bits per sample; every subsampling.

use std::borrow::Cow;

use turbojpeg::PixelFormat;

use super::jpeg_segments::segments;
use super::turbo::{self, Colors, Decoder, Part};
use super::{Checked, Decoded, ExifOrientation, Limit, PictureError, Samples, buffer};
use crate::picture::area::{Region, Size};
use crate::picture::format::Format;
use crate::picture::need::Need;

/// Smooth upsampling looks at the neighbour of a chroma sample. What is cut off misses it, so this many blocks around
/// the needed part are decoded too.
const MARGIN_BLOCKS: usize = 1;

/// Rows of the picture that the library holds of each channel, before and after chroma is spread.
const ROWS_HELD: u64 = 64;

/// The library's tables, for any picture.
const LIBRARY_BYTES: u64 = 1024 * 1024;

const CUT_OFF: &str = "the file is cut off: it has no end-of-image marker";

/// Reductions that the decoder has fast code for.
const REDUCTIONS: [usize; 4] = [8, 4, 2, 1];

/// The part of a file that says how it is decoded.
pub(super) struct Header<'a> {
    pub size: Checked,
    bytes: Cow<'a, [u8]>,
    decoder: Decoder,
    header: turbo::Header,
    /// What the library keeps of a file whose scans have each a part of every pixel.
    coefficient_bytes: u64,
    /// Its end is missing: only a file whose pixels are all there is decoded.
    has_no_end: bool,
}

impl<'a> Header<'a> {
    pub fn read(bytes: &'a [u8], limit: Limit) -> Result<Self, PictureError> {
        let decoder = Decoder::new().map_err(failed)?;
        let header = decoder.header(bytes).map_err(failed)?;
        let size = limit.check(Format::Jpeg, header.size.width as u64, header.size.height as u64)?;
        if header.precision != 8 {
            return Err(PictureError::unsupported(format_args!(
                "a JPEG picture of {} bits per sample",
                header.precision
            )));
        }
        let coefficient_bytes = coefficient_bytes(bytes);
        let has_no_end = !is_complete(bytes);
        if has_no_end && coefficient_bytes > 0 {
            return Err(failed(CUT_OFF.to_owned()));
        }
        let bytes = if has_no_end { Cow::Owned([bytes, &[0xFF, 0xD9]].concat()) } else { Cow::Borrowed(bytes) };
        Ok(Self { size, bytes, decoder, header, coefficient_bytes, has_no_end })
    }

    pub fn channels(&self) -> u64 {
        match self.header.colors {
            Colors::Grey => 1,
            Colors::Rgb | Colors::YCbCr => 3,
            Colors::Cmyk => 4,
        }
    }

    fn reduction(&self, orientation: ExifOrientation, need: &dyn Need) -> usize {
        if self.header.lossless { 1 } else { reduction(need.reduction(orientation.size(self.header.size))) }
    }

    /// Sides of what is decoded at most.
    pub fn whole(&self, orientation: ExifOrientation, need: &dyn Need) -> Size {
        let (reduction, stored) = (self.reduction(orientation, need), self.header.size);
        Size { width: stored.width.div_ceil(reduction), height: stored.height.div_ceil(reduction) }
    }

    /// Bytes that are held at once while it is decoded, what is made of it included.
    pub fn decode_bytes(&self, orientation: ExifOrientation, need: &dyn Need) -> u64 {
        let whole = self.whole(orientation, need);
        let pixels = whole.width as u64 * whole.height as u64;
        let owned = if self.has_no_end { self.bytes.len() as u64 } else { 0 };
        pixels * self.channels() + self.coefficient_bytes + self.row_bytes() + owned
    }

    /// Rows of blocks, before and after they are spread.
    fn row_bytes(&self) -> u64 {
        self.header.size.width as u64 * self.channels() * ROWS_HELD
    }

    pub fn decode(self, orientation: ExifOrientation, need: &dyn Need) -> Result<Decoded, PictureError> {
        let (size, header, stored) = (self.size, &self.header, self.header.size);
        let (bytes, decoder) = (&*self.bytes, &self.decoder);
        decoder.limit_memory(self.coefficient_bytes + self.row_bytes() + LIBRARY_BYTES).map_err(failed)?;
        let (reduction, whole) = (self.reduction(orientation, need), self.whole(orientation, need));
        let needed = orientation.stored_region(whole, need.region(orientation.size(stored), orientation.size(whole)));
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
            match warning {
                // Bytes between the last pixel and the end marker do not belong to the picture.
                Some(warning) if self.has_no_end && !warning.contains("extraneous bytes before marker 0xd9") => {
                    Err(CUT_OFF.to_owned())
                }
                Some(warning) if warning.contains("Premature end of JPEG file") => Err(CUT_OFF.to_owned()),
                _ => Ok((held, data)),
            }
        };
        // Where the end is missing, all of it is looked at.
        let part = if self.has_no_end { None } else { cut(header, reduction, whole, needed) };
        let (held, mut data) = match part {
            // Rare sampling factors look like common ones and cannot be cut after all.
            Some(region) => fill(Some(region)).or_else(|_| fill(None)),
            None => fill(None),
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
}

fn failed(error: String) -> PictureError {
    PictureError::undecodable(Format::Jpeg, error)
}

/// What libjpeg keeps of a picture that it cannot decode row by row: two bytes for each sample of each block.
pub(super) fn coefficient_bytes(bytes: &[u8]) -> u64 {
    let (mut frame, mut scanned) = (None, 0);
    for (kind, body) in segments(bytes) {
        match kind {
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => frame = frame.or(Some((kind, body))),
            // The body of a scan begins with its length.
            0xDA => scanned = body.get(2).copied().map_or(0, usize::from),
            _ => {}
        }
    }
    let Some((kind, &[_, h1, h0, w1, w0, count, ref components @ ..])) = frame else { return 0 };
    let is_progressive = matches!(kind, 0xC2 | 0xC6 | 0xCA | 0xCE);
    if !is_progressive && scanned >= usize::from(count) {
        return 0;
    }
    let factors =
        components.chunks_exact(3).map(|component| (u64::from(component[1] >> 4), u64::from(component[1] & 15)));
    let (across, down) = factors.clone().fold((1, 1), |(across, down), (a, d)| (a.max(across), d.max(down)));
    let blocks = |side: u16, most: u64| u64::from(side).div_ceil(8 * most);
    let (height, width) = (u16::from_be_bytes([h1, h0]), u16::from_be_bytes([w1, w0]));
    let units = blocks(width, across) * blocks(height, down);
    factors.map(|(a, d)| units * a * d * 128).sum()
}

/// How the samples of a TIFF's strip become pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StripColors {
    YCbCr,
    AsStored,
}

/// A strip or tile of a TIFF, `sides` wide and high, with that number of channels: a file of its own, whose tables may be apart.
/// What its own markers say about colours does not count: the TIFF's directory does.
pub(super) fn strip(
    tables: &[u8],
    data: &[u8],
    channels: usize,
    colors: StripColors,
    sides: (usize, usize),
) -> Result<Vec<u8>, String> {
    let mut file = vec![0xFF, 0xD8];
    let mut add = |bytes: &[u8]| {
        for (kind, body) in segments(bytes) {
            match kind {
                0xE0..=0xEF | 0xD9 => {}
                0xDA => {
                    // Adobe's marker: its length, name, version, two flags, and how colours are transformed.
                    let transform = u8::from(colors == StripColors::YCbCr);
                    file.extend_from_slice(b"\xFF\xEE\0\x0EAdobe\0\x64\0\0\0\0");
                    file.extend_from_slice(&[transform, 0xFF, 0xDA]);
                    file.extend_from_slice(body);
                }
                kind => {
                    file.extend_from_slice(&[0xFF, kind]);
                    file.extend_from_slice(&(body.len() as u16 + 2).to_be_bytes());
                    file.extend_from_slice(body);
                }
            }
        }
    };
    add(tables);
    add(data);
    let (decoder, (width, height)) = (Decoder::new()?, sides);
    let header = decoder.header(&file)?;
    let (format, found) = match header.colors {
        Colors::Grey => (PixelFormat::GRAY, 1),
        Colors::Rgb | Colors::YCbCr => (PixelFormat::RGB, 3),
        Colors::Cmyk => (PixelFormat::CMYK, 4),
    };
    if found != channels || header.precision != 8 {
        return Err(format!("a strip has {found} channels of {} bits", header.precision));
    }
    let size = header.size;
    if size.width != width || size.height > height {
        let found = format!("{} x {}", size.width, size.height);
        return Err(format!("a strip of {width} x {height} pixels holds a JPEG of {found}"));
    }
    decoder.limit_memory(coefficient_bytes(&file) + (width * channels) as u64 * ROWS_HELD + LIBRARY_BYTES)?;
    let mut out = vec![0; size.width * size.height * channels];
    decoder.decode(&file, Part { reduction: 1, whole: size, region: None }, format, &mut out)?;
    Ok(out)
}

/// The largest of the decoder's reductions that is not above `wanted`.
fn reduction(wanted: usize) -> usize {
    REDUCTIONS.into_iter().find(|reduction| *reduction <= wanted).unwrap_or(1)
}

/// `needed` with its margin, its left and top at a block's edge; `None` if that is the whole picture or cannot be cut.
fn cut(header: &turbo::Header, reduction: usize, whole: Size, needed: Region) -> Option<Region> {
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
/// refuse a file whose pixels are cut off. Markers are walked up to the scan, because a thumbnail inside has its own end.
fn is_complete(bytes: &[u8]) -> bool {
    let mut segments = segments(bytes);
    match segments.find(|(kind, _)| matches!(kind, 0xD9 | 0xDA)) {
        // From the back, where the marker is in an intact file.
        Some((0xDA, body)) => body.windows(2).rev().any(|pair| pair == [0xFF, 0xD9]),
        found => found.is_some(),
    }
}
