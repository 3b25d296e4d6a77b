//! Stage 2: the picture's bytes.

use crate::domain::{Failure, MediaUrl, Stage};
use crate::media::{Media, MediaClient};

pub async fn fetch(media: &MediaClient, url: &MediaUrl) -> Result<Media, Failure> {
    media.fetch(url).await.map_err(|e| Failure {
        stage: Stage::Fetch,
        class: e.class,
        reason: e.reason,
        message: e.message,
        retry_after: e.retry_after,
    })
}
