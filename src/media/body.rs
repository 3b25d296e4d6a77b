//! Reads bodies, of every scheme, within a byte limit and the shared memory budget. A body that stalls is aborted, sooner if others wait
//! for its memory.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::time::Instant;

use super::MediaError;
use super::deadline::Deadline;
use super::unpack::{Trouble, Unpacker};
use crate::budget::{Budget, Reservation};
use crate::domain::MediaReason;
use crate::redact;

/// Bytes reserved before anything is read. More is reserved as data arrives, whatever the server announces.
const BEGIN_BYTES: u64 = 64 * 1024;
const PACE_BYTES_MIN: u64 = 32 * 1024;

/// What is known about a body before it is read.
#[derive(Debug)]
pub(super) struct Announced {
    /// Its length as sent, if the server announces it.
    pub(super) bytes: Option<u64>,
    pub(super) unpacker: Unpacker,
}

/// Limits for a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) bytes_max: u64,
    /// Longest time without data.
    pub(super) idle: Duration,
    /// The same while others wait for the body's memory.
    pub(super) idle_in_the_way: Duration,
    /// While others wait, a body also fails if it brings less than [`PACE_BYTES_MIN`] in this time.
    pub(super) window: Duration,
}

impl Bounds {
    pub(super) fn new(bytes_max: u64, idle: Duration) -> Self {
        let (idle_in_the_way, window) = (idle.min(Duration::from_secs(3)), Duration::from_secs(5));
        Self { bytes_max, idle, idle_in_the_way, window }
    }

    /// How often progress is checked.
    fn look(&self) -> Duration {
        self.idle_in_the_way / 8
    }
}

/// A body being read: unpacked, and counted against the size limit and the memory budget.
#[derive(Debug)]
pub(super) struct Body {
    bytes: Vec<u8>,
    announced: Option<u64>,
    unpacker: Unpacker,
    bounds: Bounds,
    reservation: Reservation,
    /// Redacted.
    url: String,
    pace: Pace,
}

#[derive(Debug)]
struct Pace {
    came_at: Instant,
    window_from: Instant,
    window_bytes: u64,
}

impl Pace {
    fn begin() -> Self {
        let now = Instant::now();
        Self { came_at: now, window_from: now, window_bytes: 0 }
    }
}

impl Body {
    /// Reserves memory for the beginning of a body, from `host`'s share.
    ///
    /// # Errors
    /// Permanent `media_too_large` or `media_empty`, before anything is read.
    pub(super) async fn begin(
        url: &str,
        host: Option<&str>,
        announced: Announced,
        bounds: Bounds,
        budget: &Budget,
        deadline: &mut Deadline,
    ) -> Result<Self, MediaError> {
        match announced.bytes {
            Some(0) => return Err(empty(url)),
            Some(bytes) if bytes > bounds.bytes_max => {
                return Err(too_large(url, &format!("{bytes} bytes"), bounds.bytes_max));
            }
            _ => {}
        }
        let mut reservation = budget.begin(host);
        let begins = announced.bytes.unwrap_or(bounds.bytes_max).min(BEGIN_BYTES);
        deadline.paused(reservation.grow_to(begins)).await;
        Ok(Self {
            bytes: Vec::new(),
            announced: announced.bytes,
            unpacker: announced.unpacker,
            bounds,
            reservation,
            url: url.to_owned(),
            pace: Pace::begin(),
        })
    }

    /// Reads the body to its end.
    ///
    /// # Errors
    /// Permanent `media_too_large`, `media_empty`, `http_encoding_unsupported`, `content_encoding_invalid`; transient
    /// `body_incomplete`, `body_stalled`, `fetch_timeout`; and the errors of `content`.
    pub(super) async fn read(
        mut self,
        deadline: &mut Deadline,
        content: impl Stream<Item = Result<Bytes, MediaError>>,
    ) -> Result<(Bytes, Reservation), MediaError> {
        let mut content = pin!(content);
        loop {
            let next = tokio::time::timeout(self.bounds.look(), content.next());
            match deadline.run(&self.url, "reading the body", next).await? {
                Ok(Some(chunk)) => self.push(&chunk?, deadline).await?,
                Ok(None) => return self.finish(deadline).await,
                Err(_) => self.check_pace()?,
            }
        }
    }

    /// Stores `bytes`, which are the whole body.
    ///
    /// # Errors
    /// Permanent `media_empty`, and `media_too_large`.
    pub(super) async fn whole(
        mut self,
        bytes: &[u8],
        deadline: &mut Deadline,
    ) -> Result<(Bytes, Reservation), MediaError> {
        self.push(bytes, deadline).await?;
        self.finish(deadline).await
    }

    async fn push(&mut self, chunk: &[u8], deadline: &mut Deadline) -> Result<(), MediaError> {
        self.pace.came_at = Instant::now();
        self.pace.window_bytes += chunk.len() as u64;
        let mut left = chunk;
        loop {
            if self.unpacker.is_plain() {
                self.put(left, deadline).await?;
                break;
            }
            let (used, given) = self.unpacker.step(left).map_err(|trouble| self.trouble(trouble))?;
            if used == 0 && given.is_empty() {
                break;
            }
            self.put(&given, deadline).await?;
            left = &left[used..];
        }
        self.check_pace()
    }

    async fn put(&mut self, part: &[u8], deadline: &mut Deadline) -> Result<(), MediaError> {
        let needed = self.bytes.len() + part.len();
        if needed as u64 > self.bounds.bytes_max {
            return Err(too_large(&self.url, &format!("more than {needed} bytes"), self.bounds.bytes_max));
        }
        if needed > self.bytes.capacity() {
            // Doubles, but never beyond what can still come.
            let may_come = match self.announced.filter(|_| !self.unpacker.expands()) {
                Some(announced) if needed as u64 <= announced => announced,
                _ => self.bounds.bytes_max,
            };
            let wanted = (needed as u64).max(self.bytes.capacity() as u64 * 2).max(BEGIN_BYTES).min(may_come);
            let since = Instant::now();
            deadline.paused(self.reservation.grow_to(wanted + self.unpacker.window_bytes())).await;
            if since.elapsed() >= self.bounds.look() {
                // The server was waiting for us.
                self.pace = Pace::begin();
            }
            let capacity = usize::try_from(wanted).unwrap_or(usize::MAX);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(part);
        Ok(())
    }

    async fn finish(mut self, deadline: &mut Deadline) -> Result<(Bytes, Reservation), MediaError> {
        let rest = self.unpacker.end().map_err(|trouble| self.trouble(trouble))?;
        self.put(&rest, deadline).await?;
        if self.bytes.is_empty() {
            return Err(empty(&self.url));
        }
        self.reservation.complete();
        Ok((Bytes::from(self.bytes), self.reservation))
    }

    /// Fails if nothing arrives for too long, or too little while others wait for the body's memory.
    fn check_pace(&mut self) -> Result<(), MediaError> {
        let now = Instant::now();
        let idle = now.saturating_duration_since(self.pace.came_at);
        let so_far = self.bytes.len();
        if idle >= self.bounds.idle {
            let message =
                format!("{}: nothing came for {} ms after {so_far} bytes of the body", self.url, idle.as_millis());
            let hint = "raise media.idle_timeout_ms if the server is merely slow";
            return Err(MediaError::new(MediaReason::BodyStalled, message).hint(hint));
        }
        let mut slow = false;
        if now.saturating_duration_since(self.pace.window_from) >= self.bounds.window {
            slow = self.pace.window_bytes < PACE_BYTES_MIN;
            self.pace = Pace { came_at: self.pace.came_at, window_from: now, window_bytes: 0 };
        }
        if (slow || idle >= self.bounds.idle_in_the_way) && self.reservation.is_blocking_others() {
            let message = format!(
                "{}: too little came after {so_far} bytes of the body while others waited for its memory \
                 (pipeline.media_in_flight_bytes_max)",
                self.url
            );
            return Err(MediaError::new(MediaReason::BodyStalled, message));
        }
        Ok(())
    }

    fn trouble(&self, trouble: Trouble) -> MediaError {
        let url = &self.url;
        match trouble {
            Trouble::Unsupported(named) => {
                let named = redact::cut(&named, 40);
                let message = format!(
                    "{url}: packed as {named}; expected no Content-Encoding, as was asked for, or one of gzip, deflate, br, zstd"
                );
                MediaError::new(MediaReason::HttpEncodingUnsupported, message)
            }
            Trouble::Damaged => {
                let message = format!("{url}: the body cannot be unpacked as its Content-Encoding says");
                MediaError::new(MediaReason::ContentEncodingInvalid, message)
            }
            Trouble::Incomplete => {
                let message = format!("{url}: the packed body ends before its end");
                MediaError::new(MediaReason::BodyIncomplete, message)
            }
        }
    }
}

fn empty(url: &str) -> MediaError {
    MediaError::new(MediaReason::Empty, format!("{url}: 0 bytes; expected a picture"))
}

fn too_large(url: &str, found: &str, bytes_max: u64) -> MediaError {
    let message = format!("{url}: {found}; expected at most {bytes_max}");
    MediaError::new(MediaReason::TooLarge, message)
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
