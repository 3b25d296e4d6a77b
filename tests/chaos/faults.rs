//! What each fault does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clipstream_test_support::services::Services;
use tokio::sync::{Mutex as AsyncMutex, RwLock};
use tokio::time::sleep;

use crate::Error;
use crate::broker::Broker;
use crate::clock;
use crate::journal::Journal;
use crate::kinds::{Fault, Kind};
use crate::logs::Logs;
use crate::media::{Media, Weather};
use crate::named::Named;
use crate::proxy::{Harm, Proxy};
use crate::shared;
use crate::store::{Place, Refusal, StoreProcess};
use crate::topics::Topic;
use crate::workers::Pool;

/// Longer than the workers' `kafka.session_timeout_ms`: who is away for so long loses its partitions.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
const WORKERS_MAX: usize = 5;
/// A worker looks at its collection at least once a second while it writes.
const DELETED_FOR: Duration = Duration::from_millis(2500);

/// Everything that faults do something to.
pub struct World {
    pub pool: Arc<Pool>,
    /// The group that begins at the end.
    pub latest: Arc<Pool>,
    /// The group whose pictures come from hosts with names.
    pub named: Option<Named>,
    /// The group whose messages have tenants.
    pub tenants: Arc<Pool>,
    pub journal: Arc<Journal>,
    pub services: Services,
    pub broker: Broker,
    pub logs: Logs,
    pub store: Mutex<StoreProcess>,
    pub media: Media,
    pub links: Links,
    /// How often each kind had an effect.
    pub injected: Mutex<BTreeMap<Kind, u64>>,
    pub turns: Turns,
}

pub struct Links {
    pub kafka: Proxy,
    pub store: Proxy,
    pub media: Proxy,
    pub s3: Proxy,
}

/// Which faults wait for which.
#[derive(Default)]
pub struct Turns {
    /// One at a time for each of these: broker, store, media, S3.
    pub busy: [AsyncMutex<()>; 4],
    /// One at a time for the runtimes, too.
    pub runtimes: AsyncMutex<()>,
    /// Shared by those after which a worker goes on with what it had in hand long ago. Without versions nothing orders that
    /// with the messages of a topic that was made anew meanwhile (`docs/messages.md`), so that needs it alone.
    pub still: RwLock<()>,
}

impl World {
    /// Of all groups.
    pub fn pools(&self) -> impl Iterator<Item = &Pool> {
        let named = self.named.as_ref().map(|named| &named.pool);
        [&self.pool, &self.latest, &self.tenants].into_iter().chain(named).map(|pool| &**pool)
    }

    pub fn kills(&self) -> u64 {
        let injected = self.injected();
        [Kind::WorkerKill, Kind::LatestKill, Kind::TenantsKill].iter().filter_map(|kind| injected.get(kind)).sum()
    }

    pub fn injected(&self) -> BTreeMap<Kind, u64> {
        self.injected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn count(&self, kind: Kind) {
        *self.injected.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
    }

    /// Does it, from its beginning to its end.
    pub async fn inflict(self: Arc<Self>, fault: Fault) -> Result<(), Error> {
        use Kind::*;
        let Fault { kind, lasts, every, .. } = fault;
        match kind {
            WorkerKill | WorkerTerm | WorkerZombie | WorkerPause | WorkerJoin | WorkerLeave | RebalanceStorm => {
                self.workers(fault).await;
                Ok(())
            }
            ClockForward | ClockBack => clock::inflict(&self, fault).await,
            BrokerCrash => {
                let _one = self.turns.busy[0].lock().await;
                let world = self.clone();
                tokio::task::spawn_blocking(move || {
                    world.services.crash_kafka()?;
                    world.services.revive_kafka()
                })
                .await??;
                self.happened(kind, None);
                Ok(())
            }
            BrokerCut => self.link(fault, 0, &self.links.kafka, None).await,
            BrokerStall => {
                // Some of them long enough to be thrown out of the group.
                let lasts = lasts * 2;
                self.link(Fault { lasts, ..fault }, 0, &self.links.kafka, Some(Harm::Stall { every })).await
            }
            BrokerSlow => self.link(fault, 0, &self.links.kafka, Some(Harm::Slow { every })).await,
            BrokerHalf => self.link(fault, 0, &self.links.kafka, Some(Harm::HalfAnswers { every })).await,
            StoreKill => {
                let _one = self.turns.busy[1].lock().await;
                let world = self.clone();
                tokio::task::spawn_blocking(move || world.store().kill()).await??;
                sleep(lasts / 2).await;
                let world = self.clone();
                tokio::task::spawn_blocking(move || world.store().revive()).await??;
                self.happened(kind, None);
                Ok(())
            }
            StoreExhausted => self.refuse(kind, lasts, Refusal::Exhausted).await,
            StoreError => self.refuse(kind, lasts, Refusal::Error).await,
            StoreWaitTimeout => self.refuse(kind, lasts, Refusal::WaitTimeout).await,
            StoreLostReply => self.refuse(kind, lasts, Refusal::LostReply).await,
            StoreFull => self.refuse(kind, lasts, Refusal::Full).await,
            StoreReadOnly => self.refuse(kind, lasts, Refusal::ReadOnly).await,
            StoreShards => self.refuse(kind, lasts, Refusal::Shards).await,
            StoreAnew => self.anew(kind, lasts).await,
            StoreCut => self.link(fault, 1, &self.links.store, None).await,
            StoreStall => {
                // Some of them beyond the deadline of `strict`.
                let lasts = lasts * 3 / 2;
                self.link(Fault { lasts, ..fault }, 1, &self.links.store, Some(Harm::Stall { every })).await
            }
            StoreSlow => self.link(fault, 1, &self.links.store, Some(Harm::Slow { every })).await,
            StoreHalf => self.link(fault, 1, &self.links.store, Some(Harm::HalfAnswers { every })).await,
            StoreRefuse => {
                // Connections live long: without a cut nobody would ask for a new one.
                self.links.store.cut(1);
                self.link(fault, 1, &self.links.store, Some(Harm::Refuse)).await
            }
            MediaErrors => self.weather(kind, lasts, Weather::ServerErrors).await,
            MediaThrottled => self.weather(kind, lasts, Weather::TooManyRequests).await,
            MediaStall => self.weather(kind, lasts, Weather::Stalled).await,
            MediaTruncated => self.weather(kind, lasts, Weather::Truncated).await,
            MediaCut => self.link(fault, 2, &self.links.media, None).await,
            S3Cut => self.link(fault, 3, &self.links.s3, None).await,
            S3Stall => self.link(fault, 3, &self.links.s3, Some(Harm::Stall { every })).await,
            S3Half => self.link(fault, 3, &self.links.s3, Some(Harm::HalfAnswers { every })).await,
            S3Refuse => {
                self.links.s3.cut(1);
                self.link(fault, 3, &self.links.s3, Some(Harm::Refuse)).await
            }
            RuntimeFails | RuntimeHangs | RuntimeLost => shared::runtime(&self, fault).await,
            FileDescriptorsExhausted => shared::descriptors(&self, fault).await,
            IdleConnections => shared::connections(&self, fault).await,
            ResolverUnavailable | ResolverHangs | ResolverDenies | AuthoritiesUnreadable | AuthoritiesOthers => {
                match &self.named {
                    Some(named) => named.inflict(&self, fault).await,
                    None => Ok(()),
                }
            }
            TopicAnew | RecordsRemoved | PartitionAdded | Transactions => self.logs.inflict(&self, fault).await,
            LatestKill => {
                if let Some(worker) = self.latest.kill(fault.pick) {
                    self.happened_to(kind, Some(worker), &[Topic::Latest]);
                }
                Ok(())
            }
            TenantsKill => {
                if let Some(worker) = self.tenants.kill(fault.pick) {
                    self.happened_to(kind, Some(worker), &Topic::TENANTED);
                }
                Ok(())
            }
            // Sent by `tenants::unserved`, all the time.
            Unserved => Ok(()),
        }
    }

    pub fn happened(&self, kind: Kind, worker: Option<u32>) {
        self.happened_to(kind, worker, &Topic::FED);
    }

    /// To these topics, which must recover.
    pub fn happened_to(&self, kind: Kind, worker: Option<u32>, topics: &[Topic]) {
        self.count(kind);
        self.journal.expect_recovery(kind, worker, topics);
    }

    async fn workers(&self, fault: Fault) {
        let (pool, pick) = (&self.pool, fault.pick);
        match fault.kind {
            Kind::WorkerKill => {
                if let Some(worker) = pool.kill(pick) {
                    self.happened(fault.kind, Some(worker));
                }
            }
            Kind::WorkerTerm => {
                if let Some(worker) = pool.terminate(pick) {
                    self.happened(fault.kind, Some(worker));
                }
            }
            Kind::WorkerZombie | Kind::WorkerPause => {
                let _still = self.turns.still.read().await;
                let zombie = fault.kind == Kind::WorkerZombie;
                let lasts = if zombie { SESSION_TIMEOUT + fault.lasts } else { fault.lasts.min(SESSION_TIMEOUT / 2) };
                if let Some(worker) = pool.pause(pick) {
                    if zombie {
                        self.happened(fault.kind, Some(worker));
                    }
                    sleep(lasts).await;
                    pool.resume(worker);
                    if !zombie {
                        // It keeps its partitions, so it is its own recovery that counts.
                        self.happened(fault.kind, None);
                    }
                }
            }
            Kind::WorkerJoin => {
                pool.set_target((pool.target() + 1).min(WORKERS_MAX));
                self.happened(fault.kind, None);
            }
            Kind::WorkerLeave => self.leave(fault.kind, pick),
            // RebalanceStorm
            _ => {
                for n in 0..3 {
                    pool.set_target((pool.target() + 1).min(WORKERS_MAX));
                    sleep(fault.lasts / 4).await;
                    self.leave(Kind::WorkerLeave, pick + n);
                }
                self.happened(fault.kind, None);
            }
        }
    }

    fn leave(&self, kind: Kind, pick: usize) {
        let target = self.pool.target();
        if target > 1
            && let Some(worker) = self.pool.terminate(pick)
        {
            self.pool.set_target(target - 1);
            self.happened(kind, Some(worker));
        }
    }

    /// `harm`: for how long as it lasts; `None`: a cut of this moment.
    async fn link(&self, fault: Fault, busy: usize, proxy: &Proxy, harm: Option<Harm>) -> Result<(), Error> {
        let _one = self.turns.busy[busy].lock().await;
        let before = proxy.harmed();
        match harm {
            Some(harm) => {
                proxy.set(harm);
                sleep(fault.lasts).await;
                proxy.set(Harm::None);
            }
            None => {
                proxy.cut(fault.every);
                // The connections' own tasks see to it.
                sleep(Duration::from_millis(100)).await;
            }
        }
        if proxy.harmed() > before {
            self.happened(fault.kind, None);
        }
        Ok(())
    }

    async fn weather(&self, kind: Kind, lasts: Duration, weather: Weather) -> Result<(), Error> {
        let _one = self.turns.busy[2].lock().await;
        let before = self.media.spoiled();
        self.media.set(weather);
        sleep(lasts).await;
        self.media.set(Weather::Fine);
        if self.media.spoiled() > before {
            self.happened(kind, None);
        }
        Ok(())
    }

    async fn refuse(&self, kind: Kind, lasts: Duration, refusal: Refusal) -> Result<(), Error> {
        let _one = self.turns.busy[1].lock().await;
        self.store().refuse(refusal)?;
        sleep(lasts).await;
        if self.store().accept()? > 0 {
            self.happened(kind, None);
        }
        Ok(())
    }

    /// Between a deletion and the new collection is more time than a worker goes without looking.
    async fn anew(&self, kind: Kind, lasts: Duration) -> Result<(), Error> {
        let _one = self.turns.busy[1].lock().await;
        self.store().place(Place::Empty)?;
        sleep(DELETED_FOR).await;
        self.store().place(Place::Taken)?;
        sleep(lasts).await;
        match self.store().place(Place::Ours)? {
            0 => self.happened(kind, None),
            written => self.journal.violation(format!("{written} points were written into another's collection")),
        }
        Ok(())
    }

    fn store(&self) -> std::sync::MutexGuard<'_, StoreProcess> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
