//! The two passes over 8-bit samples, on any processor. Sums may wrap in between: modulo 2^32 they come out the same in any
//! order, and the total fits, because weights of a window add up to 1 and their negative share stays below a quarter.

use std::ops::Range;

use super::{Rows, WEIGHT_BITS, Windows};

/// Rows that the horizontal pass handles together: enough to keep several sums in flight.
pub(super) const ROWS_TOGETHER: usize = 4;

/// Columns that the vertical pass sums up in registers.
const COLUMNS_TOGETHER: usize = 32;

/// One half, so that the shift in [`clip8`] rounds.
pub(super) const HALF: i32 = 1 << (WEIGHT_BITS - 1);

fn clip8(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

/// Each row resized along itself: rows of one pixel per window, `C` samples each.
pub(super) fn horizontal<const C: usize>(rows: Rows<'_>, across: &Windows<i32>) -> Vec<u8> {
    let out_stride = across.bounds.len() * C;
    let mut out = vec![0; rows.data.len() / rows.stride * out_stride];
    let blocks = rows.data.chunks(ROWS_TOGETHER * rows.stride).zip(out.chunks_mut(ROWS_TOGETHER * out_stride));
    for (data, out) in blocks {
        if data.len() == ROWS_TOGETHER * rows.stride {
            several_rows::<C, ROWS_TOGETHER>(Rows { data, ..rows }, across, out);
        } else {
            for (data, out) in data.chunks_exact(rows.stride).zip(out.chunks_exact_mut(out_stride)) {
                several_rows::<C, 1>(Rows { data, ..rows }, across, out);
            }
        }
    }
    out
}

#[inline(always)]
fn several_rows<const C: usize, const R: usize>(rows: Rows<'_>, across: &Windows<i32>, out: &mut [u8]) {
    let out_stride = out.len() / R;
    for (column, (start, weights)) in across.iter().enumerate() {
        let at = (start - rows.first) * C;
        let taps: [&[[u8; C]]; R] =
            std::array::from_fn(|r| rows.data[r * rows.stride + at..][..weights.len() * C].as_chunks::<C>().0);
        let mut sums = [[HALF; C]; R];
        for (tap, &weight) in weights.iter().enumerate() {
            for r in 0..R {
                let pixel = taps[r][tap];
                for c in 0..C {
                    sums[r][c] = sums[r][c].wrapping_add(i32::from(pixel[c]).wrapping_mul(weight));
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            out[r * out_stride + column * C..][..C].copy_from_slice(&sums.map(clip8));
        }
    }
}

/// One row per window, of the samples `columns` of each row. Inlined, so that it is compiled for AVX2 too.
#[inline(always)]
pub(super) fn vertical(rows: Rows<'_>, columns: Range<usize>, down: &Windows<i32>) -> Vec<u8> {
    let width = columns.len();
    let mut out = vec![0; down.bounds.len() * width];
    for ((start, weights), out) in down.iter().zip(out.chunks_exact_mut(width)) {
        let from = (start - rows.first) * rows.stride + columns.start;
        let taps = &rows.data[from..];
        let (blocks, rest) = out.as_chunks_mut::<COLUMNS_TOGETHER>();
        let rest_at = blocks.len() * COLUMNS_TOGETHER;
        for (n, out) in blocks.iter_mut().enumerate() {
            let mut sums = [HALF; COLUMNS_TOGETHER];
            for (row, &weight) in weights.iter().enumerate() {
                let samples = &taps[row * rows.stride + n * COLUMNS_TOGETHER..][..COLUMNS_TOGETHER];
                for (sum, &sample) in sums.iter_mut().zip(samples) {
                    *sum = sum.wrapping_add(i32::from(sample).wrapping_mul(weight));
                }
            }
            *out = sums.map(clip8);
        }
        for (column, out) in rest.iter_mut().enumerate() {
            let samples = taps[rest_at + column..].iter().step_by(rows.stride);
            let sum = weights
                .iter()
                .zip(samples)
                .fold(HALF, |sum, (&weight, &sample)| sum.wrapping_add(i32::from(sample).wrapping_mul(weight)));
            *out = clip8(sum);
        }
    }
    out
}
