//! Messages that the broker removes before they are read, as retention does with those of a worker that is too slow.

use std::time::{Duration, Instant};

use rdkafka::message::Message as _;
use tokio::time::sleep;

use super::Logs;
use crate::Error;
use crate::broker::Broker;
use crate::faults::World;
use crate::kinds::Fault;
use crate::proxy::Harm;
use crate::topics::Topic;

const TOPIC: Topic = Topic::Removed;
const BURST: usize = 600;
/// What is left of them.
const LEFT: i64 = 40;
/// A broker keeps a fetch for half a second where there is nothing to give (`fetch.wait.max.ms` of librdkafka).
const FETCH_MAX: Duration = Duration::from_millis(600);

/// In which the group's position in a partition must be known: the workers have only just begun.
const POSITION_MAX: Duration = Duration::from_secs(20);

/// So that the group has a position in every partition before anything is removed: where it has none, nobody can know that it
/// has missed something.
pub async fn before(logs: &Logs, broker: &Broker) -> Result<(), Error> {
    for partition in 0..TOPIC.partitions() {
        let placed = broker.deliver(&logs.singles(TOPIC, 1).await, partition).await?;
        logs.state().placed.extend(placed);
    }
    Ok(())
}

/// While no worker hears of it (they read far ahead), a burst is sent and most of it removed. Of what was removed, each message
/// was either read, and is right, or a worker must say that it was not. It counts as an effect when some of it was not committed.
pub async fn inflict(logs: &Logs, world: &World, fault: Fault) -> Result<(), Error> {
    let partition = i32::try_from(fault.pick)? % TOPIC.partitions();
    let deadline = Instant::now() + POSITION_MAX;
    // While the broker is away nothing is known.
    while !matches!(logs.lag.committed(TOPIC.name(), partition).await, Ok(Some(_))) {
        if Instant::now() > deadline {
            return Ok(());
        }
        sleep(FETCH_MAX).await;
    }
    let _broker = world.turns.busy[0].lock().await;
    world.links.kafka.set(Harm::Stall { every: 1 });
    sleep(FETCH_MAX).await;
    let removed = remove(logs, world, partition).await;
    world.links.kafka.set(Harm::None);
    if removed? {
        world.happened_to(fault.kind, None, &[TOPIC]);
    }
    Ok(())
}

/// Whether any of it was not committed.
async fn remove(logs: &Logs, world: &World, partition: i32) -> Result<bool, Error> {
    let messages = logs.singles(TOPIC, BURST).await;
    let placed = world.broker.deliver(&messages, partition).await?;
    if placed.iter().any(|message| message.offset() < 0) {
        return Err("the producer does not say where its messages are".into());
    }
    let end = placed.iter().map(|message| message.offset()).max().unwrap_or_default() + 1;
    let begin = world.broker.remove_before(TOPIC, partition, end - LEFT).await?;
    {
        let mut state = logs.state();
        state.placed.extend(placed);
        state.begins.insert(partition, begin);
    }
    Ok(logs.lag.committed(TOPIC.name(), partition).await?.is_some_and(|committed| committed < begin))
}
