//! JPEG at a quarter or an eighth of its size, of the four lowest frequencies of each block alone.
//!
//! Most of the time of a decoder that scales down is spent on reading frequencies that it then leaves out. Here they are
//! skipped, several at a time. Baseline files with one scan are served, which is what cameras and most shops write;
//! whatever is different or damaged in the slightest is left to libjpeg-turbo, which then also has the word on errors.

mod bits;
mod frame;

use bits::{Bits, Segments};
use frame::{Component, Frame};

use super::buffer;
use crate::picture::area::{Region, Size};

/// Mean of a block's first cosine over half of the block, relative to that of its constant (`sum of
/// cos((2x + 1) * pi / 16) / 4` over `x` from 0 to 3, times the square root of 2), in 1024ths; its square.
const HALF_MEAN: i32 = 928;
const HALF_MEAN_SQUARED: i32 = 841;

/// Place of the frequencies (0, 1), (1, 0) and (1, 1) in a file's zigzag order.
const KEPT: [usize; 3] = [1, 2, 4];

/// A component's samples.
struct Plane {
    data: Vec<u8>,
    stride: usize,
    /// Samples per side of a block: its mean, or the means of its quarters.
    per_block: usize,
}

/// `region` of the picture of `size`, a grey or `YCbCr` one, at a `reduction` of 4 or 8: one or three channels.
pub(super) fn decode(bytes: &[u8], size: Size, reduction: usize, region: Region) -> Option<Vec<u8>> {
    let frame = Frame::read(bytes)?;
    if frame.size != size {
        return None;
    }
    let planes = planes(&frame, reduction)?;
    // Which sample of a plane each pixel shows.
    let places = |n: usize, across: bool, first: usize, count: usize| -> Vec<usize> {
        let (component, plane) = (&frame.components[n], &planes[n]);
        let (own, most) = if across { (component.across, frame.across) } else { (component.down, frame.down) };
        (first..first + count).map(|at| at * reduction * own * plane.per_block / (most * 8)).collect()
    };
    let columns: Vec<_> = (0..planes.len()).map(|n| places(n, true, region.left, region.width)).collect();
    let rows: Vec<_> = (0..planes.len()).map(|n| places(n, false, region.top, region.height)).collect();
    let mut out = buffer::take(region.width * region.height * planes.len());
    for (y, line) in out.chunks_exact_mut(region.width * planes.len()).enumerate() {
        let row = |n: usize| planes[n].data.chunks_exact(planes[n].stride).nth(rows[n][y]);
        match planes.len() {
            3 => {
                let (light, blue, red) = (row(0)?, row(1)?, row(2)?);
                for (x, pixel) in line.as_chunks_mut().0.iter_mut().enumerate() {
                    *pixel = rgb([light[columns[0][x]], blue[columns[1][x]], red[columns[2][x]]]);
                }
            }
            _ => {
                let light = row(0)?;
                line.iter_mut().zip(&columns[0]).for_each(|(pixel, &column)| *pixel = light[column]);
            }
        }
    }
    Some(out)
}

fn planes(frame: &Frame<'_>, reduction: usize) -> Option<Vec<Plane>> {
    let blocks = |side: usize, most: usize| side.div_ceil(8 * most);
    let mcus = Size { width: blocks(frame.size.width, frame.across), height: blocks(frame.size.height, frame.down) };
    let plane = |component: &Component| {
        // Where chroma has fewer samples than luma, quarters make up for it.
        let whole = reduction == 8 && (component.across, component.down) == (frame.across, frame.down);
        let per_block = if whole { 1 } else { 2 };
        let stride = mcus.width * component.across * per_block;
        Plane { data: vec![0; stride * mcus.height * component.down * per_block], stride, per_block }
    };
    let mut planes: Vec<Plane> = frame.components.iter().map(plane).collect();
    let mut segments = Segments::new(frame.scan);
    let mut bits = Bits::default();
    let mut before = [0i32; 3];
    let interval = if frame.restart_interval == 0 { usize::MAX } else { frame.restart_interval };
    for mcu in 0..mcus.width * mcus.height {
        if mcu % interval == 0 {
            if mcu > 0 && !bits.is_used_up() {
                return None;
            }
            bits = segments.next(bits)?;
            before = [0; 3];
        }
        let (row, column) = (mcu / mcus.width, mcu % mcus.width);
        for (n, (component, plane)) in frame.components.iter().zip(&mut planes).enumerate() {
            for y in 0..component.down {
                for x in 0..component.across {
                    let at = (row * component.down + y) * plane.per_block * plane.stride
                        + (column * component.across + x) * plane.per_block;
                    block(&mut bits, component, &mut before[n], plane, at)?;
                }
            }
        }
    }
    (bits.is_used_up() && segments.is_at_end()).then_some(planes)
}

/// Reads one block and puts its one or four samples at `at` of the plane.
#[inline(always)]
fn block(bits: &mut Bits, component: &Component, before: &mut i32, plane: &mut Plane, at: usize) -> Option<()> {
    let quantisation = &component.quantisation;
    *before = before.wrapping_add(bits.difference(&component.dc)?);
    let mean = before.wrapping_mul(quantisation[0]);
    if plane.per_block == 1 {
        bits.skip_rest(&component.ac, 1)?;
        // `jpeg_idct_1x1` of libjpeg.
        plane.data[at] = level((mean.wrapping_add(4)) >> 3);
        return Some(());
    }
    let mut coefficients = [0i32; 5];
    let mut place = 1;
    while place <= 4 {
        let (run, value) = bits.coefficient(&component.ac)?;
        if value == 0 && run != 15 {
            place = 64;
            break;
        }
        place += run;
        if let Some(kept) = coefficients.get_mut(place) {
            *kept = value;
        }
        place += 1;
    }
    if place > 64 {
        return None;
    }
    bits.skip_rest(&component.ac, place)?;
    let [across, down, both] = KEPT.map(|place| coefficients[place].wrapping_mul(quantisation[place]));
    let (across, down) = (across.wrapping_mul(HALF_MEAN), down.wrapping_mul(HALF_MEAN));
    let both = both.wrapping_mul(HALF_MEAN_SQUARED);
    // The mean in 1024ths of an eighth, with a half of the unit that the shift leaves.
    let mean = mean.wrapping_mul(1024).wrapping_add(1 << 12);
    let quarter = |x: i32, y: i32| {
        let sum = mean.wrapping_add(across.wrapping_mul(x)).wrapping_add(down.wrapping_mul(y));
        level(sum.wrapping_add(both.wrapping_mul(x * y)) >> 13)
    };
    plane.data[at..at + 2].copy_from_slice(&[quarter(1, 1), quarter(-1, 1)]);
    plane.data[at + plane.stride..at + plane.stride + 2].copy_from_slice(&[quarter(1, -1), quarter(-1, -1)]);
    Some(())
}

fn level(value: i32) -> u8 {
    value.saturating_add(128).clamp(0, 255) as u8
}

/// `ycc_rgb_convert` of libjpeg (`jdcolor.c`): 16 fraction bits, rounded.
fn rgb([y, cb, cr]: [u8; 3]) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((91_881 * cr + HALF) >> 16);
    let green = y + ((-22_554 * cb - 46_802 * cr + HALF) >> 16);
    let blue = y + ((116_130 * cb + HALF) >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests;
