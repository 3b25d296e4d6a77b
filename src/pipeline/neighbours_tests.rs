//! How a host, tenant, asset or partition affects the others.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::*;
use crate::domain::{Stage, StoreReason, TopicPartition};

fn settings(in_flight_max: usize) -> PipelineSettings {
    PipelineSettings { in_flight_max, ..PipelineSettings::default() }
}

impl Rig {
    fn messages(&self, offsets: std::ops::Range<i64>, value: &str) {
        offsets.for_each(|offset| self.message(offset, &format!("key-{offset}"), value));
    }

    async fn until_done(&self, offsets: std::ops::Range<i64>) {
        let patience = Duration::from_secs(60);
        let done = self.handler.until(|h| {
            let done = h.running.lock().unwrap();
            offsets.clone().all(|offset| done.contains(&offset))
        });
        tokio::time::timeout(patience, done).await.expect("they are done");
    }

    fn started(&self) -> Vec<i64> {
        self.handler.started.lock().unwrap().clone()
    }

    fn counts(&self) -> usize {
        self.started().len()
    }
}

#[tokio::test]
async fn messages_of_a_host_that_is_out_leave_their_places_and_are_all_done_when_it_is_back() {
    let rig = Rig::new(settings(4));
    rig.messages(0..300, "out h");
    rig.messages(300..320, "ok");
    rig.until_done(300..320).await;
    rig.comes_to_rest().await;
    assert_eq!(rig.committed(), None, "the first one is not settled");
    assert!(rig.counts() < 300, "the host is tried now and then, not by each of its messages: {}", rig.counts());
    rig.handler.is_back.store(true, Ordering::Release);
    rig.until_done(0..300).await;
    while rig.committed() != Some(320) {
        tokio::task::yield_now().await;
    }
    rig.end().await.unwrap();
}

#[tokio::test]
async fn each_try_of_a_host_that_is_out_is_made_by_another_message() {
    let rig = Rig::new(settings(4));
    rig.messages(0..5, "out h");
    rig.handler.until(|h| (0..5).all(|offset| h.started.lock().unwrap().contains(&offset))).await;
    rig.handler.is_back.store(true, Ordering::Release);
    assert_eq!(rig.end().await.unwrap().settled, 5);
}

#[tokio::test]
async fn beyond_its_turns_a_host_takes_no_places() {
    let rig = Rig::new(settings(8));
    rig.messages(0..100, "wait slow");
    rig.messages(100..120, "ok fast");
    rig.until_done(100..120).await;
    let slow = rig.started().into_iter().filter(|offset| *offset < 100).count();
    assert_eq!(slow, 4, "two that are fetched, two on their way");
    let (handler, run) = (rig.handler.clone(), tokio::spawn(rig.end()));
    while !run.is_finished() {
        handler.gate.notify_waiters();
        tokio::task::yield_now().await;
    }
    assert_eq!(run.await.unwrap().unwrap().settled, 120);
}

#[tokio::test]
async fn a_host_has_every_place_for_what_is_past_its_fetch() {
    let rig = Rig::new(settings(8));
    rig.messages(0..20, "embed only");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 8).await;
    rig.comes_to_rest().await;
    assert_eq!(rig.counts(), 8);
    let (handler, run) = (rig.handler.clone(), tokio::spawn(rig.end()));
    while !run.is_finished() {
        handler.gate.notify_waiters();
        tokio::task::yield_now().await;
    }
    assert_eq!(run.await.unwrap().unwrap().settled, 20);
}

#[tokio::test]
async fn a_thousand_hosts_that_never_served_leave_places_to_others() {
    let rig = Rig::new(settings(8));
    (0..1000).for_each(|n| rig.message(n, &format!("key-{n}"), &format!("wait bad-{n}")));
    rig.messages(1000..1020, "ok good");
    rig.until_done(1000..1020).await;
    assert_eq!(rig.started().into_iter().filter(|offset| *offset < 1000).count(), 6, "three quarters");
    rig.shutdown.request();
    let handler = rig.handler.clone();
    let run = rig.run;
    while !run.is_finished() {
        handler.gate.notify_waiters();
        tokio::task::yield_now().await;
    }
    assert_eq!(run.await.unwrap().unwrap(), Summary { settled: 26, dead_lettered: 0, abandoned: 994 });
}

#[tokio::test]
async fn the_flood_of_a_tenant_delays_others_by_no_more_than_what_runs() {
    let rig = Rig::new(settings(4));
    (0..200).for_each(|n| rig.message(n, &format!("flood/{n}"), "wait"));
    (200..204).for_each(|n| rig.message(n, &format!("small/{n}"), "ok"));
    rig.handler.until(|h| h.started.lock().unwrap().len() == 4).await;
    // One message of the flood ends.
    rig.handler.gate.notify_one();
    rig.until_done(200..204).await;
    assert_eq!(rig.counts(), 4 + 4 + usize::from(rig.counts() == 9), "nobody else came in between");
    let (handler, run) = (rig.handler.clone(), tokio::spawn(rig.end()));
    while !run.is_finished() {
        handler.gate.notify_waiters();
        tokio::task::yield_now().await;
    }
    assert_eq!(run.await.unwrap().unwrap().settled, 204);
}

#[tokio::test]
async fn what_waits_behind_a_message_of_its_asset_takes_no_place() {
    let rig = Rig::new(settings(2));
    rig.message(0, "hot", "wait");
    (1..50).for_each(|offset| rig.message(offset, "hot", "ok"));
    rig.messages(50..60, "ok");
    rig.until_done(50..60).await;
    assert_eq!(rig.started().into_iter().filter(|offset| *offset < 50).count(), 1);
    rig.handler.gate.notify_one();
    assert_eq!(rig.end().await.unwrap().settled, 60);
}

#[tokio::test]
async fn no_more_is_taken_than_may_be_held() {
    let rig = Rig::new(PipelineSettings { held_messages_max: 10, ..settings(4) });
    rig.messages(0..100, "out h");
    rig.messages(100..110, "ok");
    rig.handler.until(|h| (0..10).all(|offset| h.started.lock().unwrap().contains(&offset))).await;
    rig.comes_to_rest().await;
    assert!(rig.started().iter().all(|offset| *offset <= 12), "{:?}", rig.started());
    rig.handler.is_back.store(true, Ordering::Release);
    assert_eq!(rig.end().await.unwrap().settled, 110);
}

#[tokio::test]
async fn what_everybody_needs_is_waited_for_within_the_window() {
    let rig = Rig::new(settings(4));
    // As when the store is down: each item is retried without giving up its place.
    (0..50).for_each(|n| rig.message(n, &format!("tenant/{n}"), "wait"));
    rig.health.outage(Stage::Upsert, StoreReason::Unreachable, "down");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 4).await;
    rig.comes_to_rest().await;
    let shown = rig.metrics.encode();
    let waiting = shown.lines().find(|line| line.contains("queue=\"waiting\"")).unwrap();
    let waiting: usize = waiting.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(waiting <= 46, "{waiting}");
    assert_eq!(rig.counts(), 4);
    let (handler, run) = (rig.handler.clone(), tokio::spawn(rig.end()));
    while !run.is_finished() {
        handler.gate.notify_waiters();
        tokio::task::yield_now().await;
    }
    assert_eq!(run.await.unwrap().unwrap().settled, 50);
}

fn other() -> TopicPartition {
    TopicPartition { topic: "t".into(), partition: 1 }
}

#[tokio::test]
async fn a_partition_far_ahead_of_its_watermark_is_held_back_and_others_go_on() {
    let rig = Rig::new(PipelineSettings { uncommitted_messages_max: 20, ..settings(4) });
    rig.send(SourceEvent::Assigned { epoch: 1, partitions: vec![other()] });
    rig.message(0, "held", "out h");
    rig.messages(1..20, "ok");
    rig.until_done(1..20).await;
    while *rig.held_back.lock().unwrap() != BTreeSet::from([partition()]) {
        tokio::task::yield_now().await;
    }
    rig.message_of(1, 1, 500, "other", "ok");
    rig.until_done(500..501).await;
    while rig.commits.lock().unwrap().get(&other()) != Some(&501) {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.committed(), None);
    rig.handler.is_back.store(true, Ordering::Release);
    while !rig.held_back.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.committed(), Some(20));
    rig.end().await.unwrap();
}

#[tokio::test]
async fn a_source_of_one_partition_is_asked_for_no_more_while_that_is_held_back() {
    let rig = Rig::new(PipelineSettings { uncommitted_messages_max: 20, ..settings(4) });
    rig.message(0, "held", "out h");
    rig.messages(1..100, "ok");
    rig.until_done(1..20).await;
    rig.comes_to_rest().await;
    assert!(rig.started().iter().all(|offset| *offset < 20), "{:?}", rig.started());
    rig.handler.is_back.store(true, Ordering::Release);
    assert_eq!(rig.end().await.unwrap().settled, 100);
}

#[tokio::test]
async fn a_revocation_does_not_wait_for_what_is_held_and_what_is_behind_it() {
    let rig = Rig::new(settings(4));
    rig.message(0, "done", "ok");
    rig.message(1, "held", "out h");
    rig.message(2, "held", "ok");
    rig.messages(3..10, "ok");
    rig.until_done(3..10).await;
    let (revocation, completed) = Revocation::new(vec![partition()]);
    rig.send(SourceEvent::Revoking(revocation));
    let offsets = tokio::time::timeout(Duration::from_secs(60), completed).await.expect("at once").unwrap();
    assert_eq!(offsets, [(partition(), 1)], "not beyond what is held");
    let (health, handler) = (rig.health.clone(), rig.handler.clone());
    let summary = rig.end().await.unwrap();
    assert_eq!((summary.settled, health.reasons()), (8, Vec::new()));
    assert!(!handler.started.lock().unwrap().contains(&2));
}

#[tokio::test]
async fn a_held_message_of_a_lost_partition_is_not_run_again_when_its_host_is_back() {
    let rig = Rig::new(settings(4));
    rig.message(0, "held", "out h");
    rig.handler.until(|h| h.started.lock().unwrap().len() > 3).await;
    rig.send(SourceEvent::Assigned { epoch: 2, partitions: vec![partition()] });
    rig.message_in(2, 0, "held", "ok");
    rig.until_done(0..1).await;
    rig.handler.is_back.store(true, Ordering::Release);
    let handler = rig.handler.clone();
    assert_eq!(rig.end().await.unwrap().settled, 1);
    assert_eq!(*handler.running.lock().unwrap(), [0], "only that of the new assignment");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_what_is_held() {
    let rig = Rig::new(settings(4));
    rig.messages(0..10, "ok");
    rig.messages(10..30, "out h");
    rig.messages(30..40, "ok");
    rig.until_done(30..40).await;
    rig.shutdown.request();
    let (commits, run) = (rig.commits.clone(), rig.run);
    let summary = tokio::time::timeout(Duration::from_secs(10), run).await.expect("at once").unwrap().unwrap();
    assert_eq!(summary, Summary { settled: 20, dead_lettered: 0, abandoned: 20 });
    assert_eq!(commits.lock().unwrap()[&partition()], 10);
}

#[tokio::test]
async fn a_source_that_ends_is_done_to_its_end_with_what_is_held() {
    let rig = Rig::new(settings(4));
    rig.messages(0..30, "out h");
    rig.messages(30..40, "ok");
    rig.send(SourceEvent::End);
    rig.until_done(30..40).await;
    rig.comes_to_rest().await;
    assert!(!rig.run.is_finished());
    rig.handler.is_back.store(true, Ordering::Release);
    assert_eq!(rig.run.await.unwrap().unwrap().settled, 40);
}
