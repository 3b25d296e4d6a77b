//! Producers with transactions: what they take back must never appear, and must not be waited for.

use std::time::Duration;

use rdkafka::error::KafkaResult;
use rdkafka::producer::{FutureProducer, Producer as _};
use tokio::time::sleep;

use super::Logs;
use crate::Error;
use crate::broker::{Broker, queue};
use crate::faults::World;
use crate::kinds::Fault;
use crate::plan::Planned;
use crate::topics::Topic;

const TOPIC: Topic = Topic::Transactions;
const EACH: usize = 40;
/// After which the broker itself aborts what a producer has left open, and everybody reads on.
const TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(20);

/// Two at the same time, one of which is aborted, and both are open for a while: until then nothing behind them is read.
/// Whatever becomes of them under other faults, the log says what counts.
pub async fn inflict(logs: &Logs, world: &World, fault: Fault) -> Result<(), Error> {
    let messages = async |aborted: bool| {
        // Some of what is aborted is of assets that must not be there, the rest of assets that are.
        let mut messages = logs.singles(TOPIC, if aborted { EACH / 2 } else { 0 }).await;
        let mut workload = logs.workload.lock().await;
        while messages.len() < EACH {
            messages.push(workload.alone(TOPIC, 0));
        }
        messages
    };
    let (good, bad) = (messages(false).await, messages(true).await);
    match both(&world.broker, &good, &bad, fault).await {
        Ok(()) => world.happened_to(fault.kind, None, &[TOPIC]),
        Err(error) => eprintln!("chaos: a transaction did not end as it was meant to: {error}"),
    }
    Ok(())
}

async fn both(broker: &Broker, good: &[Planned], bad: &[Planned], fault: Fault) -> Result<(), Error> {
    let (commits, aborts) = (begin(broker, "chaos-commits").await?, begin(broker, "chaos-aborts").await?);
    for (one, other) in good.iter().zip(bad) {
        drop(queue(&commits, one, None).await?);
        drop(queue(&aborts, other, None).await?);
    }
    // What is to be aborted must be in the log, too.
    for producer in [&commits, &aborts] {
        run(producer, |producer| producer.flush(ANSWER)).await?;
    }
    sleep(fault.lasts / 2).await;
    let commit = async || run(&commits, |producer| producer.commit_transaction(ANSWER)).await;
    let abort = async || run(&aborts, |producer| producer.abort_transaction(ANSWER)).await;
    if fault.every == 1 {
        commit().await?;
        abort().await
    } else {
        abort().await?;
        commit().await
    }
}

/// The last thing in every partition is then nothing that anybody reads, and the lag must reach zero all the same.
pub async fn leave_behind(logs: &Logs, broker: &Broker) -> Result<(), Error> {
    let producer = begin(broker, "chaos-last").await?;
    for partition in 0..TOPIC.partitions() {
        for message in logs.singles(TOPIC, 1).await {
            drop(queue(&producer, &message, Some(partition)).await?);
        }
    }
    run(&producer, |producer| producer.flush(ANSWER)).await?;
    run(&producer, |producer| producer.abort_transaction(ANSWER)).await
}

async fn begin(broker: &Broker, id: &str) -> Result<FutureProducer, Error> {
    let producer = broker.transactional(id, TIMEOUT)?;
    run(&producer, |producer| producer.init_transactions(ANSWER)).await?;
    producer.begin_transaction()?;
    Ok(producer)
}

/// These calls wait for the broker.
async fn run(
    producer: &FutureProducer,
    call: impl FnOnce(&FutureProducer) -> KafkaResult<()> + Send + 'static,
) -> Result<(), Error> {
    let producer = producer.clone();
    Ok(tokio::task::spawn_blocking(move || call(&producer)).await??)
}
