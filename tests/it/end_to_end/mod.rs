//! The main job, whole: 500 messages through Kafka, pictures over HTTP and S3, the real binary, Qdrant over gRPC.
//!
//! Kafka and S3 are real servers where `scripts/services` runs them (`scripts/services with cargo test end_to_end`);
//! Qdrant is the server that `CLIPSTREAM_TEST_QDRANT_URL` names, or the double with Qdrant's own engine.

mod broken;
pub mod checks;
mod expected;
mod media;
mod messages;
mod world;

use std::collections::BTreeSet;

use chrono::Utc;
use clipstream::store::StoredPoint;

use self::checks::Vectors;
use self::expected::{Expected, Position};
use self::messages::Message;
use self::world::{Served, World};
use crate::worker_process::Process;

const BROKEN: usize = 21;

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_messages_become_exactly_the_expected_points() {
    let started = Utc::now();
    let mut world = World::start().await;
    let messages = messages::all(&mut world.media).await;
    assert_eq!(messages.len(), messages::COUNT);
    let kinds: Vec<&str> = messages.iter().filter_map(|m| Some(m.dies?.kind)).collect();
    assert_eq!((kinds.len(), kinds.iter().collect::<BTreeSet<_>>().len()), (BROKEN, 11));
    let produced = world.produce(messages).await;
    let mut expected = Expected::default();
    produced.iter().for_each(|(message, at)| expected.apply(message, at));

    let group = world.group("worker");
    consume_everything(&world, &group).await;
    let vectors = Vectors::of(&expected, &world.media.pictures).await;
    let stored = checks::scroll(&*world.store, &world.collection).await;
    checks::points(&stored, &expected, &vectors, &world.media.pictures, started);
    let originals = world.originals();
    let letters = world.dead_letters();
    checks::dead_letters(&letters, &produced, &originals, &group);
    assert_found_by_text(&world, &expected).await;

    assert_second_run_changes_nothing(&world, &group, &stored).await;
    assert_replay_ends_the_same(&world, &produced, &expected, &vectors, &stored).await;
    world.end().await;
}

/// Runs the worker until the group has committed the end of every partition, looks at it while it runs, and stops it.
async fn consume_everything(world: &World, group: &str) {
    let mut worker = world.worker(group);
    let served = Served::by(&mut worker).await;
    assert_eq!(served.get("/livez").await, (200, "live\n".into()));
    worker.wait_for("ready", async |_| (served.get("/readyz").await.0 == 200).then_some(())).await;
    worker
        .wait_for("the end of every partition is committed", async |_| world.all_committed(group).then_some(()))
        .await;
    assert_eq!(served.get("/readyz").await, (200, "ready\nmodel demo-emoji/v1: fp32 on cpu\n".into()));
    assert_eq!(served.metric("clipstream_model_info", "provider=\"cpu\"").await, Some(2.0), "two towers");
    let messages = async |outcome| served.metric("clipstream_messages_total", outcome).await.unwrap_or_default();
    assert_eq!(messages("").await, messages::COUNT as f64);
    assert_eq!(messages("\"dead_lettered\"").await, BROKEN as f64);
    for outcome in ["\"indexed\"", "\"deleted\"", "\"stale\""] {
        assert!(messages(outcome).await > 0.0, "no message was {outcome}");
    }
    for stage in ["fetch", "embed", "upsert"] {
        assert!(served.metric("clipstream_stage_duration_seconds_count", stage).await > Some(0.0), "{stage}");
    }
    assert_eq!(served.metric("clipstream_queue_depth", "in_flight").await, Some(0.0));
    stop(worker, messages::COUNT, BROKEN).await;
}

/// The first signal drains: exit code 0, and the last line says what was done.
async fn stop(worker: Process, settled: usize, dead_lettered: usize) {
    worker.terminate();
    let (code, lines) = worker.end().await;
    let last: serde_json::Value =
        serde_json::from_str(lines.last().expect("it logs")).expect("the last line is an event");
    let found = (code, &last["message"], &last["settled"], &last["dead_lettered"], &last["abandoned"]);
    assert_eq!(
        found,
        (Some(0), &"stopped".into(), &settled.into(), &dead_lettered.into(), &0.into()),
        "{}",
        lines.join("\n")
    );
}

/// What went in is found again, by the binary's own verb.
async fn assert_found_by_text(world: &World, expected: &Expected) {
    for asset in ["caption-7", "meet-image-first-3"] {
        let point = expected.points.values().find(|point| point.asset == asset).expect("it is among the points");
        let hits = world.search(point.text.as_deref().expect("it has a caption")).await;
        assert_eq!(hits[0].0, asset, "{hits:?}");
        assert!(hits.len() == 3 && hits[0].1 > 0.999_99 && hits[0].1 > hits[1].1, "{hits:?}");
    }
}

/// A worker of the same group finds nothing to do.
async fn assert_second_run_changes_nothing(world: &World, group: &str, before: &[StoredPoint]) {
    let mut worker = world.worker(group);
    let served = Served::by(&mut worker).await;
    // Every partition is asked for its end, and nothing is behind it.
    let partitions = async || {
        let (_, text) = served.get("/metrics").await;
        text.lines().filter(|line| line.starts_with("clipstream_lag{") && line.ends_with(" 0")).count()
    };
    worker.wait_for("no partition is behind", async |_| (partitions().await == 6).then_some(())).await;
    assert_eq!(served.get("/readyz").await.0, 200);
    stop(worker, 0, 0).await;
    assert!(world.all_committed(group));
    assert_eq!(world.dead_letters().len(), BROKEN);
    let after = checks::scroll(&*world.store, &world.collection).await;
    let changed: Vec<_> = before.iter().zip(&after).filter(|(old, new)| old != new).map(|(old, _)| old.id).collect();
    assert!(changed.is_empty() && after.len() == before.len(), "changed: {changed:?}");
}

/// A new group reads everything again, over what is there: the same points, and the same dead letters once more.
async fn assert_replay_ends_the_same(
    world: &World,
    produced: &[(Message, Position)],
    expected: &Expected,
    vectors: &Vectors,
    before: &[StoredPoint],
) {
    let (started, group) = (Utc::now(), world.group("replay"));
    let letters_before = world.dead_letters();
    consume_everything(world, &group).await;
    let mut again = expected.clone();
    produced.iter().for_each(|(message, at)| again.apply(message, at));
    let stored = checks::scroll(&*world.store, &world.collection).await;
    checks::same_after_replay(before, &stored);
    checks::points(&stored, &again, vectors, &world.media.pictures, started);
    let letters = world.dead_letters();
    let new: Vec<_> =
        letters.into_iter().filter(|letter| !letters_before.iter().any(|old| same(old, letter))).collect();
    checks::dead_letters(&new, produced, &world.originals(), &group);
}

fn same(one: &rdkafka::message::OwnedMessage, other: &rdkafka::message::OwnedMessage) -> bool {
    use rdkafka::message::Message as _;
    (one.topic(), one.partition(), one.offset()) == (other.topic(), other.partition(), other.offset())
}
