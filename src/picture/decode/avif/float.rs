//! Planes to RGB by floating-point numbers, as libavif 1.4 does it itself (its `reformat.c`) where it does not call
//! libyuv: grey pictures, rare matrices, RGB stored as such. The order of the sums is libavif's.

use super::av1::{Layout, Plane};
use super::fixed;
use super::planes::{Planes, Sample};
use super::properties::Colors;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Matrix {
    /// Red and blue have these shares of luma.
    Shares {
        red: f32,
        blue: f32,
    },
    /// Green, blue, red.
    Identity,
    YCgCo,
    /// The reversible one with two more bits.
    YCgCoRe,
}

fn matrix(colors: Colors, layout: Layout, depth: u8) -> Result<Matrix, &'static str> {
    let shares = |red, blue| Ok(Matrix::Shares { red, blue });
    match (colors.matrix, colors.full_range) {
        (0, _) if matches!(layout, Layout::Full | Layout::Grey) => Ok(Matrix::Identity),
        (8, true) => Ok(Matrix::YCgCo),
        (16, true) if depth == 10 => Ok(Matrix::YCgCoRe),
        (0 | 8 | 16 | 17, _) => Err("an AVIF picture with a matrix of colours that does not fit its samples"),
        (3 | 10 | 11 | 13 | 14 | 18.., _) => Err("an AVIF picture with a rare matrix of colours"),
        (1, _) => shares(0.2126, 0.0722),
        (4, _) => shares(0.30, 0.11),
        (7, _) => shares(0.212, 0.087),
        (9, _) => shares(0.2627, 0.0593),
        (12, _) => {
            let (red, blue) = shares_of_primaries(colors.primaries);
            shares(red, blue)
        }
        _ => shares(0.299, 0.114),
    }
}

/// Equations 32 to 37 of ITU-T H.273.
fn shares_of_primaries(primaries: u16) -> (f32, f32) {
    const D65: [f32; 2] = [0.3127, 0.3290];
    let ([rx, ry, gx, gy, bx, by], [wx, wy]) = match primaries {
        4 => ([0.67, 0.33, 0.21, 0.71, 0.14, 0.08], [0.310, 0.316]),
        5 => ([0.64, 0.33, 0.29, 0.60, 0.15, 0.06], D65),
        6 | 7 => ([0.630, 0.340, 0.310, 0.595, 0.155, 0.070], D65),
        8 => ([0.681, 0.319, 0.243, 0.692, 0.145, 0.049], [0.310, 0.316]),
        9 => ([0.708, 0.292, 0.170, 0.797, 0.131, 0.046], D65),
        10 => ([1.0, 0.0, 0.0, 1.0, 0.0, 0.0], [0.3333, 0.3333]),
        11 => ([0.680, 0.320, 0.265, 0.690, 0.150, 0.060], [0.314, 0.351]),
        12 => ([0.680, 0.320, 0.265, 0.690, 0.150, 0.060], D65),
        22 => ([0.630, 0.340, 0.295, 0.605, 0.155, 0.077], D65),
        _ => ([0.64, 0.33, 0.3, 0.6, 0.15, 0.06], D65),
    };
    let rest = |x: f32, y: f32| 1.0 - (x + y);
    let (rz, gz, bz, wz) = (rest(rx, ry), rest(gx, gy), rest(bx, by), rest(wx, wy));
    let whole = wy * (rx * (gy * bz - by * gz) + gx * (by * rz - ry * bz) + bx * (ry * gz - gy * rz));
    let red = ry * (wx * (gy * bz - by * gz) + wy * (bx * gz - gx * bz) + wz * (gx * by - bx * gy));
    let blue = by * (wx * (ry * gz - gy * rz) + wy * (gx * rz - rx * gz) + wz * (rx * gy - gx * ry));
    (red / whole, blue / whole)
}

/// What each sample means, of luma and of chroma.
struct Tables {
    luma: Vec<f32>,
    chroma: Vec<f32>,
}

impl Tables {
    fn new(depth: u8, full_range: bool, matrix: Matrix) -> Self {
        let largest = ((1u32 << depth) - 1) as f32;
        let scaled = |value: u32| (value << (depth - 8)) as f32;
        let (low, luma_range, chroma_range) =
            if full_range { (0.0, largest, largest) } else { (scaled(16), scaled(219), scaled(224)) };
        let middle = (1u32 << (depth - 1)) as f32;
        let table = |bias: f32, range: f32| (0..1u32 << depth).map(|sample| (sample as f32 - bias) / range).collect();
        let chroma = if matrix == Matrix::Identity { table(low, luma_range) } else { table(middle, chroma_range) };
        Self { luma: table(low, luma_range), chroma }
    }
}

/// Grey pixels, of a picture without chroma.
pub(super) fn grey<T: Sample>(planes: &Planes<'_, T>, colors: Colors) -> Result<Vec<u8>, &'static str> {
    let Planes { width, height, depth, luma, .. } = *planes;
    let tables = Tables::new(depth, colors.full_range, matrix(colors, Layout::Grey, depth)?);
    let rows = (0..height).flat_map(|y| luma.row(y, width));
    Ok(rows.map(|sample| stored(tables.luma[usize::from((*sample).into())].clamp(0.0, 1.0))).collect())
}

/// RGB, or RGBA where there is alpha.
pub(super) fn convert<T: Sample>(
    planes: &Planes<'_, T>,
    alpha: Option<Plane<'_, T>>,
    colors: Colors,
    premultiplied: bool,
) -> Result<Vec<u8>, &'static str> {
    let Planes { width, height, depth, layout, luma, chroma } = *planes;
    let matrix = matrix(colors, layout, depth)?;
    let tables = Tables::new(depth, colors.full_range, matrix);
    let channels = if alpha.is_some() { 4 } else { 3 };
    let largest = ((1u32 << depth) - 1) as f32;
    let is_stored = matrix == Matrix::Identity && depth == 8 && layout == Layout::Full && colors.full_range;
    // Only some ways divide by alpha at once; the others when the pixels have 8 bits.
    let is_plain =
        is_stored || matches!(matrix, Matrix::Shares { .. }) && matches!(layout, Layout::Full | Layout::Grey);
    let mut out = vec![0; width * height * channels];
    for (y, pixels) in out.chunks_exact_mut(width * channels).enumerate() {
        let luma = luma.row(y, width);
        for (x, pixel) in pixels.chunks_exact_mut(channels).enumerate() {
            let sample: u16 = luma[x].into();
            let luma = tables.luma[usize::from(sample)];
            let [u, v] = match chroma {
                _ if layout == Layout::Grey => [0.0; 2],
                Some(planes_of) => planes_of.map(|plane| spread(planes, plane, x, y, &tables.chroma)),
                None => [0.0; 2],
            };
            let mut color = match matrix {
                _ if layout == Layout::Grey => [luma; 3],
                Matrix::Shares { red, blue } => {
                    let green = 1.0 - red - blue;
                    let g = luma - ((2.0 * ((red * (1.0 - red) * v) + (blue * (1.0 - blue) * u))) / green);
                    [luma + (2.0 * (1.0 - red)) * v, g, luma + (2.0 * (1.0 - blue)) * u]
                }
                Matrix::Identity => [v, luma, u],
                Matrix::YCgCo => {
                    let rest = luma - u;
                    [rest + v, luma + u, rest - v]
                }
                Matrix::YCgCoRe => reversible(sample, u, v, largest),
            };
            color = color.map(|value| value.clamp(0.0, 1.0));
            if let Some(alpha) = alpha {
                let sample: u16 = alpha.row(y, width)[x].into();
                pixel[3] = fixed::alpha(sample, depth);
                let alpha = f32::from(sample) / largest;
                if premultiplied && !is_plain {
                    color = color.map(|value| match alpha {
                        0.0 => 0.0,
                        alpha if alpha < 1.0 => (value / alpha).min(1.0),
                        _ => value,
                    });
                }
            }
            pixel[..3].copy_from_slice(&color.map(stored));
        }
    }
    if premultiplied && is_plain && alpha.is_some() {
        fixed::unmultiply(&mut out);
    }
    Ok(out)
}

fn stored(value: f32) -> u8 {
    (0.5 + value * 255.0) as u8
}

/// Equations 62 to 65 of ITU-T H.273, for 8 bits of red, green and blue.
fn reversible(luma: u16, green: f32, orange: f32, largest: f32) -> [f32; 3] {
    let whole = |value: f32| (value * largest + 0.5).floor() as i32;
    let (green, orange) = (whole(green), whole(orange));
    let rest = i32::from(luma) - (green >> 1);
    let cut = |value: i32| value.clamp(0, 255);
    let (g, b) = (cut(rest + green), cut(rest - (orange >> 1)));
    [cut(b + orange), g, b].map(|value| value as f32 / 255.0)
}

/// Chroma at a pixel: of its own sample and of those beside it, 9, 3, 3 and 1 parts.
fn spread<T: Sample>(planes: &Planes<'_, T>, plane: Plane<'_, T>, x: usize, y: usize, table: &[f32]) -> f32 {
    let at = |x: usize, y: usize| table[usize::from(plane.samples[y * plane.stride + x].into())];
    let beside = |at: usize, side: usize| match at {
        0 => 0,
        at if at % 2 == 0 => at / 2 - 1,
        at if at == side - 1 => at / 2,
        at => at / 2 + 1,
    };
    let (near_x, far_x) = (x / 2, beside(x, planes.width));
    let (near_y, far_y) = match planes.layout {
        Layout::Full => return at(x, y),
        Layout::Half => (y, y),
        _ => (y / 2, beside(y, planes.height)),
    };
    (at(near_x, near_y) * (9.0 / 16.0))
        + (at(far_x, near_y) * (3.0 / 16.0))
        + (at(near_x, far_y) * (3.0 / 16.0))
        + (at(far_x, far_y) * (1.0 / 16.0))
}
