//! The two passes over 8-bit samples, by the fastest code that this processor runs. All give the same bits.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::{Rows, Windows, portable};

/// Each row resized along itself: rows of one pixel per window, `C` samples each.
pub(super) fn horizontal<const C: usize>(rows: Rows<'_>, across: &Windows<i32>) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        let across = avx2::Packed::new(across);
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::horizontal::<C>(rows, &across) };
    }
    portable::horizontal::<C>(rows, across)
}

/// One row per window, of the samples `columns` of each row.
pub(super) fn vertical(rows: Rows<'_>, columns: Range<usize>, down: &Windows<i32>) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::vertical(rows, columns, down) };
    }
    portable::vertical(rows, columns, down)
}
