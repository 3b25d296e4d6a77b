//! Ways to find that a picture or a text was embedded before, which saves its fetch or its run of a tower.

/// How it was found that a picture or a text is the one that was embedded before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnchangedBy {
    Etag,
    LastModified,
    /// S3's version of the object.
    VersionId,
    /// The bytes were fetched, and have the same SHA-256.
    Content,
    /// The text has the same SHA-256.
    Text,
}

impl UnchangedBy {
    pub const ALL: [Self; 5] = [Self::Etag, Self::LastModified, Self::VersionId, Self::Content, Self::Text];

    /// The label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Etag => "etag",
            Self::LastModified => "last_modified",
            Self::VersionId => "version_id",
            Self::Content => "content",
            Self::Text => "text",
        }
    }
}
