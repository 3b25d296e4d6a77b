//! One host: its fetch limit and its outages.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;

#[tokio::test]
async fn a_host_whose_every_answer_is_malformed_is_not_down() {
    let server = Server::start(async |head: String| match head.contains(" /good") {
        true => reply("200 OK", &[], "picture"),
        false => raw(&["nonsense"], "", Then::Close),
    })
    .await;
    let fetcher = fetcher(&settings(), 4);
    let urls: Vec<_> = (0..30).map(|n| format!("/{n}")).collect();
    assert_eq!(classes(&fetcher, &server, &urls).await, [Err(Class::Transient); 30]);
    assert_eq!(classes(&fetcher, &server, &["/good".into()]).await, [Ok(())]);
    assert_eq!(classes(&fetcher, &server, &urls).await, [Err(Class::Transient); 30], "it has served, and it answers");
}

#[tokio::test]
async fn one_host_gets_no_more_than_its_share() {
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    static OPEN: Semaphore = Semaphore::const_new(0);
    let server = Server::start(async |_| {
        MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        drop(OPEN.acquire().await);
        NOW.fetch_sub(1, Ordering::SeqCst);
        reply("200 OK", &[], "picture")
    })
    .await;
    let settings = MediaSettings { per_host_concurrency: 2, ..settings() };
    let fetcher = fetcher(&settings, 2);
    let fetch = async |url: String| {
        fetcher.fetch(&url, None, &mut Deadline::after(Duration::from_secs(10))).await.unwrap();
    };
    let fetches = futures::future::join_all((0..10).map(|_| fetch(server.url("/"))));
    // Another host is asked after all of them. Once it has answered, those that may start have arrived.
    let later = async {
        let other = always(reply("200 OK", &[], "picture")).await;
        for _ in 0..10 {
            fetch(other.url("/")).await;
        }
        OPEN.add_permits(10);
    };
    assert_eq!(futures::join!(fetches, later).0.len(), 10);
    assert_eq!(MOST.load(Ordering::SeqCst), 2);
}

/// Pictures below `/good` always exist; everything else fails while `down` is set.
async fn failing(
    status: &'static str,
    headers: &'static [&'static str],
) -> (Server, Arc<std::sync::atomic::AtomicBool>) {
    let down = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let seen = down.clone();
    let server = Server::start(move |head: String| {
        let fails = seen.load(Ordering::SeqCst) && !head.contains(" /good");
        std::future::ready(if fails { reply(status, headers, "x") } else { reply("200 OK", &[], "picture") })
    });
    (server.await, down)
}

async fn classes(fetcher: &HttpFetcher, server: &Server, paths: &[String]) -> Vec<Result<(), Class>> {
    let mut found = Vec::new();
    for path in paths {
        let deadline = &mut Deadline::after(Duration::from_secs(10));
        found.push(fetcher.fetch(&server.url(path), None, deadline).await.map(drop).map_err(|error| error.class));
    }
    found
}

#[tokio::test]
async fn a_server_that_fails_for_everyone_is_an_outage_and_one_that_fails_for_an_item_is_not() {
    let (server, down) = failing("500 Internal Server Error", &[]).await;
    let fetcher = fetcher(&settings(), 4);
    let item = vec!["/broken".to_owned(); 20];
    assert_eq!(classes(&fetcher, &server, &item).await, [Err(Class::Transient); 20]);
    assert_eq!(classes(&fetcher, &server, &["/good".into()]).await, [Ok(())]);
    let many: Vec<_> = (0..10).map(|n| format!("/{n}")).collect();
    // `good` counted as served; a host that never served is not down (see `host_health`).
    let found = classes(&fetcher, &server, &many).await;
    assert_eq!((&found[..7], &found[7..]), (&[Err(Class::Transient); 7][..], &[Err(Class::Outage); 3][..]));
    down.store(false, Ordering::SeqCst);
    assert_eq!(classes(&fetcher, &server, &many).await, [Ok(()); 10]);
}

#[tokio::test]
async fn retry_after_pauses_the_whole_host() {
    let (server, down) = failing("429 Too Many Requests", &["Retry-After: 3600"]).await;
    // The pause is bounded, here by 30 ms.
    let fetcher = fetcher(&settings(), 4);
    assert_eq!(classes(&fetcher, &server, &["/a".into()]).await, [Err(Class::Transient)]);
    down.store(false, Ordering::SeqCst);
    let begun = std::time::Instant::now();
    assert_eq!(classes(&fetcher, &server, &["/b".into()]).await, [Ok(())], "another picture of the same host");
    assert!(begun.elapsed() >= Duration::from_millis(20), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_server_that_is_gone_is_an_outage_for_those_it_has_served() {
    let server = always(reply("200 OK", &[], "picture")).await;
    let fetcher = fetcher(&settings(), 4);
    let url = server.url("/a.jpg");
    let deadline = &mut Deadline::after(Duration::from_secs(10));
    fetcher.fetch(&url, None, deadline).await.unwrap();
    drop(server);
    // The listener closes once its task has ended.
    let error = loop {
        if let Err(error) = fetcher.fetch(&url, None, deadline).await {
            break error;
        }
    };
    assert_eq!(error.class, Class::Outage, "{}", error.message);
    assert!(error.to_string().contains("media.host_outage_hold_ms"), "{}", error.message);
}

#[tokio::test]
async fn a_url_with_the_wrong_scheme_does_not_take_its_host_down() {
    let server = always(reply("200 OK", &[], "picture")).await;
    let fetcher = fetcher(&settings(), 4);
    let deadline = &mut Deadline::after(Duration::from_secs(10));
    fetcher.fetch(&server.url("/a.jpg"), None, deadline).await.unwrap();
    let wrong = server.url("/a.jpg").replacen("http:", "https:", 1);
    assert_eq!(fetcher.fetch(&wrong, None, deadline).await.unwrap_err().class, Class::Transient);
    fetcher.fetch(&server.url("/b.jpg"), None, deadline).await.unwrap();
}
