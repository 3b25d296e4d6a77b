#[path = "lookups_tests.rs"]
mod lookups;
#[path = "neighbours_tests.rs"]
mod neighbours;
#[path = "requests_tests.rs"]
mod requests;
#[path = "dispatch_rig.rs"]
mod rig;

use rig::*;

use super::*;
use crate::pipeline::FloodOf;
use crate::telemetry::Component;

#[tokio::test]
async fn everything_settles_and_is_committed() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "ok");
    rig.message(1, "b", "bad");
    rig.message(2, "c", "unreadable");
    rig.message(7, "d", "ok");
    let (commits, handler) = (rig.commits.clone(), rig.handler.clone());
    let summary = rig.end().await.unwrap();
    assert_eq!(summary, Summary { settled: 4, dead_lettered: 2, abandoned: 0 });
    assert_eq!(commits.lock().unwrap()[&partition()], 8);
    let mut dead_lettered = handler.dead_lettered.lock().unwrap().clone();
    dead_lettered.sort_unstable();
    assert_eq!(dead_lettered, [1, 2]);
}

#[tokio::test]
async fn nothing_is_committed_past_a_message_whose_dead_letter_is_not_safe() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "ok");
    rig.message(1, "held", "unreadable");
    rig.message(2, "b", "ok");
    rig.handler.until(|h| h.started.lock().unwrap().contains(&1) && h.running.lock().unwrap().contains(&2)).await;
    while rig.committed() != Some(1) {
        tokio::task::yield_now().await;
    }
    // Each tick commits.
    rig.comes_to_rest().await;
    assert_eq!(rig.committed(), Some(1));
    rig.handler.gate.notify_one();
    let commits = rig.commits.clone();
    assert_eq!(rig.end().await.unwrap().dead_lettered, 1);
    assert_eq!(commits.lock().unwrap()[&partition()], 3);
}

#[tokio::test]
async fn one_message_of_a_key_at_a_time_and_superseded_ones_count_again_when_the_last_is_broken() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "wait");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 1).await;
    rig.message(1, "a", "ok");
    rig.message(2, "a", "bad");
    rig.message(3, "b", "ok");
    rig.handler.until(|h| h.started.lock().unwrap().contains(&3)).await;
    assert_eq!(*rig.handler.started.lock().unwrap(), [0, 3]);
    rig.handler.gate.notify_one();
    let handler = rig.handler.clone();
    assert_eq!(rig.end().await.unwrap().settled, 4);
    assert_eq!(*handler.started.lock().unwrap(), [0, 3, 2, 1], "2 superseded 1, failed, and 1 was written after all");
}

#[tokio::test]
async fn what_goes_to_a_retry_topic_is_settled_and_not_a_dead_letter() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "wait");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 1).await;
    rig.message(1, "a", "ok");
    rig.message(2, "a", "late");
    rig.handler.gate.notify_one();
    let (commits, handler) = (rig.commits.clone(), rig.handler.clone());
    let summary = rig.end().await.unwrap();
    assert_eq!(summary, Summary { settled: 3, dead_lettered: 0, abandoned: 0 });
    assert_eq!(commits.lock().unwrap()[&partition()], 3);
    assert_eq!(*handler.started.lock().unwrap(), [0, 2, 1], "what 2 had superseded was written after all");
}

#[tokio::test]
async fn no_more_is_taken_than_there_is_room_for() {
    let rig = Rig::new(PipelineSettings { in_flight_max: 2, ..Default::default() });
    for offset in 0..4 {
        rig.message(offset, ["a", "b", "c", "d"][offset as usize], "wait");
    }
    rig.handler.until(|h| h.started.lock().unwrap().len() == 2).await;
    rig.handler.gate.notify_one();
    rig.handler.until(|h| h.started.lock().unwrap().len() == 3).await;
    for _ in 0..3 {
        rig.handler.gate.notify_one();
        tokio::task::yield_now().await;
    }
    let handler = rig.handler.clone();
    let run = tokio::spawn(rig.end());
    while !run.is_finished() {
        handler.gate.notify_waiters();
        tokio::task::yield_now().await;
    }
    assert_eq!(run.await.unwrap().unwrap().settled, 4);
}

#[tokio::test]
async fn messages_with_nothing_to_embed_share_a_place() {
    let rig = Rig::new(PipelineSettings { in_flight_max: 2, ..Default::default() });
    rig.message(0, "first", "wait");
    for offset in 1..=9 {
        rig.message(offset, &format!("a{offset}"), "light");
    }
    let started = |h: &FakeHandler| h.started.lock().unwrap().clone();
    // One place is the first one's, and the other one for four.
    rig.handler.until(|h| started(h).len() == 5).await;
    rig.comes_to_rest().await;
    assert_eq!(started(&rig.handler), [0, 1, 2, 3, 4]);
    rig.handler.gate.notify_one();
    rig.handler.until(|h| started(h).len() > 5).await;
    let handler = rig.handler.clone();
    let run = tokio::spawn(rig.end());
    while !run.is_finished() {
        handler.gate.notify_waiters();
        tokio::task::yield_now().await;
    }
    assert_eq!(run.await.unwrap().unwrap().settled, 10);
}

#[tokio::test]
async fn a_revocation_is_completed_when_its_work_is_drained() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "wait");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 1).await;
    let (revocation, mut completed) = Revocation::new(vec![partition()]);
    rig.send(SourceEvent::Revoking(revocation));
    rig.comes_to_rest().await;
    assert!(completed.try_recv().is_err(), "work is still in flight");
    rig.handler.gate.notify_one();
    assert_eq!(completed.await.unwrap(), [(partition(), 1)]);
    rig.end().await.unwrap();
}

#[tokio::test]
async fn work_of_lost_partitions_is_fenced_and_not_committed() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "wait");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 1).await;
    rig.send(SourceEvent::Lost { partitions: vec![partition()] });
    let (commits, handler) = (rig.commits.clone(), rig.handler.clone());
    assert_eq!(rig.end().await.unwrap().settled, 0);
    assert!(commits.lock().unwrap().is_empty());
    assert!(handler.running.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_partition_that_comes_back_before_its_revocation_is_answered_goes_on() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "wait");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 1).await;
    let (revocation, completed) = Revocation::new(vec![partition()]);
    rig.send(SourceEvent::Revoking(revocation));
    rig.send(SourceEvent::Assigned { epoch: 2, partitions: vec![partition()] });
    rig.message_in(2, 0, "b", "ok");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 2).await;
    // The source has given up waiting.
    drop(completed);
    rig.message_in(2, 1, "c", "ok");
    while rig.committed() != Some(2) {
        tokio::task::yield_now().await;
    }
    assert_eq!(*rig.handler.running.lock().unwrap(), [0, 1], "the earlier assignment's work is fenced");
    assert_eq!(rig.end().await.unwrap().settled, 2);
}

#[tokio::test]
async fn a_message_of_an_unannounced_assignment_is_not_dropped_in_silence() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message_in(7, 0, "a", "ok");
    match rig.run.await.unwrap() {
        Err(PipelineError::Broken(why)) => assert!(why.contains("t[0]@0 came in epoch 7"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_message_that_does_not_move_makes_the_worker_unready_until_it_does() {
    let rig = Rig::new(PipelineSettings { stalled_after_ms: 1, ..Default::default() });
    rig.message(0, "a", "wait");
    while !rig
        .health
        .reasons()
        .iter()
        .any(|(component, why)| *component == Component::InFlight && why.contains("t[0]@0"))
    {
        tokio::task::yield_now().await;
    }
    rig.handler.gate.notify_one();
    while !rig.health.reasons().is_empty() {
        tokio::task::yield_now().await;
    }
    rig.end().await.unwrap();
}

#[tokio::test]
async fn a_stop_drains_and_takes_no_more() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "wait");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 1).await;
    rig.shutdown.request();
    rig.message(1, "b", "ok");
    rig.handler.gate.notify_one();
    let (commits, run) = (rig.commits.clone(), rig.run);
    assert_eq!(run.await.unwrap().unwrap().settled, 1);
    assert_eq!(commits.lock().unwrap()[&partition()], 1);
}

#[tokio::test]
async fn a_stop_drops_what_waits_behind_what_it_drops() {
    let rig = Rig::new(PipelineSettings::default());
    (0..4).for_each(|offset| rig.message(offset, &format!("key-{offset}"), "wait slow"));
    rig.handler.until(|h| h.started.lock().unwrap().len() == 4).await;
    // The host has no turn left. The patch needs none, but must not overtake the message that it changes.
    rig.message(4, "a", "ok slow");
    rig.message(5, "a", "patch");
    rig.message(6, "b", "ok");
    rig.handler.until(|h| h.indexed.lock().unwrap().len() == 1).await;
    rig.shutdown.request();
    rig.comes_to_rest().await;
    rig.handler.gate.notify_waiters();
    let (handler, commits, run) = (rig.handler.clone(), rig.commits.clone(), rig.run);
    assert_eq!(run.await.unwrap().unwrap(), Summary { settled: 5, dead_lettered: 0, abandoned: 2 });
    assert!(handler.indexed.lock().unwrap().iter().all(|(_, text)| text != "patch"));
    assert_eq!(commits.lock().unwrap()[&partition()], 4);
}

#[tokio::test]
async fn the_drain_deadline_leaves_work_for_redelivery() {
    let rig = Rig::new(PipelineSettings { drain_deadline_ms: 1, ..Default::default() });
    rig.message(0, "a", "ok");
    rig.message(1, "b", "wait");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 2).await;
    rig.shutdown.request();
    let (commits, run) = (rig.commits.clone(), rig.run);
    assert_eq!(run.await.unwrap().unwrap().abandoned, 1);
    assert_eq!(commits.lock().unwrap()[&partition()], 1);
}

#[tokio::test]
async fn a_second_request_forces() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "wait");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 1).await;
    rig.shutdown.request();
    rig.shutdown.request();
    assert!(matches!(rig.run.await.unwrap(), Err(PipelineError::Forced)));
}

#[tokio::test]
async fn a_panic_stops_the_pipeline() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "panic");
    assert!(matches!(rig.run.await.unwrap(), Err(PipelineError::Broken(_))));
}

#[tokio::test]
async fn a_flood_of_broken_messages_stops_the_pipeline_after_the_letters_are_safe() {
    let rig = Rig::new(PipelineSettings { dead_letters_in_row_max: 3, ..Default::default() });
    for offset in 0..3 {
        rig.message(offset, "a", "unreadable");
    }
    rig.handler.until(|h| h.dead_lettered.lock().unwrap().len() == 3).await;
    let (commits, run) = (rig.commits.clone(), rig.run);
    assert!(matches!(run.await.unwrap(), Err(PipelineError::Flood(Flood { of: FloodOf::InRow(3), .. }))));
    assert_eq!(commits.lock().unwrap()[&partition()], 3);
}

#[tokio::test]
async fn a_large_share_of_broken_messages_stops_the_pipeline_too() {
    let settings = PipelineSettings { dead_letters_percent_max: 60, in_flight_max: 1, ..Default::default() };
    let rig = Rig::new(settings);
    for offset in 0..1_200 {
        rig.message(offset, "a", if offset % 3 == 0 { "ok" } else { "bad" });
    }
    let (commits, run) = (rig.commits.clone(), rig.run);
    let ended = run.await.unwrap();
    assert!(
        matches!(ended, Err(PipelineError::Flood(Flood { of: FloodOf::Share { dead: 666, of: 1_000 }, .. }))),
        "{ended:?}"
    );
    assert_eq!(commits.lock().unwrap()[&partition()], 1_000);
}

#[tokio::test]
async fn the_watermark_is_committed_while_running() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "ok");
    while rig.committed() != Some(1) {
        tokio::task::yield_now().await;
    }
    rig.end().await.unwrap();
}
