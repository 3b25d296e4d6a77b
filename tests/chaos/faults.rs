//! The faults: a seeded, endless schedule of them, and what each does.
//!
//! Kinds are dealt from a shuffled deck, so that every kind has happened when the deck has been dealt once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::sleep;

use crate::Error;
use crate::broker::Services;
use crate::campaign::{Guard, Plan};
use crate::clock;
use crate::journal::Journal;
use crate::media::{Media, Weather};
use crate::proxy::{Harm, Proxy};
use crate::store::{Place, Refusal, StoreProcess};
use crate::workers::Pool;

/// Longer than the workers' `kafka.session_timeout_ms`: who is away for so long loses its partitions.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
const WORKERS_MAX: usize = 5;
/// A worker looks at its collection at least once a second while it writes.
const DELETED_FOR: Duration = Duration::from_millis(2500);

/// `name, cards in the deck`
macro_rules! kinds {
    ($($kind:ident $name:literal $cards:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($kind),* }

        impl Kind {
            pub const ALL: &[(Kind, usize)] = &[$((Kind::$kind, $cards)),*];

            pub fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name),* }
            }
        }
    };
}

kinds! {
    WorkerKill "worker kill -9" 24,
    WorkerTerm "worker SIGTERM" 5,
    WorkerZombie "worker SIGSTOP beyond the session timeout" 5,
    WorkerPause "worker SIGSTOP, short" 3,
    WorkerJoin "worker joins" 3,
    WorkerLeave "worker leaves" 3,
    RebalanceStorm "rebalance storm" 2,
    ClockForward "clock set forward" 2,
    ClockBack "clock set back" 2,
    BrokerCrash "broker kill -9 and restart" 2,
    BrokerCut "broker connections cut" 3,
    BrokerStall "broker connections stalled" 3,
    BrokerSlow "broker connections slow" 1,
    BrokerHalf "broker answers half-written" 2,
    StoreKill "store kill -9 and restart" 3,
    StoreExhausted "store ResourceExhausted" 2,
    StoreError "store error status" 2,
    StoreWaitTimeout "store WaitTimeout" 1,
    StoreLostReply "store reply lost after the write" 2,
    StoreFull "store full" 1,
    StoreReadOnly "store read-only" 1,
    StoreShards "store shards not active" 1,
    StoreAnew "store collection deleted, made anew by another, put back" 1,
    StoreCut "store connections cut" 3,
    StoreStall "store connections stalled" 3,
    StoreSlow "store connections slow" 1,
    StoreHalf "store answers half-written" 3,
    StoreRefuse "store refuses connections" 1,
    MediaErrors "media 503 storm" 2,
    MediaThrottled "media 429 storm" 2,
    MediaStall "media stalled" 2,
    MediaTruncated "media bodies truncated" 2,
    MediaCut "media connections cut" 1,
    S3Cut "S3 connections cut" 1,
    S3Stall "S3 connections stalled" 1,
    S3Half "S3 answers half-written" 1,
    S3Refuse "S3 refuses connections" 1,
}

impl Kind {
    /// What only a store that is ours can be asked for. The proxy before it harms any.
    fn is_asked_of_the_store(self) -> bool {
        use Kind::*;
        matches!(
            self,
            StoreKill
                | StoreExhausted
                | StoreError
                | StoreWaitTimeout
                | StoreLostReply
                | StoreFull
                | StoreReadOnly
                | StoreShards
                | StoreAnew
        )
    }
}

/// One fault to come.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub kind: Kind,
    /// Between the one before and this one.
    pub after: Duration,
    /// For how long, where it lasts.
    pub lasts: Duration,
    /// Which worker, where there is a choice.
    pub pick: usize,
    /// Every which connection.
    pub every: u64,
}

pub struct Schedule {
    rng: StdRng,
    cards: Vec<Kind>,
    deck: Vec<Kind>,
    dealt: usize,
}

impl Schedule {
    /// Of the kinds that are wanted, that the workers' guard is made for, and that this machine can do.
    pub fn new(plan: &Plan, clocks: bool, own_store: bool) -> Result<Self, Error> {
        let (seed, only) = (plan.seed, plan.only.as_str());
        let fits = |kind: Kind| match kind {
            kind if kind.is_asked_of_the_store() => own_store,
            Kind::WorkerZombie => plan.guard == Guard::Strict,
            Kind::ClockForward | Kind::ClockBack => clocks,
            _ => true,
        };
        let chosen = Kind::ALL.iter().filter(|(kind, _)| kind.name().contains(only) && fits(*kind));
        let cards: Vec<Kind> = chosen.flat_map(|(kind, cards)| vec![*kind; *cards]).collect();
        if cards.is_empty() {
            let names: Vec<&str> = Kind::ALL.iter().map(|(kind, _)| kind.name()).collect();
            return Err(format!("no fault has {only:?} in its name; expected a part of: {}", names.join(", ")).into());
        }
        // Not the workload's stream of numbers.
        Ok(Self { rng: StdRng::seed_from_u64(seed ^ 0x0066_6175_6c74_7300), cards, deck: Vec::new(), dealt: 0 })
    }

    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.cards.iter().copied().collect::<BTreeSet<_>>().into_iter()
    }

    pub fn next(&mut self) -> Fault {
        if self.deck.is_empty() {
            self.deck.clone_from(&self.cards);
            self.deck.shuffle(&mut self.rng);
        }
        self.dealt += 1;
        let rng = &mut self.rng;
        Fault {
            kind: self.deck.pop().unwrap_or(Kind::WorkerKill),
            after: Duration::from_millis(rng.random_range(1_000..5_000)),
            lasts: Duration::from_millis(rng.random_range(500..8_000)),
            pick: rng.random_range(0..1000),
            every: if rng.random() { 1 } else { 2 },
        }
    }

    /// Whether every kind has been dealt.
    pub fn went_round(&self) -> bool {
        self.dealt >= self.cards.len()
    }
}

/// Everything that faults do something to.
pub struct World {
    pub pool: Arc<Pool>,
    pub journal: Arc<Journal>,
    pub services: Services,
    pub store: Mutex<StoreProcess>,
    pub media: Media,
    pub kafka_link: Proxy,
    pub store_link: Proxy,
    pub media_link: Proxy,
    pub s3_link: Proxy,
    /// How often each kind had an effect.
    pub injected: Mutex<BTreeMap<Kind, u64>>,
    /// One fault at a time for each of these: broker, store, media, S3.
    busy: [AsyncMutex<()>; 4],
}

pub struct Links {
    pub kafka: Proxy,
    pub store: Proxy,
    pub media: Proxy,
    pub s3: Proxy,
}

impl World {
    pub fn new(
        pool: Arc<Pool>,
        journal: Arc<Journal>,
        services: Services,
        store: StoreProcess,
        media: Media,
        links: Links,
    ) -> Self {
        Self {
            pool,
            journal,
            services,
            store: Mutex::new(store),
            media,
            kafka_link: links.kafka,
            store_link: links.store,
            media_link: links.media,
            s3_link: links.s3,
            injected: Mutex::default(),
            busy: [const { AsyncMutex::const_new(()) }; 4],
        }
    }

    pub fn kills(&self) -> u64 {
        self.injected().get(&Kind::WorkerKill).copied().unwrap_or_default()
    }

    pub fn injected(&self) -> BTreeMap<Kind, u64> {
        self.injected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, kind: Kind) {
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
                let _one = self.busy[0].lock().await;
                let world = self.clone();
                tokio::task::spawn_blocking(move || {
                    world.services.crash_kafka()?;
                    world.services.revive_kafka()
                })
                .await??;
                self.happened(kind, None);
                Ok(())
            }
            BrokerCut => self.link(fault, 0, &self.kafka_link, None).await,
            BrokerStall => {
                // Some of them long enough to be thrown out of the group.
                let lasts = lasts * 2;
                self.link(Fault { lasts, ..fault }, 0, &self.kafka_link, Some(Harm::Stall { every })).await
            }
            BrokerSlow => self.link(fault, 0, &self.kafka_link, Some(Harm::Slow { every })).await,
            BrokerHalf => self.link(fault, 0, &self.kafka_link, Some(Harm::HalfAnswers { every })).await,
            StoreKill => {
                let _one = self.busy[1].lock().await;
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
            StoreCut => self.link(fault, 1, &self.store_link, None).await,
            StoreStall => {
                // Some of them beyond the deadline of `strict`.
                let lasts = lasts * 3 / 2;
                self.link(Fault { lasts, ..fault }, 1, &self.store_link, Some(Harm::Stall { every })).await
            }
            StoreSlow => self.link(fault, 1, &self.store_link, Some(Harm::Slow { every })).await,
            StoreHalf => self.link(fault, 1, &self.store_link, Some(Harm::HalfAnswers { every })).await,
            StoreRefuse => {
                // Connections live long: without a cut nobody would ask for a new one.
                self.store_link.cut(1);
                self.link(fault, 1, &self.store_link, Some(Harm::Refuse)).await
            }
            MediaErrors => self.weather(kind, lasts, Weather::ServerErrors).await,
            MediaThrottled => self.weather(kind, lasts, Weather::TooManyRequests).await,
            MediaStall => self.weather(kind, lasts, Weather::Stalled).await,
            MediaTruncated => self.weather(kind, lasts, Weather::Truncated).await,
            MediaCut => self.link(fault, 2, &self.media_link, None).await,
            S3Cut => self.link(fault, 3, &self.s3_link, None).await,
            S3Stall => self.link(fault, 3, &self.s3_link, Some(Harm::Stall { every })).await,
            S3Half => self.link(fault, 3, &self.s3_link, Some(Harm::HalfAnswers { every })).await,
            S3Refuse => {
                self.s3_link.cut(1);
                self.link(fault, 3, &self.s3_link, Some(Harm::Refuse)).await
            }
        }
    }

    pub fn happened(&self, kind: Kind, worker: Option<u32>) {
        self.count(kind);
        self.journal.expect_recovery(kind, worker);
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
        let _one = self.busy[busy].lock().await;
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
        let _one = self.busy[2].lock().await;
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
        let _one = self.busy[1].lock().await;
        self.store().refuse(refusal)?;
        sleep(lasts).await;
        if self.store().accept()? > 0 {
            self.happened(kind, None);
        }
        Ok(())
    }

    /// Between a deletion and the new collection is more time than a worker goes without looking.
    async fn anew(&self, kind: Kind, lasts: Duration) -> Result<(), Error> {
        let _one = self.busy[1].lock().await;
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
