//! When the faults are over: everything must be done, and what is there must be what should be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use clipstream::config::{StoreKind, StoreSettings};
use clipstream::domain::ModelId;
use clipstream_test_support::needs::{self, Need};
use rdkafka::message::{Message as _, OwnedMessage};
use tokio::time::sleep;

use crate::Error;
use crate::broker::{Broker, Isolation, Lag};
use crate::campaign::{CATALOG, MODEL};
use crate::disk::{self, Disk};
use crate::expected::Expected;
use crate::faults::World;
use crate::journal::Journal;
use crate::letters;
use crate::media::Picture;
use crate::oracle::{self, Evidence, Vectors, Verdict};
use crate::plan::Workload;
use crate::refusals::Refusals;
use crate::settings::RETRY_DELAYS;
use crate::topics::{New, Topic};

const DISK_GROUP: &str = "chaos-disk";
/// Set as the topics of dead letters are.
const CANARY: &str = "canary.dlq";
const CANARY_DAYS: i64 = 60;
/// The broker looks every few seconds, and half a minute after its start for the first time (`scripts/services`).
const CANARY_MAX: Duration = Duration::from_secs(120);

/// Waits until everything is committed.
pub async fn settle(lag: &Lag, journal: &Journal, patience: Duration) -> Result<(), Error> {
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
pub async fn fresh(
    workload: &mut Workload,
    broker: &Broker,
    topics: impl IntoIterator<Item = Topic>,
) -> Result<(), Error> {
    // Another producer: one of the topics is not the one that it was.
    let producer = broker.anew()?;
    for topic in topics {
        for n in 0..30 {
            producer.send(&workload.fresh(topic, n)).await?;
        }
    }
    producer.flush().await
}

/// Waits until the broker has removed what is too old from a topic that is set as those of dead letters: then it has had its
/// chance to remove letters that carry their message's time.
pub async fn retention(broker: &Broker, journal: &Journal) -> Result<(), Error> {
    broker.create(&[New::of_failures(CANARY.to_owned(), 1)]).await?;
    let at = chrono::Utc::now() - chrono::Duration::days(CANARY_DAYS);
    broker.send_at(CANARY, at.timestamp_millis()).await?;
    let deadline = Instant::now() + CANARY_MAX;
    while broker.edges(CANARY).await? != [(1, 1)] {
        if Instant::now() > deadline {
            let what =
                "the broker has not removed a record of two months ago, so that letters of old messages show nothing";
            journal.violation(format!("{what} ({CANARY_MAX:?})"));
            return Ok(());
        }
        sleep(Duration::from_millis(300)).await;
    }
    Ok(())
}

/// Waits until the broker has compacted the topic that it keeps the last message of each key of.
pub async fn compaction(broker: &Broker, journal: &Journal) -> Result<(), Error> {
    let deadline = Instant::now() + CANARY_MAX;
    while compacted_away(broker).await? == 0 {
        if Instant::now() > deadline {
            journal.violation(format!("the broker has compacted nothing ({CANARY_MAX:?})"));
            return Ok(());
        }
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// Messages that are not in their log any more.
async fn compacted_away(broker: &Broker) -> Result<u64, Error> {
    let name = Topic::Compacted.name();
    let sent: i64 = broker.edges(name).await?.into_iter().map(|(_, end)| end).sum();
    Ok(u64::try_from(sent)?.saturating_sub(broker.read(name).await?.len() as u64))
}

/// Letters, and what must be in the store by what the logs say. `latest`: where the messages of that group begin.
pub async fn logs(world: &World, retries: bool, latest: &[i64]) -> Result<(Vec<OwnedMessage>, Expected), Error> {
    let (broker, mut found, mut retry_scheduled, mut in_parts) = (&world.broker, Vec::new(), 0, 0);
    for topic in Topic::ALL.into_iter().chain(Topic::APART) {
        let (letters, parted) = letters::whole(broker.read(&topic.dead_letters()).await?)?;
        found.extend(letters);
        in_parts += parted;
    }
    for name in Topic::ALL.into_iter().flat_map(Topic::retries).filter(|_| retries) {
        retry_scheduled += broker.read(&name).await?.len() as u64;
    }
    let overtaken = if retries { letters::overtaken(&found)? } else { BTreeSet::new() };
    let mut expected = Expected::without(overtaken);
    (expected.retry_scheduled, expected.in_parts) = (retry_scheduled, in_parts);
    expected.compacted = compacted_away(broker).await?;
    for message in world.logs.removed() {
        expected.apply_removed(Topic::Removed, message)?;
    }
    for topic in Topic::ALL.into_iter().chain([Topic::Named]).chain(Topic::TENANTED) {
        for message in broker.read(topic.name()).await? {
            expected.apply(topic, message)?;
        }
    }
    for message in broker.read(Topic::Latest.name()).await? {
        let begin = usize::try_from(message.partition()).ok().and_then(|partition| latest.get(partition));
        if begin.is_none_or(|begin| message.offset() >= *begin) {
            expected.apply(Topic::Latest, message)?;
        }
    }
    let name = Topic::Transactions.name();
    let (all, kept) = (broker.read_as(name, Isolation::Everything).await?, broker.read(name).await?);
    expected.aborted = all.len().saturating_sub(kept.len()) as u64;
    Ok((found, expected))
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

/// Writes that a disk refused; `None`: not tried, because this machine cannot do it.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskRefusals {
    pub full: Option<u64>,
    pub read_only: Option<i64>,
}

/// A worker with the embedded store whose disk is full for a while, then read-only. Adds what is wrong afterwards to the verdict.
pub async fn failing_disk(
    world: &World,
    folder: &Path,
    workload: Workload,
    pictures: &BTreeMap<String, Picture>,
    verdict: &mut Verdict,
) -> Result<DiskRefusals, Error> {
    let refusals = Refusals::prepare(&folder.join("disk-refusals"), folder.join("disk"), "no disk becomes read-only")?;
    let (folder, broker) = (folder.join("disk"), &world.broker);
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
    let environment = how.environment.iter().filter(|(name, _)| name.starts_with("AWS")).cloned();
    let environment: Vec<_> = environment.chain(refusals.iter().flat_map(Refusals::environment)).collect();
    let disk = Disk {
        folder: &folder,
        program: &how.program,
        settings: &settings,
        environment: &environment,
        group: DISK_GROUP,
        refusals: refusals.as_ref(),
    };
    let workload = std::sync::Mutex::new(workload);
    let send = async |count: usize| {
        for _ in 0..count {
            let message = workload.lock().unwrap_or_else(PoisonError::into_inner).alone(Topic::Disk, 0);
            broker.send(&message).await?;
        }
        broker.flush().await
    };
    let Some(outcome) = disk::run(disk, broker, &world.journal, send).await? else {
        needs::go_without(Need::MountNamespaces, "a disk that fails is NOT tried (unshare --mount)");
        return Ok(DiskRefusals::default());
    };
    let mut expected = Expected::default();
    for message in broker.read(Topic::Disk.name()).await? {
        expected.apply(Topic::Disk, message)?;
    }
    let letters = broker.read(&Topic::Disk.dead_letters()).await?;
    let store = StoreSettings {
        kind: StoreKind::Embedded,
        path: outcome.store,
        catalog: catalog.cloned().unwrap_or_else(|| CATALOG.to_owned()),
        ..StoreSettings::default()
    };
    verdict.add(judged(&expected, &store, pictures, &letters, &world.journal).await?);
    Ok(DiskRefusals { full: Some(outcome.full), read_only: outcome.read_only })
}
