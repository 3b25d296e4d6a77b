use super::{Preprocess, geometry, resample};
use crate::clip::area::{Region, Size};
use crate::domain::{Decoding, Orientation};

/// In fast mode a picture is decoded to at least this many times the size that it is resized to, so that the resize
/// still has something to filter. Measured: see `docs/exactness.md`.
const FAST_OVERSAMPLING: usize = 2;

/// What models need of a picture, so that a decoder can leave out the rest.
#[derive(Clone, Copy)]
pub(in crate::clip) struct Need<'a> {
    models: &'a [&'a Preprocess],
}

impl<'a> Need<'a> {
    pub fn of(models: &'a [&'a Preprocess]) -> Self {
        Self { models }
    }

    pub fn orientation(self) -> Orientation {
        self.models.first().map_or(Orientation::default(), |model| model.orientation)
    }

    /// How many times smaller than `picture`, the upright one, its pixels may be; at least 1.
    pub fn reduction(self, picture: Size) -> usize {
        let one = |model: &&Preprocess| match model.decoding {
            Decoding::Exact => 1,
            Decoding::Fast => {
                let to = geometry::plan(model.fit, picture, model.size).resized;
                let across = picture.width / (to.width * FAST_OVERSAMPLING);
                let down = picture.height / (to.height * FAST_OVERSAMPLING);
                across.min(down).max(1)
            }
        };
        self.models.iter().map(one).min().unwrap_or(1)
    }

    /// The part of `picture`, decoded at the size `decoded`, that any result depends on.
    pub fn region(self, picture: Size, decoded: Size) -> Region {
        let one = |model: &&Preprocess| {
            let geometry::Plan { resized, kept, .. } = geometry::plan(model.fit, picture, model.size);
            let axis = |from, to, first, count| resample::span(model.filter, from, to, first, count);
            let (left, right) = axis(decoded.width, resized.width, kept.left, kept.width);
            let (top, bottom) = axis(decoded.height, resized.height, kept.top, kept.height);
            Region { left, top, width: right - left, height: bottom - top }
        };
        self.models.iter().map(one).reduce(Region::union).unwrap_or(decoded.whole())
    }
}
