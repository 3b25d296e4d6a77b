//! JPEG, close to what PIL makes of it with libjpeg-turbo: the colour conversion is libjpeg's own, inverse transform
//! and chroma upsampling are `zune-jpeg`'s and may be one level off (`tests.rs` holds the measured bounds).

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::sniff::Format;
use super::{Checked, Limit, PictureError, SIDE_MAX, Samples};

/// More scans than any encoder writes; every scan of a progressive file walks the whole picture again.
const SCANS_MAX: usize = 200;

pub(super) fn decode(bytes: &[u8], limit: Limit) -> Result<(Checked, Samples), PictureError> {
    let failed = |error| PictureError::undecodable(Format::Jpeg, error);
    let options = DecoderOptions::default()
        .set_max_width(SIDE_MAX as usize)
        .set_max_height(SIDE_MAX as usize)
        .jpeg_set_max_scans(SCANS_MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(failed)?;
    let (width, height) =
        decoder.dimensions().ok_or_else(|| PictureError::undecodable(Format::Jpeg, "it has no dimensions"))?;
    let size = limit.check(Format::Jpeg, width as u64, height as u64)?;
    if !is_complete(bytes) {
        return Err(PictureError::undecodable(Format::Jpeg, "the file is cut off: it has no end-of-image marker"));
    }
    // Asking for the file's own colour space leaves the conversion to us.
    let space = decoder
        .input_colorspace()
        .ok_or_else(|| PictureError::undecodable(Format::Jpeg, "its colour space is not known"))?;
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let mut data = decoder.decode().map_err(failed)?;
    let samples = match space {
        ColorSpace::Luma => Samples::Grey { data, transparent: None },
        ColorSpace::RGB => Samples::Rgb { data, transparent: None },
        ColorSpace::YCbCr => {
            data.as_chunks_mut().0.iter_mut().for_each(|pixel| *pixel = ycbcr_to_rgb(*pixel));
            Samples::Rgb { data, transparent: None }
        }
        // PIL takes every CMYK JPEG for Adobe's, which stores inks inverted, marked or not.
        ColorSpace::CMYK => {
            data.iter_mut().for_each(|ink| *ink = 255 - *ink);
            Samples::Cmyk(data)
        }
        // libjpeg: YCC to RGB, C = 255 - R and so on, K as it is; then PIL's inversion.
        ColorSpace::YCCK => {
            for [y, cb, cr, k] in data.as_chunks_mut().0 {
                [*y, *cb, *cr] = ycbcr_to_rgb([*y, *cb, *cr]);
                *k = 255 - *k;
            }
            Samples::Cmyk(data)
        }
        other => return Err(PictureError::unsupported(format_args!("a JPEG picture in colour space {other:?}"))),
    };
    Ok((size, samples))
}

/// `ycc_rgb_convert` of libjpeg (`jdcolor.c`): 16 fraction bits, rounded.
fn ycbcr_to_rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((91_881 * cr + HALF) >> 16);
    let green = y + ((-22_554 * cb - 46_802 * cr + HALF) >> 16);
    let blue = y + ((116_130 * cb + HALF) >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

/// Whether an end-of-image marker follows the first scan. The decoder would paint what is missing grey; PIL, and we,
/// refuse a file that is cut off. Markers are walked up to the scan, because a thumbnail inside has its own end.
fn is_complete(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[mark, kind]) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        match (mark, kind) {
            // Fill bytes, and markers without a body.
            (0xFF, 0xFF) => at += 1,
            (0xFF, 0x01 | 0xD0..=0xD8) => at += 2,
            (0xFF, 0xD9) => return true,
            (0xFF, 0xDA) => return bytes[at..].windows(2).any(|pair| pair == [0xFF, 0xD9]),
            (0xFF, _) => match bytes.get(at + 2..at + 4) {
                Some(&[high, low]) => at += 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
            // Stray bytes between segments: libjpeg skips them.
            _ => at += 1,
        }
    }
    false
}
