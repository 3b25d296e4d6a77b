//! Reasons of `picture`: decoding a file.

use super::reasons;

reasons! {
    /// Why a file is not a picture that can be embedded. The same bytes fail again.
    PictureReason {
        Undecodable = "image_undecodable", Permanent, "store it again from its original";
        Unsupported = "image_unsupported", Permanent, "convert it to one of these formats";
        TooLarge = "image_too_large", Permanent;
    }
}
