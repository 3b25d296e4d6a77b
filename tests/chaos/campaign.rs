//! One campaign: messages and faults until enough is enough, then peace, then judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use clipstream::config::{StoreKind, StoreSettings};
use clipstream::domain::ModelId;
use rdkafka::message::OwnedMessage;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Error;
use crate::broker::{Broker, Lag, Services};
use crate::clock;
use crate::disk::{self, Disk};
use crate::expected::Expected;
use crate::faults::{Links, SESSION_TIMEOUT, Schedule, World};
use crate::journal::Journal;
use crate::media::{self, Media, Picture};
use crate::oracle::{self, Evidence, Vectors, Verdict};
use crate::plan::{Material, Planned, RETRY_DELAYS_S, RETRY_PARTITIONS, Topic, Workload};
use crate::proxy::Proxy;
use crate::qdrant_server::{self, Leftovers, Real};
use crate::report::Report;
use crate::store::StoreProcess;
use crate::workers::{Pool, WorkerSettings};

pub const MODEL: &str = "demo-emoji/v1";
const GROUP: &str = "chaos";
const DISK_GROUP: &str = "chaos-disk";
const CATALOG: &str = "chaos";
const RETRY_DELAYS: &str = "dead_letter.retry_delays_s";
/// Messages that wait for the workers, at most: enough that they are never idle, few enough that a replay ends.
const BACKLOG_MAX: i64 = 3000;
const TEXTS: usize = 400;
/// From the end of the faults to lag 0.
const SETTLE_MAX: Duration = Duration::from_secs(300);
const FRESH_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(60);

/// When it is enough: all of them must be reached.
#[derive(Clone, Copy, Debug)]
pub struct Enough {
    pub duration: Duration,
    pub messages: u64,
    pub kills: u64,
    /// Then it ends anyway, and has failed.
    pub duration_max: Duration,
}

/// The workers' `store.guard`, and with it what they may go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Guard {
    /// The default: what a paused worker, or the network, delivers too late may be written. So no worker is paused beyond the
    /// session timeout, the client waits for longer than any stall, and faults come one after the other.
    Check,
    /// Everything, and at once.
    Strict,
}

/// How a campaign goes.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub workers: usize,
    pub guard: Guard,
    pub enough: Enough,
    /// Whether messages that fail transiently are put off to retry topics, which takes `strict`.
    pub retries: bool,
    /// Part of the names of the faults that are wanted.
    pub only: String,
}

/// `None`: this machine has no Kafka or no S3 server.
pub async fn run(plan: &Plan, folder: &Path) -> Result<Option<Report>, Error> {
    let (kafka, store_link, media_link, s3) =
        (Proxy::bind().await?, Proxy::bind().await?, Proxy::bind().await?, Proxy::bind().await?);
    let (services_folder, proxy_port) = (folder.join("services"), kafka.address.port());
    let services =
        tokio::task::spawn_blocking(move || Services::up(&services_folder, proxy_port).map_err(|e| e.to_string()))
            .await??;
    let Some(services) = services else { return Ok(None) };
    kafka.lead_to(services.kafka_proxied.parse()?);
    s3.lead_to(services.s3.parse()?);
    let theirs = Real::named();
    // A server that was there before has names of others, and keeps ours unless they are deleted.
    let catalog = theirs.as_ref().map_or_else(|| CATALOG.to_owned(), |_| qdrant_server::prefix());
    let _leftovers = theirs.clone().map(|real| Leftovers::of(real, catalog.clone()));
    let store = match &theirs {
        Some(real) => {
            store_link.lead_to(address_of(&real.url).await?);
            StoreProcess::theirs()
        }
        None => {
            let store = StoreProcess::start(&folder.join("store"))?;
            store_link.lead_to(([127, 0, 0, 1], store.port()).into());
            store
        }
    };
    let picture_server = Media::start().await?;
    media_link.lead_to(picture_server.address);
    media::fill_bucket(&services).await?;
    let broker = Broker::connect(&services.kafka)?;
    broker.create_topics(&Topic::ALL.into_iter().chain([Topic::Disk]).collect::<Vec<_>>()).await?;
    if plan.retries {
        broker.create_retry_topics(&Topic::ALL).await?;
    }

    let origin = format!("http://{}", media_link.address);
    let pictures = pictures(&origin)?;
    let material = Material {
        texts: texts()?,
        pictures: pictures.keys().cloned().collect(),
        origin,
        bucket: media::BUCKET.to_owned(),
    };
    let links = Links { kafka, store: store_link, media: media_link, s3 };
    let journal = Arc::new(Journal::new());
    let mut how = worker_settings(plan, &services, &links, &catalog, folder);
    if let Some(key) = theirs.as_ref().and_then(|real| real.api_key.clone()) {
        how.environment.push(("CLIPSTREAM__STORE__API_KEY".to_owned(), key));
    }
    let pool = Arc::new(Pool::new(how, plan.workers, journal.clone()));
    let store_port = store.port();
    let world = Arc::new(World::new(pool.clone(), journal.clone(), services, store, picture_server, links));
    let tending = tokio::spawn(tend(pool.clone(), journal.clone()));

    let over = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let workload = Workload::new(plan.seed, material, plan.guard == Guard::Strict);
    let lag = broker.lag(GROUP, &Topic::ALL, plan.retries)?;
    let producing = produce(workload, broker.clone(), lag.clone(), sent.clone(), over.clone(), journal.clone());
    let producing = tokio::spawn(producing);
    let mut schedule = Schedule::new(plan, pool.settings().clocks.is_some(), theirs.is_none())?;
    torment(&world, &mut schedule, plan, &sent).await?;
    over.store(true, Ordering::Relaxed);
    let mut workload = producing.await??;

    eprintln!("chaos: {:.0} s: faults are over, waiting for lag 0", journal.elapsed().as_secs_f64());
    journal.stop_waiting();
    settle(&lag, &journal, SETTLE_MAX).await?;
    fresh(&mut workload, &broker, &lag, &journal).await?;
    tending.abort();
    pool.end(STOP_MAX).await?;
    let took = journal.elapsed();

    let mut letters = Vec::new();
    let mut put_off = 0;
    for topic in Topic::ALL {
        letters.extend(broker.read(&topic.dead_letters(), 1).await?);
        for name in topic.retries().filter(|_| plan.retries) {
            put_off += broker.read(&name, RETRY_PARTITIONS).await?.len() as u64;
        }
    }
    let overtaken = if plan.retries { oracle::overtaken(&letters)? } else { BTreeSet::new() };
    let mut expected = Expected { put_off, ..Expected::without(overtaken) };
    for topic in Topic::ALL {
        for message in broker.read(topic.name(), topic.partitions()).await? {
            expected.apply(topic, message)?;
        }
    }
    let settings = match &theirs {
        Some(real) => real.settings(),
        None => StoreSettings {
            kind: StoreKind::Qdrant,
            url: format!("http://127.0.0.1:{store_port}"),
            ..StoreSettings::default()
        },
    };
    let settings = StoreSettings { catalog, ..settings };
    let mut verdict = judged(&expected, &settings, &pictures, &letters, &journal).await?;
    let disk_refusals = full_disk(&world, folder, &broker, workload, &pictures, &mut verdict).await?;
    Ok(Some(Report::of(plan, took, &world, &schedule, &expected, verdict, disk_refusals)))
}

/// What is in the store and among the dead letters against what must be.
pub async fn judged(
    expected: &Expected,
    store: &StoreSettings,
    pictures: &BTreeMap<String, Picture>,
    letters: &[OwnedMessage],
    journal: &Journal,
) -> Result<Verdict, Error> {
    let vectors = Vectors::of(expected, pictures).await?;
    let model: ModelId = MODEL.parse()?;
    let reader = clipstream::store::open(store).await?;
    let stored = oracle::scroll(&*reader, &model.collection(&store.collection_template, &store.catalog)).await?;
    reader.close().await?;
    oracle::judge(&Evidence { expected, stored: &stored, vectors: &vectors, pictures, letters, journal })
}

/// A worker with the embedded store whose disk is full for a while. Adds what is wrong afterwards to the verdict; writes that
/// the disk refused, `None` where this machine cannot do it.
async fn full_disk(
    world: &World,
    folder: &Path,
    broker: &Broker,
    workload: Workload,
    pictures: &BTreeMap<String, Picture>,
    verdict: &mut Verdict,
) -> Result<Option<u64>, Error> {
    let folder = folder.join("disk");
    let how = world.pool.settings();
    let others = ["kafka.topics", "kafka.group_id", "store.kind", "store.url", RETRY_DELAYS];
    let mut settings: Vec<_> = how.settings.iter().filter(|(key, _)| !others.contains(&&**key)).cloned().collect();
    let (path, reserve) = (folder.join("store").display().to_string(), disk::FREE_BYTES_MIN.to_string());
    let own = [
        ("kafka.topics", "disk"),
        ("kafka.group_id", DISK_GROUP),
        ("store.kind", "embedded"),
        ("store.path", &path),
        ("store.disk_free_bytes_min", &reserve),
    ];
    settings.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let catalog = how.settings.iter().find_map(|(key, value)| (key == "store.catalog").then_some(value));
    let environment: Vec<_> = how.environment.iter().filter(|(name, _)| name.starts_with("AWS")).cloned().collect();
    let disk = Disk { folder: &folder, settings: &settings, environment: &environment, group: DISK_GROUP };
    let workload = std::sync::Mutex::new(workload);
    let send = async |count: usize| {
        for _ in 0..count {
            let message = workload.lock().unwrap_or_else(PoisonError::into_inner).alone(Topic::Disk, 0);
            broker.send(&message).await?;
        }
        broker.flush().await
    };
    let Some(outcome) = disk::run(disk, broker, &world.journal, send).await? else {
        eprintln!("\n*** NO MOUNT NAMESPACES (unshare --mount): the full disk is NOT tried ***\n");
        return Ok(None);
    };
    let mut expected = Expected::default();
    for message in broker.read(Topic::Disk.name(), Topic::Disk.partitions()).await? {
        expected.apply(Topic::Disk, message)?;
    }
    let letters = broker.read(&Topic::Disk.dead_letters(), 1).await?;
    let store = StoreSettings {
        kind: StoreKind::Embedded,
        path: outcome.store,
        catalog: catalog.cloned().unwrap_or_else(|| CATALOG.to_owned()),
        ..StoreSettings::default()
    };
    verdict.add(judged(&expected, &store, pictures, &letters, &world.journal).await?);
    Ok(Some(outcome.refusals))
}

/// Where the proxy leads to.
async fn address_of(url: &str) -> Result<SocketAddr, Error> {
    let first = url.split(',').next().unwrap_or_default().trim();
    let expected = "the campaign's proxy stands before a server without TLS; expected http://host:port";
    let address = first.strip_prefix("http://").ok_or_else(|| format!("{first}: {expected}"))?.trim_end_matches('/');
    let found = tokio::net::lookup_host(address).await?.next();
    Ok(found.ok_or_else(|| format!("{first} has no address"))?)
}

fn worker_settings(plan: &Plan, services: &Services, links: &Links, catalog: &str, folder: &Path) -> WorkerSettings {
    let names: Vec<&str> = Topic::ALL.iter().map(|topic| topic.name()).collect();
    let ops: Vec<String> = Topic::ALL.iter().map(|t| format!("{}={}", t.name(), t.default_op())).collect();
    let session_timeout_ms = SESSION_TIMEOUT.as_millis().to_string();
    let settings = [
        ("clip.models", "demo-emoji/v1=demo/model"),
        // Several workers share few cores.
        ("clip.intra_op_threads", "1"),
        ("clip.preprocess_threads", "1"),
        ("kafka.brokers", &links.kafka.address.to_string()),
        ("kafka.topics", &names.join(",")),
        ("kafka.group_id", GROUP),
        ("kafka.session_timeout_ms", &session_timeout_ms),
        ("media.allow_hosts", "127.0.0.1"),
        ("media.fetch_timeout_ms", "4000"),
        ("media.connect_timeout_ms", "2000"),
        ("media.s3_endpoint", &format!("http://{}", links.s3.address)),
        ("media.s3_path_style", "true"),
        ("pipeline.commit_interval_ms", "500"),
        // A storm ends: until then a good message must not become a dead letter.
        ("pipeline.attempts_max", if plan.retries { "3" } else { "1000" }),
        ("pipeline.backoff_base_ms", "50"),
        ("pipeline.backoff_cap_ms", "1000"),
        ("pipeline.drain_deadline_ms", "5000"),
        ("store.kind", "qdrant"),
        ("store.url", &format!("http://{}", links.store.address)),
        ("store.catalog", catalog),
        // In `strict`, shorter than some stalls, so that writes come late that nobody waits for any more. And small
        // batches, which the store manages in a fraction of that on a machine that is busy with all the rest: where it
        // does not, what is repeated keeps it from what is new.
        ("store.timeout_ms", if plan.guard == Guard::Strict { "6000" } else { "60000" }),
        ("store.batch_points_max", "32"),
        ("telemetry.listen", "127.0.0.1:0"),
        ("telemetry.log_format", "json"),
        ("telemetry.log_filter", "info,clipstream::pipeline=debug,qdrant_edge=error"),
    ];
    let mut settings: Vec<_> = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    if plan.guard == Guard::Strict {
        // `check` is the default, and tried as such.
        settings.push(("store.guard".to_owned(), "strict".to_owned()));
    }
    if plan.retries {
        let delays: Vec<String> = RETRY_DELAYS_S.iter().map(u64::to_string).collect();
        settings.push((RETRY_DELAYS.to_owned(), delays.join(",")));
    }
    WorkerSettings {
        settings,
        environment: [
            ("CLIPSTREAM__KAFKA__TOPIC_OPS", ops.join(",")),
            ("AWS_ACCESS_KEY_ID", services.s3_access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", services.s3_secret_key.clone()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into(),
        log_folder: folder.to_owned(),
        clocks: clock::library(folder),
    }
}

pub fn texts() -> Result<Vec<String>, Error> {
    let catalog = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/catalog/catalog.jsonl"))?;
    let texts = catalog.lines().rev().take(TEXTS).map(|line| {
        let item: serde_json::Value = serde_json::from_str(line)?;
        Ok(item["text"].as_str().ok_or("the catalog has an item without text")?.to_owned())
    });
    texts.collect()
}

/// Every picture that can be had, by its URL.
pub fn pictures(origin: &str) -> Result<BTreeMap<String, Picture>, Error> {
    let (http, s3) = media::names()?;
    let http = http.into_iter().map(|name| (format!("{origin}/images/{name}"), name));
    let s3 = s3.into_iter().map(|name| (format!("s3://{}/{name}", media::BUCKET), name));
    http.chain(s3).map(|(url, name)| Ok((url, media::picture(&name)?))).collect()
}

async fn tend(pool: Arc<Pool>, journal: Arc<Journal>) {
    loop {
        if let Err(error) = pool.tend() {
            journal.violation(format!("a worker cannot be looked after: {error}"));
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Keeps the workers busy until it is over. Gives the workload back, where it stands.
async fn produce(
    mut workload: Workload,
    broker: Broker,
    lag: Lag,
    sent: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    journal: Arc<Journal>,
) -> Result<Workload, String> {
    let mut room = BACKLOG_MAX;
    while !over.load(Ordering::Relaxed) {
        if room <= 0 {
            sleep(Duration::from_millis(300)).await;
            // While the broker is away nothing is known, and nothing can be taken.
            room = lag.now().await.map_or(0, |lag| BACKLOG_MAX - lag.values().sum::<i64>());
        }
        for _ in 0..room.clamp(0, 200) {
            broker.send(&workload.next()).await.map_err(|e| e.to_string())?;
            sent.fetch_add(1, Ordering::Relaxed);
        }
        room -= 200;
    }
    if let Err(error) = broker.flush().await {
        journal.violation(format!("the campaign's own messages are not delivered: {error}"));
    }
    Ok(workload)
}

/// Faults until it is enough; all of them are over when it returns.
async fn torment(world: &Arc<World>, schedule: &mut Schedule, plan: &Plan, sent: &AtomicU64) -> Result<(), Error> {
    let enough = plan.enough;
    let (start, mut running, mut told) = (Instant::now(), JoinSet::new(), Instant::now());
    loop {
        let (elapsed, messages, kills) = (start.elapsed(), sent.load(Ordering::Relaxed), world.kills());
        let reached = elapsed >= enough.duration && messages >= enough.messages && kills >= enough.kills;
        if reached || elapsed >= enough.duration_max {
            break;
        }
        if told.elapsed() > Duration::from_secs(30) {
            told = Instant::now();
            let (processed, replays) = world.journal.counts();
            let faults: u64 = world.injected().values().sum();
            eprintln!(
                "chaos: {:.0} s: {messages} messages sent, {processed} processed, {replays} replays, {faults} faults, {kills} kills",
                elapsed.as_secs_f64()
            );
        }
        let fault = schedule.next();
        sleep(fault.after).await;
        running.spawn(world.clone().inflict(fault));
        if plan.guard == Guard::Check {
            running.join_next().await.transpose()?.transpose()?;
        }
        while let Some(ended) = running.try_join_next() {
            ended??;
        }
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    world.pool.set_target(plan.workers);
    Ok(())
}

/// Waits until everything is committed.
async fn settle(lag: &Lag, journal: &Journal, patience: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + patience;
    loop {
        let left = lag.now().await;
        if left.as_ref().is_ok_and(BTreeMap::is_empty) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let left = left.map_or_else(|error| error.to_string(), |left| format!("{left:?}"));
            journal.violation(format!("not everything is committed after {patience:?} of peace; left: {left}"));
            return Ok(());
        }
        sleep(Duration::from_millis(300)).await;
    }
}

/// A message for every partition must pass; the oracle looks at what came of them.
async fn fresh(workload: &mut Workload, broker: &Broker, lag: &Lag, journal: &Journal) -> Result<(), Error> {
    let messages: Vec<Planned> = Topic::ALL
        .into_iter()
        .flat_map(|topic| (0..30).map(move |n| (topic, n)))
        .map(|(t, n)| workload.fresh(t, n))
        .collect();
    for message in &messages {
        broker.send(message).await?;
    }
    broker.flush().await?;
    settle(lag, journal, FRESH_MAX).await
}
