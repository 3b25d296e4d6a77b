//! Bodies that stall on some hosts, beside bodies from others.

use super::*;

/// A fetcher with a budget of 2 MiB for files of 512 KiB, and a reply that announces such a file and stops after 100
/// KiB.
async fn stalled(idle_in_the_way: Duration) -> (HttpFetcher, Budget, Reply) {
    let settings = MediaSettings { media_bytes_max: 512 << 10, per_host_concurrency: 64, ..settings() };
    let budget = Budget::new(2 << 20);
    budget.keep_for_one(settings.media_bytes_max);
    let mut fetcher =
        HttpFetcher::new(&settings, budget.clone(), Hosts::for_tests(64), Arc::new(SystemLookup)).unwrap();
    fetcher.bounds.idle_in_the_way = idle_in_the_way;
    let answer = raw(&[OK, "Content-Length: 524288"], &"x".repeat(100 << 10), Then::Stall);
    (fetcher, budget, answer)
}

/// Runs `others` to completion beside fetches of `stalled`, which are then dropped.
async fn beside(fetcher: &HttpFetcher, stalled: Vec<String>, budget: &Budget, held: u64, good: &Server) {
    // The result gives its memory back at once.
    let fetch = async |url: String| {
        let found = fetcher.fetch(&url, None, &mut Deadline::after(Duration::from_secs(60))).await;
        found.map(|answer| matches!(answer, Answer::Fetched(_)))
    };
    let stalled = futures::future::join_all(stalled.into_iter().map(fetch));
    let others = async {
        while budget.bytes_held() < held {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let urls = (0..20).map(|n| good.url(&format!("/{n}")));
        for found in futures::future::join_all(urls.map(fetch)).await {
            assert!(matches!(found, Ok(true)), "{found:?}");
        }
    };
    tokio::select! {
        // They end when they give way; then the others have room.
        () = async { drop(stalled.await); std::future::pending().await } => {}
        () = others => {}
    }
}

#[tokio::test]
async fn bodies_that_stall_on_one_host_leave_room_for_others() {
    let (fetcher, budget, answer) = stalled(Duration::from_secs(3600)).await;
    let (slow, good) = (always(answer).await, always(reply("200 OK", &[], &"y".repeat(200 << 10))).await);
    let urls = (0..32).map(|n| slow.url(&format!("/{n}"))).collect();
    // A quarter is full: this host's other bodies wait, those of other hosts do not.
    beside(&fetcher, urls, &budget, 256 << 10, &good).await;
}

#[tokio::test]
async fn bodies_that_stall_on_many_hosts_give_way() {
    let (fetcher, budget, answer) = stalled(Duration::from_millis(300)).await;
    let good = always(reply("200 OK", &[], &"y".repeat(200 << 10))).await;
    let mut servers = Vec::new();
    for _ in 0..32 {
        servers.push(always(answer.clone()).await);
    }
    let urls = servers.iter().map(|server| server.url("/")).collect();
    beside(&fetcher, urls, &budget, 1 << 20, &good).await;
}
