//! A log that goes back, on librdkafka's in-process mock cluster. What only a real broker shows is in `tests/it/kafka_offsets/`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::handover::{Handover, Limits};
use super::poller::Poller;
use super::skipped::Skipped;
use super::tests::{Bench, PATIENCE, Seen, waits};
use super::{consumer_config, join, poller};
use crate::domain::TopicPartition;
use crate::source::Demand;

/// librdkafka goes back by a seek of its own when it finds that a log was cut off; here the test does it in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_goes_back_is_read_again_from_what_was_not_settled_before_it() {
    for (settled, cut, begin) in [(Some(3), 8, 3), (Some(20), 8, 8), (None, 8, 0)] {
        let bench = Bench::new();
        let partition = TopicPartition { topic: "assets".into(), partition: 0 };
        let handover = Arc::new(Handover::new(Limits::default()));
        bench.fill(0, 20).await;
        let config = consumer_config(&bench.settings, Duration::from_secs(1)).expect("a configuration");
        let joined = join(&config, &bench.settings, bench.health.clone(), PATIENCE).expect("the mock cluster is there");
        let skipped = Skipped::new(bench.health.clone(), Arc::default());
        let waits = waits(Duration::from_secs(1));
        let topics = bench.settings.topics.clone();
        let mut poller = poller(joined, topics, waits, &handover, Arc::default(), skipped, Default::default());
        let mut seen = Seen::default();
        let deadline = Instant::now() + PATIENCE;
        let turn = async |poller: &mut Poller, seen: &mut Seen| {
            assert!(Instant::now() < deadline, "still waiting after {:?}", seen.values);
            poller.turn().expect("the source goes on");
            while let Ok(event) = tokio::time::timeout(Duration::ZERO, handover.next(Demand::Messages)).await {
                seen.handle(event.expect("the source goes on"));
            }
        };
        while seen.count() < 20 {
            turn(&mut poller, &mut seen).await;
        }
        let epoch = seen.epochs[&0];
        if let Some(settled) = settled {
            handover.commit(vec![(partition.clone(), settled)]).expect("it is taken");
        }
        while poller.state.commits.committed(&partition) != settled {
            turn(&mut poller, &mut seen).await;
        }
        seen.values.clear();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("assets", 0, Offset::Offset(cut)).expect("an offset");
        poller.consumer.seek_partitions(list, PATIENCE).expect("it goes back");
        while seen.count() < (20 - begin) as usize {
            turn(&mut poller, &mut seen).await;
        }
        assert!(seen.values[&0].iter().map(|(offset, _)| *offset).eq(begin..20), "{:?}", seen.values);
        assert!(seen.epochs[&0] > epoch);
        // The group follows, back and forth.
        while poller.state.commits.committed(&partition) != Some(begin) {
            turn(&mut poller, &mut seen).await;
        }
        handover.commit(vec![(partition.clone(), 20)]).expect("it is taken");
        while poller.state.commits.committed(&partition) != Some(20) {
            turn(&mut poller, &mut seen).await;
        }
        poller.leave().expect("leaves");
    }
}
