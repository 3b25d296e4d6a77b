//! Strips and tiles: where each lies in the file and in the picture, and its rows.

use super::directory::{
    FAX_OPTIONS, JPEG_TABLES, PREDICTOR, ROWS_PER_STRIP, STRIP_BYTES, STRIP_OFFSETS, TILE_BYTES, TILE_LENGTH,
    TILE_OFFSETS, TILE_WIDTH,
};
use super::fax::{Coding, Fax};
use super::kind::Mode;
use super::unpack::Unpack;
use super::{DEFLATE, DEFLATE_OLD, FAX_3, FAX_4, FAX_RUNS, Header, JPEG, LZW, PACK_BITS, RAW};
use crate::picture::decode::jpeg;
use crate::picture::decode::rows::Order;

/// Sides of tiles are some hundreds of pixels.
const TILE_SIDE_MAX: usize = 1 << 16;

/// Where a row's pixels belong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub x: usize,
    pub y: usize,
    pub count: usize,
    pub plane: usize,
}

pub(super) struct Pieces<'a> {
    /// Sides of a piece, in pixels; those at the right and the bottom of tiled pictures stick out.
    width: usize,
    height: usize,
    is_tiled: bool,
    /// Pieces side by side, and one below the other.
    across: usize,
    down: usize,
    planes: usize,
    offsets: &'a [u64],
    lengths: &'a [u64],
}

impl<'a> Pieces<'a> {
    /// # Errors
    ///
    /// In words, if the directory's numbers contradict each other.
    pub fn of(header: &'a Header<'_>) -> Result<Self, String> {
        let directory = &header.directory;
        let (whole_width, whole_height) = (header.size.width as usize, header.size.height as usize);
        let side = |tag| directory.first(tag).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        let strips = directory.numbers(STRIP_OFFSETS);
        let is_tiled = strips.is_empty();
        let (width, height, offsets, lengths) = if is_tiled {
            let (Some(width), Some(height)) = (side(TILE_WIDTH), side(TILE_LENGTH)) else {
                return Err("its directory says neither strips nor tiles".to_owned());
            };
            // A row of one is held; it is no wider than a row of the picture, or than any tile that is made.
            if width > whole_width.max(TILE_SIDE_MAX) {
                return Err(format!("its tiles are {width} pixels wide, the picture {whole_width}"));
            }
            (width, height, directory.numbers(TILE_OFFSETS), directory.numbers(TILE_BYTES))
        } else {
            let height = side(ROWS_PER_STRIP).unwrap_or(whole_height).min(whole_height);
            (whole_width, height, strips, directory.numbers(STRIP_BYTES))
        };
        let (across, down) = (whole_width.div_ceil(width), whole_height.div_ceil(height));
        let planes = if header.kind.planar { header.kind.stored } else { 1 };
        let pieces = Self { width, height, is_tiled, across, down, planes, offsets, lengths };
        let wanted = across.saturating_mul(down).saturating_mul(planes);
        let has_more = !is_tiled && planes == 1 && offsets.len() > wanted;
        if offsets.len() < wanted || has_more {
            return Err(format!("its directory has {} strips or tiles; {wanted} make up the picture", offsets.len()));
        }
        // Strips that lie upon one another would be unpacked again and again.
        let all: u64 = (0..wanted).map(|piece| pieces.data(header, piece).map_or(0, |data| data.len() as u64)).sum();
        if header.compression != RAW && all > 2 * header.bytes.len() as u64 {
            return Err("its strips or tiles lie upon one another".to_owned());
        }
        Ok(pieces)
    }

    /// What a piece takes while it is decoded by the JPEG library: its bytes and its pixels, and where its scans have each a
    /// part of them, what the library keeps of those.
    pub fn jpeg_bytes(&self, header: &Header<'_>) -> u64 {
        let pixels = (self.width as u64).saturating_mul(self.height as u64);
        let of =
            |piece| self.data(header, piece).map_or((0, 0), |data| (data.len() as u64, jpeg::coefficient_bytes(data)));
        let pieces = (0..self.offsets.len()).map(of);
        let (length, coefficients) = pieces.fold((0, 0), |(a, b), (c, d)| (c.max(a), d.max(b)));
        pixels.saturating_mul(header.kind.stored as u64).saturating_add(length).saturating_add(coefficients)
    }

    /// Calls `each` with every row of every piece, as far as it lies in the picture.
    pub fn rows(&self, header: &Header<'_>, mut each: impl FnMut(Place, &[u8])) -> Result<(), String> {
        let (whole_width, whole_height) = (header.size.width as usize, header.size.height as usize);
        let too_wide = || "its rows are longer than memory".to_owned();
        let row_bytes = header.layout().row_bytes(self.width).ok_or_else(too_wide)?;
        let mut row = vec![0; row_bytes];
        let mut reversed = Vec::new();
        for plane in 0..self.planes {
            for piece in 0..self.across * self.down {
                let (left, top) = (piece % self.across * self.width, piece / self.across * self.height);
                let data = self.data(header, plane * self.across * self.down + piece)?;
                let data = if header.kind.reversed && header.compression != JPEG {
                    reversed.clear();
                    reversed.extend(data.iter().map(|byte| byte.reverse_bits()));
                    &reversed[..]
                } else {
                    data
                };
                let rows = self.height.min(whole_height - top);
                let mut unpack = self.unpack(header, data, rows)?;
                let count = self.width.min(whole_width - left);
                for y in top..top + rows {
                    unpack.fill(&mut row)?;
                    undo_predictor(header, &mut row);
                    each(Place { x: left, y, count, plane }, &row);
                }
            }
        }
        Ok(())
    }

    /// The bytes of a piece. PIL reads on behind the said end where nothing is compressed.
    fn data<'b>(&self, header: &Header<'b>, piece: usize) -> Result<&'b [u8], String> {
        let outside = || "the file is cut off: a strip or tile is not in it".to_owned();
        let from = usize::try_from(self.offsets[piece]).map_err(|_| outside())?;
        let rest = header.bytes.get(from..).ok_or_else(outside)?;
        if header.compression == RAW {
            return Ok(rest);
        }
        let length =
            self.lengths.get(piece).map_or(rest.len(), |length| usize::try_from(*length).unwrap_or(usize::MAX));
        Ok(&rest[..length.min(rest.len())])
    }

    fn unpack<'b>(&self, header: &Header<'_>, data: &'b [u8], rows: usize) -> Result<Unpack<'b>, String> {
        let fax = |coding| Unpack::Fax(Box::new(Fax::new(data, coding, self.width)));
        Ok(match header.compression {
            FAX_RUNS => fax(Coding::Runs),
            FAX_3 => fax(Coding::Group3 { two: header.directory.first(FAX_OPTIONS).unwrap_or(0) & 1 == 1 }),
            FAX_4 => fax(Coding::Group4),
            LZW => Unpack::lzw(data),
            DEFLATE | DEFLATE_OLD => Unpack::deflate(data),
            PACK_BITS => Unpack::pack_bits(data),
            JPEG => {
                let tables: Vec<u8> = header.directory.numbers(JPEG_TABLES).iter().map(|byte| *byte as u8).collect();
                let colors = match header.kind.mode {
                    Mode::YCbCrJpeg => jpeg::StripColors::YCbCr,
                    _ => jpeg::StripColors::AsStored,
                };
                let height = if self.is_tiled { self.height } else { rows };
                let sides = (self.width, height);
                Unpack::Whole(jpeg::strip(&tables, data, header.kind.stored, colors, sides)?, 0)
            }
            _ => Unpack::Raw(data),
        })
    }
}

/// Each sample as the difference to the one on its left (2), or fractions by the bytes of their numbers (3).
fn undo_predictor(header: &Header<'_>, row: &mut [u8]) {
    if !matches!(header.compression, LZW | DEFLATE | DEFLATE_OLD) {
        return;
    }
    let samples = header.layout().stored;
    let big = header.directory.order == Order::Big;
    match (header.directory.first(PREDICTOR).unwrap_or(1), header.kind.bits) {
        (2, 8) => {
            for at in samples..row.len() {
                row[at] = row[at].wrapping_add(row[at - samples]);
            }
        }
        (2, 16) => {
            let read = |pair: &[u8; 2]| if big { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) };
            let pairs = row.as_chunks_mut::<2>().0;
            for at in samples..pairs.len() {
                let sum = read(&pairs[at]).wrapping_add(read(&pairs[at - samples]));
                pairs[at] = if big { sum.to_be_bytes() } else { sum.to_le_bytes() };
            }
        }
        (2, 32) => {
            let read = |four: &[u8; 4]| if big { u32::from_be_bytes(*four) } else { u32::from_le_bytes(*four) };
            let fours = row.as_chunks_mut::<4>().0;
            for at in samples..fours.len() {
                let sum = read(&fours[at]).wrapping_add(read(&fours[at - samples]));
                fours[at] = if big { sum.to_be_bytes() } else { sum.to_le_bytes() };
            }
        }
        (3, 32) => {
            for at in samples..row.len() {
                row[at] = row[at].wrapping_add(row[at - samples]);
            }
            // First the high bytes of all numbers, then the next ones, independent of the file's byte order.
            let parts = row.to_vec();
            let count = parts.len() / 4;
            for (n, four) in row.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let number = [parts[n], parts[n + count], parts[n + 2 * count], parts[n + 3 * count]];
                *four = if big { number } else { [number[3], number[2], number[1], number[0]] };
            }
        }
        _ => {}
    }
}
