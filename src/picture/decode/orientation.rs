//! Orientation: what a file's metadata says (EXIF tag 0x0112), and how pixels and rectangles are turned by it.

use super::Samples;
use super::jpeg_segments::segments;
use crate::picture::area::{Region, Size};
use crate::picture::format::Format;

/// How stored pixels become the picture as people see it: mirrored along x and y, then x and y exchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ExifOrientation {
    mirror_x: bool,
    mirror_y: bool,
    exchange: bool,
}

impl ExifOrientation {
    /// By EXIF's number; `None` for an upright picture, and for numbers without a meaning.
    pub fn from_exif(number: u32) -> Self {
        let (exchange, mirror_x, mirror_y) = match number {
            2 => (false, true, false),
            3 => (false, true, true),
            4 => (false, false, true),
            5 => (true, false, false),
            6 => (true, false, true),
            7 => (true, true, true),
            8 => (true, true, false),
            _ => (false, false, false),
        };
        Self { mirror_x, mirror_y, exchange }
    }

    pub fn is_upright(self) -> bool {
        self == Self::default()
    }

    /// Size of a turned picture.
    pub fn size(self, stored: Size) -> Size {
        if self.exchange { Size { width: stored.height, height: stored.width } } else { stored }
    }

    /// Where a rectangle of a stored picture of `whole` lies once it is turned.
    pub fn region(self, whole: Size, mut stored: Region) -> Region {
        if self.mirror_x {
            stored.left = whole.width - stored.right();
        }
        if self.mirror_y {
            stored.top = whole.height - stored.bottom();
        }
        if self.exchange { exchanged(stored) } else { stored }
    }

    /// Where a rectangle of the turned picture lies in the stored one of `whole`.
    pub fn stored_region(self, whole: Size, turned: Region) -> Region {
        let exchanged = if self.exchange { exchanged(turned) } else { turned };
        Self { exchange: false, ..self }.region(whole, exchanged)
    }

    pub fn samples(self, samples: Samples, stored: Size) -> Samples {
        if self.is_upright() {
            return samples;
        }
        let bytes = |data: Vec<u8>, channels| match channels {
            1 => self.pixels::<1, _>(&data, stored),
            2 => self.pixels::<2, _>(&data, stored),
            3 => self.pixels::<3, _>(&data, stored),
            _ => self.pixels::<4, _>(&data, stored),
        };
        match samples {
            Samples::Bilevel { data, transparent } => Samples::Bilevel { data: bytes(data, 1), transparent },
            Samples::Grey { data, transparent } => Samples::Grey { data: bytes(data, 1), transparent },
            Samples::Grey16 { data, transparent } => {
                Samples::Grey16 { data: self.pixels::<1, _>(&data, stored), transparent }
            }
            Samples::Int(data) => Samples::Int(self.pixels::<1, _>(&data, stored)),
            Samples::Float(data) => Samples::Float(self.pixels::<1, _>(&data, stored)),
            Samples::GreyAlpha(data) => Samples::GreyAlpha(bytes(data, 2)),
            Samples::Rgb { data, transparent } => Samples::Rgb { data: bytes(data, 3), transparent },
            Samples::YCbCr(data) => Samples::YCbCr(bytes(data, 3)),
            Samples::Rgba(data) => Samples::Rgba(bytes(data, 4)),
            Samples::Indexed { data, palette } => Samples::Indexed { data: bytes(data, 1), palette },
            Samples::Cmyk(data) => Samples::Cmyk(bytes(data, 4)),
        }
    }

    fn pixels<const C: usize, T: Copy>(self, data: &[T], stored: Size) -> Vec<T> {
        let pixels = data.as_chunks::<C>().0;
        let size = self.size(stored);
        let mut out = Vec::with_capacity(data.len());
        for y in 0..size.height {
            for x in 0..size.width {
                let (x, y) = if self.exchange { (y, x) } else { (x, y) };
                let x = if self.mirror_x { stored.width - 1 - x } else { x };
                let y = if self.mirror_y { stored.height - 1 - y } else { y };
                out.extend_from_slice(&pixels[y * stored.width + x]);
            }
        }
        out
    }
}

fn exchanged(region: Region) -> Region {
    Region { left: region.top, top: region.left, width: region.height, height: region.width }
}

/// What the metadata of a file says; of an AVIF its header does. XMP is not read: cameras write EXIF.
pub(super) fn read(format: Format, bytes: &[u8]) -> ExifOrientation {
    let number = match format {
        Format::Jpeg => jpeg(bytes),
        Format::Png => png(bytes),
        Format::WebP => webp(bytes),
        Format::Tiff => tiff(bytes),
        Format::Avif | Format::Gif | Format::Bmp | Format::Pnm | Format::Ico => None,
    };
    number.map_or(ExifOrientation::default(), ExifOrientation::from_exif)
}

/// The first APP1 segment that holds EXIF.
fn jpeg(bytes: &[u8]) -> Option<u32> {
    segments(bytes).find_map(|(kind, body)| match kind {
        0xE1 => body.strip_prefix(b"Exif\0\0").map(tiff),
        _ => None,
    })?
}

/// The `eXIf` chunk.
fn png(bytes: &[u8]) -> Option<u32> {
    let mut rest = bytes.get(8..)?;
    loop {
        let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        let (kind, body) = (rest.get(4..8)?, rest.get(8..)?.get(..length)?);
        if kind == b"eXIf" {
            return tiff(body);
        }
        rest = rest.get(8..)?.get(length..)?.get(4..)?;
    }
}

/// The `EXIF` chunk; chunks begin at even bytes.
fn webp(bytes: &[u8]) -> Option<u32> {
    let mut rest = bytes.get(12..)?;
    loop {
        let length = u32::from_le_bytes(*rest.get(4..)?.first_chunk()?) as usize;
        let body = rest.get(8..)?.get(..length)?;
        if rest.starts_with(b"EXIF") {
            return tiff(body.strip_prefix(b"Exif\0\0").unwrap_or(body));
        }
        rest = rest.get(8..)?.get(length..)?.get(length % 2..)?;
    }
}

/// Tag 0x0112 of the first directory of a TIFF or BigTIFF file, which is also what EXIF data is.
fn tiff(bytes: &[u8]) -> Option<u32> {
    const ORIENTATION: u64 = 0x0112;
    const SHORT: u64 = 3;
    let little = match bytes.first_chunk()? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let number = |at: usize, length: usize| {
        let field = bytes.get(at..at.checked_add(length)?)?;
        let join = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
        Some(if little { field.iter().rev().fold(0, join) } else { field.iter().fold(0, join) })
    };
    // Where the directory is, how long its count and its entries are, and where in an entry the value is.
    let (directory, count_bytes, entry_bytes, value_at) = match number(2, 2)? {
        42 => (number(4, 4)?, 2, 12, 8),
        43 => (number(8, 8)?, 8, 20, 12),
        _ => return None,
    };
    let directory = usize::try_from(directory).ok()?;
    let count = usize::try_from(number(directory, count_bytes)?).ok()?;
    let entries = bytes.get(directory..)?.get(count_bytes..)?.len() / entry_bytes;
    (0..count.min(entries)).map(|n| directory + count_bytes + n * entry_bytes).find_map(|at| {
        let is_orientation = number(at, 2)? == ORIENTATION && number(at + 2, 2)? == SHORT;
        if is_orientation { number(at + value_at, 2).and_then(|value| u32::try_from(value).ok()) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `PIL.Image.transpose` of the picture `[[1, 2, 3], [4, 5, 6]]` for each number of EXIF.
    #[test]
    fn pixels_turn_as_pil_turns_them() {
        let expected: [(u32, (usize, usize), [u8; 6]); 8] = [
            (1, (3, 2), [1, 2, 3, 4, 5, 6]),
            (2, (3, 2), [3, 2, 1, 6, 5, 4]),
            (3, (3, 2), [6, 5, 4, 3, 2, 1]),
            (4, (3, 2), [4, 5, 6, 1, 2, 3]),
            (5, (2, 3), [1, 4, 2, 5, 3, 6]),
            (6, (2, 3), [4, 1, 5, 2, 6, 3]),
            (7, (2, 3), [6, 3, 5, 2, 4, 1]),
            (8, (2, 3), [3, 6, 2, 5, 1, 4]),
        ];
        let stored = Size { width: 3, height: 2 };
        for (number, (width, height), pixels) in expected {
            let orientation = ExifOrientation::from_exif(number);
            assert_eq!(orientation.size(stored), Size { width, height });
            assert_eq!(orientation.pixels::<1, u8>(&[1, 2, 3, 4, 5, 6], stored), pixels, "{number}");
        }
    }

    #[test]
    fn a_rectangle_turns_with_its_pixels_and_back() {
        let whole = Size { width: 7, height: 5 };
        let part = Region { left: 1, top: 2, width: 4, height: 2 };
        let stored: Vec<u8> = (0..35).collect();
        let cut = |pixels: &[u8], stride: usize, r: Region| -> Vec<u8> {
            (r.top..r.bottom()).flat_map(|y| pixels[y * stride + r.left..y * stride + r.right()].to_vec()).collect()
        };
        for number in 1..=8 {
            let orientation = ExifOrientation::from_exif(number);
            let turned = orientation.region(whole, part);
            assert_eq!(orientation.stored_region(whole, turned), part, "{number}");
            let all = orientation.pixels::<1, u8>(&stored, whole);
            let size = Size { width: part.width, height: part.height };
            let alone = orientation.pixels::<1, u8>(&cut(&stored, 7, part), size);
            assert_eq!(cut(&all, orientation.size(whole).width, turned), alone, "{number}");
        }
    }

    #[test]
    fn damaged_metadata_means_upright() {
        let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        assert_eq!(tiff(exif), Some(6));
        for end in 0..22 {
            assert_ne!(tiff(&exif[..end.min(19)]), Some(6));
        }
        assert_eq!(tiff(b"II*\0\xFF\xFF\xFF\xFF"), None);
        assert_eq!(tiff(b"MM\0+\0\x08\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), None);
        assert_eq!(ExifOrientation::from_exif(9), ExifOrientation::default());
    }
}
