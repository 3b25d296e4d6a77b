//! A topic that gets more partitions.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Logs;
use crate::Error;
use crate::faults::World;
use crate::kinds::Fault;
use crate::topics::Topic;

const TOPIC: Topic = Topic::Growing;
const PARTITIONS_MAX: i32 = 8;
/// To each partition, before anybody can have discovered the new one.
const EACH: usize = 15;
const THERE: Duration = Duration::from_secs(30);

/// All messages must be indexed, those that came before the workers knew of their partition as well. (Each is of an asset of its
/// own: an asset changes its partition with their number, and so has no order.)
pub async fn inflict(logs: &Logs, world: &World, fault: Fault) -> Result<(), Error> {
    let _broker = world.turns.busy[0].lock().await;
    let total = TOPIC.partitions() + logs.state().added + 1;
    if total > PARTITIONS_MAX {
        return Ok(());
    }
    world.broker.add_partitions(TOPIC, total).await?;
    logs.state().added += 1;
    let deadline = Instant::now() + THERE;
    while world.broker.edges(TOPIC.name()).await?.len() < usize::try_from(total)? {
        if Instant::now() > deadline {
            return Err(format!("the broker tells of no partition {} after {THERE:?}", total - 1).into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    // One that was there before learns of new partitions every few minutes only.
    let producer = world.broker.anew()?;
    for partition in 0..total {
        producer.deliver(&logs.singles(TOPIC, EACH).await, partition).await?;
    }
    world.happened_to(fault.kind, None, &[TOPIC]);
    Ok(())
}
