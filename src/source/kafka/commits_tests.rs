use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::*;

fn partition(partition: i32) -> TopicPartition {
    TopicPartition { topic: "t".into(), partition }
}

fn list(of: &TopicPartitionList) -> Vec<(i32, Offset)> {
    of.elements().iter().map(|e| (e.partition(), e.offset())).collect()
}

fn tracked() -> Commits {
    let mut commits = Commits::default();
    commits.track(partition(0), None, None);
    commits
}

fn send(commits: &mut Commits, now: Instant) -> TopicPartitionList {
    let due = commits.due(now).expect("an offset is wanted");
    commits.sent(now, &due);
    due
}

#[test]
fn the_latest_offset_is_sent_once_and_again_after_a_failure() {
    let now = Instant::now();
    let mut commits = tracked();
    commits.want([(partition(0), 5), (partition(9), 1)]);
    commits.want([(partition(0), 3)]);
    let due = send(&mut commits, now);
    assert_eq!(list(&due), [(0, Offset::Offset(5))]);
    commits.want([(partition(0), 7)]);
    assert!(commits.due(now).is_none(), "one at a time");
    let refused = Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::RebalanceInProgress));
    commits.answered(now, &refused, &due);
    assert!(!commits.settled(&[partition(0)]));
    assert!(commits.due(now).is_none(), "not at once");
    let due = send(&mut commits, now + RETRY_WAIT);
    assert_eq!(list(&due), [(0, Offset::Offset(7))]);
    commits.answered(now, &Ok(()), &due);
    assert!(commits.settled(&[partition(0)]) && commits.due(now).is_none());
}

#[test]
fn an_epoch_that_begins_lower_is_committed_and_a_late_answer_to_the_one_before_it_counts_for_nothing() {
    let now = Instant::now();
    let mut commits = tracked();
    commits.want([(partition(0), 500)]);
    let old = send(&mut commits, now);
    commits.track(partition(0), None, Some("another".into()));
    assert_eq!((commits.settled_to(&partition(0)), commits.committed(&partition(0))), (None, None));
    commits.want([(partition(0), 0)]);
    assert!(commits.due(now).is_none(), "the old one is on its way, and must not come last");
    commits.answered(now, &Ok(()), &old);
    assert!(!commits.settled(&[partition(0)]), "{commits:?}");
    let due = send(&mut commits, now);
    assert_eq!(list(&due), [(0, Offset::Offset(0))]);
    assert_eq!(kafka_client::entries(&due)[0].metadata, r#"{"topic_id":"another"}"#);
    commits.answered(now, &Ok(()), &due);
    assert_eq!((commits.settled(&[partition(0)]), commits.committed(&partition(0))), (true, Some(0)));
    // The same offset of two epochs.
    commits.want([(partition(0), 7)]);
    let old = send(&mut commits, now);
    commits.track(partition(0), None, None);
    commits.want([(partition(0), 7)]);
    commits.answered(now, &Ok(()), &old);
    assert!(!commits.settled(&[partition(0)]));
}

#[test]
fn what_the_group_has_is_not_committed_again() {
    let mut commits = Commits::default();
    commits.track(partition(0), Some(12), None);
    commits.want([(partition(0), 12)]);
    assert!(commits.all_settled());
    assert_eq!(commits.settled_to(&partition(0)), Some(12));
}

#[test]
fn an_offset_is_committed_with_the_epoch_of_the_leader_that_wrote_the_message_before_it() {
    let now = Instant::now();
    let mut commits = tracked();
    for (offset, epoch) in [(10, 3), (11, 3), (12, 4), (20, 6)] {
        commits.written_by(&partition(0), offset, epoch);
    }
    let mut epochs = Vec::new();
    for wanted in [10, 11, 12, 13, 20, 21, 30] {
        commits.want([(partition(0), wanted)]);
        let due = send(&mut commits, now);
        epochs.push(kafka_client::entries(&due)[0].leader_epoch);
        commits.answered(now, &Ok(()), &due);
    }
    assert_eq!(epochs, [None, Some(3), Some(3), Some(4), Some(4), Some(6), Some(6)]);
    assert_eq!(commits.partitions[&partition(0)].leader_epochs.len(), 1, "it does not grow for ever");
}

#[test]
fn a_failure_is_reported_once_it_lasts_and_forgotten_with_success() {
    let now = Instant::now();
    let mut commits = tracked();
    commits.want([(partition(0), 5)]);
    let due = send(&mut commits, now);
    let refused = Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NotCoordinator));
    commits.answered(now, &refused, &due);
    let late = now + FAILING_MIN;
    commits.answered(late - RETRY_WAIT, &refused, &due);
    assert_eq!(commits.failing(late - RETRY_WAIT), None);
    assert!(commits.failing(late).is_some_and(|why| why.contains("oordinator")), "{:?}", commits.failing(late));
    commits.answered(late, &Ok(()), &due);
    assert_eq!(commits.failing(late), None);
}

#[test]
fn what_is_forgotten_is_never_committed() {
    let mut commits = tracked();
    commits.want([(partition(0), 5)]);
    commits.forget(&[partition(0)]);
    commits.want([(partition(0), 6)]);
    assert!(commits.all_settled() && commits.due(Instant::now()).is_none());
}

fn noted(of: &TopicPartitionList) -> Vec<(Offset, String)> {
    kafka_client::entries(of).into_iter().map(|entry| (entry.offset, entry.metadata)).collect()
}

#[test]
fn a_start_is_noted_beside_the_offset_once_until_something_is_settled() {
    let now = Instant::now();
    let mut commits = Commits::default();
    commits.track_after(partition(0), Some(12), 2, None);
    commits.want([(partition(0), 12)]);
    assert!(commits.all_settled(), "nothing has begun");
    commits.count_start(&partition(0), 12);
    let due = send(&mut commits, now);
    assert_eq!(noted(&due), [(Offset::Offset(12), r#"{"starts":3}"#.to_owned())]);
    assert!(!commits.settled(&[partition(0)]));
    commits.answered(now, &Ok(()), &due);
    assert!(commits.settled(&[partition(0)]) && commits.due(now).is_none());
    commits.want([(partition(0), 13)]);
    let due = send(&mut commits, now);
    assert_eq!(noted(&due), [(Offset::Offset(13), String::new())]);
    commits.answered(now, &Ok(()), &due);
    commits.end_in_order(&[partition(0)]);
    assert!(commits.all_settled(), "there is nothing to take back");
}

#[test]
fn a_start_that_ends_in_order_is_taken_back() {
    let now = Instant::now();
    let mut commits = Commits::default();
    commits.track_after(partition(0), Some(12), 2, None);
    commits.end_all_in_order();
    assert!(commits.all_settled(), "it has not begun");
    commits.count_start(&partition(0), 14);
    let due = send(&mut commits, now);
    // While it is on its way.
    commits.end_in_order(&[partition(0)]);
    commits.answered(now, &Ok(()), &due);
    let due = send(&mut commits, now);
    assert_eq!(noted(&due), [(Offset::Offset(12), r#"{"starts":2}"#.to_owned())]);
    commits.answered(now, &Ok(()), &due);
    assert!(commits.all_settled());
}

#[test]
fn a_group_without_an_offset_gets_that_of_its_first_message() {
    let mut commits = tracked();
    commits.count_start(&partition(0), 70);
    let due = send(&mut commits, Instant::now());
    assert_eq!(noted(&due), [(Offset::Offset(70), r#"{"starts":1}"#.to_owned())]);
    // What was settled in the epoch already begins a count of its own.
    let mut commits = Commits::default();
    commits.track_after(partition(0), Some(12), 2, None);
    commits.want([(partition(0), 15)]);
    commits.count_start(&partition(0), 16);
    let due = send(&mut commits, Instant::now());
    assert_eq!(noted(&due), [(Offset::Offset(15), r#"{"starts":1}"#.to_owned())]);
}
