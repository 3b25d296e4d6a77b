//! A topic that is deleted, with what nobody has read yet, and made anew.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Logs;
use crate::Error;
use crate::faults::World;
use crate::kinds::Fault;
use crate::topics::{New, Topic};

const TOPIC: Topic = Topic::Anew;
/// Nothing that makes a worker stand still happens before the new topic has been read, or for so long.
const READ_MAX: Duration = Duration::from_secs(20);

/// What was not processed of the old topic goes with it, as whoever deletes it wants. All of the new one must be indexed, and
/// nothing of the old one may come after it: each of its assets is written whole in each of its lives.
pub async fn inflict(logs: &Logs, world: &World, fault: Fault) -> Result<(), Error> {
    let _still = world.turns.still.write().await;
    let _broker = world.turns.busy[0].lock().await;
    let _store = world.turns.busy[1].lock().await;
    let (old, new) = {
        let mut workload = logs.workload.lock().await;
        (workload.life(TOPIC), workload.life(TOPIC))
    };
    let broker = &world.broker;
    for message in &old {
        broker.send(message).await?;
    }
    broker.flush().await?;
    broker.make_anew(&New::source(TOPIC)).await?;
    // One that goes on numbering the batches of the old topic is refused.
    let producer = broker.anew()?;
    for message in &new {
        producer.send(message).await?;
    }
    producer.flush().await?;
    let there: i64 = broker.edges(TOPIC.name()).await?.iter().map(|(low, high)| high - low).sum();
    if there == i64::try_from(new.len())? {
        world.happened_to(fault.kind, None, &[TOPIC]);
    }
    let deadline = Instant::now() + READ_MAX;
    while Instant::now() < deadline {
        let left = logs.lag.now().await;
        if left.is_ok_and(|left| !left.keys().any(|(topic, _)| topic == TOPIC.name())) {
            break;
        }
        sleep(Duration::from_millis(300)).await;
    }
    Ok(())
}
