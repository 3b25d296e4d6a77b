//! Offsets that go back, jump, or mean nothing any more, on Apache Kafka (`CLIPSTREAM_TEST_KAFKA=host:port`). librdkafka's mock
//! cluster can do none of it, so without a broker these tests are left out.

mod another_owner;
mod reader;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clipstream::source::{Demand, KafkaSource, Source};

use crate::kafka::Kafka;
use reader::{Reader, World};

fn offsets(pairs: &[(i32, i64)]) -> BTreeMap<i32, i64> {
    pairs.iter().copied().collect()
}

/// A topic that is deleted and made again so soon that no rebalance comes, and how much is in the new one before anybody
/// looks.
async fn made_anew(test: &str, before: usize, after: usize, settles: bool) {
    let Some(world) = World::new(test, 1).await else { return };
    world.produce("old", before).await;
    let mut reader = world.reader().await;
    reader.settles = settles;
    reader.until("the old topic", |reader| reader.has("old", 0..before)).await;
    if settles {
        reader.until("its commit", |_| world.committed() == offsets(&[(0, before as i64)])).await;
    }
    let old = reader.messages[0].clone();
    world.make_anew(1).await;
    world.produce("new", after).await;
    reader.until("all of the new topic", |reader| reader.has("new", 0..after)).await;
    // Where its offsets told it before its id did, it is read once more as soon as that is known.
    let is_named = |reader: &Reader| {
        let last = reader.messages.last().expect("messages");
        let count = reader.messages.iter().filter(|message| message.epoch == last.epoch).count();
        last.topic_id != old.topic_id && count == after
    };
    reader.until("all of it under its own id", is_named).await;
    // In an epoch of its own, under its own id, from its beginning, and in order.
    let last = reader.messages.last().expect("messages").clone();
    assert!(last.epoch > old.epoch);
    assert!(old.topic_id.is_some() && last.topic_id.is_some() && last.topic_id != old.topic_id, "{old:?} {last:?}");
    let of_last = reader.messages.iter().filter(|message| message.epoch == last.epoch);
    let of_last: Vec<i64> = of_last.map(|message| message.position.offset).collect();
    assert!(of_last.iter().copied().eq(0..after as i64), "{of_last:?}, of {after}");
    if settles {
        let end = offsets(&[(0, after as i64)]);
        reader.until("the new topic's commit", |_| world.committed() == end).await;
        reader.source.close().await.expect("leaves");
        assert_eq!(world.committed(), end, "an orderly stop commits nothing else");
        reader = world.reader().await;
        world.produce("next", 1).await;
        reader.until("what came after", |reader| reader.has("next", 0..1)).await;
        assert_eq!(reader.messages.len(), 1, "and nothing twice");
    } else {
        let committed = world.committed();
        assert!(committed.values().all(|offset| *offset == 0), "nothing was settled: {committed:?}");
    }
    world.end(reader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_anew_is_read_from_its_beginning() {
    made_anew("anew-lower", 50, 20, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_anew_and_has_grown_beyond_the_old_offset_is_read_from_its_beginning() {
    made_anew("anew-higher", 5, 300, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_anew_while_its_messages_are_held_is_read_from_its_beginning() {
    made_anew("anew-held", 7, 24, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_of_a_topic_that_is_gone_is_not_the_new_ones() {
    let Some(world) = World::new("anew-between", 1).await else { return };
    world.produce("old", 10).await;
    let mut reader = world.reader().await;
    reader.until("the old topic", |reader| reader.has("old", 0..10)).await;
    reader.until("its commit", |_| world.committed() == offsets(&[(0, 10)])).await;
    reader.source.close().await.expect("leaves");
    let (metadata, leader_epoch) = world.kafka.committed_note(&world.settings.group_id, &world.topic, 0);
    assert!(metadata.contains("topic_id"), "{metadata:?}");
    assert!(leader_epoch >= 0, "a client that comes next can tell a log that was cut off");
    world.make_anew(1).await;
    world.produce("new", 30).await;
    // As a worker does that has not noticed, and is killed: brokers forget the offsets of a topic that is deleted.
    world.kafka.commit_with(&world.settings.group_id, &world.topic, 0, 12, &metadata);
    let mut reader = world.reader().await;
    reader.until("all of the new topic", |reader| reader.has("new", 0..30)).await;
    assert_eq!(reader.skipped(), 0.0);
    world.end(reader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_before_it_is_read_is_counted_and_said_at_the_start() {
    let Some(world) = World::new("removed-start", 1).await else { return };
    world.produce("old", 100).await;
    world.kafka.commit_with(&world.settings.group_id, &world.topic, 0, 10, "");
    world.kafka.delete_records(&world.topic, 0, 80).await;
    let found = KafkaSource::check(&world.settings, &[], Duration::from_secs(1), Vec::new()).await.expect("it answers");
    let removed: Vec<_> = found.removed.iter().map(|r| (r.partition.to_string(), r.from, r.to)).collect();
    assert_eq!(removed, [(format!("{}[0]", world.topic), 10, 80)]);
    let mut reader = world.reader().await;
    reader.until("what is left", |reader| reader.has("old", 80..100)).await;
    assert_eq!((reader.skipped(), reader.messages.len()), (70.0, 20));
    let reasons = format!("{:?}", reader.health.reasons());
    assert!(reasons.contains(&format!("70 of {}[0], offsets 10 to 79", world.topic)), "{reasons}");
    world.end(reader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_before_it_is_read_is_counted_while_running_and_where_nothing_is_left() {
    let Some(world) = World::new("removed-running", 1).await else { return };
    world.produce("old", 3_000).await;
    let mut reader = world.reader().await;
    let assigned = |reader: &Reader| !reader.epochs.is_empty();
    reader.until_with(Demand::ControlOnly, "the assignment", assigned).await;
    // The pipeline takes nothing, so that the source holds a few, and has paused the partition behind them.
    let full = |reader: &Reader| reader.metric("clipstream_queue_depth{queue=\"source\"}").is_some_and(|n| n >= 1000.0);
    reader.until_with(Demand::ControlOnly, "backpressure", full).await;
    world.kafka.delete_records(&world.topic, 0, 2_500).await;
    reader.until("what is left", |reader| reader.has("old", 2_500..3_000)).await;
    let came = reader.messages.len();
    assert!((1_000..2_500).contains(&came), "{came} came");
    assert_eq!(reader.skipped() as usize, 3_000 - came, "every message came, or was counted");
    // And what is removed up to the end, of which no message tells.
    let before = reader.skipped();
    world.produce("more", 3_000).await;
    reader.until_with(Demand::ControlOnly, "backpressure", full).await;
    world.kafka.delete_records(&world.topic, 0, 6_000).await;
    reader.until("the end", |reader| reader.skipped() > before && reader.lag() == Some(0)).await;
    let came = reader.messages.iter().filter(|m| m.value.as_deref().is_some_and(|v| v.starts_with(b"more"))).count();
    assert_eq!((reader.skipped() - before) as usize, 3_000 - came);
    reader.until("its commit", |_| world.committed() == offsets(&[(0, 6_000)])).await;
    world.end(reader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_behind_transactions_reaches_zero_and_their_markers_are_no_loss() {
    let Some(world) = World::new("markers", 1).await else { return };
    let mut reader = world.reader().await;
    reader.until("the assignment", |reader| !reader.epochs.is_empty()).await;
    world.kafka.transactions(&world.topic, &[("one", true), ("two", false), ("three", true)]).await;
    // A message and a marker each; what is aborted is nobody's.
    reader.until("both", |reader| reader.has("one", 0..1) && reader.has("three", 0..1)).await;
    reader.until("the end of the lag", |reader| reader.lag() == Some(0)).await;
    reader.until("its commit", |_| world.committed() == offsets(&[(0, 6)])).await;
    assert_eq!((reader.messages.len(), reader.skipped()), (2, 0.0));
    world.end(reader).await;
    // And where no message came at all.
    let Some(world) = World::new("markers-only", 1).await else { return };
    world.kafka.transactions(&world.topic, &[("one", false)]).await;
    let mut reader = world.reader().await;
    reader.until("the end of the lag", |reader| reader.lag() == Some(0)).await;
    world.end(reader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_loses_nothing_of_what_came_since() {
    let Some(mut world) = World::new("latest", 2).await else { return };
    world.settings.auto_offset_reset = "latest".into();
    world.produce("backlog", 20).await;
    let mut reader = world.reader().await;
    // Before the group has assigned anything.
    world.produce("soon", 20).await;
    reader.settles = false;
    reader.until("what came since it was connected", |reader| reader.has("soon", 0..20)).await;
    reader.until("a position of every partition", |_| world.committed().len() == 2).await;
    // Nothing was settled, and nobody is told anything.
    drop(reader);
    world.produce("later", 20).await;
    let mut reader = world.reader().await;
    reader.until("everything", |reader| reader.has("soon", 0..20) && reader.has("later", 0..20)).await;
    assert!(!reader.values().iter().any(|value| value.starts_with("backlog")), "it was there before the group");
    world.end(reader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_loses_nothing_while_idle_partitions_move() {
    let Some(mut world) = World::new("latest-idle", 2).await else { return };
    world.settings.auto_offset_reset = "latest".into();
    let mut reader = world.reader().await;
    reader.until("a position of every partition", |_| world.committed() == offsets(&[(0, 0), (1, 0)])).await;
    reader.source.close().await.expect("leaves");
    world.produce("between", 20).await;
    let mut reader = world.reader().await;
    reader.until("what came in between", |reader| reader.has("between", 0..20)).await;
    world.end(reader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_reads_partitions_that_are_added_from_their_beginning() {
    let Some(mut world) = World::new("latest-added", 1).await else { return };
    world.settings.auto_offset_reset = "latest".into();
    world.produce("backlog", 5).await;
    let mut reader = world.reader().await;
    reader.until("a position", |_| world.committed() == offsets(&[(0, 5)])).await;
    world.kafka.add_partitions(&world.topic, 3).await;
    // Before anybody has discovered them.
    world.produce("added", 60).await;
    reader.until("everything", |reader| reader.has("added", 0..60)).await;
    let partitions: BTreeSet<_> = reader.messages.iter().map(|message| message.position.partition).collect();
    assert_eq!(partitions.len(), 3, "all partitions have some");
    // Also where the worker was not there when they were added.
    reader.source.close().await.expect("leaves");
    world.kafka.add_partitions(&world.topic, 6).await;
    world.produce("while-away", 100).await;
    let mut reader = world.reader().await;
    reader.until("everything", |reader| reader.has("while-away", 0..100)).await;
    world.end(reader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_reads_topics_that_a_pattern_matches_later_from_their_beginning() {
    let Some(mut world) = World::new("latest-pattern", 1).await else { return };
    world.settings.auto_offset_reset = "latest".into();
    world.settings.topics = vec![format!("^{}.*", world.topic)];
    world.produce("backlog", 5).await;
    let mut reader = world.reader().await;
    reader.until("a position", |_| world.committed() == offsets(&[(0, 5)])).await;
    let later = format!("{}-later", world.topic);
    world.kafka.create_topic(&later, 1).await;
    world.produce_to(&later, "later", 20).await;
    reader.until("the new topic", |reader| reader.has("later", 0..20)).await;
    assert!(!reader.values().iter().any(|value| value.starts_with("backlog")));
    // What is not committed when its topic goes cannot be committed any more, so the topic goes last.
    let kafka = Kafka::start("latest-pattern");
    world.end(reader).await;
    kafka.delete_topics(&[&later]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_pattern_means_internal_topics() {
    let Some(mut world) = World::new("internal", 1).await else { return };
    // Makes the broker keep books, in `__consumer_offsets`.
    world.kafka.commit_with(&world.settings.group_id, &world.topic, 0, 0, "");
    for blacklist in [None, Some("^nothing-like-it$")] {
        if let Some(blacklist) = blacklist {
            world.settings.properties.insert("topic.blacklist".into(), blacklist.into());
        }
        world.settings.topics = vec!["^.*".into()];
        let mut reader = world.reader().await;
        let topic = world.topic.clone();
        let assigned = |reader: &Reader| reader.epochs.keys().any(|partition| *partition.topic == *topic);
        reader.until_with(Demand::ControlOnly, "the assignment", assigned).await;
        let internal: Vec<_> = reader.epochs.keys().filter(|partition| partition.topic.starts_with("__")).collect();
        assert!(internal.is_empty(), "{internal:?}");
        reader.source.close().await.expect("leaves");
    }
    world.kafka.delete_topics(&[&world.topic]).await;
}
