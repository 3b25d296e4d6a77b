//! Planes to RGB by whole numbers, as in libyuv (its `row_common.cc`, `scale_any.cc` and their SIMD for x86, which is
//! what Pillow's packages run), in the ways in which libavif 1.4 calls it (its `reformat_libyuv.c`).

use super::av1::{Layout, Plane};
use super::planes::{Planes, Sample};
use super::properties::Colors;

/// Of libyuv, with 6 bits behind the point; what does not fit into 8 bits is cut, as there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Constants {
    blue_u: i32,
    green_u: i32,
    green_v: i32,
    red_v: i32,
    scale: u32,
    bias: i32,
}

/// Some of the matrices of ITU-T H.273 have constants; libavif works with floating-point numbers for the others.
pub(super) fn constants(colors: Colors, is_grey: bool) -> Option<Constants> {
    let like = match (colors.matrix, colors.primaries) {
        (1, _) | (12, 1 | 2) => 709,
        (2 | 5 | 6, _) | (12, 5 | 6) => 601,
        (9, _) | (12, 9) => 2020,
        (0, _) if is_grey => 601,
        _ => return None,
    };
    let (blue_u, green_u, green_v, red_v) = match (like, colors.full_range) {
        (709, false) => (128, 14, 34, 115),
        (709, true) => (119, 12, 30, 101),
        (601, false) => (128, 25, 52, 102),
        (601, true) => (113, 22, 46, 90),
        (_, false) => (128, 12, 42, 107),
        (_, true) => (120, 11, 37, 94),
    };
    let (scale, bias) = match (like, colors.full_range) {
        (_, true) => (16_320, 32),
        (2020, false) => (19_003, -1160),
        (_, false) => (18_997, -1160),
    };
    Some(Constants { blue_u, green_u, green_v, red_v, scale, bias })
}

impl Constants {
    /// `luma`: of 16 bits. Chroma of 8 bits.
    fn pixel(self, luma: u32, u: u16, v: u16) -> [u8; 3] {
        let luma = ((luma * self.scale) >> 16) as i32 + self.bias;
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        let cut = |value: i32| (value >> 6).clamp(0, 255) as u8;
        [cut(luma + v * self.red_v), cut(luma - (u * self.green_u + v * self.green_v)), cut(luma + u * self.blue_u)]
    }
}

/// How many bits of the samples take part in the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Precision {
    /// All are cut to 8 bits first.
    Eight,
    /// Luma has 10 bits, and chroma until it is spread.
    Ten,
    /// Luma has 12 bits, and chroma is not spread smoothly.
    Twelve,
}

/// RGB, or RGBA where there is alpha.
pub(super) fn convert<T: Sample>(planes: &Planes<'_, T>, alpha: Option<Plane<'_, T>>, constants: Constants) -> Vec<u8> {
    let Planes { width, height, depth, layout, luma, chroma } = *planes;
    let precision = match (depth, layout, alpha) {
        (_, Layout::Grey, _) | (_, _, None) => Precision::Eight,
        (10, ..) => Precision::Ten,
        (12, Layout::Quarter, _) => Precision::Twelve,
        _ => Precision::Eight,
    };
    let cut = depth - 8;
    let channels = if alpha.is_some() { 4 } else { 3 };
    let mut out = vec![255; width * height * channels];
    let mut spread = [vec![128; width], vec![128; width]];
    for (y, pixels) in out.chunks_exact_mut(width * channels).enumerate() {
        for (plane, row) in chroma.iter().flatten().zip(&mut spread) {
            match precision {
                Precision::Eight => spread_row(planes, *plane, y, row, |sample| (sample >> cut).min(255)),
                Precision::Ten => {
                    spread_row(planes, *plane, y, row, |sample| sample);
                    row.iter_mut().for_each(|sample| *sample = (*sample >> 2).min(255));
                }
                Precision::Twelve => {
                    let samples = plane.row(y / 2, width.div_ceil(2));
                    row.iter_mut().enumerate().for_each(|(x, out)| *out = (samples[x / 2].into() >> 4).min(255));
                }
            }
        }
        let [u, v] = &spread;
        let luma = luma.row(y, width).iter().map(|sample| {
            let sample: u16 = (*sample).into();
            match precision {
                Precision::Eight => u32::from((sample >> cut).min(255)) * 0x0101,
                Precision::Ten => u32::from(sample << 6 | sample >> 4),
                Precision::Twelve => u32::from(sample << 4 | sample >> 8),
            }
        });
        for (((pixel, luma), u), v) in pixels.chunks_exact_mut(channels).zip(luma).zip(u).zip(v) {
            pixel[..3].copy_from_slice(&constants.pixel(luma, *u, *v));
        }
        if let Some(alpha) = alpha {
            let rounded = layout == Layout::Grey || precision == Precision::Twelve;
            for (pixel, sample) in pixels.chunks_exact_mut(4).zip(alpha.row(y, width)) {
                let sample: u16 = (*sample).into();
                pixel[3] = if rounded { self::alpha(sample, depth) } else { (sample >> cut).min(255) as u8 };
            }
        }
    }
    out
}

/// One alpha sample, as libavif itself makes it of more than 8 bits.
pub(super) fn alpha(sample: u16, depth: u8) -> u8 {
    if depth == 8 {
        return sample as u8;
    }
    let largest = f32::from((1u16 << depth) - 1);
    (0.5 + f32::from(sample) / largest * 255.0).clamp(0.0, 255.0) as u8
}

/// Divides by alpha, with libyuv's reciprocals.
pub(super) fn unmultiply(rgba: &mut [u8]) {
    for [color @ .., alpha] in rgba.as_chunks_mut::<4>().0 {
        let reciprocal = match *alpha {
            0 => 0,
            1 => 0xFFFF,
            255 => 0x0100,
            alpha => 0x1_0000 / u32::from(alpha),
        };
        for value in color {
            let divided = (u32::from(*value) * 0x0101 * reciprocal) >> 16;
            // What does not fit is packed as a negative number by the SIMD code.
            *value = if divided > 0x7FFF { 0 } else { divided.min(255) as u8 };
        }
    }
}

/// Row `y` of a plane of chroma, as wide as the picture: smoothly between two samples, or four.
fn spread_row<T: Sample>(
    planes: &Planes<'_, T>,
    plane: Plane<'_, T>,
    y: usize,
    out: &mut [u16],
    read: impl Fn(u16) -> u16,
) {
    let read = |sample: &T| read((*sample).into());
    let (width, height) = (planes.width, planes.height);
    let half = width.div_ceil(2);
    match planes.layout {
        Layout::Grey => {}
        Layout::Full => out.iter_mut().zip(plane.row(y, width)).for_each(|(out, sample)| *out = read(sample)),
        Layout::Half => {
            let row = plane.row(y, half);
            spread_between(out, |x| read(&row[x]), |near, far| (3 * near + far + 2) >> 2, |only| only);
        }
        Layout::Quarter => {
            let near = plane.row(y / 2, half);
            if y == 0 || y % 2 == 1 && y == height - 1 {
                spread_between(out, |x| read(&near[x]), |near, far| (3 * near + far + 2) >> 2, |only| only);
                return;
            }
            let far = plane.row(if y % 2 == 1 { y / 2 + 1 } else { y / 2 - 1 }, half);
            // Three parts of the nearer row, one of the other; rounded once.
            let sum = |x: usize| 3 * read(&near[x]) + read(&far[x]);
            spread_between(out, sum, |near, far| (3 * near + far + 8) >> 4, |only| (only + 2) >> 2);
        }
    }
}

/// Each pixel from the sample that it belongs to and the next one on its side; the first and the last from one alone.
fn spread_between(
    out: &mut [u16],
    sample: impl Fn(usize) -> u16,
    mix: impl Fn(u16, u16) -> u16,
    alone: impl Fn(u16) -> u16,
) {
    let last = out.len() - 1;
    for (x, pair) in out[1..].chunks_exact_mut(2).enumerate() {
        let (left, right) = (sample(x), sample(x + 1));
        pair[0] = mix(left, right);
        pair[1] = mix(right, left);
    }
    out[0] = alone(sample(0));
    out[last] = alone(sample(last / 2));
}
