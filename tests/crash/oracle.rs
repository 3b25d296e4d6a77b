//! What must hold right after a death, and at the end.

use std::collections::{BTreeMap, BTreeSet};

use clipstream::domain::StoreReason;
use clipstream::store::StoredPoint;
use rdkafka::message::{Headers, Message as _};
use serde_json::Value;

use crate::world::{Death, Hold, Meant, Taken, World};

/// What is there: points by asset, and where the messages were that have a dead letter.
struct Found {
    points: BTreeMap<String, StoredPoint>,
    dead: BTreeSet<(i32, i64)>,
}

/// What was committed when the worker died.
pub type Committed = BTreeMap<i32, i64>;

/// Nothing is committed that is not done.
pub async fn in_between(world: &World, died: &Taken) -> Committed {
    let (committed, found) = (world.committed(), find(world).await);
    for sent in world.sent.iter().filter(|sent| sent.offset < committed[&sent.partition]) {
        let at = format!("{}[{}]@{} ({})", world.topic, sent.partition, sent.offset, sent.asset);
        match sent.meant {
            Meant::Poison => assert!(found.dead.contains(&(sent.partition, sent.offset)), "{at}: no dead letter"),
            // A later message of the asset may have been applied already.
            Meant::Point { n, .. } => match found.points.get(&sent.asset) {
                Some(point) => assert!(number(point) >= n, "{at}: the point is of an older message"),
                None => assert!(deleted_later(world, &sent.asset), "{at}: no point"),
            },
            Meant::Deleted => {}
        }
    }
    for (partition, offset) in &committed {
        let last = died.get(partition).and_then(|offsets| offsets.iter().max()).map_or(0, |last| last + 1);
        assert!(*offset <= last, "partition {partition}: {offset} was committed, {last} taken");
    }
    committed
}

fn deleted_later(world: &World, asset: &str) -> bool {
    world.sent.iter().any(|sent| sent.asset == asset && sent.meant == Meant::Deleted)
}

/// Every message's final state is there and nothing else, and what was not committed came again.
pub async fn at_the_end(world: &World, death: &Death, died: &Taken, committed: &Committed, resumed: &Taken) {
    let found = find(world).await;
    let last: BTreeMap<&str, &Meant> = world.sent.iter().map(|sent| (sent.asset.as_str(), &sent.meant)).collect();
    let mut expected = BTreeMap::new();
    for (asset, meant) in last {
        if let Meant::Point { n, image } = meant {
            expected.insert(asset.to_owned(), (*n, *image, true));
        }
    }
    let points = found.points.iter();
    let stored: BTreeMap<String, (u64, bool, bool)> = points
        .map(|(asset, point)| (asset.clone(), (number(point), point.image.is_some(), point.text.is_some())))
        .collect();
    assert_eq!(stored, expected, "{death:?}: asset, its message's number, and which vectors it has");
    for point in found.points.values() {
        for vector in [&point.image, &point.text].into_iter().flatten() {
            let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
            assert!((length - 1.0).abs() < 1e-3, "a vector of length {length}");
        }
    }
    let poison = world.sent.iter().filter(|sent| sent.meant == Meant::Poison);
    let poison: BTreeSet<(i32, i64)> = poison.map(|sent| (sent.partition, sent.offset)).collect();
    assert_eq!(found.dead, poison, "{death:?}: every poisoned message has a dead letter, and only those");
    assert!(world.is_done(), "{death:?}: the committed offsets are the ends");
    came_again(death, died, committed, resumed);
}

/// The next worker begins where the commit is, takes everything from there, and so meets what was in flight.
fn came_again(death: &Death, died: &Taken, committed: &Committed, resumed: &Taken) {
    for (partition, committed) in committed {
        let offsets = resumed.get(partition).cloned().unwrap_or_default();
        let from = i64::try_from(offsets.len()).expect("few") + committed;
        assert_eq!(offsets, (*committed..from).collect::<Vec<_>>(), "{death:?}: partition {partition}");
    }
    let again = |(partition, offsets): (&i32, &Vec<i64>)| offsets.iter().any(|offset| *offset >= committed[partition]);
    let redelivered = died.iter().any(again);
    match death {
        // Everything was committed before.
        Death::WhileLeaving => assert!(!redelivered, "{died:?} {committed:?}"),
        // The commit may have been in time, or the drain that came before.
        Death::At("committing", _) | Death::InRebalance("drained" | "released") => {}
        Death::None | Death::At(..) | Death::Held(_) | Death::InRebalance(_) => {
            assert!(redelivered, "{death:?}: nothing came twice: {died:?} {committed:?}");
        }
    }
    // What the store had applied is written once more, and changes nothing: the points were compared above.
    if matches!(death, Death::Held(Hold::WriteReply)) {
        assert!(!resumed.is_empty());
    }
}

async fn find(world: &World) -> Found {
    let page = match world.store.scroll(&world.collection, None, 1_000).await {
        Ok(page) => page,
        // The worker died before it made the collection.
        Err(error) if error.reason == StoreReason::CollectionMissing => Vec::new(),
        Err(error) => panic!("{error}"),
    };
    let mut points = BTreeMap::new();
    for point in page {
        let record = &point.payload["clipstream"];
        // A delete may leave a tombstone, which no search finds.
        if record.get("deleted_at").is_none() {
            let asset = record["asset_id"].as_str().expect("a point records its asset").to_owned();
            assert!(points.insert(asset, point).is_none(), "two points of one asset");
        }
    }
    let letters = world.kafka.read(&format!("{}.dlq", world.topic));
    let dead = letters.iter().map(|letter| {
        let header = |name: &str| {
            let headers = letter.headers().expect("a letter has headers");
            let header = headers.iter().find(|h| h.key == name).and_then(|h| h.value).expect("it says where it was");
            std::str::from_utf8(header).expect("text").to_owned()
        };
        assert_eq!(header("__connect.errors.topic"), world.topic);
        let number = |name: &str| header(name).parse::<i64>().expect("a number");
        (i32::try_from(number("__connect.errors.partition")).expect("small"), number("__connect.errors.offset"))
    });
    Found { points, dead: dead.collect() }
}

fn number(point: &StoredPoint) -> u64 {
    point.payload.get("n").and_then(Value::as_u64).expect("a point has its message's number")
}
