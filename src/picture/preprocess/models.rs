//! What models need of a picture, worked out from how each preprocesses it.

use super::{Preprocess, geometry, resample};
use crate::domain::{Decoding, Orientation};
use crate::picture::area::{Region, Size};
use crate::picture::need::Need;

/// In fast mode a picture is decoded to at least this many times the size that it is resized to, so that the resize
/// still has something to filter. Measured: see `docs/exactness.md`.
const FAST_OVERSAMPLING: usize = 2;

/// What the models that a picture is decoded for need of it.
#[derive(Clone, Copy)]
pub(crate) struct Models<'a>(pub(crate) &'a [&'a Preprocess]);

impl Need for Models<'_> {
    fn orientation(&self) -> Orientation {
        self.0.first().map_or(Orientation::default(), |model| model.orientation)
    }

    fn reduction(&self, picture: Size) -> usize {
        let one = |model: &&Preprocess| match model.decoding {
            Decoding::Exact => 1,
            Decoding::Fast => {
                let to = geometry::plan(model.fit, picture, model.size).resized;
                let across = picture.width / (to.width * FAST_OVERSAMPLING);
                let down = picture.height / (to.height * FAST_OVERSAMPLING);
                across.min(down).max(1)
            }
        };
        self.0.iter().map(one).min().unwrap_or(1)
    }

    fn region(&self, picture: Size, decoded: Size) -> Region {
        let one = |model: &&Preprocess| {
            let geometry::Plan { resized, kept, .. } = geometry::plan(model.fit, picture, model.size);
            let axis = |from, to, first, count| resample::span(model.filter, from, to, first, count);
            let (left, right) = axis(decoded.width, resized.width, kept.left, kept.width);
            let (top, bottom) = axis(decoded.height, resized.height, kept.top, kept.height);
            Region { left, top, width: right - left, height: bottom - top }
        };
        self.0.iter().map(one).reduce(Region::union).unwrap_or(decoded.whole())
    }

    /// The resize's windows and what is between its passes, of one model at a time; the inputs, of all.
    fn bytes(&self, picture: Size, decoded: Size, pixel_bytes: usize) -> usize {
        let one = |model: &&Preprocess| {
            let plan = geometry::plan(model.fit, picture, model.size);
            let (resized, kept) = (plan.resized, plan.kept);
            let (width, first, count) = (decoded.width, kept.left, kept.width);
            let (left, right) = resample::span(model.filter, width, resized.width, first, count);
            let (top, bottom) = resample::span(model.filter, decoded.height, resized.height, kept.top, kept.height);
            let (columns, rows) = (right - left, bottom - top);
            let windows = resample::windows_bytes(model.filter, decoded.width, resized.width, kept.width)
                + resample::windows_bytes(model.filter, decoded.height, resized.height, kept.height);
            // Whichever pass is first. Palettes and backgrounds become three channels.
            let channels = pixel_bytes.max(3);
            let middle = (kept.width * rows).max(columns * kept.height) * channels;
            // Premultiplied, or composed on a background: a band of it at a time, in up to four forms.
            let is_made = model.background.is_some() || matches!(pixel_bytes, 2 | 4);
            let band = if is_made { (4 * columns * rows * channels).min(resample::BAND_BYTES) } else { 0 };
            windows + middle + band + kept.width * kept.height * 2 * channels
        };
        let inputs = |model: &&Preprocess| model.size.width * model.size.height * (3 * size_of::<f32>() + 6);
        let most = self.0.iter().map(one).max().unwrap_or(0);
        most + self.0.iter().map(inputs).sum::<usize>()
    }
}
