//! A group that begins at the end (`kafka.auto_offset_reset = "latest"`), and whose worker is killed all the time: what was
//! there before it is nobody's, and nothing after that may be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::Error;
use crate::broker::Broker;
use crate::journal::Journal;
use crate::plan::Workload;
use crate::topics::Topic;
use crate::workers::Pool;

const TOPIC: Topic = Topic::Latest;
const BEFORE: usize = 30;
const START_MAX: Duration = Duration::from_secs(120);
/// So many at once, so often.
const EACH: usize = 4;
const PAUSE: Duration = Duration::from_millis(300);

/// What is in the topic before the group is; by partition, where its messages begin.
pub async fn before(broker: &Broker, workload: &mut Workload) -> Result<Vec<i64>, Error> {
    for n in 0..BEFORE {
        broker.send(&workload.whole(TOPIC, format!("{}-before-{n}", TOPIC.name()))).await?;
    }
    broker.flush().await?;
    Ok(broker.edges(TOPIC.name()).await?.into_iter().map(|(_, end)| end).collect())
}

/// Sends from when the group's first worker has its partitions until it is over. Gives the workload back, where it stands.
pub async fn feed(
    mut workload: Workload,
    broker: Broker,
    pool: Arc<Pool>,
    over: Arc<AtomicBool>,
    journal: Arc<Journal>,
) -> Result<Workload, String> {
    let deadline = Instant::now() + START_MAX;
    while !pool.serves() {
        if Instant::now() > deadline {
            journal.violation(format!("the group that begins at the end has no worker after {START_MAX:?}"));
            return Ok(workload);
        }
        sleep(PAUSE).await;
    }
    while !over.load(Ordering::Relaxed) {
        for _ in 0..EACH {
            broker.send(&workload.alone(TOPIC, 0)).await.map_err(|e| e.to_string())?;
        }
        sleep(PAUSE).await;
    }
    broker.flush().await.map_err(|e| e.to_string())?;
    Ok(workload)
}
