//! Settings of `[hub]`.

use super::http_url;
use super::layers::is_hugging_faces;
use super::reader::{Reader, Review};
use super::text::Expected;
use crate::redact::Secret;

/// `[hub]`: where `clipstream models pull` downloads models from. Endpoint, token and offline also come from
/// `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE`, as in Hugging Face's own tools; this program's settings take precedence.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// The hub or a mirror of it.
    pub endpoint: String,
    /// Access token for private and gated repositories; never shown.
    pub token: Option<Secret>,
    /// Never connect: use only what is on the disk.
    pub offline: bool,
    /// If the hub sends nothing for this long, the attempt has failed.
    pub read_timeout_ms: u64,
    /// Attempts in a row without progress before a pull gives up.
    pub attempts_max: u32,
}

impl Default for HubSettings {
    fn default() -> Self {
        Self {
            endpoint: "https://huggingface.co".into(),
            token: None,
            offline: false,
            read_timeout_ms: 30_000,
            attempts_max: 5,
        }
    }
}

impl HubSettings {
    pub(super) fn read(section: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            endpoint: section.value("endpoint", default.endpoint),
            token: section.secret("token"),
            offline: section.flag("offline", default.offline),
            read_timeout_ms: section.number("read_timeout_ms", default.read_timeout_ms, 100..=3_600_000),
            attempts_max: section.number("attempts_max", default.attempts_max, 1..=100),
        }
    }

    pub(super) fn review(&self, review: &mut Review<'_>) {
        let origin = review.effective.entry("hub.endpoint").and_then(|entry| entry.origin.as_deref());
        // `Hub::new` checks it when a hub is used.
        let is_foreign = origin.is_some_and(is_hugging_faces);
        review.expect(is_foreign || http_url(&self.endpoint), "hub.endpoint", || {
            Expected::new("http(s)://host[/path]").hint("for example https://huggingface.co, or a mirror of it")
        });
    }
}
