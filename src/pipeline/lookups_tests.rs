//! Messages whose format has to look something up before they can be decoded.

use super::*;
use crate::dead_letter::DeadLetter;
use crate::domain::{Message, Stage, TopicPartition};
use crate::format::registry::{Answer, with_schema};

impl Rig {
    fn answer(&self, id: u8, answer: Answer) {
        self.handler.registry.answer(id, answer);
    }

    async fn until_asked(&self, count: usize) {
        let asked = self.handler.registry.until_asked(count);
        tokio::time::timeout(Duration::from_secs(60), asked).await.expect("it is looked up");
    }

    fn in_flight(&self) -> usize {
        let shown = self.metrics.encode();
        let line = shown.lines().find(|line| line.starts_with("clipstream_queue_depth{queue=\"in_flight\"}"));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}

fn texts(handler: &FakeHandler) -> Vec<String> {
    handler.indexed.lock().unwrap().iter().map(|(_, text)| text.clone()).collect()
}

#[tokio::test]
async fn what_comes_after_a_message_that_waits_does_not_overtake_it_and_other_partitions_go_on() {
    let rig = Rig::new(PipelineSettings::default());
    let other = TopicPartition { topic: "t".into(), partition: 1 };
    rig.send(SourceEvent::Assigned { epoch: 1, partitions: vec![other.clone()] });
    rig.message(0, "a", "patch 0");
    rig.message_with_schema(7, 1, "a", "patch 1;b=other");
    rig.message(2, "a", "patch 2");
    rig.message_with_schema(7, 3, "a", "patch 3");
    rig.message_with_schema(8, 4, "a", "patch 4");
    rig.message(5, "a", "patch 5");
    rig.message_of(1, 1, 0, "c", "ok");
    rig.until_asked(1).await;
    while rig.commits.lock().unwrap().get(&other) != Some(&1) || rig.committed() != Some(1) {
        tokio::task::yield_now().await;
    }
    let mut indexed = texts(&rig.handler);
    indexed.sort();
    assert_eq!(indexed, ["ok", "patch 0"]);
    rig.answer(7, Answer::Found);
    rig.until_asked(2).await;
    while rig.committed() != Some(4) {
        tokio::task::yield_now().await;
    }
    assert!(!texts(&rig.handler).iter().any(|text| text == "patch 5"), "another one waits now");
    rig.answer(8, Answer::Found);
    let (handler, commits) = (rig.handler.clone(), rig.commits.clone());
    assert_eq!(rig.end().await.unwrap().settled, 7);
    let (of_a, others): (Vec<_>, Vec<_>) = texts(&handler).into_iter().partition(|text| text.starts_with("patch"));
    assert_eq!(of_a, ["patch 0", "patch 1", "patch 2", "patch 3", "patch 4", "patch 5"]);
    assert_eq!(others.len(), 2);
    assert_eq!((handler.registry.asked(), commits.lock().unwrap()[&partition()]), (2, 6), "once for each schema");
}

#[tokio::test]
async fn a_partition_that_goes_takes_along_what_waits_and_its_next_assignment_starts_anew() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message(0, "a", "ok");
    rig.message_with_schema(7, 1, "a", "patch");
    rig.message(2, "b", "ok");
    rig.until_asked(1).await;
    let (revocation, completed) = Revocation::new(vec![partition()]);
    rig.send(SourceEvent::Revoking(revocation));
    assert_eq!(completed.await.unwrap(), [(partition(), 1)], "nobody waits for the look-up");
    // Lost without a revocation, too.
    rig.send(SourceEvent::Assigned { epoch: 2, partitions: vec![partition()] });
    rig.send(SourceEvent::Message(with_epoch(2, &with_schema(7, "patch"))));
    rig.until_asked(2).await;
    rig.send(SourceEvent::Lost { partitions: vec![partition()] });
    // And when it is assigned again before the end of the earlier assignment has been handled.
    rig.send(SourceEvent::Assigned { epoch: 3, partitions: vec![partition()] });
    rig.send(SourceEvent::Message(with_epoch(3, &with_schema(7, "patch"))));
    rig.until_asked(3).await;
    rig.answer(7, Answer::Found);
    let handler = rig.handler.clone();
    assert_eq!(rig.end().await.unwrap(), Summary { settled: 2, dead_lettered: 0, abandoned: 0 });
    assert_eq!(texts(&handler), ["ok", "patch"]);
}

fn with_epoch(epoch: u64, value: &[u8]) -> Message {
    Message {
        epoch,
        key: Some("a".into()),
        value: Some(bytes::Bytes::copy_from_slice(value)),
        ..Message::empty("t", 0, 1)
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_look_up() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message_with_schema(7, 0, "a", "patch");
    rig.message(1, "a", "patch");
    rig.until_asked(1).await;
    while rig.in_flight() != 2 {
        tokio::task::yield_now().await;
    }
    rig.shutdown.request();
    let (handler, commits, run) = (rig.handler.clone(), rig.commits.clone(), rig.run);
    let summary = tokio::time::timeout(Duration::from_secs(20), run).await.expect("before the drain deadline");
    assert_eq!(summary.unwrap().unwrap(), Summary { settled: 0, dead_lettered: 0, abandoned: 2 });
    assert!(handler.started.lock().unwrap().is_empty() && commits.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_outage_of_look_ups_holds_its_messages_and_passes() {
    for class in [Class::Outage, Class::Transient] {
        let rig = Rig::new(PipelineSettings::default());
        rig.answer(7, Answer::Fails(class));
        rig.message_with_schema(7, 0, "a", "patch 0");
        rig.message(1, "a", "patch 1");
        let out = [(Stage::Decode.into(), format!("schema 7: {class}"))];
        while rig.health.reasons() != out {
            tokio::task::yield_now().await;
        }
        let asked = rig.handler.registry.asked();
        rig.until_asked(asked + 10).await;
        assert_eq!((texts(&rig.handler), rig.health.reasons()), (vec![], out.to_vec()), "held, however often");
        rig.answer(7, Answer::Found);
        let (handler, health) = (rig.handler.clone(), rig.health.clone());
        assert_eq!(rig.end().await.unwrap(), Summary { settled: 2, dead_lettered: 0, abandoned: 0 });
        assert_eq!(texts(&handler), ["patch 0", "patch 1"]);
        assert_eq!(health.reasons(), []);
    }
}

#[tokio::test]
async fn a_message_whose_look_up_fails_for_good_is_a_dead_letter_and_those_behind_it_go_on() {
    let rig = Rig::new(PipelineSettings::default());
    rig.message_with_schema(7, 0, "a", "patch 0");
    rig.message_with_schema(8, 1, "a", "patch 1");
    rig.message(2, "a", "patch 2");
    rig.until_asked(1).await;
    rig.answer(8, Answer::Found);
    rig.answer(7, Answer::Fails(Class::Permanent));
    let (handler, commits) = (rig.handler.clone(), rig.commits.clone());
    assert_eq!(rig.end().await.unwrap(), Summary { settled: 3, dead_lettered: 1, abandoned: 0 });
    let letters = handler.letters.lock().unwrap();
    assert_eq!(letters.len(), 1);
    let DeadLetter { message, failure, attempts, requests } = &letters[0];
    assert_eq!((message.position.offset, *attempts, requests.len()), (0, 1, 0));
    assert_eq!((failure.stage, failure.fault.message.as_str()), (Stage::Decode, "schema 7: permanent"));
    assert_eq!(texts(&handler), ["patch 1", "patch 2"]);
    assert_eq!(commits.lock().unwrap()[&partition()], 3);
}

#[tokio::test]
async fn what_waits_for_a_look_up_is_bounded_and_its_partition_is_held_back_alone() {
    let rig = Rig::new(PipelineSettings { held_messages_max: 8, ..PipelineSettings::default() });
    let other = TopicPartition { topic: "t".into(), partition: 1 };
    rig.send(SourceEvent::Assigned { epoch: 1, partitions: vec![other.clone()] });
    rig.message_with_schema(7, 0, "a", "patch 0");
    // A source that is asked to hold a partition back may still deliver some of its messages.
    (1..20).for_each(|offset| rig.message(offset, "a", "patch"));
    while !rig.held_back.lock().unwrap().contains(&partition()) {
        tokio::task::yield_now().await;
    }
    assert!(!rig.held_back.lock().unwrap().contains(&other));
    while rig.in_flight() != 9 {
        tokio::task::yield_now().await;
    }
    rig.comes_to_rest().await;
    assert_eq!(rig.in_flight(), 9, "one is looked up for, and as many wait as may be held");
    rig.answer(7, Answer::Found);
    assert_eq!(rig.end().await.unwrap().settled, 20);
}
