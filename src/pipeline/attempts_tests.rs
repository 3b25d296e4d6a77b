use std::future::ready;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::domain::{Fault, MediaReason, StoreReason};
use crate::telemetry::log_lines::LogLines;

fn attempts(health: &Health) -> Attempts {
    let settings = PipelineSettings { attempts_max: 3, backoff_base_ms: 1, backoff_cap_ms: 2, ..Default::default() };
    Attempts::new(&settings, health.clone(), Arc::default())
}

fn failure(stage: Stage, class: Class) -> Failure {
    Fault::new(MediaReason::HttpFailed, "no").class(class).at(stage)
}

#[tokio::test]
async fn transient_failures_end_after_the_attempts() {
    let mut calls = 0;
    let gave_up = attempts(&Health::new())
        .run(Stage::Fetch, || {
            calls += 1;
            ready(Err::<(), _>(failure(Stage::Fetch, Class::Transient)))
        })
        .await
        .unwrap_err();
    assert_eq!((calls, gave_up.attempts), (3, 3));
}

#[tokio::test]
async fn permanent_failures_are_not_tried_again() {
    let run = attempts(&Health::new())
        .run(Stage::Fetch, || ready(Err::<(), _>(failure(Stage::Fetch, Class::Permanent))))
        .await;
    assert_eq!(run.unwrap_err().attempts, 1);
}

#[tokio::test]
async fn an_outage_is_held_unready_until_it_ends() {
    let health = Health::new();
    let mut calls = 0;
    let observed = health.clone();
    attempts(&health)
        .run(Stage::Upsert, || {
            calls += 1;
            if calls > 10 {
                assert_eq!(observed.reasons(), [(Stage::Upsert.into(), "no".to_owned())]);
                return ready(Ok(()));
            }
            ready(Err(failure(Stage::Upsert, Class::Outage)))
        })
        .await
        .unwrap();
    assert_eq!(calls, 11, "far beyond attempts_max");
    assert!(health.reasons().is_empty());
}

#[tokio::test]
async fn a_busy_store_is_held_beyond_the_attempts() {
    let health = Health::new();
    let (mut calls, mut unready) = (0, 0);
    attempts(&health)
        .run(Stage::Upsert, || {
            calls += 1;
            unready += usize::from(!health.reasons().is_empty());
            if calls > 10 { ready(Ok(())) } else { ready(Err(failure(Stage::Upsert, Class::Transient))) }
        })
        .await
        .unwrap();
    assert_eq!((calls, unready), (11, 8), "unready from the third attempt on");
    assert!(health.reasons().is_empty());
}

fn lost_race() -> Failure {
    Fault::new(StoreReason::Conflict, "no").at(Stage::Upsert)
}

#[tokio::test]
async fn a_lost_race_is_no_attempt_no_outage_and_soon_run_again() {
    let health = Health::new();
    // Waits that doubled from 1 ms would be an hour long by the end.
    let settings =
        PipelineSettings { attempts_max: 2, backoff_base_ms: 1, backoff_cap_ms: 3_600_000, ..Default::default() };
    let mut calls = 0;
    let run = Attempts::new(&settings, health.clone(), Arc::default());
    let run = run.run(Stage::Upsert, || {
        calls += 1;
        assert!(health.reasons().is_empty(), "others get on: nothing is out");
        if calls > 50 { ready(Ok(())) } else { ready(Err(lost_race())) }
    });
    tokio::time::timeout(Duration::from_secs(60), run).await.expect("it does not starve").unwrap();
    assert_eq!(calls, 51);
}

#[tokio::test]
async fn lost_races_leave_the_attempts_of_other_failures_as_they_are() {
    let mut calls = 0;
    let gave_up = attempts(&Health::new())
        .run(Stage::Fetch, || {
            calls += 1;
            ready(Err::<(), _>(if calls % 4 == 0 { failure(Stage::Fetch, Class::Transient) } else { lost_race() }))
        })
        .await
        .unwrap_err();
    assert_eq!((calls, gave_up.attempts), (12, 3));
}

#[tokio::test]
async fn others_that_succeed_do_not_hide_an_outage_and_wake_those_that_are_held() {
    let health = Health::new();
    let settings = PipelineSettings { backoff_base_ms: 1, backoff_cap_ms: 3_600_000, ..Default::default() };
    let attempts = Attempts::new(&settings, health.clone(), Arc::default());
    let (down, calls) = (AtomicBool::new(true), AtomicUsize::new(0));
    let held = attempts.run(Stage::Fetch, || {
        calls.fetch_add(1, Ordering::Relaxed);
        ready(if down.load(Ordering::Relaxed) { Err(failure(Stage::Fetch, Class::Outage)) } else { Ok(()) })
    });
    tokio::pin!(held);
    // After 8 calls the next wait is long: waits double from 1 ms.
    while calls.load(Ordering::Relaxed) < 8 {
        let _ = tokio::time::timeout(Duration::from_millis(1), &mut held).await;
    }
    attempts.run(Stage::Fetch, || ready(Ok(()))).await.unwrap();
    assert_eq!(health.reasons(), [(Stage::Fetch.into(), "no".to_owned())], "one is held still");
    down.store(false, Ordering::Relaxed);
    loop {
        attempts.run(Stage::Fetch, || ready(Ok(()))).await.unwrap();
        if let Ok(ended) = tokio::time::timeout(Duration::from_millis(1), &mut held).await {
            ended.unwrap();
            break;
        }
    }
    assert!(health.reasons().is_empty());
}

#[tokio::test]
async fn a_held_item_that_is_dropped_leaves_no_outage_behind() {
    let health = Health::new();
    let attempts = attempts(&health);
    let held = attempts.run(Stage::Upsert, || ready(Err::<(), _>(failure(Stage::Upsert, Class::Outage))));
    assert!(tokio::time::timeout(Duration::from_millis(10), held).await.is_err(), "held");
    assert!(health.reasons().is_empty());
}

/// An hour of a store that is down, on a clock that runs 3,000 times as fast: a minute is 20 ms.
#[tokio::test]
async fn an_hour_without_the_store_is_quiet_and_loses_nothing() {
    const MINUTE: Duration = Duration::from_millis(20);
    let (log, health) = (LogLines::start(), Health::with_reminder(MINUTE));
    let attempts = attempts(&health);
    let begun = Instant::now();
    let message = |_| {
        attempts.run(Stage::Upsert, || {
            let down = begun.elapsed() < 60 * MINUTE;
            ready(if down { Err(failure(Stage::Upsert, Class::Outage)) } else { Ok(()) })
        })
    };
    let messages = futures::future::join_all((0..256).map(message));
    tokio::pin!(messages);
    let written = loop {
        if let Ok(written) = tokio::time::timeout(MINUTE / 20, &mut messages).await {
            break written;
        }
        health.remind(256, 0);
    };
    assert!(written.iter().all(Result::is_ok), "nothing is lost");
    assert!(health.reasons().is_empty(), "ready by itself");
    assert_eq!((log.count("outage, holding messages"), log.count("outage is over")), (1, 1), "{:?}", log.all());
    let (reminders, minutes) = (log.count("still unready"), begun.elapsed().div_duration_f64(MINUTE));
    assert!(reminders > 0 && reminders as f64 <= minutes, "{reminders} reminders in {minutes} minutes");
    assert_eq!(log.all().len(), reminders + 2, "{:?}", log.all());
}
