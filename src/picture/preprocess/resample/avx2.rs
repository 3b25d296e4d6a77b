//! The passes with AVX2, to the same bits as the portable ones.
//!
//! A weight has 23 bits, the fast multiplication takes 16. So each weight is split, `weight = high * 65536 + low` with
//! both halves signed, and the sums of both are put together at the end.

use std::arch::x86_64::*;
use std::ops::Range;

use super::portable::{self, HALF, ROWS_TOGETHER};
use super::{Rows, WEIGHT_BITS, Windows};

/// Taps of a window that are multiplied at once. A window is filled up with weights of 0.
const TAPS: usize = 4;

/// Bytes that are read for them, however many they need.
const LOAD_BYTES: usize = 16;

/// Windows with their weights as the multiplication takes them.
pub(super) struct Packed {
    /// First source sample and number of blocks, per result sample.
    bounds: Vec<(usize, usize)>,
    /// Per block of four taps: low halves of taps 0 and 1, of 2 and 3, high halves of 0 and 1, of 2 and 3.
    blocks: Vec<[i32; 4]>,
}

impl Packed {
    pub fn new(windows: &Windows<i32>) -> Self {
        let mut packed = Self { bounds: Vec::with_capacity(windows.bounds.len()), blocks: Vec::new() };
        for (start, weights) in windows.iter() {
            let blocks = weights.chunks(TAPS).map(|weights| {
                let weight = |tap: usize| weights.get(tap).copied().unwrap_or(0);
                let low = |tap: usize| weight(tap) as i16;
                let high = |tap: usize| ((weight(tap) - i32::from(low(tap))) >> 16) as i16;
                let pair = |first: i16, second: i16| i32::from(first) & 0xFFFF | i32::from(second) << 16;
                [pair(low(0), low(1)), pair(low(2), low(3)), pair(high(0), high(1)), pair(high(2), high(3))]
            });
            packed.blocks.extend(blocks);
            packed.bounds.push((start, weights.len().div_ceil(TAPS)));
        }
        packed
    }
}

/// For `C` up to 4.
#[target_feature(enable = "avx2")]
pub(super) fn horizontal<const C: usize>(rows: Rows<'_>, across: &Packed) -> Vec<u8> {
    let out_stride = across.bounds.len() * C;
    let height = rows.data.len() / rows.stride;
    let mut out = vec![0; height * out_stride];
    let mut last = Vec::new();
    for (n, out) in out.chunks_mut(ROWS_TOGETHER * out_stride).enumerate() {
        let at = n * ROWS_TOGETHER * rows.stride;
        let count = out.len() / out_stride;
        let data = &rows.data[at..];
        // The last block of taps may read past its row, and so past the end of the last rows: those are copied to where
        // more bytes follow.
        let needed = count * rows.stride + TAPS * C + LOAD_BYTES;
        let data = if data.len() >= needed {
            data
        } else {
            last.clear();
            last.extend_from_slice(&data[..count * rows.stride]);
            last.resize(needed, 0);
            &last
        };
        if count == ROWS_TOGETHER {
            several_rows::<C, ROWS_TOGETHER>(Rows { data, ..rows }, across, out);
        } else {
            for (r, out) in out.chunks_exact_mut(out_stride).enumerate() {
                several_rows::<C, 1>(Rows { data: &data[r * rows.stride..], ..rows }, across, out);
            }
        }
    }
    out
}

/// `data` has at least a block of taps and `LOAD_BYTES` more than the `R` rows.
#[target_feature(enable = "avx2")]
fn several_rows<const C: usize, const R: usize>(rows: Rows<'_>, across: &Packed, out: &mut [u8]) {
    let out_stride = out.len() / R;
    let shuffle = pairs_of_taps::<C>();
    let (low_places, high_places) =
        (_mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1), _mm256_setr_epi32(2, 2, 2, 2, 3, 3, 3, 3));
    let mut rest = across.blocks.as_slice();
    for (column, &(start, count)) in across.bounds.iter().enumerate() {
        let (blocks, tail) = rest.split_at(count);
        rest = tail;
        let at = (start - rows.first) * C;
        let end = at + count * TAPS * C;
        assert!((R - 1) * rows.stride + end + LOAD_BYTES <= rows.data.len() + TAPS * C);
        let mut low = [_mm256_setzero_si256(); R];
        let mut high = [_mm256_setzero_si256(); R];
        for (n, block) in blocks.iter().enumerate() {
            // SAFETY: a block is 16 bytes.
            let weights = unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(block.as_ptr().cast())) };
            let low_weights = _mm256_permutevar8x32_epi32(weights, low_places);
            let high_weights = _mm256_permutevar8x32_epi32(weights, high_places);
            for r in 0..R {
                let from = r * rows.stride + at + n * TAPS * C;
                // SAFETY: `n` is below `count` and `r` below `R`, so the assertion above holds `LOAD_BYTES` from here on
                // within `data`.
                let bytes = unsafe { _mm_loadu_si128(rows.data.as_ptr().add(from).cast()) };
                let samples = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), shuffle);
                low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(samples, low_weights));
                high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(samples, high_weights));
            }
        }
        for r in 0..R {
            let sums = _mm256_add_epi32(low[r], _mm256_slli_epi32::<16>(high[r]));
            let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
            let levels = _mm_srai_epi32::<{ WEIGHT_BITS as i32 }>(_mm_add_epi32(sums, _mm_set1_epi32(HALF)));
            let levels = _mm_packs_epi32(levels, levels);
            let pixel = _mm_cvtsi128_si32(_mm_packus_epi16(levels, levels)).to_le_bytes();
            out[r * out_stride + column * C..][..C].copy_from_slice(&pixel[..C]);
        }
    }
}

/// Where the bytes of four taps go: taps 0 and 1 of each channel side by side in the low half, 2 and 3 in the high
/// half, as 16-bit numbers.
#[target_feature(enable = "avx2")]
fn pairs_of_taps<const C: usize>() -> __m256i {
    const ZERO: u8 = 0x80;
    let mut places = [ZERO; 32];
    for half in 0..2 {
        for channel in 0..C {
            for tap in 0..2 {
                places[half * 16 + channel * 4 + tap * 2] = ((half * 2 + tap) * C + channel) as u8;
            }
        }
    }
    // SAFETY: 32 bytes are read of 32.
    unsafe { _mm256_loadu_si256(places.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
pub(super) fn vertical(rows: Rows<'_>, columns: Range<usize>, down: &Windows<i32>) -> Vec<u8> {
    portable::vertical(rows, columns, down)
}
