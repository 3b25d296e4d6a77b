//! Messages that bring several requests, or none.

use super::*;
use crate::domain::{Message, Position, Retry};

impl Rig {
    fn indexed(&self) -> Vec<(i64, String)> {
        self.handler.indexed.lock().unwrap().clone()
    }

    async fn until_indexed(&self, count: usize) {
        let done = self.handler.until(|h| h.indexed.lock().unwrap().len() >= count);
        tokio::time::timeout(Duration::from_secs(60), done).await.expect("they are done");
    }

    fn outcomes(&self, outcome: &str) -> u64 {
        let shown = self.metrics.encode();
        let label = format!("outcome=\"{outcome}\"");
        let line = shown.lines().find(|line| line.starts_with("clipstream_messages_total{") && line.contains(&label));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}

#[tokio::test]
async fn a_message_is_settled_when_all_of_its_requests_are() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "k", "a=ok;b=wait;c=ok");
    rig.message(1, "d", "ok");
    rig.until_indexed(3).await;
    rig.handler.until(|h| h.started.lock().unwrap().len() == 4).await;
    assert_eq!((rig.committed(), rig.outcomes("indexed")), (None, 1), "b is not done");
    rig.handler.gate.notify_one();
    let (commits, metrics) = (rig.commits.clone(), rig.metrics.clone());
    assert_eq!(rig.end().await.unwrap(), Summary { settled: 2, dead_lettered: 0, abandoned: 0 });
    assert_eq!(commits.lock().unwrap()[&partition()], 2);
    assert!(metrics.encode().contains("clipstream_messages_total{outcome=\"indexed\"} 2"));
}

#[tokio::test]
async fn what_fails_of_a_message_is_one_dead_letter_and_the_rest_is_indexed() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "k", "a=ok;b=bad;c=broken;d=ok");
    let handler = rig.handler.clone();
    assert_eq!(rig.end().await.unwrap(), Summary { settled: 1, dead_lettered: 1, abandoned: 0 });
    assert_eq!(handler.indexed.lock().unwrap().len(), 2);
    let letters = handler.letters.lock().unwrap();
    assert_eq!((letters.len(), &letters[0].requests), (1, &vec![1, 2]));
    let message = &letters[0].failure.fault.message;
    let expected = "2 of 4 requests failed: request 2 (asset \"b\") in stage fetch, http_not_found: bad; check that the file is \
                    still there; request 3";
    assert!(message.starts_with(expected), "{message}");
}

#[tokio::test]
async fn an_asset_s_requests_are_done_in_order_within_a_message_and_between_messages() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "k", "a=wait;a=patch 1;b=patch 2;a=patch 3");
    rig.message(1, "a", "patch 4");
    rig.until_indexed(1).await;
    assert_eq!(rig.indexed(), [(0, "patch 2".to_owned())], "the others wait for the first one of their asset");
    rig.handler.gate.notify_one();
    let handler = rig.handler.clone();
    rig.end().await.unwrap();
    let done = handler.indexed.lock().unwrap().clone();
    let of_a: Vec<&str> = done.iter().map(|(_, text)| &**text).filter(|text| *text != "patch 2").collect();
    assert_eq!(of_a, ["wait", "patch 1", "patch 3", "patch 4"]);
}

/// As between messages: see `an_asset_s_next_message_waits_until_the_letter_of_the_one_before_is_safe`.
#[tokio::test]
async fn a_request_behind_one_that_failed_waits_until_the_letter_of_that_one_is_safe() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "held", "a=bad;a=patch;b=ok");
    rig.message(1, "a", "patch");
    // Two requests and the dead letter.
    rig.handler.until(|h| h.started.lock().unwrap().len() == 3).await;
    rig.comes_to_rest().await;
    assert_eq!(rig.indexed(), [(0, "ok".to_owned())]);
    rig.handler.gate.notify_one();
    let handler = rig.handler.clone();
    assert_eq!(rig.end().await.unwrap(), Summary { settled: 2, dead_lettered: 1, abandoned: 0 });
    let letters = handler.letters.lock().unwrap();
    assert_eq!((letters.len(), &letters[0].requests), (1, &vec![0]));
    assert_eq!(handler.indexed.lock().unwrap()[1..], [(0, "patch".to_owned()), (1, "patch".to_owned())]);
}

#[tokio::test]
async fn a_request_that_fails_behind_one_that_failed_has_a_letter_of_its_own() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "k", "a=bad;a=late;a=patch;b=bad");
    let (handler, metrics) = (rig.handler.clone(), rig.metrics.clone());
    assert_eq!(rig.end().await.unwrap(), Summary { settled: 1, dead_lettered: 1, abandoned: 0 });
    let letters = handler.letters.lock().unwrap();
    assert_eq!(letters.iter().map(|letter| letter.requests.clone()).collect::<Vec<_>>(), [vec![0, 3], vec![1]]);
    assert_eq!(*handler.indexed.lock().unwrap(), [(0, "patch".to_owned())]);
    assert!(metrics.encode().contains("clipstream_messages_total{outcome=\"dead_lettered\"} 1"));
}

#[tokio::test]
async fn a_partition_that_goes_waits_for_a_letter_and_for_what_is_behind_it() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "held", "a=bad;a=patch");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 2).await;
    let (revocation, completed) = Revocation::new(vec![partition()]);
    rig.send(SourceEvent::Revoking(revocation));
    rig.handler.gate.notify_one();
    assert_eq!(completed.await.unwrap(), [(partition(), 1)]);
    assert_eq!(rig.indexed(), [(0, "patch".to_owned())]);
    rig.end().await.unwrap();
}

/// If it were written, the failed request would pass for stale at the next owner and get no dead letter.
#[tokio::test]
async fn of_a_message_that_is_left_to_the_next_owner_nothing_is_written_behind_what_failed() {
    let rig = Rig::new(PipelineSettings::default());
    (0..4).for_each(|offset| rig.message(offset, &format!("key-{offset}"), "wait slow"));
    rig.handler.until(|h| h.started.lock().unwrap().len() == 4).await;
    // The host has no turn left for `b`.
    rig.message(4, "k", "a=bad;a=patch;b=ok slow;c=wait");
    rig.message(5, "a", "patch");
    rig.handler.until(|h| h.started.lock().unwrap().len() == 6).await;
    let (revocation, completed) = Revocation::new(vec![partition()]);
    rig.send(SourceEvent::Revoking(revocation));
    rig.comes_to_rest().await;
    rig.handler.gate.notify_waiters();
    assert_eq!(completed.await.unwrap(), [(partition(), 4)]);
    let handler = rig.handler.clone();
    rig.end().await.unwrap();
    assert!(handler.indexed.lock().unwrap().iter().all(|(_, text)| text.starts_with("wait")));
    assert!(handler.letters.lock().unwrap().is_empty());
}

/// Otherwise each dead letter would wait for a request that the other message's letter holds back.
#[tokio::test]
async fn messages_of_the_same_assets_do_not_wait_for_each_other_s_letters() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "k", "x=wait");
    rig.message(1, "k", "x=ok;y=bad");
    rig.message(2, "k", "x=bad;y=ok");
    // The second message runs too: `y` is free.
    rig.handler.until(|h| h.started.lock().unwrap().len() == 2).await;
    rig.handler.gate.notify_one();
    let handler = rig.handler.clone();
    let ended = tokio::time::timeout(Duration::from_secs(20), rig.end()).await.expect("nothing waits for ever");
    assert_eq!(ended.unwrap(), Summary { settled: 3, dead_lettered: 2, abandoned: 0 });
    assert_eq!(handler.indexed.lock().unwrap().len(), 3);
}

/// If the next message were written first and the process killed before the letter is safe, the redelivered message
/// would pass for stale: neither indexed nor a dead letter.
#[tokio::test]
async fn an_asset_s_next_message_waits_until_the_letter_of_the_one_before_is_safe() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "held", "bad");
    rig.message(1, "held", "patch");
    rig.message(2, "other", "ok");
    rig.until_indexed(1).await;
    // Twice: once to be processed, once to send its dead letter.
    rig.handler.until(|h| h.started.lock().unwrap().iter().filter(|offset| **offset == 0).count() == 2).await;
    rig.comes_to_rest().await;
    assert_eq!(rig.indexed(), [(2, "ok".to_owned())]);
    rig.handler.gate.notify_one();
    rig.until_indexed(2).await;
    let handler = rig.handler.clone();
    assert_eq!(rig.end().await.unwrap(), Summary { settled: 3, dead_lettered: 1, abandoned: 0 });
    assert_eq!(*handler.dead_lettered.lock().unwrap(), [0]);
}

#[tokio::test]
async fn of_a_message_of_a_retry_topic_only_what_failed_is_tried_again() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "k", "a=ok;b=late;c=ok");
    rig.handler.until(|h| !h.letters.lock().unwrap().is_empty()).await;
    let retried = rig.handler.letters.lock().unwrap()[0].clone();
    assert_eq!((retried.failure.fault.class, retried.requests.clone()), (Class::Transient, vec![1]));
    let back = |offset, requests| {
        let retry = Some(Retry { origin: retried.message.origin(), attempts: 5, requests });
        let position = Position { offset, ..retried.message.position.clone() };
        SourceEvent::Message(Message {
            position,
            retry,
            value: Some("a=ok;b=patch b;c=ok".into()),
            ..retried.message.clone()
        })
    };
    rig.send(back(1, vec![1]));
    rig.until_indexed(3).await;
    assert_eq!(rig.indexed()[2..], [(1, "patch b".to_owned())]);
    // A message that names no request, or none that exists, is tried as a whole.
    rig.send(back(2, vec![]));
    rig.send(back(3, vec![7]));
    let handler = rig.handler.clone();
    assert_eq!(rig.end().await.unwrap().settled, 4);
    assert_eq!(handler.indexed.lock().unwrap().len(), 3 + 3 + 3);
}

#[tokio::test]
async fn a_message_that_asks_for_nothing_is_settled() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "k", "");
    let (commits, metrics) = (rig.commits.clone(), rig.metrics.clone());
    assert_eq!(rig.end().await.unwrap(), Summary { settled: 1, dead_lettered: 0, abandoned: 0 });
    assert_eq!(commits.lock().unwrap()[&partition()], 1);
    assert!(metrics.encode().contains("clipstream_messages_total{outcome=\"empty\"} 1"));
}

#[tokio::test]
async fn a_partition_that_goes_waits_for_what_runs_of_a_message_and_leaves_the_rest() {
    let settings = PipelineSettings { in_flight_max: 1, ..PipelineSettings::default() };
    let rig = Rig::new(settings);
    rig.message(0, "k", "a=wait;b=ok;c=ok");
    rig.handler.until(|h| !h.started.lock().unwrap().is_empty()).await;
    let (revocation, completed) = Revocation::new(vec![partition()]);
    rig.send(SourceEvent::Revoking(revocation));
    rig.handler.gate.notify_one();
    assert!(completed.await.unwrap().is_empty(), "something of the message is left to the next owner");
    assert_eq!(rig.indexed(), [(0, "wait".to_owned())]);
    rig.end().await.unwrap();
}
