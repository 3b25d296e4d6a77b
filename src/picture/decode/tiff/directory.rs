//! The first directory of a TIFF or BigTIFF file: which tags it has, and their numbers.

use std::collections::BTreeMap;

use crate::picture::decode::rows::Order;

/// Most numbers of one tag that are read (strip offsets, a colour map): enough for a strip per row of any picture.
const NUMBERS_MAX: usize = 1 << 20;

pub(super) const WIDTH: u16 = 256;
pub(super) const LENGTH: u16 = 257;
pub(super) const BITS: u16 = 258;
pub(super) const COMPRESSION: u16 = 259;
pub(super) const PHOTOMETRIC: u16 = 262;
pub(super) const FILL_ORDER: u16 = 266;
pub(super) const STRIP_OFFSETS: u16 = 273;
pub(super) const SAMPLES: u16 = 277;
pub(super) const ROWS_PER_STRIP: u16 = 278;
pub(super) const STRIP_BYTES: u16 = 279;
pub(super) const PLANES: u16 = 284;
pub(super) const FAX_OPTIONS: u16 = 292;
pub(super) const PREDICTOR: u16 = 317;
pub(super) const COLOR_MAP: u16 = 320;
pub(super) const TILE_WIDTH: u16 = 322;
pub(super) const TILE_LENGTH: u16 = 323;
pub(super) const TILE_OFFSETS: u16 = 324;
pub(super) const TILE_BYTES: u16 = 325;
pub(super) const EXTRA_SAMPLES: u16 = 338;
pub(super) const SAMPLE_FORMAT: u16 = 339;
pub(super) const JPEG_TABLES: u16 = 347;

/// Of YCbCr: how luma is made of colours, how chroma is thinned out, and what black and white are.
pub(super) const COEFFICIENTS: u16 = 529;
pub(super) const SUBSAMPLING: u16 = 530;
pub(super) const BLACK_AND_WHITE: u16 = 532;

/// Those that anything is made of.
const WANTED: [u16; 24] = [
    WIDTH,
    LENGTH,
    BITS,
    COMPRESSION,
    PHOTOMETRIC,
    FILL_ORDER,
    STRIP_OFFSETS,
    SAMPLES,
    ROWS_PER_STRIP,
    STRIP_BYTES,
    PLANES,
    FAX_OPTIONS,
    PREDICTOR,
    COLOR_MAP,
    TILE_WIDTH,
    TILE_LENGTH,
    TILE_OFFSETS,
    TILE_BYTES,
    EXTRA_SAMPLES,
    SAMPLE_FORMAT,
    JPEG_TABLES,
    COEFFICIENTS,
    SUBSAMPLING,
    BLACK_AND_WHITE,
];

#[derive(Debug)]
pub(super) struct Directory {
    pub order: Order,
    tags: BTreeMap<u16, Vec<u64>>,
}

impl Directory {
    /// # Errors
    ///
    /// The file has no directory.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let input = Input { bytes, order: if bytes.first() == Some(&b'M') { Order::Big } else { Order::Little } };
        let cut_off = || "the file is cut off: its directory is not in it".to_owned();
        let is_big = input.number(2, 2) == Some(43);
        let (pointer, count_bytes, entry_bytes, wide) = if is_big { (8, 8, 20, 8) } else { (4, 2, 12, 4) };
        let place = |number: u64| usize::try_from(number).ok();
        let at = input.number(pointer, wide).and_then(place).ok_or_else(cut_off)?;
        let count = input.number(at, count_bytes).and_then(place).ok_or_else(cut_off)?;
        let mut tags = BTreeMap::new();
        for n in 0..count {
            let entry = n.checked_mul(entry_bytes).and_then(|n| at.checked_add(count_bytes)?.checked_add(n));
            let entry = entry.ok_or_else(cut_off)?;
            let (Some(tag), Some(kind)) = (input.number(entry, 2), input.number(entry + 2, 2)) else {
                return Err(cut_off());
            };
            let tag = tag as u16;
            if !WANTED.contains(&tag) {
                continue;
            }
            // Bytes, signed or not, of any meaning; shorts; longs; long longs.
            // A fraction is two longs.
            let per_number = if kind == 5 { 2 } else { 1 };
            let size = match kind {
                1 | 2 | 6 | 7 => 1,
                3 | 8 => 2,
                4 | 5 | 9 | 13 => 4,
                16..=18 => 8,
                _ => continue,
            };
            let numbers = input.number(entry + 4, wide).and_then(place).ok_or_else(cut_off)?;
            if numbers > NUMBERS_MAX {
                continue;
            }
            let numbers = numbers * per_number;
            let inline = entry + 4 + wide;
            let from = if numbers * size <= wide { Some(inline) } else { input.number(inline, wide).and_then(place) };
            let values: Option<Vec<u64>> = from.and_then(|from| {
                bytes.get(from..from.checked_add(numbers * size)?)?;
                (0..numbers).map(|n| input.number(from + n * size, size)).collect()
            });
            // A tag whose values lie outside of the file counts as absent, as in PIL.
            if let Some(values) = values {
                tags.insert(tag, values);
            }
        }
        Ok(Self { order: input.order, tags })
    }

    pub fn numbers(&self, tag: u16) -> &[u64] {
        self.tags.get(&tag).map_or(&[], Vec::as_slice)
    }

    pub fn first(&self, tag: u16) -> Option<u64> {
        self.numbers(tag).first().copied()
    }
}

struct Input<'a> {
    bytes: &'a [u8],
    order: Order,
}

impl Input<'_> {
    fn number(&self, at: usize, length: usize) -> Option<u64> {
        let field = self.bytes.get(at..at.checked_add(length)?)?;
        let join = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
        Some(match self.order {
            Order::Little => field.iter().rev().fold(0, join),
            Order::Big => field.iter().fold(0, join),
        })
    }
}
