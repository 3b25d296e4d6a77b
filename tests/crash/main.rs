//! A worker that dies at the worst moments: before and after each stage, around commits, around the confirmation of dead
//! letters, in a rebalance, while it leaves.
//!
//! This binary starts itself as the worker (`worker.rs`): the real one, whose source and dead letters abort the process
//! at a point that the test names; the servers that it talks to (`world.rs`) are the parent's, and stop answering at
//! other points, where the parent kills it. Then another worker takes over, and nothing may be lost, doubled or left out
//! (`oracle.rs`). Production code has no part in this.

#[path = "../it/kafka.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod kafka;
mod oracle;
mod worker;
mod world;

use world::{Death, Hold, World};

/// Runs until the death, then to the end with another worker; both under the oracle's eyes. A test that finds orders is one
/// of those workers: its parent runs the same test in this binary.
async fn dies(test: &'static str, death: Death) {
    if let Some(orders) = worker::orders() {
        return worker::work(orders).await;
    }
    let world = World::start(test).await;
    let first = world.worker(&death);
    let died = first.dies(&world, &death).await;
    let after = oracle::in_between(&world, &died).await;
    let second = world.worker(&Death::None);
    let resumed = second.finishes(&world).await;
    oracle::at_the_end(&world, &death, &died, &after, &resumed).await;
    world.end().await;
}

macro_rules! deaths {
    ($($name:ident: $death:expr,)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            dies(stringify!($name), $death).await;
        })*
    };
}

deaths! {
    with_the_first_message_in_hand: Death::At("taken", 1),
    with_messages_in_flight: Death::At("taken", 7),
    before_a_picture_comes: Death::Held(Hold::Request),
    after_a_picture_came: Death::Held(Hold::Body),
    before_the_store_is_read: Death::Held(Hold::Read),
    after_the_store_was_read: Death::Held(Hold::ReadReply),
    before_a_write_is_applied: Death::Held(Hold::Write),
    after_a_write_was_applied_and_before_its_answer: Death::Held(Hold::WriteReply),
    before_a_dead_letter_is_sent: Death::At("letter", 1),
    after_a_dead_letter_was_confirmed: Death::At("dead_lettered", 1),
    before_a_commit: Death::At("commit", 1),
    after_a_commit_was_handed_over: Death::At("committing", 1),
    with_a_commit_behind_it: Death::At("commit", 2),
    when_partitions_are_taken_away: Death::InRebalance("revoking"),
    when_taken_partitions_are_drained: Death::InRebalance("drained"),
    when_taken_partitions_are_given_back: Death::InRebalance("released"),
    before_it_leaves_the_group: Death::WhileLeaving,
}
