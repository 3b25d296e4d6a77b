//! The whole pipeline on one machine without servers: pictures and captions as Kafka messages (librdkafka's in-process mock
//! cluster), fetched over HTTP, embedded, stored in Qdrant's engine, found again by text. Between the two ends it is the same
//! worker as in `run`.

mod catalog;
mod media_server;
mod page;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use rdkafka::mocking::MockCluster;
use serde::Serialize;

use crate::api::{Embedder, Needs, SearchError, SearchHit, SearchRequest, Searcher, needs_alone};
use crate::config::{Settings, cores};
use crate::domain::{Explain, Finding, Modality, Op};
use crate::pipeline::Progress;
use crate::shutdown::Shutdown;
use crate::source::{ProduceError, Producer};
use crate::store;
use crate::telemetry::{Health, Metrics};
use crate::worker::{Worker, WorkerError};

use catalog::Catalog;
use media_server::MediaServer;
use page::Row;

const IMAGES: &str = "demo.images";
const CAPTIONS: &str = "demo.captions";
const PARTITIONS: i32 = 4;

/// Queries of the page. The catalog has related names in other words, so that the results show the model's quality.
const QUERIES: [&str; 8] = [
    "a red heart",
    "a smiling face with sunglasses",
    "a dog",
    "something to eat for breakfast",
    "musical instrument",
    "a flag with stars",
    "rain and clouds",
    "a vehicle on water",
];

/// Found pictures per query on the page.
const PAGE_HITS: usize = 8;

/// Concurrent searches while recall is measured.
const SEARCHES_IN_FLIGHT: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("{0}")]
    Catalog(Finding),
    #[error("the mock cluster failed: {0}")]
    Cluster(#[from] rdkafka::error::KafkaError),
    #[error(transparent)]
    Produce(#[from] ProduceError),
    #[error(transparent)]
    Worker(#[from] WorkerError),
    #[error(transparent)]
    Store(#[from] store::StoreError),
    #[error(transparent)]
    Search(#[from] SearchError),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("stopped before all messages were indexed: {settled} of {messages}")]
    Stopped { settled: u64, messages: u64 },
}

impl Explain for DemoError {
    fn explain(&self) -> Finding {
        match self {
            Self::Produce(error) => error.explain(),
            Self::Worker(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Search(error) => error.explain(),
            Self::Catalog(finding) => finding.clone(),
            Self::Cluster(_) | Self::Io { .. } | Self::Stopped { .. } => Finding::new(self.to_string()),
        }
    }
}

/// What the demo measured. The field names are the keys of `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub messages: u64,
    pub points: u64,
    pub dead_letters: u64,
    /// Pictures that the store had already, from an earlier run: they are not embedded again.
    pub pictures_unchanged: u64,
    /// Messages (pictures and captions) per second, from the first taken to the last settled.
    pub items_per_s: f64,
    /// Pictures and captions per second through the towers alone, one tower after the other with all cores.
    pub model_items_per_s: f64,
    /// Pictures and captions per second that the cores can do, if all but decoding and the model is free.
    pub bound_items_per_s: f64,
    /// Share of captions whose own picture is the first hit.
    pub recall_at_1: f64,
    /// Share of captions whose own picture is among the first five.
    pub recall_at_5: f64,
    pub page: PathBuf,
}

impl Report {
    /// Names and values as text.
    pub fn figures(&self) -> Vec<(String, String)> {
        let figure = |name: &str, value: String| (name.to_owned(), value);
        // Every picture comes with one caption.
        let pairs = |items_per_s: f64| format!("{:.0}", items_per_s / 2.0);
        let rate = match self.pictures_unchanged {
            0 => figure("images/s end to end", pairs(self.items_per_s)),
            unchanged => figure("images not embedded (stored by an earlier run)", unchanged.to_string()),
        };
        vec![
            figure("messages", self.messages.to_string()),
            figure("points", self.points.to_string()),
            figure("dead letters", self.dead_letters.to_string()),
            rate,
            figure("images/s decoder and model alone", pairs(self.bound_items_per_s)),
            figure("images/s model alone", pairs(self.model_items_per_s)),
            figure("text → image recall@1", format!("{:.3}", self.recall_at_1)),
            figure("text → image recall@5", format!("{:.3}", self.recall_at_5)),
        ]
    }
}

pub struct Options {
    /// The folder with `catalog/`.
    pub assets: PathBuf,
    /// Where the page is written.
    pub page: PathBuf,
}

/// Runs the demo. `watch` gets the number of messages and the growing counts, for a progress bar.
pub async fn run(
    mut settings: Settings,
    options: Options,
    shutdown: Shutdown,
    watch: impl FnOnce(u64, Arc<Progress>),
) -> Result<Report, DemoError> {
    let catalog = Catalog::read(&options.assets.join("catalog"))?;
    let messages = 2 * catalog.items.len() as u64;
    let server = MediaServer::start(&catalog.directory)
        .await
        .map_err(|source| DemoError::Io { what: "cannot serve the demo's pictures".into(), source })?;
    let cluster = MockCluster::new(1)?;
    for topic in [IMAGES, CAPTIONS] {
        cluster.create_topic(topic, PARTITIONS, 1)?;
    }
    configure(&mut settings, &cluster, &server);
    produce(&settings, &catalog, &server).await?;

    let progress = Arc::new(Progress::default());
    watch(messages, progress.clone());
    let metrics = Arc::<Metrics>::default();
    let worker = Worker::assemble(&settings, Health::new(), metrics.clone()).await?;
    worker.open_towers(&Modality::ALL).await?;
    let consumed = Shutdown::new();
    let stop_when_done =
        tokio::spawn(stop_when_settled(progress.clone(), messages, shutdown.clone(), consumed.clone()));
    let ended = worker.consume(consumed, progress.clone()).await;
    stop_when_done.abort();
    let summary = ended?;
    if summary.settled < messages {
        return Err(DemoError::Stopped { settled: summary.settled, messages });
    }

    let (clip, collection) = &worker.models()[0];
    let embedder = Embedder::new(clip.clone(), worker.media().clone(), &settings).map_err(SearchError::from)?;
    let searcher = Searcher::new(embedder, worker.store().clone(), &settings.store).await?;
    let (recall_at_1, recall_at_5) = recall(&searcher, &catalog).await?;
    let texts: Vec<String> = catalog.items.iter().map(|item| item.text.clone()).collect();
    let pictures = catalog.items.iter().map(|item| catalog.directory.join(&item.image)).collect();
    let needs =
        needs_alone(searcher.embedder(), &settings, pictures, texts, &shutdown).await.map_err(SearchError::from)?;
    let needs: Needs = needs.ok_or(DemoError::Stopped { settled: summary.settled, messages })?;
    let report = Report {
        messages,
        points: worker.store().count(collection).await?,
        dead_letters: summary.dead_lettered,
        pictures_unchanged: metrics.unchanged_pictures(),
        items_per_s: messages as f64 / progress.elapsed().as_secs_f64(),
        model_items_per_s: needs.model_items_per_s(),
        bound_items_per_s: needs.bound_items_per_s(cores(), 0.0),
        recall_at_1,
        recall_at_5,
        page: options.page,
    };
    write_page(&searcher, &catalog, &report).await?;
    searcher.close().await?;
    Ok(report)
}

/// The user's settings with the demo's source and sink.
fn configure(
    settings: &mut Settings,
    cluster: &MockCluster<'_, rdkafka::producer::DefaultProducerContext>,
    server: &MediaServer,
) {
    settings.kafka.brokers = vec![cluster.bootstrap_servers()];
    settings.kafka.topics = vec![IMAGES.to_owned(), CAPTIONS.to_owned()];
    settings.kafka.topic_ops = BTreeMap::from([(IMAGES.to_owned(), Op::Patch), (CAPTIONS.to_owned(), Op::Patch)]);
    settings.kafka.group_id = "clipstream-demo".to_owned();
    settings.media.allow_hosts.push(server.address.ip().to_string());
}

async fn produce(settings: &Settings, catalog: &Catalog, server: &MediaServer) -> Result<(), DemoError> {
    let producer = Producer::new(&settings.kafka)?;
    let media_url = format!("http://{}", server.address);
    let mut deliveries = Vec::with_capacity(2 * catalog.items.len());
    for item in &catalog.items {
        for (topic, value) in [(IMAGES, item.image_message(&media_url)), (CAPTIONS, item.caption_message())] {
            deliveries.push(producer.send(topic, Some(item.id.as_bytes()), Some(&value), &[]).await?);
        }
    }
    for delivery in deliveries {
        delivery.await?;
    }
    Ok(())
}

/// Stops the worker once it has settled everything, since a Kafka topic has no end, or as `shutdown` asks.
async fn stop_when_settled(progress: Arc<Progress>, messages: u64, shutdown: Shutdown, worker: Shutdown) {
    while progress.settled() < messages && !shutdown.is_requested() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    worker.request();
    shutdown.forced().await;
    worker.request();
}

async fn recall(searcher: &Searcher, catalog: &Catalog) -> Result<(f64, f64), DemoError> {
    let ranks: Vec<Result<Option<usize>, SearchError>> = stream::iter(&catalog.items)
        .map(async |item| {
            let hits = search(searcher, &item.text, 5).await?;
            Ok(hits.iter().position(|hit| hit.asset_id() == Some(&item.id)))
        })
        .buffer_unordered(SEARCHES_IN_FLIGHT)
        .collect()
        .await;
    let ranks = ranks.into_iter().collect::<Result<Vec<_>, _>>()?;
    let share = |of: fn(&Option<usize>) -> bool| ranks.iter().filter(|r| of(r)).count() as f64 / ranks.len() as f64;
    Ok((share(|rank| *rank == Some(0)), share(Option::is_some)))
}

async fn search(searcher: &Searcher, text: &str, limit: usize) -> Result<Vec<SearchHit>, SearchError> {
    let query = searcher.embedder().embed_query(text).await?;
    let (of, modality) = (Modality::Text, Modality::Image);
    searcher.search(SearchRequest { query, of, modality, limit, filter: None }).await
}

async fn write_page(searcher: &Searcher, catalog: &Catalog, report: &Report) -> Result<(), DemoError> {
    let mut rows = Vec::with_capacity(QUERIES.len());
    for query in QUERIES {
        rows.push(Row { query: query.to_owned(), hits: search(searcher, query, PAGE_HITS).await? });
    }
    let page = page::render(report, &rows, &catalog.directory.join("images"));
    let what = || format!("cannot write {}", report.page.display());
    if let Some(folder) = report.page.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(|source| DemoError::Io { what: what(), source })?;
    }
    tokio::fs::write(&report.page, page).await.map_err(|source| DemoError::Io { what: what(), source })
}
