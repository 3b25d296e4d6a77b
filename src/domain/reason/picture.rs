use super::reasons;

reasons! {
    /// Why a file is no picture that can be embedded. The same bytes fail again.
    PictureReason {
        Undecodable = "image_undecodable", Permanent;
        Unsupported = "image_unsupported", Permanent;
        TooLarge = "image_too_large", Permanent;
    }
}
