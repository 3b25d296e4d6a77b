//! Typed settings: defaults < TOML file < environment (`CLIPSTREAM__SECTION__KEY`) < flags, resolved once.
//!
//! [`Layers`] collects the inputs. [`Settings::load`] merges them, reads every section (`read`, beside its struct), checks
//! the settings as a whole (`review`), and reports all problems together. Paths are relative to the working directory.

mod clip;
mod dead_letter;
mod demo_model;
mod hub;
mod kafka;
mod kafka_keys;
mod kafka_oauth;
mod labels;
mod layers;
mod machine;
mod media;
mod pipeline;
mod problem;
mod providers;
mod reader;
mod s3_buckets;
mod show;
mod store;
mod telemetry;
#[cfg(test)]
mod tests;
mod text;
mod values;

use ::config::{Map, Value, ValueKind};

pub use clip::{ActivationMismatch, ClipSettings, ModelEntry};
pub use dead_letter::{DeadLetterSettings, RetryTopic};
pub use hub::HubSettings;
pub use kafka::{KafkaSettings, LAST_COMMIT_MAX_MS, OffsetReset, is_internal, is_pattern};
pub use kafka_keys::{KeyFormat, KeySettings, KeyTemplate};
pub use kafka_oauth::OauthSettings;
pub use labels::{LabelSetSettings, LabelSettings};
pub use layers::Layers;
pub use machine::cores;
pub use media::MediaSettings;
pub use pipeline::PipelineSettings;
pub use problem::{ConfigErrors, Problem, nearest};
pub use providers::{
    Arena, ComputeUnits, CoreMlSettings, CudaSettings, MiGraphXSettings, OpenVinoSettings, Provider, ProviderEntry,
    TensorRtSettings,
};
pub use s3_buckets::S3Allowed;
pub use show::{Effective, Entry};
pub use store::{StoreKind, StoreSettings};
pub use telemetry::{HUNG_AFTER_MS, LogFormat, TelemetrySettings, log_filter};
pub use text::Expected;

use reader::{Reader, Review};

/// All settings, resolved.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub kafka: KafkaSettings,
    pub media: MediaSettings,
    pub clip: ClipSettings,
    pub labels: LabelSettings,
    pub hub: HubSettings,
    pub store: StoreSettings,
    pub pipeline: PipelineSettings,
    pub dead_letter: DeadLetterSettings,
    pub telemetry: TelemetrySettings,
    /// The origin of each value; empty for settings that were created in code.
    pub effective: Effective,
}

impl Settings {
    /// Resolves `layers`. An error contains all problems, each with key, value, origin, what was expected and a hint.
    pub fn load(layers: Layers) -> Result<Self, ConfigErrors> {
        let (tree, mut problems) = layers.merge();
        let mut sections = Sections { tree, done: Vec::new() };
        let mut settings = Self {
            kafka: sections.read("kafka", KafkaSettings::read),
            media: sections.read("media", MediaSettings::read),
            clip: sections.read("clip", ClipSettings::read),
            labels: sections.read("labels", LabelSettings::read),
            hub: sections.read("hub", HubSettings::read),
            store: sections.read("store", StoreSettings::read),
            pipeline: sections.read("pipeline", PipelineSettings::read),
            dead_letter: sections.read("dead_letter", DeadLetterSettings::read),
            telemetry: sections.read("telemetry", TelemetrySettings::read),
            effective: Effective::default(),
        };
        sections.finish(&mut settings.effective, &mut problems);
        settings.review(&mut problems);
        if problems.is_empty() { Ok(settings) } else { Err(ConfigErrors(problems)) }
    }

    /// The effective configuration as TOML, with each value's origin as a comment. Secrets are `"REDACTED"`, and URLs have no
    /// credentials. Empty for settings that were not loaded.
    pub fn show(&self) -> String {
        self.effective.to_toml()
    }

    fn review(&self, problems: &mut Vec<Problem>) {
        let mut review = Review { effective: &self.effective, problems };
        self.kafka.review(&mut review);
        self.media.review(&mut review);
        self.store.review(&mut review);
        self.clip.review(&self.store, &mut review);
        self.labels.review(&self.clip, &mut review);
        self.hub.review(&mut review);
        self.pipeline.review(&self.kafka, self.media.media_bytes_max, &mut review);
        self.dead_letter.review(&self.kafka, &self.store, &mut review);
        self.telemetry.review(&mut review);
    }
}

/// Renamed keys: section, old name, new name. Old names are refused with the new one as a hint, because the meaning has
/// changed as well.
const RENAMED: [(&str, &str, &str); 2] = [
    ("pipeline", "permanent_failures_in_row_max", "dead_letters_in_row_max, which counts dead letters of every class"),
    (
        "pipeline",
        "permanent_failures_percent_max",
        "dead_letters_percent_max, which counts dead letters of every class",
    ),
];

/// The tree of values, section by section.
struct Sections {
    tree: Map<String, Value>,
    done: Vec<(&'static str, Reader)>,
}

impl Sections {
    fn read<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Reader) -> T) -> T {
        let table = match self.tree.get(name).map(|value| &value.kind) {
            Some(ValueKind::Table(_)) => match self.tree.remove(name).map(|value| value.kind) {
                Some(ValueKind::Table(table)) => table,
                _ => Map::new(),
            },
            _ => Map::new(),
        };
        let mut reader = Reader::new(name, table);
        let section = read(&mut reader);
        self.done.push((name, reader));
        section
    }

    /// Collects entries and problems, and reports every unknown key and section as a problem.
    fn finish(self, effective: &mut Effective, problems: &mut Vec<Problem>) {
        let known: Vec<(&str, &str)> =
            self.done.iter().flat_map(|(section, r)| r.keys.iter().map(move |key| (*section, *key))).collect();
        for (section, reader) in &self.done {
            effective.entries.extend(reader.entries.iter().cloned());
            problems.extend(reader.problems.iter().cloned());
            for (key, origin) in reader.rest() {
                let hint = suggestion(section, &key, &known);
                problems.push(unknown(format!("{section}.{key}"), origin, format!("a key of [{section}]"), hint));
            }
        }
        let names: Vec<&str> = self.done.iter().map(|(name, _)| *name).collect();
        let mut rest: Vec<_> = self.tree.into_iter().collect();
        rest.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, value) in rest {
            let origin = reader::origin_of(&value);
            if names.contains(&name.as_str()) {
                problems.push(unknown(name.clone(), origin, format!("a section: [{name}]"), None));
                continue;
            }
            let hint = match (&value.kind, nearest(&name, names.iter().copied())) {
                (ValueKind::Table(_), Some(near)) => Some(format!("did you mean [{near}]?")),
                (ValueKind::Table(_), None) => None,
                (_, _) => suggestion("", &name, &known),
            };
            problems.push(unknown(name, origin, format!("one of the sections {}", names.join(", ")), hint));
        }
    }
}

/// An unknown key's value is not quoted: it may be a secret under a misspelt name.
fn unknown(key: String, origin: Option<String>, expected: String, hint: Option<String>) -> Problem {
    Problem { key, found: None, origin, expected, hint }
}

/// A similar key of the same section, or of another one.
fn suggestion(section: &str, key: &str, known: &[(&str, &str)]) -> Option<String> {
    if let Some((_, _, new)) = RENAMED.iter().find(|(s, old, _)| *s == section && *old == key) {
        return Some(format!("it is now {section}.{new}"));
    }
    let own = known.iter().filter(|(s, _)| *s == section).map(|(_, k)| *k);
    let others = known.iter().filter(|(s, k)| *s != section && *k == key);
    let own = || nearest(key, own).map(|near| format!("did you mean {section}.{near}?"));
    let exact = others.map(|(s, k)| format!("{s}.{k}")).collect::<Vec<_>>();
    if exact.is_empty() { own() } else { Some(format!("did you mean {}?", exact.join(" or "))) }
}

/// Whether HTTP or gRPC clients accept `text` as an address.
fn http_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}
