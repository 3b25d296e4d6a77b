//! A picture to what the image tower takes: OpenCLIP's eval transform (`open_clip/transform.py`, version 3.3.0, on
//! Pillow 13), bit for bit up to the 8-bit RGB pixels.
//!
//! 1. Where the model's configuration names a `background`, the picture is composed on it. Without one, transparency
//!    is simply dropped at the end, as OpenCLIP does.
//! 2. Resize, in the picture's own mode: palette and 1-bit pictures by nearest neighbour, transparent ones with
//!    premultiplied alpha, CMYK before its conversion.
//! 3. Centre crop, or padding.
//! 4. RGB.
//! 5. Division by 255, minus mean, over std, channels first.

mod config;
mod geometry;
mod models;
mod modes;
mod resample;

use std::fmt::Write as _;

use geometry::{Fit, Plan};
use resample::{Filter, View, clip16, nearest_int, resize, resize_made, resize_nearest, resize_wide};

pub(super) use models::Models;

use super::area::{Region, Size};
use super::decode::{Picture, decode};
use super::error::PictureError;
use super::need::Need as _;
use super::samples::Samples;
use crate::domain::{Decoding, Orientation};

/// Why a `preprocess_cfg.json` cannot be used. Names the key, what was found and what was expected; the caller adds
/// the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPreprocess(String);

/// One model's preprocessing.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocess {
    size: Size,
    fit: Fit,
    filter: Filter,
    mean: [f32; 3],
    std: [f32; 3],
    /// Value of the padding in every channel, in the picture's own mode.
    fill: u8,
    /// Colour that the picture is composed on before anything else.
    background: Option<[u8; 3]>,
    orientation: Orientation,
    decoding: Decoding,
    /// Whether the graph normalises, with the same mean and std.
    is_normalised_later: bool,
}

/// Input of the image tower for one picture: `[3, height, width]`, normalised; 0 to 255 for a graph that normalises
/// by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    pub data: Box<[f32]>,
    pub height: usize,
    pub width: usize,
}

impl Preprocess {
    /// From the text of a `preprocess_cfg.json`. Keys that are absent or `null` have OpenCLIP's defaults.
    ///
    /// # Errors
    ///
    /// A key or value that is not known: nothing is ignored, since it would change every vector.
    pub fn from_json(json: &str) -> Result<Self, InvalidPreprocess> {
        config::parse(json)
    }

    /// The same with other settings than OpenCLIP's, which are [`Orientation::Ignore`] and [`Decoding::Exact`].
    pub fn with(self, orientation: Orientation, decoding: Decoding) -> Self {
        Self { orientation, decoding, ..self }
    }

    /// The same for a graph that normalises by itself. What becomes of a picture is the same, so [`Self::canonical`] is.
    pub(crate) fn without_normalisation(self) -> Self {
        Self { is_normalised_later: true, ..self }
    }

    /// Height and width of the image tower's input.
    pub fn input_size(&self) -> (usize, usize) {
        (self.size.height, self.size.width)
    }

    /// Canonical text for `Fingerprint::preprocessing`: equal for two models exactly when they treat every picture alike.
    pub fn canonical(&self) -> String {
        let Size { width, height } = self.size;
        let (fit, filter) = (self.fit.as_str(), self.filter.as_str());
        let numbers = |values: [f32; 3]| values.map(|v| v.to_string()).join(",");
        let mut text = format!("{width}x{height} {fit} {filter} mean={} std={}", numbers(self.mean), numbers(self.std));
        // Only `longest` ever pads.
        if self.fit == Fit::Longest {
            let _ = write!(text, " fill={}", self.fill);
        }
        match self.background {
            Some([r, g, b]) => {
                let _ = write!(text, " background=#{r:02x}{g:02x}{b:02x}");
            }
            None => text.push_str(" background=none"),
        }
        let _ = write!(text, " orientation={}", self.orientation.as_str());
        // Not said of the exact one: that is what collections hold that are older than the choice.
        if self.decoding != Decoding::Exact {
            let _ = write!(text, " decoding={}", self.decoding.as_str());
        }
        text
    }

    /// The image tower's input for a file, decoded for this model alone.
    ///
    /// # Errors
    ///
    /// As [`super::decode_picture`].
    pub fn decode(&self, bytes: &[u8], pixels_max: u64) -> Result<Pixels, PictureError> {
        Ok(self.apply(&decode(bytes, pixels_max, &Models(&[self]))?))
    }

    /// The image tower's input for `picture`.
    ///
    /// # Panics
    ///
    /// When `picture` was decoded for other models than this one.
    pub fn apply(&self, picture: &Picture) -> Pixels {
        let rgb = self.rgb(picture);
        let plane = self.size.width * self.size.height;
        let mut data = vec![0f32; 3 * plane].into_boxed_slice();
        for (channel, out) in data.chunks_exact_mut(plane).enumerate() {
            // One division per value instead of one per pixel; the arithmetic is torch's, in f32.
            let (mean, std) = (self.mean[channel], self.std[channel]);
            let normalised = |value: usize| (value as f32 / 255.0 - mean) / std;
            let table: [f32; 256] =
                std::array::from_fn(|value| if self.is_normalised_later { value as f32 } else { normalised(value) });
            for (out, pixel) in out.iter_mut().zip(rgb.as_chunks::<3>().0) {
                *out = table[usize::from(pixel[channel])];
            }
        }
        Pixels { data, height: self.size.height, width: self.size.width }
    }

    /// The picture before normalisation: rows of RGB pixels, `height * width * 3` bytes.
    ///
    /// # Panics
    ///
    /// As [`Self::apply`].
    pub fn rgb(&self, picture: &Picture) -> Vec<u8> {
        let needed = Models(&[self]).region(picture.size, picture.decoded);
        assert!(picture.held.contains(needed), "a picture is decoded for the models that it is preprocessed for");
        let plan = geometry::plan(self.fit, picture.size, self.size);
        if let Some(background) = self.background
            // Opaque grey and RGB come out the same without a copy.
            && !matches!(
                &picture.samples,
                Samples::Rgb { transparent: None, .. } | Samples::Grey { transparent: None, .. }
            )
        {
            let made = |part| modes::rgb_over(&picture.samples.part(picture.held, part), background);
            let rgb = resize_made::<3>(picture.decoded, made, plan.resized, self.filter, plan.kept);
            return self.padded(rgb, [self.fill; 3], plan);
        }
        let rgb = self.fitted(&picture.samples, picture.decoded, picture.held, plan);
        self.padded(rgb, self.fill_color(&picture.samples), plan)
    }

    /// Resize in the mode of `samples`, which are the part `held` of a picture of size `from`; crop; RGB.
    fn fitted(&self, samples: &Samples, from: Size, held: Region, plan: Plan) -> Vec<u8> {
        let Plan { resized: to, kept, .. } = plan;
        let filter = self.filter;
        // A side or two that keep their length: torchvision returns the picture as it is, PIL copies it.
        let unchanged = from == to;
        let view = |data| View { data, size: from, held };
        match samples {
            Samples::Bilevel { data, .. } => modes::rgb_from_grey(&resize_nearest(view(data), to, kept)),
            Samples::Indexed { data, palette } => {
                modes::rgb_from_palette(&resize_nearest(view(data), to, kept), palette)
            }
            Samples::Grey { data, .. } => modes::rgb_from_grey(&resize::<1>(view(data), to, filter, kept)),
            Samples::Grey16 { data, .. } => {
                modes::rgb_from_grey16(&resize_wide(View { data, size: from, held }, to, filter, kept, clip16))
            }
            Samples::Int(data) => {
                modes::rgb_from_int(&resize_wide(View { data, size: from, held }, to, filter, kept, nearest_int))
            }
            Samples::Float(data) => {
                let stored = |sum| sum as f32;
                modes::rgb_from_float(&resize_wide(View { data, size: from, held }, to, filter, kept, stored))
            }
            Samples::Rgb { data, .. } => resize::<3>(view(data), to, filter, kept),
            Samples::YCbCr(data) => modes::rgb_from_ycbcr(&resize::<3>(view(data), to, filter, kept)),
            Samples::Cmyk(data) => modes::rgb_from_cmyk(&resize::<4>(view(data), to, filter, kept)),
            Samples::GreyAlpha(data) if unchanged => {
                let cropped = resize::<2>(view(data), to, filter, kept);
                modes::rgb_from_grey(&cropped.as_chunks().0.iter().map(|&[grey, _]| grey).collect::<Vec<u8>>())
            }
            Samples::Rgba(data) if unchanged => {
                let cropped = resize::<4>(view(data), to, filter, kept);
                cropped.as_chunks().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect()
            }
            Samples::GreyAlpha(data) => {
                let made = |part| modes::premultiplied::<2>(view(data).crop::<2>(part));
                modes::rgb_from_premultiplied_grey(&resize_made::<2>(from, made, to, filter, kept))
            }
            Samples::Rgba(data) => {
                let made = |part| modes::premultiplied::<4>(view(data).crop::<4>(part));
                modes::rgb_from_premultiplied(&resize_made::<4>(from, made, to, filter, kept))
            }
        }
    }

    /// What is kept, in the middle of `color` where the model's input is larger.
    fn padded(&self, rgb: Vec<u8>, color: [u8; 3], plan: Plan) -> Vec<u8> {
        let Plan { kept, left, top, .. } = plan;
        if (kept.width, kept.height) == (self.size.width, self.size.height) {
            return rgb;
        }
        let row_bytes = self.size.width * 3;
        let mut padded = color.repeat(self.size.width * self.size.height);
        for (row, line) in rgb.chunks_exact(kept.width * 3).zip(padded.chunks_exact_mut(row_bytes).skip(top)) {
            line[left * 3..left * 3 + row.len()].copy_from_slice(row);
        }
        padded
    }

    /// The padding as RGB. It is put in before the conversion to RGB, so the number means an index in a palette, ink
    /// in CMYK.
    fn fill_color(&self, samples: &Samples) -> [u8; 3] {
        let fill = self.fill;
        match samples {
            Samples::Bilevel { .. } => [if fill == 0 { 0 } else { 255 }; 3],
            Samples::Indexed { palette, .. } => {
                let [r, g, b, _] = palette[usize::from(fill)];
                [r, g, b]
            }
            Samples::YCbCr(_) => {
                let light = modes::rgb_from_ycbcr(&[fill; 3]);
                [light[0], light[1], light[2]]
            }
            Samples::Cmyk(_) => {
                let light = modes::rgb_from_cmyk(&[fill; 4]);
                [light[0], light[1], light[2]]
            }
            _ => [fill; 3],
        }
    }
}

#[cfg(test)]
mod tests;
