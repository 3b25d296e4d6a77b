use bytes::Bytes;

use super::MediaError;
use crate::budget::{Budget, Reservation};

use super::deadline::Deadline;

/// A body as it is read: counted against the cap and against the memory budget, whatever the server announced.
#[derive(Debug)]
pub(super) struct Body {
    bytes: Vec<u8>,
    bytes_max: u64,
    reservation: Reservation,
    /// Redacted.
    url: String,
}

impl Body {
    /// Reserves memory for a body of `announced` bytes (the cap where the server does not say).
    ///
    /// # Errors
    /// Permanent `media_too_large` or `media_empty`, before anything is read.
    pub(super) async fn begin(
        url: &str,
        announced: Option<u64>,
        bytes_max: u64,
        budget: &Budget,
        deadline: &mut Deadline,
    ) -> Result<Self, MediaError> {
        match announced {
            Some(0) => return Err(empty(url)),
            Some(bytes) if bytes > bytes_max => return Err(too_large(url, &format!("{bytes} bytes"), bytes_max)),
            _ => {}
        }
        let reservation = deadline.paused(budget.reserve(announced.unwrap_or(bytes_max))).await;
        // An announced length is memory that was just reserved, so it may be taken at once.
        let capacity = announced.and_then(|n| usize::try_from(n).ok()).unwrap_or_default();
        Ok(Self { bytes: Vec::with_capacity(capacity), bytes_max, reservation, url: url.to_owned() })
    }

    /// # Errors
    /// Permanent `media_too_large`.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), MediaError> {
        let needed = self.bytes.len() + chunk.len();
        if needed as u64 > self.bytes_max {
            return Err(too_large(&self.url, &format!("more than {needed} bytes"), self.bytes_max));
        }
        if needed > self.bytes.capacity() {
            // Doubling, but never beyond what was reserved.
            let cap = usize::try_from(self.bytes_max).unwrap_or(usize::MAX);
            let capacity = needed.max(self.bytes.capacity().saturating_mul(2)).min(cap);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// # Errors
    /// Permanent `media_empty`.
    pub(super) fn finish(self) -> Result<(Bytes, Reservation), MediaError> {
        if self.bytes.is_empty() {
            return Err(empty(&self.url));
        }
        Ok((Bytes::from(self.bytes), self.reservation))
    }
}

fn empty(url: &str) -> MediaError {
    MediaError::permanent("media_empty", format!("{url}: 0 bytes; expected a picture. Check the file at its source"))
}

fn too_large(url: &str, found: &str, bytes_max: u64) -> MediaError {
    let message = format!("{url}: {found}; expected at most {bytes_max}. Raise media.media_bytes_max to accept it");
    MediaError::permanent("media_too_large", message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn begin(announced: Option<u64>) -> Result<Body, MediaError> {
        let mut deadline = Deadline::after(Duration::from_secs(1));
        Body::begin("u", announced, 10, &Budget::new(1 << 20), &mut deadline).await
    }

    #[tokio::test]
    async fn the_cap_holds_announced_or_not() {
        assert_eq!(begin(Some(11)).await.unwrap_err().reason, "media_too_large");
        assert_eq!(begin(Some(0)).await.unwrap_err().reason, "media_empty");
        let mut body = begin(None).await.unwrap();
        body.push(&[1; 6]).unwrap();
        body.push(&[1; 4]).unwrap();
        assert_eq!(body.bytes.capacity(), 10, "memory stays within what was reserved");
        assert_eq!(body.push(&[1]).unwrap_err().reason, "media_too_large");
        assert_eq!(begin(None).await.unwrap().finish().unwrap_err().reason, "media_empty");
        let mut body = begin(Some(3)).await.unwrap();
        body.push(b"abc").unwrap();
        assert_eq!(&body.finish().unwrap().0[..], b"abc");
    }
}
