//! A topic that is deleted and made anew while its one partition is another member's, and comes to one that had it before: what that
//! one remembers is of the topic before.

use std::time::{Duration, Instant};

use clipstream::source::{Demand, Source};
use clipstream_test_support::needs::{self, Need};
use clipstream_test_support::services::Services;

use super::offsets;
use super::reader::{Reader, World};
use crate::kafka::Kafka;

const PATIENCE: Duration = Duration::from_secs(120);
const OLD: usize = 10;

/// One that has read the topic, and the other, who has its partition now.
async fn move_to_another(world: &World) -> (Reader, Reader) {
    world.produce("old", OLD).await;
    let mut one = world.member("z").await;
    one.until("the old topic", |one| one.has("old", 0..OLD)).await;
    one.until("its commit", |_| world.committed() == offsets(&[(0, OLD as i64)])).await;
    let mut other = world.member("a").await;
    both_until(&mut one, &mut other, "the partition moves", |_, other| !other.epochs.is_empty()).await;
    (one, other)
}

/// Either may have to answer for the other to go on.
async fn both_until(one: &mut Reader, other: &mut Reader, what: &str, done: impl Fn(&Reader, &Reader) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done(one, other) {
        assert!(Instant::now() < deadline, "{what}: {:?} and {:?}", one.epochs, other.epochs);
        one.step(Demand::Messages).await;
        other.step(Demand::Messages).await;
    }
}

/// `settles`: the other settles what it reads of the new topic.
async fn comes_back(test: &str, settles: bool) {
    let Some(world) = World::new(test, 1).await else { return };
    let (mut one, mut other) = move_to_another(&world).await;
    other.settles = settles;
    let old = one.messages[0].topic_id.clone();
    world.make_anew(1).await;
    world.produce("new", 20).await;
    let reads_anew = |_: &Reader, other: &Reader| {
        let is_new = other.messages.last().is_some_and(|message| message.topic_id.is_some() && message.topic_id != old);
        is_new && other.has("new", 0..20)
    };
    both_until(&mut one, &mut other, "the other reads the new topic", reads_anew).await;
    let left_at = if settles { 20 } else { 0 };
    let committed = |_: &Reader, _: &Reader| world.committed() == offsets(&[(0, left_at)]);
    both_until(&mut one, &mut other, "the group's offset is of the new topic", committed).await;
    other.source.close().await.expect("leaves");
    world.produce("next", 5).await;
    let had = one.messages.len();
    assert!(!one.has("new", 0..1), "it was not its partition");
    one.until("what came then", |one| one.has("next", 0..5)).await;
    let came: Vec<_> = one.messages[had..].iter().map(|message| message.position.offset).collect();
    assert!(came.iter().copied().eq(left_at..25), "{came:?}, from {left_at}");
    assert!(one.messages[had..].iter().all(|message| message.topic_id.is_some() && message.topic_id != old));
    one.until("its commit", |_| world.committed() == offsets(&[(0, 25)])).await;
    world.end(one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_another_has_read_the_new_topic_it_goes_on_there() {
    comes_back("elsewhere-read", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_has_settled_anything_of_the_new_topic_it_is_read_from_its_beginning() {
    comes_back("elsewhere-unread", false).await;
}

/// librdkafka goes by leaders' epochs. Those of the new topic begin at 0, and its client takes them for old news where the topic
/// before had higher ones: after its broker was killed. On a broker of its own, for that.
#[tokio::test(flavor = "multi_thread")]
async fn one_whose_client_does_not_follow_to_the_new_topic_says_so_and_the_next_one_reads_it() {
    let test = "elsewhere-epochs";
    if Kafka::real(test).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let up = tokio::task::block_in_place(|| Services::up(folder.path(), None).unwrap());
    let Some(services) = up else { return needs::go_without(Need::Kafka, &format!("{test} is left out")) };
    let mut world = World::on(Kafka::at(&services.kafka), test, 1).await;
    tokio::task::block_in_place(|| services.crash_kafka().and_then(|()| services.revive_kafka()).unwrap());
    // The one without the partition does not look while there is no topic, as it is likely: its client would forget the epochs.
    world.settings.properties.insert("topic.metadata.refresh.interval.ms".into(), "300000".into());

    let (mut one, other) = move_to_another(&world).await;
    let epoch = one.messages[0].leader_epoch;
    assert!(epoch > Some(0), "the broker that was killed leads in a later epoch: {epoch:?}");
    let had = one.messages.len();
    world.make_anew(1).await;
    world.produce("new", 20).await;
    other.source.close().await.expect("leaves");
    let end = one.end_of_it().await.to_string();
    assert!(end.contains(&format!("does not follow to the topic of {}[0] that was recreated", world.topic)), "{end}");
    assert_eq!(one.messages.len(), had, "nothing came of it");
    drop(one);
    assert!(world.committed().values().all(|offset| *offset == 0), "{:?}", world.committed());
    let mut next = world.member("z").await;
    next.until("all of the new topic", |next| next.has("new", 0..20)).await;
    assert_eq!(next.messages[0].position.offset, 0);
    next.until("its commit", |_| world.committed() == offsets(&[(0, 20)])).await;
    world.end(next).await;
    tokio::task::block_in_place(|| drop(services));
}
