//! Sizes: how large a picture becomes, and which part of it is kept. torchvision's `Resize` and `CenterCrop` and
//! OpenCLIP's `ResizeKeepRatio` and `CenterCropOrPad`, with their rounding.

use crate::picture::area::{Region, Size};

/// How the shape of a picture is fitted to the model's input (`resize_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// The shorter side fits, the longer one is cropped.
    Shortest,
    /// The longer side fits, the shorter one is padded.
    Longest,
    /// Both sides fit, proportions are lost.
    Squash,
}

impl Fit {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shortest => "shortest",
            Self::Longest => "longest",
            Self::Squash => "squash",
        }
    }
}

/// What is done to a picture of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Size after the resize.
    pub resized: Size,
    /// The part of the resized picture that is kept.
    pub kept: Region,
    /// Where that part lies in the model's input; all around it is filled.
    pub left: usize,
    pub top: usize,
}

/// `from` fitted to `input`.
pub(super) fn plan(fit: Fit, from: Size, input: Size) -> Plan {
    let resized = match fit {
        Fit::Squash => input,
        Fit::Shortest if input.width == input.height => shortest_side(from, input.width),
        Fit::Shortest => keep_ratio(from, input, f64::min),
        Fit::Longest => keep_ratio(from, input, f64::max),
    };
    let (left, kept_left, width) = crop_or_pad(resized.width, input.width);
    let (top, kept_top, height) = crop_or_pad(resized.height, input.height);
    Plan { resized, kept: Region { left: kept_left, top: kept_top, width, height }, left, top }
}

/// torchvision's `Resize` with one number: the longer side is truncated, not rounded.
fn shortest_side(from: Size, side: usize) -> Size {
    let long = |long: usize, short: usize| ((side * long) as f64 / short as f64) as usize;
    if from.width <= from.height {
        Size { width: side, height: long(from.height, from.width) }
    } else {
        Size { width: long(from.width, from.height), height: side }
    }
}

/// OpenCLIP's `ResizeKeepRatio`: both sides divided by one ratio and rounded half to even. Where that gives 0 (a side
/// hundreds of times the other one) OpenCLIP fails; the side becomes 1 pixel instead.
fn keep_ratio(from: Size, input: Size, pick: fn(f64, f64) -> f64) -> Size {
    let across = from.width as f64 / input.width as f64;
    let down = from.height as f64 / input.height as f64;
    let ratio = pick(down, across);
    let side = |length: usize| ((length as f64 / ratio).round_ties_even() as usize).max(1);
    Size { width: side(from.width), height: side(from.height) }
}

/// One axis: where the kept part lies in the input, where it begins in the picture, and its length.
fn crop_or_pad(from: usize, to: usize) -> (usize, usize, usize) {
    if from < to {
        ((to - from) / 2, 0, from)
    } else {
        // Python's round(): half to even.
        (0, ((from - to) as f64 / 2.0).round_ties_even() as usize, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: usize, height: usize) -> Size {
        Size { width, height }
    }

    #[test]
    fn the_longer_side_is_truncated_and_the_crop_rounds_half_to_even() {
        // 224 * 1000 / 600 = 373.3; (373 - 224) / 2 = 74.5, half to even: 74.
        let p = plan(Fit::Shortest, size(1000, 600), size(224, 224));
        assert_eq!((p.resized, p.kept.left, p.kept.top), (size(373, 224), 74, 0));
        // (375 - 224) / 2 = 75.5, half to even: 76.
        let p = plan(Fit::Shortest, size(375, 224), size(224, 224));
        assert_eq!((p.kept.left, p.kept.width), (76, 224));
    }

    #[test]
    fn the_longest_side_fits_and_the_rest_is_padded() {
        let p = plan(Fit::Longest, size(100, 33), size(96, 96));
        assert_eq!((p.resized, p.left, p.top), (size(96, 32), 0, 32));
        assert_eq!(plan(Fit::Longest, size(10_000, 1), size(96, 96)).resized, size(96, 1));
    }

    #[test]
    fn squash_ignores_proportions() {
        let p = plan(Fit::Squash, size(3, 500), size(96, 64));
        assert_eq!((p.resized, p.kept), (size(96, 64), Region { left: 0, top: 0, width: 96, height: 64 }));
    }
}
