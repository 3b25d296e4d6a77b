//! One campaign: messages and faults until enough is enough, then peace, then judgement.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clipstream::config::{StoreKind, StoreSettings};
use clipstream::redact::Secret;
use clipstream_test_support::qdrant::server::{self, Address, Leftovers};
use clipstream_test_support::services::Services;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Error;
use crate::broker::{Broker, Lag};
use crate::ending::{self, settle};
use crate::faults::{Links, Turns, World};
use crate::journal::Journal;
use crate::kinds::{Means, Schedule};
use crate::logs::{Logs, latest, removed, transactions};
use crate::media::{self, Media, Picture};
use crate::named::{self, Named};
use crate::oracle;
use crate::plan::{Material, Workload};
use crate::proxy::Proxy;
use crate::report::Report;
use crate::settings::{self, GROUP, LATEST_GROUP, NAMED_GROUP, TENANTS_GROUP};
use crate::shared;
use crate::store::StoreProcess;
use crate::tenants::{self, Tenants};
use crate::topics::{New, Topic, partitions_of};
use crate::workers::Pool;

pub const MODEL: &str = "demo-emoji/v1";
pub const CATALOG: &str = "chaos";
/// Messages that wait for the workers, at most: enough that they are never idle, few enough that a replay ends.
const BACKLOG_MAX: i64 = 3000;
const TEXTS: usize = 400;
/// Faults that others wait for, and how long at most. On a slow machine, on which a recovery takes longer than it is to the next
/// fault, no message would be settled any more.
const RECOVERING_MAX: usize = 6;
const RECOVERY_WAIT: Duration = Duration::from_secs(30);
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
    /// Whether messages that fail transiently go to retry topics, which takes `strict`.
    pub retries: bool,
    /// Part of the names of the faults that are wanted.
    pub only: String,
    /// What the workers run.
    pub worker: PathBuf,
}

/// `None`: this machine has no Kafka or no S3 server.
pub async fn run(plan: &Plan, folder: &Path) -> Result<Option<Report>, Error> {
    let (kafka, store_link, media_link, s3) =
        (Proxy::bind().await?, Proxy::bind().await?, Proxy::bind().await?, Proxy::bind().await?);
    let (services_folder, proxy_port) = (folder.join("services"), kafka.address.port());
    let services = tokio::task::spawn_blocking(move || {
        Services::up(&services_folder, Some(proxy_port)).map_err(|e| e.to_string())
    })
    .await??;
    let Some(services) = services else { return Ok(None) };
    kafka.lead_to(services.kafka_proxied.parse()?);
    s3.lead_to(services.s3.parse()?);
    let theirs = Address::named();
    // A server that was there before has names of others, and keeps ours unless they are deleted.
    let catalog = theirs.as_ref().map_or_else(|| CATALOG.to_owned(), |_| server::prefix());
    let _leftovers = theirs.clone().map(|at| Leftovers::of(at, catalog.clone()));
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
    let all: Vec<Topic> = Topic::ALL.into_iter().chain(Topic::APART).chain([Topic::Disk]).collect();
    broker.create(&New::with_letters(&all)).await?;
    if plan.retries {
        broker.create(&New::retries(&Topic::ALL)).await?;
    }

    let origin = format!("http://{}", media_link.address);
    let mut pictures = pictures(&origin)?;
    let material = Material {
        texts: texts()?,
        pictures: pictures.keys().cloned().collect(),
        origin,
        bucket: media::BUCKET.to_owned(),
    };
    let late_writes = plan.guard == Guard::Strict;
    let drawing_on = |stream: u64, of: &Material| Workload::new(plan.seed ^ (stream << 32), of.clone(), late_writes);
    let workload = |stream: u64| drawing_on(stream, &material);
    let links = Links { kafka, store: store_link, media: media_link, s3 };
    let journal = Arc::new(Journal::new());
    let mut how = settings::of_workers(plan, &services, &links, &catalog, folder)?;
    if let Some(key) = theirs.as_ref().and_then(|real| real.api_key.clone()) {
        how.environment.push(("CLIPSTREAM__STORE__API_KEY".to_owned(), key));
    }
    let named = Named::start(&how, folder, &journal).await?;
    let of_named = named.as_ref().map(|named| {
        let of = Material { pictures: named.pictures.keys().cloned().collect(), ..material.clone() };
        (drawing_on(3, &of), named.pool.clone())
    });
    pictures.extend(named.iter().flat_map(|named| named.pictures.clone()));
    let tenants = Tenants::start(&how, &journal).await?;
    pictures.extend(tenants.pictures.clone());
    let of_tenants = Material { pictures: tenants.pictures.keys().cloned().collect(), ..material.clone() };
    let means = Means {
        clocks: how.clocks.is_some(),
        runtimes: how.runtimes.is_some(),
        descriptors: shared::has_limits(),
        names: named.is_some(),
        own_store: theirs.is_none(),
    };
    let mut of_latest = workload(2);
    let latest_begins = latest::before(&broker, &mut of_latest).await?;
    let latest = Arc::new(Pool::new(settings::of_latest(&how), 1, journal.clone()));
    let pool = Arc::new(Pool::new(how, plan.workers, journal.clone()));
    let store_port = store.port();
    let world = Arc::new(World {
        pool: pool.clone(),
        latest: latest.clone(),
        named,
        tenants: tenants.pool.clone(),
        journal: journal.clone(),
        services,
        logs: Logs::new(workload(1), &broker, GROUP)?,
        broker: broker.clone(),
        store: Mutex::new(store),
        media: picture_server,
        links,
        injected: Mutex::default(),
        turns: Turns::default(),
    });
    removed::before(&world.logs, &broker).await?;
    let pools: Vec<_> =
        [&pool, &latest, &tenants.pool].into_iter().chain(of_named.as_ref().map(|(_, pool)| pool)).cloned().collect();
    let tending: Vec<_> = pools.iter().map(|pool| tokio::spawn(tend(pool.clone(), journal.clone()))).collect();

    let over = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let lag = broker.lag(GROUP, partitions_of(&Topic::FED, plan.retries))?;
    let producing = produce(workload(0), broker.clone(), lag, sent.clone(), over.clone(), journal.clone());
    let producing = tokio::spawn(producing);
    let feeding = latest::feed(of_latest, broker.clone(), latest.clone(), over.clone(), journal.clone());
    let feeding = tokio::spawn(feeding);
    let feeding_named = of_named.map(|(of, _)| tokio::spawn(named::feed(of, broker.clone(), over.clone())));
    let feeding_tenants = tenants::feed(drawing_on(4, &of_tenants), broker.clone(), over.clone());
    let feeding_tenants = tokio::spawn(feeding_tenants);
    let unserved = tenants::unserved(tenants, drawing_on(5, &of_tenants), world.clone(), over.clone());
    let unserved = tokio::spawn(unserved);
    let mut schedules = Schedule::of(plan, means)?;
    torment(&world, &mut schedules, plan, &sent).await?;
    over.store(true, Ordering::Relaxed);
    let mut workload = producing.await??;
    feeding.await??;
    if let Some(feeding) = feeding_named {
        feeding.await??;
    }
    feeding_tenants.await??;
    let _neighbours = unserved.await??;

    eprintln!("chaos: {:.0} s: faults are over, waiting for lag 0", journal.elapsed().as_secs_f64());
    journal.stop_waiting();
    let mut topics = partitions_of(&Topic::ALL, plan.retries);
    topics.retain(|(name, _)| Topic::HARMED.iter().all(|topic| topic.name() != name));
    topics.extend(world.logs.partitions());
    let mut lags = vec![broker.lag(GROUP, topics)?, broker.lag(LATEST_GROUP, partitions_of(&[Topic::Latest], false))?];
    lags.push(broker.lag(TENANTS_GROUP, partitions_of(&Topic::TENANTED, false))?);
    if means.names {
        lags.push(broker.lag(NAMED_GROUP, partitions_of(&[Topic::Named], false))?);
    }
    for lag in &lags {
        settle(lag, &journal, SETTLE_MAX).await?;
    }
    let apart = Topic::APART.into_iter().filter(|topic| means.names || *topic != Topic::Named);
    ending::fresh(&mut workload, &broker, Topic::ALL.into_iter().chain(apart)).await?;
    transactions::leave_behind(&world.logs, &broker).await?;
    for lag in &lags {
        settle(lag, &journal, FRESH_MAX).await?;
    }
    ending::retention(&broker, &journal).await?;
    ending::compaction(&broker, &journal).await?;
    tending.iter().for_each(tokio::task::JoinHandle::abort);
    for pool in &pools {
        pool.end(STOP_MAX).await?;
    }
    let took = journal.elapsed();

    let (letters, expected) = ending::logs(&world, plan.retries, &latest_begins).await?;
    let settings = match &theirs {
        Some(at) => StoreSettings {
            kind: StoreKind::Qdrant,
            url: at.url.clone(),
            api_key: at.api_key.clone().map(Secret::new),
            ..StoreSettings::default()
        },
        None => StoreSettings {
            kind: StoreKind::Qdrant,
            url: format!("http://127.0.0.1:{store_port}"),
            ..StoreSettings::default()
        },
    };
    let settings = StoreSettings { catalog, ..settings };
    let mut verdict = ending::judged(&expected, &settings, &pictures, &letters, &journal).await?;
    oracle::judge_skipped(&expected, &journal, &mut verdict);
    let disk_refusals = ending::failing_disk(&world, folder, workload, &pictures, &mut verdict).await?;
    Ok(Some(Report::of(plan, took, &world, &schedules, &expected, verdict, disk_refusals)))
}

/// Where the proxy leads to.
async fn address_of(url: &str) -> Result<SocketAddr, Error> {
    let first = url.split(',').next().unwrap_or_default().trim();
    let expected = "the campaign's proxy stands before a server without TLS; expected http://host:port";
    let address = first.strip_prefix("http://").ok_or_else(|| format!("{first}: {expected}"))?.trim_end_matches('/');
    let found = tokio::net::lookup_host(address).await?.next();
    Ok(found.ok_or_else(|| format!("{first} has no address"))?)
}

pub fn texts() -> Result<Vec<String>, Error> {
    let catalog = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/catalog/catalog.jsonl"))?;
    let texts = catalog.lines().rev().take(TEXTS).map(|line| {
        let item: serde_json::Value = serde_json::from_str(line)?;
        Ok(item["text"].as_str().ok_or("the catalog has an item without text")?.to_owned())
    });
    texts.collect()
}

/// Every picture that is served, by its URL.
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
async fn torment(
    world: &Arc<World>,
    schedules: &mut [Schedule; 2],
    plan: &Plan,
    sent: &AtomicU64,
) -> Result<(), Error> {
    let (enough, [others, logs]) = (plan.enough, schedules);
    let (start, over) = (Instant::now(), AtomicBool::new(false));
    let of_logs = async {
        while !over.load(Ordering::Relaxed) && !logs.is_empty() {
            let fault = logs.next();
            sleep(fault.after).await;
            world.clone().inflict(fault).await?;
        }
        Ok::<(), Error>(())
    };
    let of_others = async {
        let (mut running, mut told) = (JoinSet::new(), Instant::now());
        loop {
            let (elapsed, messages, kills) = (start.elapsed(), sent.load(Ordering::Relaxed), world.kills());
            let reached = elapsed >= enough.duration && messages >= enough.messages && kills >= enough.kills;
            if reached || elapsed >= enough.duration_max {
                break;
            }
            if told.elapsed() > Duration::from_secs(30) {
                told = Instant::now();
                tell(world, elapsed, messages, kills);
            }
            if others.is_empty() {
                sleep(Duration::from_millis(300)).await;
                continue;
            }
            let fault = others.next();
            sleep(fault.after).await;
            let waited = Instant::now();
            while world.journal.recovering() >= RECOVERING_MAX && waited.elapsed() < RECOVERY_WAIT {
                sleep(Duration::from_millis(100)).await;
            }
            running.spawn(world.clone().inflict(fault));
            if plan.guard == Guard::Check {
                running.join_next().await.transpose()?.transpose()?;
            }
            while let Some(ended) = running.try_join_next() {
                ended??;
            }
        }
        over.store(true, Ordering::Relaxed);
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        Ok(())
    };
    tokio::try_join!(of_logs, of_others)?;
    world.pool.set_target(plan.workers);
    Ok(())
}

fn tell(world: &World, elapsed: Duration, messages: u64, kills: u64) {
    let (processed, replays) = world.journal.counts();
    let faults: u64 = world.injected().values().sum();
    eprintln!(
        "chaos: {:.0} s: {messages} messages sent, {processed} processed, {replays} replays, {faults} faults, {kills} kills",
        elapsed.as_secs_f64()
    );
}
