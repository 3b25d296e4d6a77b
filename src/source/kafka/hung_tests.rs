//! A consumer's thread that hangs, on librdkafka's in-process mock cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tests::{Bench, PATIENCE, waits};
use super::{KafkaSource, Limits};
use crate::telemetry::{Health, serve};

const BOUND: Duration = Duration::from_secs(2);

/// Waits for this status of `/livez`.
async fn livez(address: SocketAddr, status: u16) -> String {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = client.get(format!("http://{address}/livez")).send().await.expect("an answer");
        if answer.status().as_u16() == status {
            return answer.text().await.expect("text");
        }
        assert!(Instant::now() < deadline, "found {}, expected {status}", answer.status());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumers_thread_that_hangs_is_not_alive_until_it_goes_on() {
    let mut bench = Bench::new();
    bench.health = Health::new().hung_after(BOUND);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (address, _ended) =
        serve(any, Arc::default(), bench.health.clone(), std::future::pending()).await.expect("a free port");
    let (waits, limits) = (waits(Duration::from_secs(1)), Limits::default());
    let source = KafkaSource::start(&bench.settings, Vec::new(), waits, bench.health.clone(), Arc::default(), limits);
    let source = Box::new(source.await.expect("the mock cluster is there"));
    // Longer than the bound: a thread that polls, and has nothing to do, is alive.
    tokio::time::sleep(2 * BOUND).await;
    livez(address, 200).await;
    let hung = Instant::now();
    // As in a native call, from which it does not come back. The guard stays on a thread of its own.
    let handover = source.handover.clone();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let blocking = std::thread::spawn(move || {
        let _blocked = handover.blocked();
        // An error means that the test is over.
        let _ = released.recv();
    });
    let why = livez(address, 503).await;
    assert!(why.starts_with("the Kafka consumer's thread has not moved for "), "{why}");
    assert!(hung.elapsed() >= BOUND, "{:?}", hung.elapsed());
    drop(release);
    blocking.join().expect("the other thread ends");
    livez(address, 200).await;
    crate::source::Source::close(source).await.expect("leaves");
}
