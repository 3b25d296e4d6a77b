//! The kinds of faults, and a seeded, endless schedule of them.
//!
//! Kinds are dealt from a shuffled deck, so that every kind has happened when the deck has been dealt once.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::Error;
use crate::campaign::{Guard, Plan};

/// So often may a fault have no effect by bad luck: a busy worker was quicker, or slower.
pub const LUCK: usize = 3;

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
    StoreAnew "store collection deleted, recreated by another, restored" 1,
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
    RuntimeFails "model runtime fails for a while" 2,
    RuntimeHangs "model runtime hangs for a while" 1,
    RuntimeLost "model runtime fails and never recovers" 1,
    FileDescriptorsExhausted "worker's file descriptors used up" 2,
    IdleConnections "idle connections to a worker's port" 1,
    ResolverUnavailable "resolver unavailable" 2,
    ResolverHangs "resolver hangs" 1,
    ResolverDenies "resolver denies every name" 1,
    AuthoritiesUnreadable "certificate authorities unreadable at a start" 2,
    AuthoritiesOthers "certificate authorities of others at a start" 2,
    TopicAnew "topic deleted and recreated" 2,
    RecordsRemoved "messages removed before they were read" 3,
    PartitionAdded "partition added" 2,
    Transactions "transactions, aborted and committed" 3,
    LatestKill "kill -9 in the group that begins at the end" 3,
    TenantsKill "kill -9 in the group of tenants" 2,
    Unserved "pictures of hosts that never served" 0,
}

impl Kind {
    /// What is done to a log, or to who reads one of its own, beside all other faults.
    fn is_of_a_log(self) -> bool {
        use Kind::*;
        matches!(self, TopicAnew | RecordsRemoved | PartitionAdded | Transactions | LatestKill | TenantsKill)
    }

    /// What is done to the group whose pictures come from hosts with names.
    fn is_of_names(self) -> bool {
        use Kind::*;
        matches!(self, ResolverUnavailable | ResolverHangs | ResolverDenies | AuthoritiesUnreadable | AuthoritiesOthers)
    }

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

/// What this machine, and the store that is there, can be asked for.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    pub clocks: bool,
    pub runtimes: bool,
    pub descriptors: bool,
    pub names: bool,
    pub own_store: bool,
}

pub struct Schedule {
    rng: StdRng,
    cards: Vec<Kind>,
    deck: Vec<Kind>,
    dealt: usize,
}

impl Schedule {
    /// Two of them, of the kinds that are wanted, that the workers' guard is made for, and that there are means for: what is
    /// done to a log is in the second one.
    pub fn of(plan: &Plan, means: Means) -> Result<[Self; 2], Error> {
        let fits = |kind: Kind| match kind {
            kind if kind.is_asked_of_the_store() => means.own_store,
            Kind::WorkerZombie => plan.guard == Guard::Strict,
            Kind::ClockForward | Kind::ClockBack => means.clocks,
            Kind::RuntimeFails | Kind::RuntimeHangs | Kind::RuntimeLost => means.runtimes,
            Kind::FileDescriptorsExhausted => means.descriptors,
            kind if kind.is_of_names() => means.names,
            _ => true,
        };
        let only = plan.only.as_str();
        let chosen = Kind::ALL.iter().filter(|(kind, _)| kind.name().contains(only) && fits(*kind));
        let cards = chosen.flat_map(|(kind, cards)| vec![*kind; *cards]);
        let (logs, others): (Vec<Kind>, Vec<Kind>) = cards.partition(|kind| kind.is_of_a_log());
        if logs.is_empty() && others.is_empty() {
            let names: Vec<&str> = Kind::ALL.iter().map(|(kind, _)| kind.name()).collect();
            return Err(format!("no fault has {only:?} in its name; expected a part of: {}", names.join(", ")).into());
        }
        // Neither is the workload's stream of numbers.
        let seed = plan.seed ^ 0x0066_6175_6c74_7300;
        let mut logs = Self::shuffled(seed ^ 1, logs);
        logs.one_of_each_first();
        Ok([Self::shuffled(seed, others), logs])
    }

    fn shuffled(seed: u64, cards: Vec<Kind>) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), cards, deck: Vec::new(), dealt: 0 }
    }

    /// So that a short campaign has them all.
    fn one_of_each_first(&mut self) {
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for kind in &self.cards {
            if first.contains(kind) { rest.push(*kind) } else { first.push(*kind) }
        }
        first.shuffle(&mut self.rng);
        rest.shuffle(&mut self.rng);
        // The last card is dealt first.
        self.deck = rest.into_iter().chain(first).collect();
    }

    pub fn is_empty(&self) -> bool {
        self.cards.is_empty()
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

    /// Whether every kind has had its chance, bad luck left out.
    pub fn went_round(&self) -> bool {
        self.dealt >= LUCK * self.cards.len()
    }
}
