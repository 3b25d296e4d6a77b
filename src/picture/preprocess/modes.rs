//! Conversions between PIL's modes (`libImaging/Convert.c`, `AlphaComposite.c`), bit for bit.

use crate::picture::samples::Samples;

/// a * b / 255, rounded (PIL's `MULDIV255`).
fn muldiv255(a: u8, b: u8) -> u8 {
    let t = u32::from(a) * u32::from(b) + 128;
    (((t >> 8) + t) >> 8) as u8
}

/// c * 255 / alpha, rounded down; fully clear and fully opaque pixels stay as they are.
fn divide(color: u8, alpha: u8) -> u8 {
    match alpha {
        0 | 255 => color,
        alpha => (u32::from(color) * 255 / u32::from(alpha)).min(255) as u8,
    }
}

/// `RGBA` to `RGBa`, `LA` to `La`: colours multiplied by alpha, the last of `C` channels.
pub(super) fn premultiplied<const C: usize>(mut out: Vec<u8>) -> Vec<u8> {
    for pixel in out.as_chunks_mut::<C>().0 {
        let alpha = pixel[C - 1];
        pixel[..C - 1].iter_mut().for_each(|color| *color = muldiv255(*color, alpha));
    }
    out
}

/// The way back, to `RGB`: alpha is divided out and dropped.
pub(super) fn rgb_from_premultiplied(data: &[u8]) -> Vec<u8> {
    data.as_chunks().0.iter().flat_map(|&[r, g, b, a]| [divide(r, a), divide(g, a), divide(b, a)]).collect()
}

pub(super) fn rgb_from_premultiplied_grey(data: &[u8]) -> Vec<u8> {
    data.as_chunks().0.iter().flat_map(|&[grey, a]| [divide(grey, a); 3]).collect()
}

pub(super) fn rgb_from_grey(data: &[u8]) -> Vec<u8> {
    data.iter().flat_map(|&grey| [grey; 3]).collect()
}

/// `I;16` is clipped, not scaled: PIL makes all above 255 white.
pub(super) fn rgb_from_grey16(data: &[u16]) -> Vec<u8> {
    data.iter().flat_map(|&grey| [grey.min(255) as u8; 3]).collect()
}

/// `I` is clipped, too.
pub(super) fn rgb_from_int(data: &[i32]) -> Vec<u8> {
    data.iter().flat_map(|&grey| [grey.clamp(0, 255) as u8; 3]).collect()
}

/// `F` is clipped and rounded down; NaN becomes black.
pub(super) fn rgb_from_float(data: &[f32]) -> Vec<u8> {
    data.iter().flat_map(|&grey| [grey as u8; 3]).collect()
}

pub(super) fn rgb_from_palette(data: &[u8], palette: &[[u8; 4]; 256]) -> Vec<u8> {
    data.iter()
        .flat_map(|&index| {
            let [r, g, b, _] = palette[usize::from(index)];
            [r, g, b]
        })
        .collect()
}

pub(super) fn rgb_from_cmyk(data: &[u8]) -> Vec<u8> {
    data.as_chunks()
        .0
        .iter()
        .flat_map(|&[c, m, y, k]| {
            let light = 255 - k;
            [c, m, y].map(|ink| light - muldiv255(ink, light))
        })
        .collect()
}

/// PIL's tables (`ConvertYCbCr.c`): six fraction bits, rounded up from a half, towards zero below it.
pub(super) fn rgb_from_ycbcr(data: &[u8]) -> Vec<u8> {
    let part = |factor: f64, value: u8| (factor * (f64::from(value) - 128.0) * 64.0 + 0.5) as i32;
    let table = |factor: f64| -> [i32; 256] { std::array::from_fn(|value| part(factor, value as u8)) };
    let [red, green_of_blue, green_of_red, blue] = [1.402, -0.34414, -0.71414, 1.772].map(table);
    data.as_chunks()
        .0
        .iter()
        .flat_map(|&[y, cb, cr]| {
            let (y, cb, cr) = (i32::from(y), usize::from(cb), usize::from(cr));
            let green = (green_of_blue[cb] + green_of_red[cr]) >> 6;
            [y + (red[cr] >> 6), y + green, y + (blue[cb] >> 6)].map(|light| light.clamp(0, 255) as u8)
        })
        .collect()
}

/// `Image.alpha_composite(background, picture)`, then `RGB`. Under an opaque background PIL's 7 extra bits cancel
/// out: what remains is one rounded division by 255.
fn over([r, g, b, alpha]: [u8; 4], background: [u8; 3]) -> [u8; 3] {
    if alpha == 0 {
        return background;
    }
    let (source, rest) = (u32::from(alpha), 255 - u32::from(alpha));
    let mix = |color: u8, below: u8| {
        let sum = ((u32::from(color) * source + u32::from(below) * rest) << 7) + (0x80 << 7);
        ((((sum >> 8) + sum) >> 8) >> 7) as u8
    };
    [mix(r, background[0]), mix(g, background[1]), mix(b, background[2])]
}

/// Pixels as `RGB`, composed on `background`.
pub(super) fn rgb_over(samples: &Samples, background: [u8; 3]) -> Vec<u8> {
    // A single transparent value makes PIL's pixels (value, alpha 0), which composes to the background.
    let keyed = |rgb: Vec<u8>, transparent: Option<[u8; 3]>| match transparent {
        None => rgb,
        Some(key) => {
            let mut rgb = rgb;
            rgb.as_chunks_mut().0.iter_mut().filter(|pixel| **pixel == key).for_each(|pixel| *pixel = background);
            rgb
        }
    };
    match samples {
        Samples::Bilevel { data, transparent } | Samples::Grey { data, transparent } => {
            keyed(rgb_from_grey(data), transparent.map(|t| [t; 3]))
        }
        Samples::Grey16 { data, transparent } => keyed(rgb_from_grey16(data), transparent.map(|t| [t; 3])),
        Samples::Rgb { data, transparent } => keyed(data.clone(), *transparent),
        Samples::Int(data) => rgb_from_int(data),
        Samples::Float(data) => rgb_from_float(data),
        Samples::GreyAlpha(data) => {
            data.as_chunks().0.iter().flat_map(|&[grey, a]| over([grey, grey, grey, a], background)).collect()
        }
        Samples::Rgba(data) => data.as_chunks().0.iter().flat_map(|&pixel| over(pixel, background)).collect(),
        Samples::Indexed { data, palette } => {
            let composed = palette.map(|color| over(color, background));
            data.iter().flat_map(|&index| composed[usize::from(index)]).collect()
        }
        Samples::YCbCr(data) => rgb_from_ycbcr(data),
        Samples::Cmyk(data) => rgb_from_cmyk(data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composing_equals_pils_integer_formula() {
        // The general formula of AlphaComposite.c, for every alpha and a spread of colours.
        for alpha in 1..=255u32 {
            let blend = 255 * (255 - alpha);
            let outa255 = alpha * 255 + blend;
            let coef1 = alpha * 255 * 255 * 128 / outa255;
            let coef2 = 255 * 128 - coef1;
            for color in (0..=255u32).step_by(5) {
                for below in (0..=255u32).step_by(15) {
                    let sum = color * coef1 + below * coef2 + (0x80 << 7);
                    let expected = ((((sum >> 8) + sum) >> 8) >> 7) as u8;
                    let pixel = [color as u8, color as u8, color as u8, alpha as u8];
                    assert_eq!(over(pixel, [below as u8; 3]), [expected; 3]);
                }
            }
        }
    }

    #[test]
    fn cmyk_and_premultiplied_formulas_hold_at_their_ends() {
        assert_eq!(rgb_from_cmyk(&[0, 128, 255, 0, 0, 0, 0, 255]), [255, 127, 0, 0, 0, 0]);
        assert_eq!(premultiplied::<4>(vec![200, 100, 0, 128]), [100, 50, 0, 128]);
        assert_eq!(rgb_from_premultiplied(&[100, 50, 0, 128]), [199, 99, 0]);
    }
}
