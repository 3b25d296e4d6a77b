//! Typed settings: defaults < TOML file < environment < flags, resolved once.

mod clip;
mod dead_letter;
mod kafka;
mod media;
mod pipeline;
mod store;
mod telemetry;

pub use clip::{ClipSettings, ModelEntry, Provider};
pub use dead_letter::DeadLetterSettings;
pub use kafka::KafkaSettings;
pub use media::MediaSettings;
pub use pipeline::PipelineSettings;
pub use store::{StoreKind, StoreSettings};
pub use telemetry::{LogFormat, TelemetrySettings};

/// Everything that can be configured, resolved.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub kafka: KafkaSettings,
    pub media: MediaSettings,
    pub clip: ClipSettings,
    pub store: StoreSettings,
    pub pipeline: PipelineSettings,
    pub dead_letter: DeadLetterSettings,
    pub telemetry: TelemetrySettings,
}
