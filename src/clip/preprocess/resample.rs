//! PIL's `Image.resize`, bit for bit (Pillow's `libImaging/Resample.c` and `Geometry.c`), for the part of the result
//! that a crop keeps.
//!
//! 8-bit samples go through fixed-point weights, the horizontal pass first, rounded and clipped to 8 bits before the
//! vertical pass. Each result sample depends on its own weights only, so computing just the kept columns and the rows
//! that they need changes nothing.

use super::geometry::{Region, Size};

/// Fraction bits of a weight: 32 minus 8 for the sample, minus 2 for negative lobes (`PRECISION_BITS`).
const WEIGHT_BITS: u32 = 32 - 8 - 2;

/// Rows of a picture that the horizontal pass handles together: enough to keep several sums in flight.
const ROWS_TOGETHER: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// Catmull-Rom (a = -0.5), support 2.
    Bicubic,
    /// Triangle, support 1.
    Bilinear,
}

impl Filter {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bicubic => "bicubic",
            Self::Bilinear => "bilinear",
        }
    }

    fn support(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Bilinear => 1.0,
        }
    }

    /// In the very order of operations of `bicubic_filter` and `bilinear_filter`: another order rounds differently.
    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let x = x.abs();
        match self {
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Bilinear if x < 1.0 => 1.0 - x,
            _ => 0.0,
        }
    }
}

/// The source samples that one result sample is a weighted sum of, for a run of result samples along one axis.
struct Windows<W> {
    /// First source sample and number of them, per result sample.
    bounds: Vec<(usize, usize)>,
    /// Weights of all windows, one after the other.
    weights: Vec<W>,
}

impl<W: Copy> Windows<W> {
    /// Each window with its weights, in order.
    fn iter(&self) -> impl Iterator<Item = (usize, &[W])> {
        let mut rest = self.weights.as_slice();
        self.bounds.iter().map(move |&(start, taps)| {
            let (weights, tail) = rest.split_at(taps);
            rest = tail;
            (start, weights)
        })
    }

    /// Source samples that any window touches: first, and one past the last.
    fn span(&self) -> (usize, usize) {
        let start = self.bounds.iter().map(|b| b.0).min().unwrap_or(0);
        let end = self.bounds.iter().map(|b| b.0 + b.1).max().unwrap_or(0);
        (start, end)
    }
}

/// `precompute_coeffs` for result samples `first..first + count` of an axis that goes from `from` to `to` samples.
fn windows(filter: Filter, from: usize, to: usize, first: usize, count: usize) -> Windows<f64> {
    let scale = from as f64 / to as f64;
    let filter_scale = scale.max(1.0);
    let support = filter.support() * filter_scale;
    let per_sample = 1.0 / filter_scale;
    let mut windows = Windows { bounds: Vec::with_capacity(count), weights: Vec::new() };
    for index in first..first + count {
        let center = (index as f64 + 0.5) * scale;
        // `as usize` truncates and stops at 0, like the C code.
        let start = (center - support + 0.5) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let begin = windows.weights.len();
        windows.weights.extend((start..end).map(|i| filter.weight((i as f64 - center + 0.5) * per_sample)));
        let own = &mut windows.weights[begin..];
        let sum: f64 = own.iter().sum();
        if sum != 0.0 {
            own.iter_mut().for_each(|w| *w /= sum);
        }
        windows.bounds.push((start, end.saturating_sub(start)));
    }
    windows
}

/// `normalize_coeffs_8bpc`: rounded half away from zero.
fn fixed_point(windows: Windows<f64>) -> Windows<i32> {
    let one = f64::from(1 << WEIGHT_BITS);
    let weights =
        windows.weights.iter().map(|&w| if w < 0.0 { (-0.5 + w * one) as i32 } else { (0.5 + w * one) as i32 });
    Windows { weights: weights.collect(), bounds: windows.bounds }
}

fn clip8(sum: i32) -> u8 {
    (sum >> WEIGHT_BITS).clamp(0, 255) as u8
}

/// `region` of `source` (rows of `size.width` pixels, `C` interleaved 8-bit samples each) resized to `to`.
pub(super) fn resize<const C: usize>(source: &[u8], size: Size, to: Size, filter: Filter, region: Region) -> Vec<u8> {
    if size == to {
        return crop::<C, u8>(source, size, region);
    }
    // PIL leaves a pass out when its axis keeps its length; the weights of such a pass are 1 at the centre and would
    // change nothing either, so that only the horizontal pass, the expensive one, is worth leaving out.
    let down = fixed_point(windows(filter, size.height, to.height, region.top, region.height));
    let (first_row, end_row) = down.span();
    let rows = &source[first_row * size.width * C..end_row * size.width * C];
    let rows = if size.width == to.width {
        let kept = Region { left: region.left, width: region.width, top: 0, height: end_row - first_row };
        crop::<C, u8>(rows, Size { width: size.width, height: end_row - first_row }, kept)
    } else {
        let across = fixed_point(windows(filter, size.width, to.width, region.left, region.width));
        horizontal::<C>(rows, size.width, &across, region.width)
    };
    vertical(&rows, region.width * C, first_row, &down)
}

fn horizontal<const C: usize>(rows: &[u8], width: usize, across: &Windows<i32>, out_width: usize) -> Vec<u8> {
    let height = rows.len() / (width * C);
    let mut out = vec![0; height * out_width * C];
    let blocks = rows.chunks(ROWS_TOGETHER * width * C).zip(out.chunks_mut(ROWS_TOGETHER * out_width * C));
    for (block, out) in blocks {
        if block.len() == ROWS_TOGETHER * width * C {
            horizontal_rows::<C, ROWS_TOGETHER>(block, width, across, out, out_width);
        } else {
            for (row, out) in block.chunks_exact(width * C).zip(out.chunks_exact_mut(out_width * C)) {
                horizontal_rows::<C, 1>(row, width, across, out, out_width);
            }
        }
    }
    out
}

/// `R` rows at once. The sums cannot overflow: weights of a window add up to 1 and their negative share stays below
/// a quarter; `wrapping_*` only says that no check is needed.
#[inline(always)]
fn horizontal_rows<const C: usize, const R: usize>(
    block: &[u8],
    width: usize,
    across: &Windows<i32>,
    out: &mut [u8],
    out_width: usize,
) {
    let rows: [&[u8]; R] = std::array::from_fn(|r| &block[r * width * C..(r + 1) * width * C]);
    for (column, (start, weights)) in across.iter().enumerate() {
        let mut sums = [[1i32 << (WEIGHT_BITS - 1); C]; R];
        let taps: [&[u8]; R] = std::array::from_fn(|r| &rows[r][start * C..(start + weights.len()) * C]);
        for (tap, &weight) in weights.iter().enumerate() {
            for r in 0..R {
                let pixel = &taps[r][tap * C..tap * C + C];
                for c in 0..C {
                    sums[r][c] = sums[r][c].wrapping_add(i32::from(pixel[c]).wrapping_mul(weight));
                }
            }
        }
        for r in 0..R {
            let pixel = &mut out[(r * out_width + column) * C..(r * out_width + column + 1) * C];
            for c in 0..C {
                pixel[c] = clip8(sums[r][c]);
            }
        }
    }
}

/// `rows` (of `stride` samples) start at source row `first_row`.
fn vertical(rows: &[u8], stride: usize, first_row: usize, down: &Windows<i32>) -> Vec<u8> {
    let mut out = Vec::with_capacity(down.bounds.len() * stride);
    let mut sums = vec![0i32; stride];
    for (start, weights) in down.iter() {
        sums.fill(1 << (WEIGHT_BITS - 1));
        let begin = (start - first_row) * stride;
        for (row, &weight) in rows[begin..].chunks_exact(stride).zip(weights) {
            for (sum, &sample) in sums.iter_mut().zip(row) {
                *sum = sum.wrapping_add(i32::from(sample).wrapping_mul(weight));
            }
        }
        out.extend(sums.iter().map(|&sum| clip8(sum)));
    }
    out
}

/// The same for one channel of 16-bit samples (PIL's `I;16`), which PIL sums in `f64`.
pub(super) fn resize_16(source: &[u16], size: Size, to: Size, filter: Filter, region: Region) -> Vec<u16> {
    if size == to {
        return crop::<1, u16>(source, size, region);
    }
    let down = windows(filter, size.height, to.height, region.top, region.height);
    let across = windows(filter, size.width, to.width, region.left, region.width);
    let (first_row, end_row) = down.span();
    let rows = &source[first_row * size.width..end_row * size.width];
    let mut middle = Vec::with_capacity((end_row - first_row) * region.width);
    for row in rows.chunks_exact(size.width) {
        if size.width == to.width {
            middle.extend_from_slice(&row[region.left..region.left + region.width]);
        } else {
            middle.extend(across.iter().map(|(start, weights)| {
                clip16(weights.iter().zip(&row[start..]).fold(0.0, |sum, (w, &s)| sum + f64::from(s) * w))
            }));
        }
    }
    if size.height == to.height {
        return middle;
    }
    let mut out = Vec::with_capacity(region.height * region.width);
    for (start, weights) in down.iter() {
        for column in 0..region.width {
            let samples = middle[(start - first_row) * region.width + column..].iter().step_by(region.width);
            out.push(clip16(weights.iter().zip(samples).fold(0.0, |sum, (w, &s)| sum + f64::from(s) * w)));
        }
    }
    out
}

/// PIL stores the two bytes of a 16-bit sum clipped one by one; below 0 both become 0, and from 65,536 on only the
/// high byte is held at 255.
fn clip16(sum: f64) -> u16 {
    let sum = if sum >= 0.0 { (sum + 0.5) as i32 } else { (sum - 0.5) as i32 };
    let low = (sum % 256).clamp(0, 255) as u16;
    let high = (sum >> 8).clamp(0, 255) as u16;
    high << 8 | low
}

/// PIL's nearest neighbour (`ImagingScaleAffine`), `C` samples per pixel. Positions are summed up step by step, as
/// PIL does, since a product would round differently.
pub(super) fn resize_nearest<const C: usize>(source: &[u8], size: Size, to: Size, region: Region) -> Vec<u8> {
    let columns = nearest_positions(size.width, to.width, region.left, region.width);
    let rows = nearest_positions(size.height, to.height, region.top, region.height);
    let mut out = Vec::with_capacity(region.width * region.height * C);
    for row in rows {
        for &column in &columns {
            let at = (row * size.width + column) * C;
            out.extend_from_slice(&source[at..at + C]);
        }
    }
    out
}

fn nearest_positions(from: usize, to: usize, first: usize, count: usize) -> Vec<usize> {
    let step = from as f64 / to as f64;
    let mut position = step * 0.5;
    let mut positions = Vec::with_capacity(count);
    for index in 0..first + count {
        if index >= first {
            positions.push((position as usize).min(from - 1));
        }
        position += step;
    }
    positions
}

fn crop<const C: usize, T: Copy>(source: &[T], size: Size, region: Region) -> Vec<T> {
    let mut out = Vec::with_capacity(region.width * region.height * C);
    for row in source.chunks_exact(size.width * C).skip(region.top).take(region.height) {
        out.extend_from_slice(&row[region.left * C..(region.left + region.width) * C]);
    }
    out
}
