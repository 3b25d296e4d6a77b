use futures::stream;

use super::*;
use crate::domain::MediaReason;

const BOUNDS: Bounds = Bounds {
    bytes_max: 10,
    idle: Duration::from_secs(60),
    idle_in_the_way: Duration::from_secs(60),
    window: Duration::from_secs(60),
};

async fn begin(announced: Option<u64>, bounds: Bounds, budget: &Budget) -> Result<Body, MediaError> {
    let announced = Announced { bytes: announced, unpacker: Unpacker::new(std::iter::empty()) };
    let mut deadline = Deadline::after(Duration::from_secs(60));
    Body::begin("u", Some("h"), announced, bounds, budget, &mut deadline).await
}

async fn read(
    announced: Option<u64>,
    bounds: Bounds,
    budget: &Budget,
    content: impl Stream<Item = Result<Bytes, MediaError>>,
) -> Result<(Bytes, Reservation), MediaError> {
    let mut deadline = Deadline::after(Duration::from_secs(60));
    begin(announced, bounds, budget).await?.read(&mut deadline, content).await
}

fn chunks(parts: &'static [&'static str]) -> impl Stream<Item = Result<Bytes, MediaError>> {
    stream::iter(parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))))
}

#[tokio::test]
async fn the_cap_holds_announced_or_not() {
    let budget = Budget::new(1 << 20);
    let reason =
        async |announced, content| read(announced, BOUNDS, &budget, content).await.err().map(|error| error.reason);
    assert_eq!(reason(Some(11), chunks(&[])).await, Some(MediaReason::TooLarge));
    assert_eq!(reason(Some(0), chunks(&[])).await, Some(MediaReason::Empty));
    assert_eq!(reason(None, chunks(&["123456", "7890"])).await, None);
    assert_eq!(reason(None, chunks(&["123456", "7890", "1"])).await, Some(MediaReason::TooLarge));
    assert_eq!(reason(None, chunks(&[])).await, Some(MediaReason::Empty));
    let (bytes, reservation) = read(Some(3), BOUNDS, &budget, chunks(&["ab", "c"])).await.unwrap();
    assert_eq!((&bytes[..], budget.bytes_held()), (&b"abc"[..], 3));
    drop(reservation);
    assert_eq!(budget.bytes_held(), 0);
}

#[tokio::test]
async fn memory_is_reserved_as_it_comes_and_not_as_it_is_announced() {
    let (budget, bounds) = (Budget::new(64 << 20), Bounds { bytes_max: 32 << 20, ..BOUNDS });
    for announced in [None, Some(32 << 20)] {
        let mut stalled = Box::pin(read(announced, bounds, &budget, chunks(&["few"]).chain(stream::pending())));
        assert!(futures::poll!(&mut stalled).is_pending());
        assert_eq!(budget.bytes_held(), BEGIN_BYTES, "{announced:?}");
    }
    let part = Bytes::from(vec![7; 100_000]);
    let content = stream::iter((0..10).map(move |_| Ok(part.clone())));
    let (bytes, _held) = read(Some(1_000_000), bounds, &budget, content).await.unwrap();
    assert_eq!((bytes.len(), budget.bytes_held()), (1_000_000, 1_000_000), "no more than was announced");
}

#[tokio::test]
async fn what_stalls_ends_and_gives_way_sooner_where_others_wait() {
    let bounds = Bounds { bytes_max: 1 << 20, idle: Duration::from_millis(200), ..BOUNDS };
    let budget = Budget::new(256 * 1024);
    budget.keep_for_one(64 * 1024);
    let stalled = || chunks(&["few"]).chain(stream::pending());
    let error = read(None, bounds, &budget, stalled()).await.unwrap_err();
    assert_eq!(error.reason, MediaReason::BodyStalled);
    assert!(error.to_string().contains("media.idle_timeout_ms"), "{}", error.message);
    assert_eq!(budget.bytes_held(), 0);

    // Three stalled bodies hold all memory for beginnings. The next body waits for them, but not until they time out.
    let bounds = Bounds { bytes_max: 1 << 20, idle_in_the_way: Duration::from_millis(200), ..BOUNDS };
    let fill = futures::future::join_all((0..3).map(|_| read(None, bounds, &budget, stalled())));
    let good = read(None, bounds, &budget, chunks(&["picture"]));
    let (stalled, good) = futures::future::join(fill, good).await;
    let gave_way =
        |error: &MediaError| error.reason == MediaReason::BodyStalled && error.to_string().contains("others waited");
    assert!(stalled.iter().all(|read| read.as_ref().is_err_and(gave_way)), "{stalled:?}");
    assert_eq!(&good.unwrap().0[..], b"picture");
}

#[tokio::test]
async fn what_drips_gives_way_only_where_others_wait() {
    let bounds = Bounds { bytes_max: 1 << 20, window: Duration::from_millis(100), ..BOUNDS };
    let budget = Budget::new(256 * 1024);
    let drip = |drops| {
        stream::iter(0..drops).then(async |_| {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Ok(Bytes::from_static(b"drop"))
        })
    };
    assert_eq!(read(None, bounds, &budget, drip(30)).await.unwrap().0.len(), 120);
    let waiting = budget.reserve(256 * 1024);
    let (error, _) = futures::future::join(read(None, bounds, &budget, drip(30)), waiting).await;
    assert_eq!(error.unwrap_err().reason, MediaReason::BodyStalled);
}
