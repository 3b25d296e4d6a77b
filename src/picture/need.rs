//! What a decoder asks of those that it decodes for.

use super::area::{Region, Size};
use crate::domain::Orientation;

/// What is needed of a picture, so that a decoder can leave out the rest.
pub(super) trait Need {
    fn orientation(&self) -> Orientation;

    /// How many times smaller than `picture`, the upright one, its pixels may be; at least 1.
    fn reduction(&self, picture: Size) -> usize;

    /// The part of `picture`, decoded at the size `decoded`, that any result depends on.
    fn region(&self, picture: Size, decoded: Size) -> Region;

    /// Bytes that making every result takes, besides the decoded picture. `picture` and `decoded` as for [`Self::region`].
    fn bytes(&self, picture: Size, decoded: Size, pixel_bytes: usize) -> usize;
}
