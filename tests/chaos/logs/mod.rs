//! What happens to logs while workers read them: a topic is made anew, messages are removed unread, transactions are aborted,
//! partitions are added. Each has a topic of its own, which only it feeds, so that what must be there in the end follows from
//! what is left of the log, and from what was taken away.

mod anew;
mod growing;
pub mod latest;
pub mod removed;
pub mod transactions;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::message::{Message as _, OwnedMessage};
use tokio::sync::Mutex as AsyncMutex;

use crate::Error;
use crate::broker::{Broker, Lag};
use crate::faults::World;
use crate::kinds::{Fault, Kind};
use crate::plan::{Planned, Workload};
use crate::topics::{Topic, partitions_of};

pub struct Logs {
    workload: AsyncMutex<Workload>,
    /// Of the workers' group in these topics, but for the partitions that are added.
    lag: Lag,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of messages whose assets are theirs alone.
    serial: u64,
    /// Every message of the topic whose messages are removed, and where its partitions begin by now.
    placed: Vec<OwnedMessage>,
    begins: BTreeMap<i32, i64>,
    /// Partitions that were added.
    added: i32,
}

impl Logs {
    pub fn new(workload: Workload, broker: &Broker, group: &str) -> Result<Self, Error> {
        let lag = broker.lag(group, partitions_of(&Topic::HARMED, false))?;
        Ok(Self { workload: AsyncMutex::new(workload), lag, state: Mutex::default() })
    }

    pub async fn inflict(&self, world: &World, fault: Fault) -> Result<(), Error> {
        match fault.kind {
            Kind::TopicAnew => anew::inflict(self, world, fault).await,
            Kind::RecordsRemoved => removed::inflict(self, world, fault).await,
            Kind::PartitionAdded => growing::inflict(self, world, fault).await,
            Kind::Transactions => transactions::inflict(self, world, fault).await,
            other => Err(format!("{} is no fault of a log", other.name()).into()),
        }
    }

    /// Messages whose assets no other message is about.
    async fn singles(&self, topic: Topic, count: usize) -> Vec<Planned> {
        let mut workload = self.workload.lock().await;
        let key = || {
            let mut state = self.state();
            state.serial += 1;
            format!("{}-{}", topic.name(), state.serial)
        };
        (0..count).map(|_| workload.whole(topic, key())).collect()
    }

    /// Messages that were removed, whether they were read before or not.
    pub fn removed(&self) -> Vec<OwnedMessage> {
        let state = self.state();
        let is_gone = |m: &&OwnedMessage| state.begins.get(&m.partition()).is_some_and(|begin| m.offset() < *begin);
        state.placed.iter().filter(is_gone).cloned().collect()
    }

    /// Names and numbers of partitions of these topics, as they are now.
    pub fn partitions(&self) -> Vec<(String, i32)> {
        let added = self.state().added;
        let now = |(name, count)| if name == Topic::Growing.name() { (name, count + added) } else { (name, count) };
        partitions_of(&Topic::HARMED, false).into_iter().map(now).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
