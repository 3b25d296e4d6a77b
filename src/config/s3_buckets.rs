//! Settings of `media.s3_buckets`.

use super::text::{Expected, Text};

/// An entry of `media.s3_buckets`: what messages may name with `s3://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum S3Allowed {
    /// `*`: everything that the credentials can read.
    Everything,
    /// `bucket`: all of its keys.
    Bucket(String),
    /// `bucket/prefix*`: its keys with this prefix.
    Prefix(String, String),
    /// `bucket/key`: only that key.
    Key(String, String),
}

impl S3Allowed {
    /// Whether it allows reading `key` of `bucket`. Keys with `.` or `..` among their parts never match a prefix, because some
    /// servers use keys as file paths.
    pub fn covers(&self, bucket: &str, key: &str) -> bool {
        let plain = || !key.split(['/', '\\']).any(|part| matches!(part, "." | ".."));
        match self {
            Self::Everything => true,
            Self::Bucket(name) => name == bucket,
            Self::Prefix(name, prefix) => name == bucket && key.starts_with(prefix) && plain(),
            Self::Key(name, whole) => name == bucket && key == whole,
        }
    }
}

impl Text for S3Allowed {
    fn parse(text: &str) -> Result<Self, Expected> {
        let expected = || {
            Expected::new("names of buckets, with bucket/prefix/* for a part of one; * alone for every bucket")
                .hint("for example media, archive/public/*")
        };
        if text == "*" {
            return Ok(Self::Everything);
        }
        let (bucket, key) = text.split_once('/').map_or((text, None), |(bucket, key)| (bucket, Some(key)));
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if bucket.is_empty() || !bucket.chars().all(plain) {
            return Err(expected());
        }
        let bucket = bucket.to_owned();
        match key.map(|key| (key, key.strip_suffix('*'))) {
            None | Some(("", _) | (_, Some(""))) => Ok(Self::Bucket(bucket)),
            Some((_, Some(prefix))) if !prefix.contains('*') => Ok(Self::Prefix(bucket, prefix.to_owned())),
            Some((key, None)) if !key.contains('*') => Ok(Self::Key(bucket, key.to_owned())),
            Some(_) => Err(expected()),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Everything => "*".to_owned(),
            Self::Bucket(bucket) => bucket.clone(),
            Self::Prefix(bucket, prefix) => format!("{bucket}/{prefix}*"),
            Self::Key(bucket, key) => format!("{bucket}/{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_cover_what_they_say() {
        let cases = [
            ("*", "any", "key", true),
            ("media", "media", "a/b.jpg", true),
            ("media", "media-2", "a/b.jpg", false),
            ("media", "Media", "a/b.jpg", false),
            ("media/", "media", "a/b.jpg", true),
            ("media/*", "media", "a/b.jpg", true),
            ("media/a/*", "media", "a/b.jpg", true),
            ("media/a/*", "media", "ab.jpg", false),
            ("media/a/*", "media", "A/b.jpg", false),
            ("media/a/*", "media", "/a/b.jpg", false),
            ("media/a/*", "other", "a/b.jpg", false),
            // A server that stores files would read elsewhere.
            ("media/a/*", "media", "a/../b.jpg", false),
            ("media/a/*", "media", "a/./b.jpg", false),
            ("media/a/*", "media", "a/..\\b.jpg", false),
            ("media/a/*", "media", "a/..b.jpg", true),
            ("media/a*", "media", "ab.jpg", true),
            ("media/a/b.jpg", "media", "a/b.jpg", true),
            ("media/a/b.jpg", "media", "a/b.jpg2", false),
        ];
        for (entry, bucket, key, covered) in cases {
            let Ok(entry) = S3Allowed::parse(entry) else { panic!("{entry}") };
            assert_eq!(entry.covers(bucket, key), covered, "{entry:?} {bucket}/{key}");
            let Ok(again) = S3Allowed::parse(&entry.text()) else { panic!("{entry:?}") };
            assert_eq!(again, entry);
        }
        for wrong in
            ["", "s3://media", "media*", "me dia", "media/*/b", "media/a*b", "/media", "**", "arn:aws:s3:::media"]
        {
            assert!(S3Allowed::parse(wrong).is_err(), "{wrong}");
        }
    }
}
