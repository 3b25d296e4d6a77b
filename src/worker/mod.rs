//! Assembles ports and pipeline: the same worker behind `run`, `index` and `demo`, with other sources and dead letters.

mod cores;
mod trial;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use trial::{TrialCommand, TrialProcesses, TrialSettings, answer_trials};

use crate::budget::Budget;
use crate::clip::{Clip, ClipError, PictureLimits, PicturePool};
use crate::config::{KafkaSettings, KeySettings, RetryTopic, Settings, is_pattern};
use crate::dead_letter::{DeadLetterError, DeadLetters, KafkaDeadLetters};
use crate::domain::{Explain, Finding, Labelling, Modality, ModelId, StoreReason};
use crate::format::{Format, Reader};
use crate::media::{MediaClient, MediaError};
use crate::picture::{AVIF_HAS_SIMD, JPEG_HAS_SIMD};
use crate::pipeline::{self, Parts, PipelineError, Progress, Summary};
use crate::shutdown::{STORE_CLOSE_MAX, Shutdown, TOWERS_CLOSE_MAX};
use crate::source::{KafkaSource, Source, SourceError, Trials};
use crate::store::{self, CollectionDefinition, CollectionSpec, Store, StoreError, index_of_labels};
use crate::telemetry::{Component, Health, Metrics};

/// Everything between source and dead letters: models, media, store and its collections.
pub struct Worker {
    settings: Settings,
    models: Vec<(Arc<Clip>, String)>,
    labels: BTreeMap<ModelId, Arc<Labelling>>,
    media: MediaClient,
    store: Arc<dyn Store>,
    trials: Option<Arc<dyn Trials>>,
    health: Health,
    metrics: Arc<Metrics>,
}

#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Model(#[from] ClipError),
    #[error(transparent)]
    Media(#[from] MediaError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    DeadLetter(#[from] DeadLetterError),
    #[error("{}", self.explain())]
    NoModel,
    #[error("{}", self.explain())]
    Broken(String),
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
}

impl Explain for WorkerError {
    fn explain(&self) -> Finding {
        match self {
            Self::Model(error) => error.explain(),
            Self::Media(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Source(error) => error.explain(),
            Self::DeadLetter(error) => error.explain(),
            Self::NoModel => {
                Finding::new("no model is configured").hint("set clip.models, for example \"ViT-B-32/openai\"")
            }
            Self::Broken(why) => Finding::new(format!("loading a model broke: {why}")),
            Self::Pipeline(error) => error.explain(),
        }
    }
}

impl Worker {
    /// Loads the models, connects, creates missing collections, and refuses collections that another model filled.
    /// Consumes nothing yet.
    pub async fn assemble(settings: &Settings, health: Health, metrics: Arc<Metrics>) -> Result<Self, WorkerError> {
        cores::warn_of_settings(&settings.clip);
        if !AVIF_HAS_SIMD {
            tracing::warn!(
                "this build decodes AVIF files without SIMD, which takes several times as long: build it with `make` where nasm is installed"
            );
        }
        if !JPEG_HAS_SIMD {
            tracing::warn!(
                "this build decodes JPEG files without SIMD, which takes about twice as long: build it where nasm is installed"
            );
        }
        Self::with_models(settings, load_models(settings, &metrics).await?, health, metrics).await
    }

    /// The same models with other settings of everything else, such as another store; without trials.
    pub async fn with_settings(&self, settings: &Settings) -> Result<Self, WorkerError> {
        let clips = self.models.iter().map(|(clip, _)| clip.clone()).collect();
        Self::with_models(settings, clips, Health::new(), Arc::default()).await
    }

    async fn with_models(
        settings: &Settings,
        clips: Vec<Arc<Clip>>,
        health: Health,
        metrics: Arc<Metrics>,
    ) -> Result<Self, WorkerError> {
        let store = store::open(&settings.store).await?;
        let definition = match &settings.store.collection_definition {
            Some(path) => CollectionDefinition::from_file(path)?,
            None => CollectionDefinition::built_in(),
        };
        let (mut models, mut labels) = (Vec::with_capacity(clips.len()), BTreeMap::new());
        for clip in clips {
            let name = clip.id().collection(&settings.store.collection_template, &settings.store.catalog);
            health.note(format!("model {}", clip.id()), clip.runs().to_string());
            clip.pulses().for_each(|pulse| health.watch(pulse.clone()));
            let digested = clip.clone();
            let fingerprint = blocking(move || digested.fingerprint().cloned()).await?;
            let mut definition = definition.clone();
            if let Some(labelling) = clip.labelling(&settings.labels).await? {
                definition.add_index(index_of_labels());
                labels.insert(clip.id().clone(), Arc::new(labelling));
            }
            store.ensure(&CollectionSpec { name: name.clone(), fingerprint, definition }).await?;
            models.push((clip, name));
        }
        let (_, default_collection) = models.first().ok_or(WorkerError::NoModel)?;
        let alias = ModelId::slug(&settings.store.catalog);
        let names = store.ensure_alias(&alias, default_collection).await?;
        if names != *default_collection {
            tracing::warn!(alias, %names, default_collection, "the alias names another collection; backends that search by the alias use that one");
        }
        let budget = Budget::new(settings.pipeline.media_in_flight_bytes_max);
        let pause_max = Duration::from_millis(settings.pipeline.backoff_cap_ms);
        let media = MediaClient::new(&settings.media, budget, metrics.clone()).await?.with_pause_max(pause_max);
        if let Some(warning) = media.warning() {
            tracing::warn!("{warning}");
        }
        Ok(Self { settings: settings.clone(), models, labels, media, store, trials: None, health, metrics })
    }

    /// Where suspicious messages are tried. Without it, a message that crashes the worker comes again without end.
    #[must_use]
    pub fn with_trials(self, trials: Arc<dyn Trials>) -> Self {
        Self { trials: Some(trials), ..self }
    }

    /// Opens towers that are not open yet, of all models: for a caller who knows that they are needed, or measures what they do.
    pub async fn open_towers(&self, towers: &[Modality]) -> Result<(), WorkerError> {
        open_towers(self.models.iter().map(|(clip, _)| clip), towers).await
    }

    /// Tests the models' towers that are not open yet. A worker that runs for months does this at its start, since a tower is opened
    /// only when it is needed.
    pub async fn prove_models(&self) -> Result<(), WorkerError> {
        for (clip, _) in &self.models {
            let clip = clip.clone();
            blocking(move || clip.prove()).await?;
        }
        Ok(())
    }

    /// The models with their collections, the default one first.
    pub fn models(&self) -> &[(Arc<Clip>, String)] {
        &self.models
    }

    /// What pictures are labelled with, by model.
    pub fn labels(&self) -> &BTreeMap<ModelId, Arc<Labelling>> {
        &self.labels
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub fn media(&self) -> &MediaClient {
        &self.media
    }

    /// Closes the store, then the models, each with a time limit ([`crate::shutdown::stop_max`]); abandons what hangs.
    ///
    /// # Errors
    /// The store could not flush everything. Confirmed writes are safe.
    pub async fn close(self) -> Result<(), WorkerError> {
        let closed = tokio::time::timeout(STORE_CLOSE_MAX, self.store.close()).await;
        let closed = closed.unwrap_or_else(|_| {
            let seconds = STORE_CLOSE_MAX.as_secs();
            Err(StoreError::new(StoreReason::CloseTimeout, format!("the store did not close within {seconds} s")))
        });
        // On a separate thread, which can be left behind if a tower hangs.
        let models = tokio::task::spawn_blocking(move || drop(self));
        if tokio::time::timeout(TOWERS_CLOSE_MAX, models).await.is_err() {
            tracing::warn!("a model did not close within {} s and is left behind", TOWERS_CLOSE_MAX.as_secs());
        }
        Ok(closed?)
    }

    /// Consumes the configured Kafka topics until a stop is requested.
    pub async fn consume(&self, shutdown: Shutdown, progress: Arc<Progress>) -> Result<Summary, WorkerError> {
        let dead_letters = KafkaDeadLetters::new(&self.settings.kafka, &self.settings.dead_letter)?;
        let (health, metrics) = (self.health.clone(), self.metrics.clone());
        let kafka = without_dead_letters(&self.settings.kafka, &self.settings.dead_letter.topic);
        let (retry_topics, pipeline) = (retry_topics(&self.settings), &self.settings.pipeline);
        let source = match self.trials.clone() {
            None => KafkaSource::connect(&kafka, retry_topics, pipeline, health, metrics).await?,
            Some(trials) => {
                KafkaSource::connect_with_trials(&kafka, retry_topics, pipeline, trials, health, metrics).await?
            }
        };
        let keys = self.settings.kafka.keys.clone();
        self.process(Box::new(source), keys, Arc::new(dead_letters), shutdown, progress).await
    }

    /// Consumes `source` until it ends or a stop is requested. Its messages' keys and headers have no meaning.
    pub async fn ingest(
        &self,
        source: Box<dyn Source>,
        dead_letters: Arc<dyn DeadLetters>,
        shutdown: Shutdown,
        progress: Arc<Progress>,
    ) -> Result<Summary, WorkerError> {
        self.process(source, KeySettings::default(), dead_letters, shutdown, progress).await
    }

    async fn process(
        &self,
        source: Box<dyn Source>,
        keys: KeySettings,
        dead_letters: Arc<dyn DeadLetters>,
        shutdown: Shutdown,
        progress: Arc<Progress>,
    ) -> Result<Summary, WorkerError> {
        let parts = Parts {
            settings: self.settings.pipeline.clone(),
            store_settings: self.settings.store.clone(),
            reader: reader(&self.settings, keys),
            retries: !retry_topics(&self.settings).is_empty(),
            pictures: picture_pool(&self.settings)?,
            models: self.models.clone(),
            labels: self.labels.clone(),
            media: self.media.clone(),
            store: self.store.clone(),
            dead_letters,
            shutdown,
            health: self.health.clone(),
            metrics: self.metrics.clone(),
            progress,
        };
        self.health.ready(Component::Worker);
        let ended = tokio::select! {
            ended = pipeline::run(source, parts) => ended,
            never = cores::watch() => never,
        };
        self.health.unready(Component::Worker, "stopping");
        Ok(ended?)
    }
}

fn retry_topics(settings: &Settings) -> Vec<RetryTopic> {
    settings.dead_letter.retry_topics(&settings.kafka.topics)
}

/// A retry topic has the op of the topic whose messages wait in it.
fn reader(settings: &Settings, keys: KeySettings) -> Reader {
    let mut topic_ops = settings.kafka.topic_ops.clone();
    for RetryTopic { name, source, .. } in retry_topics(settings) {
        topic_ops.extend(topic_ops.get(&source).map(|op| (name, *op)));
    }
    Reader { format: Format::Json, topic_ops, keys }
}

fn picture_pool(settings: &Settings) -> Result<Arc<PicturePool>, WorkerError> {
    let pool = PicturePool::new(PictureLimits::of(settings));
    pool.map(Arc::new).map_err(|e| WorkerError::Broken(format!("no threads to preprocess on: {e}")))
}

/// A pattern in `kafka.topics` may also match dead-letter topics, whose messages would be dead-lettered again and
/// again. librdkafka skips topics that match `topic.blacklist`; an explicit setting of that property wins.
fn without_dead_letters(kafka: &KafkaSettings, template: &str) -> KafkaSettings {
    let mut kafka = kafka.clone();
    if kafka.topics.iter().any(|topic| is_pattern(topic)) {
        // Topic names have only letters, digits, `.`, `_` and `-`.
        let pattern = template.replace('.', "\\.").replace("{topic}", ".*");
        kafka.properties.entry("topic.blacklist".to_owned()).or_insert_with(|| format!("^{pattern}$"));
    }
    kafka
}

async fn load_models(settings: &Settings, metrics: &Arc<Metrics>) -> Result<Vec<Arc<Clip>>, WorkerError> {
    let (clip_settings, metrics) = (settings.clip.clone(), metrics.clone());
    blocking(move || Clip::prepare_all(&clip_settings, &metrics)).await
}

async fn open_towers(models: impl IntoIterator<Item = &Arc<Clip>>, towers: &[Modality]) -> Result<(), WorkerError> {
    for clip in models {
        let (clip, towers) = (clip.clone(), towers.to_vec());
        blocking(move || clip.open(&towers)).await?;
    }
    Ok(())
}

/// Off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClipError> + Send + 'static,
) -> Result<T, WorkerError> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(|e| WorkerError::Broken(e.to_string()))??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_do_not_match_dead_letter_topics() {
        let blacklist = |topics: &[&str], template: &str| {
            let topics = topics.iter().map(|t| (*t).to_owned()).collect();
            let kafka = KafkaSettings { topics, ..KafkaSettings::default() };
            without_dead_letters(&kafka, template).properties.get("topic.blacklist").cloned()
        };
        assert_eq!(blacklist(&["^assets.*"], "{topic}.dlq").as_deref(), Some("^.*\\.dlq$"));
        assert_eq!(blacklist(&["a", "^b"], "dead").as_deref(), Some("^dead$"));
        assert_eq!(blacklist(&["assets"], "{topic}.dlq"), None, "names are checked with the configuration");
    }
}
