//! Two choices of preprocessing that are settings. Both are part of the fingerprint, because they change vectors.

/// How the orientation in a file's metadata (EXIF tag 0x0112) is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Orientation {
    /// The stored pixels as they are, which is what OpenCLIP embeds.
    #[default]
    Ignore,
    /// The picture as people see it, turned before anything else (`PIL.ImageOps.exif_transpose`).
    Apply,
}

impl Orientation {
    pub const ALL: [Self; 2] = [Self::Ignore, Self::Apply];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "ignore",
            Self::Apply => "apply",
        }
    }
}

/// How much of a JPEG is decoded. Other formats are always decoded in full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Decoding {
    /// Every pixel that the result depends on: OpenCLIP's own values.
    #[default]
    Exact,
    /// A large JPEG at half, a quarter or an eighth of its size, straight from its frequencies: close, and several
    /// times faster.
    Fast,
}

impl Decoding {
    pub const ALL: [Self; 2] = [Self::Exact, Self::Fast];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Fast => "fast",
        }
    }
}
