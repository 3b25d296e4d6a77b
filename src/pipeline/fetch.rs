//! Stage 3: the picture's bytes, unless they are known to be unchanged.

use super::embed::Picture;
use crate::domain::{Failure, MediaRecord, MediaUrl, Stage};
use crate::media::{Fetch, MediaClient};

/// `known`: the record of the picture that the point has.
pub async fn fetch(media: &MediaClient, url: &MediaUrl, known: Option<&MediaRecord>) -> Result<Picture, Failure> {
    let fetched = match known {
        Some(known) => media.fetch_if_changed(url, known).await.map(|fetched| match fetched {
            Fetch::Media(media) => Picture::Fetched(media),
            Fetch::Unchanged(by) => Picture::Unchanged { record: known.clone(), by },
        }),
        None => media.fetch(url).await.map(Picture::Fetched),
    };
    fetched.map_err(|fault| fault.at(Stage::Fetch))
}
