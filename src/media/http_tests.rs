use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::resolver::SystemLookup;
use super::super::test_server::{Reply, Server, Then, raw, reply};
use super::*;
use crate::domain::Class;

const OK: &str = "HTTP/1.1 200 OK";

fn settings() -> MediaSettings {
    MediaSettings {
        allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        media_bytes_max: 10_000,
        redirects_max: 3,
        ..MediaSettings::default()
    }
}

fn fetcher(settings: &MediaSettings, concurrency_max: usize) -> HttpFetcher {
    let hosts = Hosts::for_tests(concurrency_max);
    HttpFetcher::new(settings, Budget::new(1 << 20), hosts, Arc::new(SystemLookup)).unwrap()
}

async fn get(settings: &MediaSettings, url: &str) -> Result<Fetched, MediaError> {
    let fetcher = fetcher(settings, settings.per_host_concurrency);
    let mut deadline = Deadline::after(Duration::from_millis(settings.fetch_timeout_ms));
    match fetcher.fetch(url, None, &mut deadline).await? {
        Answer::Fetched(fetched) => Ok(fetched),
        Answer::Unchanged(by) => panic!("unchanged by {by:?}, which was not asked for"),
    }
}

async fn always(answer: Reply) -> Server {
    Server::start(move |_| std::future::ready(answer.clone())).await
}

#[tokio::test]
async fn a_picture_arrives_with_its_etag() {
    let server = Server::start(async |head: String| {
        let head = head.to_ascii_lowercase();
        assert!(head.contains("accept-encoding: identity") && head.contains("user-agent: clipstream/"), "{head}");
        reply("200 OK", &["ETag: \"abc\""], "picture")
    });
    let server = server.await;
    let fetched = get(&settings(), &server.url("/a.jpg")).await.unwrap();
    assert_eq!((&fetched.bytes[..], fetched.validators.etag.as_deref()), (&b"picture"[..], Some("\"abc\"")));
}

#[tokio::test]
async fn bodies_without_length_end_with_the_connection_or_the_last_chunk() {
    let to_the_end = raw(&[OK], "picture", Then::Close);
    let chunked = raw(&[OK, "Transfer-Encoding: chunked"], "3\r\npic\r\n4\r\nture\r\n0\r\n\r\n", Then::Close);
    for answer in [to_the_end, chunked] {
        let server = always(answer).await;
        assert_eq!(&get(&settings(), &server.url("/")).await.unwrap().bytes[..], b"picture");
    }
}

#[tokio::test]
async fn answers_have_a_class_and_a_reason() {
    use Class::{Permanent, Transient};
    let cases = [
        (reply("404 Not Found", &[], "x"), Permanent, "http_not_found"),
        (reply("410 Gone", &[], "x"), Permanent, "http_gone"),
        (reply("401 Unauthorized", &[], "x"), Permanent, "http_forbidden"),
        (reply("403 Forbidden", &[], "x"), Permanent, "http_forbidden"),
        (reply("418 Teapot", &[], "x"), Permanent, "http_status"),
        (reply("304 Not Modified", &[], ""), Permanent, "http_status"),
        (reply("206 Partial Content", &[], "x"), Permanent, "http_status"),
        (reply("202 Accepted", &[], "x"), Transient, "http_status"),
        (reply("408 Request Timeout", &[], "x"), Transient, "http_status"),
        (reply("425 Too Early", &[], "x"), Transient, "http_status"),
        (reply("429 Too Many Requests", &[], "x"), Transient, "http_throttled"),
        (reply("500 Internal Server Error", &[], "x"), Transient, "http_server_error"),
        (reply("503 Service Unavailable", &[], "x"), Transient, "http_unavailable"),
        (reply("200 OK", &[], ""), Permanent, "media_empty"),
        (raw(&[OK], "", Then::Close), Permanent, "media_empty"),
        (reply("200 OK", &["Content-Encoding: gzip"], "x"), Permanent, "http_encoding_unsupported"),
        (raw(&[OK, "Content-Length: 10001"], "", Then::Stall), Permanent, "media_too_large"),
        (raw(&[OK], "", Then::Endless), Permanent, "media_too_large"),
        (raw(&[OK, "Content-Length: 9"], "short", Then::Close), Transient, "body_incomplete"),
        (raw(&["nonsense"], "", Then::Close), Transient, "http_failed"),
        (reply("302 Found", &[], ""), Permanent, "redirect_forbidden"),
        (reply("302 Found", &["Location: ftp://x/y"], ""), Permanent, "redirect_forbidden"),
        (reply("302 Found", &["Location: http://10.0.0.1/x"], ""), Permanent, "address_forbidden"),
        (reply("302 Found", &["Location: http://[::ffff:a9fe:a9fe]/x"], ""), Permanent, "address_forbidden"),
    ];
    for (answer, class, reason) in cases {
        let text = String::from_utf8_lossy(&answer.bytes).into_owned();
        let server = always(answer).await;
        let error = get(&settings(), &server.url("/a.jpg")).await.unwrap_err();
        assert_eq!((error.class, error.reason), (class, reason), "{text}: {}", error.message);
    }
}

#[tokio::test]
async fn longer_than_announced_is_cut_at_what_was_announced() {
    let server = always(raw(&[OK, "Content-Length: 3"], "picture", Then::Close)).await;
    assert_eq!(&get(&settings(), &server.url("/")).await.unwrap().bytes[..], b"pic");
}

#[tokio::test]
async fn retry_after_is_passed_on_in_both_forms() {
    let server = always(reply("429 Too Many Requests", &["Retry-After: 17"], "")).await;
    assert_eq!(get(&settings(), &server.url("/")).await.unwrap_err().retry_after, Some(Duration::from_secs(17)));
    let date = (Utc::now() + Duration::from_secs(3600)).format("%a, %d %b %Y %H:%M:%S GMT");
    let server = always(reply("503 Service Unavailable", &[&format!("Retry-After: {date}")], "")).await;
    let wait = get(&settings(), &server.url("/")).await.unwrap_err().retry_after.unwrap();
    assert!((3_500..=3_600).contains(&wait.as_secs()), "{wait:?}");
}

#[tokio::test]
async fn slow_servers_meet_the_deadline() {
    let settings = MediaSettings { fetch_timeout_ms: 200, ..settings() };
    let slow_body = always(raw(&[OK, "Content-Length: 9"], "slow", Then::Stall)).await;
    let no_answer = always(Reply { bytes: Vec::new(), then: Then::Stall }).await;
    for (server, doing) in [(slow_body, "reading the body"), (no_answer, "waiting for the answer")] {
        let error = get(&settings, &server.url("/")).await.unwrap_err();
        assert_eq!((error.class, error.reason), (Class::Transient, "fetch_timeout"));
        assert!(error.message.contains(doing), "{}", error.message);
    }
}

/// A server that always sends something meets the deadline all the same: it is one for the whole fetch.
#[tokio::test]
async fn dripping_servers_meet_the_deadline() {
    let settings = MediaSettings { fetch_timeout_ms: 300, ..settings() };
    let body = always(raw(&[OK, "Content-Length: 9000"], "", Then::Drip)).await;
    let chunks = always(raw(&[OK, "Transfer-Encoding: chunked"], "2000\r\n", Then::Drip)).await;
    let head = always(Reply { bytes: b"HTTP/1.1 200 OK\r\nX-Slow: ".to_vec(), then: Then::Drip }).await;
    let never = always(raw(&["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints"], "HT", Then::Stall)).await;
    for server in [body, chunks, head, never] {
        let started = std::time::Instant::now();
        let error = get(&settings, &server.url("/")).await.unwrap_err();
        assert_eq!((error.class, error.reason), (Class::Transient, "fetch_timeout"), "{}", error.message);
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }
}

/// What is no HTTP, or more of it than anybody needs, ends as an error and takes no memory beyond the client's own limits.
#[tokio::test]
async fn heads_that_nobody_sends_are_errors() {
    let many = "X-A: b\r\n".repeat(50_000);
    let heads = [
        Reply { bytes: format!("{OK}\r\n{many}\r\n").into_bytes(), then: Then::Close },
        Reply { bytes: format!("{OK}\r\nX-Long: ").into_bytes(), then: Then::Endless },
        Reply { bytes: format!("{OK}\r\nX-Long: {}", "x".repeat(5_000_000)).into_bytes(), then: Then::Stall },
        raw(&[OK, "Content-Length: 3", "Content-Length: 4"], "four", Then::Close),
        raw(&[OK, "Content-Length: -1"], "x", Then::Close),
        raw(&[OK, "Content-Length: 99999999999999999999999"], "x", Then::Close),
        raw(&["HTTP/9.9 200 OK"], "x", Then::Close),
    ];
    for head in heads {
        let shown = String::from_utf8_lossy(&head.bytes[..head.bytes.len().min(60)]).into_owned();
        let error = get(&settings(), &always(head).await.url("/")).await.unwrap_err();
        assert_eq!((error.class, error.reason), (Class::Transient, "http_failed"), "{shown}: {}", error.message);
        assert!(error.message.len() < 400, "{}", error.message);
    }
}

/// Neither the type that the server claims nor a packing that was not asked for changes what arrives: what it is, is
/// found out from the bytes, which are counted as they are.
#[tokio::test]
async fn claimed_types_and_transfer_codings_are_not_believed() {
    let typed = always(reply("200 OK", &["Content-Type: text/html"], "picture")).await;
    assert_eq!(&get(&settings(), &typed.url("/")).await.unwrap().bytes[..], b"picture");
    let packed = "\u{1f}not unpacked";
    let chunk = format!("{:x}\r\n{packed}\r\n0\r\n\r\n", packed.len());
    let coded = always(raw(&[OK, "Transfer-Encoding: gzip, chunked"], &chunk, Then::Close)).await;
    assert_eq!(&get(&settings(), &coded.url("/")).await.unwrap().bytes[..], packed.as_bytes());
    for encoding in ["gzip", "br", "zstd", "deflate", "gzip, gzip, gzip"] {
        let server = always(reply("200 OK", &[&format!("Content-Encoding: {encoding}")], "x")).await;
        let error = get(&settings(), &server.url("/")).await.unwrap_err();
        assert_eq!((error.class, error.reason), (Class::Permanent, "http_encoding_unsupported"));
    }
}

#[tokio::test]
async fn redirects_are_followed_and_counted() {
    let server = Server::start(async |head: String| match head.split(' ').nth(1).unwrap() {
        "/a" => reply("301 Moved Permanently", &["Location: /b?x=1"], ""),
        "/b?x=1" => reply("307 Temporary Redirect", &["Location: c"], ""),
        "/c" => reply("200 OK", &[], "picture"),
        _ => reply("302 Found", &["Location: /loop?token=hush"], ""),
    })
    .await;
    assert_eq!(&get(&settings(), &server.url("/a")).await.unwrap().bytes[..], b"picture");
    let before = server.requests();
    let error = get(&settings(), &server.url("/loop")).await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Permanent, "redirects_exceeded"));
    assert_eq!(server.requests() - before, 4, "one request and three redirects");
    assert!(!error.message.contains("hush"), "{}", error.message);
}

async fn again(url: &str, etag: Option<&str>, last_modified: Option<&str>) -> Result<Answer, MediaError> {
    let settings = settings();
    let fetcher = fetcher(&settings, 1);
    let known =
        Validators { etag: etag.map(str::to_owned), last_modified: last_modified.map(str::to_owned), version_id: None };
    fetcher.fetch(url, Some(&known), &mut Deadline::after(Duration::from_secs(30))).await
}

const TIME: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

/// Answers 304 where the request has the condition that belongs to its path, `/moved/…` and `/deaf` never.
async fn conditional_server() -> Server {
    Server::start(async |head: String| {
        let head = head.to_ascii_lowercase();
        let has = |line: &str| head.contains(&format!("\r\n{}\r\n", line.to_ascii_lowercase()));
        let path = head.split(' ').nth(1).unwrap();
        let same = match path.strip_prefix("/moved").unwrap_or(path) {
            "/strong" => has("If-None-Match: \"abc\""),
            "/weak" => has("If-None-Match: W/\"abc\""),
            "/dated" => has(&format!("If-Modified-Since: {TIME}")) && !head.contains("if-none-match"),
            _ => false,
        };
        match path.strip_prefix("/moved") {
            Some(to) => reply("302 Found", &[&format!("Location: {to}")], ""),
            None if same => reply("304 Not Modified", &["ETag: \"abc\""], ""),
            None => reply("200 OK", &[], "picture"),
        }
    })
    .await
}

#[tokio::test]
async fn a_file_that_is_still_the_same_is_not_sent_again() {
    let server = conditional_server().await;
    let (strong, weak) = (Some("\"abc\""), Some("W/\"abc\""));
    let cases = [
        ("/strong", strong, Some(TIME), Some(UnchangedBy::Etag)),
        ("/strong", Some("\"old\""), Some(TIME), None),
        ("/weak", weak, None, Some(UnchangedBy::Etag)),
        ("/dated", None, Some(TIME), Some(UnchangedBy::LastModified)),
        // The last hop may be another file's by now: only a strong ETag goes along.
        ("/moved/strong", strong, None, Some(UnchangedBy::Etag)),
        ("/moved/weak", weak, None, None),
        ("/moved/dated", None, Some(TIME), None),
        ("/deaf", strong, Some(TIME), None),
        ("/strong", Some("no\nheader"), None, None),
    ];
    for (path, etag, last_modified, expected) in cases {
        match again(&server.url(path), etag, last_modified).await.unwrap() {
            Answer::Unchanged(by) => assert_eq!(Some(by), expected, "{path}"),
            Answer::Fetched(fetched) => {
                assert_eq!((&fetched.bytes[..], expected), (&b"picture"[..], None), "{path}");
            }
        }
    }
}

#[tokio::test]
async fn not_modified_is_an_error_where_nothing_was_asked() {
    let server = Server::start(async |head: String| match head.split(' ').nth(1).unwrap() {
        "/moved" => reply("302 Found", &["Location: /there"], ""),
        _ => reply("304 Not Modified", &[], ""),
    })
    .await;
    for (path, last_modified) in [("/there", None), ("/moved", Some(TIME))] {
        let error = again(&server.url(path), None, last_modified).await.unwrap_err();
        assert_eq!((error.class, error.reason), (Class::Permanent, "http_status"), "{path}: {}", error.message);
    }
}

#[test]
fn https_never_steps_down() {
    let headers = |to: &'static str| HeaderMap::from_iter([(LOCATION, to.parse().unwrap())]);
    let from = Url::parse("https://a.example/x").unwrap();
    let error = redirected(&from, &headers("http://a.example/y?sig=hush")).unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Permanent, "redirect_forbidden"));
    assert!(error.message.contains("expected https") && !error.message.contains("hush"), "{}", error.message);
    assert_eq!(redirected(&from, &headers("//b.example/y")).unwrap().as_str(), "https://b.example/y");
    let from = Url::parse("http://a.example/x").unwrap();
    assert_eq!(redirected(&from, &headers("https://a.example/y")).unwrap().as_str(), "https://a.example/y");
}

#[tokio::test]
async fn addresses_are_refused_in_every_spelling() {
    let server = always(reply("200 OK", &[], "secret")).await;
    let closed = MediaSettings::default();
    let port = server.port;
    for host in
        ["127.0.0.1", "2130706433", "0x7f000001", "017700000001", "127.1", "[::ffff:127.0.0.1]", "0", "localhost"]
    {
        let error = get(&closed, &format!("http://{host}:{port}/a.jpg")).await.unwrap_err();
        assert_eq!((error.class, error.reason), (Class::Permanent, "address_forbidden"), "{host}: {}", error.message);
    }
    let error = get(&closed, "http://metadata.google.internal/computeMetadata/v1/").await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Permanent, "address_forbidden"));
    assert_eq!(server.requests(), 0, "nothing was connected to");
}

#[tokio::test]
async fn listed_hosts_are_open_on_their_port() {
    let server = always(reply("200 OK", &[], "picture")).await;
    let port = server.port;
    for entry in ["localhost".to_owned(), format!("localhost:{port}")] {
        let open = MediaSettings { allow_hosts: vec![entry], ..MediaSettings::default() };
        assert!(get(&open, &format!("http://localhost:{port}/")).await.is_ok());
        let error = get(&open, &format!("http://127.0.0.1:{port}/")).await.unwrap_err();
        assert_eq!(error.reason, "address_forbidden", "the name is listed, not the address");
    }
    let other = MediaSettings { allow_hosts: vec!["localhost:1".into()], ..MediaSettings::default() };
    assert_eq!(get(&other, &format!("http://localhost:{port}/")).await.unwrap_err().reason, "address_forbidden");
}

#[tokio::test]
async fn userinfo_is_sent_and_not_shown() {
    let server = Server::start(async |head: String| {
        assert!(head.to_ascii_lowercase().contains("authorization: basic "), "{head}");
        reply("404 Not Found", &[], "")
    })
    .await;
    let url = format!("http://joe:hunter2@127.0.0.1:{}/a?X-Amz-Signature=hush", server.port);
    let error = get(&settings(), &url).await.unwrap_err();
    assert_eq!(error.reason, "http_not_found");
    assert!(!["joe", "hunter2", "hush"].iter().any(|s| error.message.contains(s)), "{}", error.message);
}

#[tokio::test]
async fn nobody_there_is_transient() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = get(&settings(), &format!("http://joe:hunter2@127.0.0.1:{port}/")).await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Transient, "connect_failed"), "{}", error.message);
    assert!(error.message.contains("refused") && !error.message.contains("hunter2"), "{}", error.message);
    // RFC 6761: never resolves.
    let error = get(&settings(), "http://clipstream-test.invalid/").await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Transient, "dns_failed"), "{}", error.message);
}

#[tokio::test]
async fn untrusted_certificates_are_permanent() {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let certificate = CertificateDer::from_pem_slice(include_bytes!("test_certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("test_certificate.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut tls = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        // Ends with the alert by which the client refuses the certificate.
        while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
    });
    let error = get(&settings(), &format!("https://127.0.0.1:{port}/")).await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Permanent, "tls_certificate_untrusted"), "{}", error.message);
    server.join().unwrap();
}

#[tokio::test]
async fn one_host_gets_no_more_than_its_share() {
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let server = Server::start(async |_| {
        MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        // Long enough for all the others to come in if they were let.
        tokio::time::sleep(Duration::from_millis(30)).await;
        NOW.fetch_sub(1, Ordering::SeqCst);
        reply("200 OK", &[], "picture")
    })
    .await;
    let settings = MediaSettings { per_host_concurrency: 2, ..settings() };
    let fetcher = fetcher(&settings, 2);
    let url = server.url("/");
    let fetches = (0..10)
        .map(|_| async { fetcher.fetch(&url, None, &mut Deadline::after(Duration::from_secs(10))).await.unwrap() });
    assert_eq!(futures::future::join_all(fetches).await.len(), 10);
    assert_eq!(MOST.load(Ordering::SeqCst), 2);
}

/// Pictures below `/good` are there, whatever the state; everything else fails while it is up.
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
    let found = classes(&fetcher, &server, &many).await;
    assert_eq!((&found[..7], &found[7..]), (&[Err(Class::Transient); 7][..], &[Err(Class::Outage); 3][..]));
    down.store(false, Ordering::SeqCst);
    assert_eq!(classes(&fetcher, &server, &many).await, [Ok(()); 10]);
}

#[tokio::test]
async fn retry_after_pauses_the_whole_host() {
    let (server, down) = failing("429 Too Many Requests", &["Retry-After: 3600"]).await;
    // The pause is bounded: here by 30 ms.
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
    // The listener closes when its task is gone.
    let error = loop {
        if let Err(error) = fetcher.fetch(&url, None, deadline).await {
            break error;
        }
    };
    assert_eq!(error.class, Class::Outage, "{}", error.message);
    assert!(error.message.contains("media.host_outage_hold_ms"), "{}", error.message);
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
