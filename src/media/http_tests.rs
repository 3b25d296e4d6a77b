use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::domain::{Class, MediaReason};
use crate::media::resolver::SystemLookup;
use crate::media::test_server::{Reply, Server, Then, raw, reply};

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
        (reply("404 Not Found", &[], "x"), Permanent, MediaReason::HttpNotFound),
        (reply("410 Gone", &[], "x"), Permanent, MediaReason::HttpGone),
        (reply("401 Unauthorized", &[], "x"), Permanent, MediaReason::HttpForbidden),
        (reply("403 Forbidden", &[], "x"), Permanent, MediaReason::HttpForbidden),
        (reply("418 Teapot", &[], "x"), Permanent, MediaReason::HttpStatus),
        (reply("304 Not Modified", &[], ""), Permanent, MediaReason::HttpStatus),
        (reply("206 Partial Content", &["Content-Range: bytes 0-0/2"], "x"), Transient, MediaReason::HttpPartial),
        (reply("206 Partial Content", &["Content-Range: bytes 1-1/2"], "x"), Transient, MediaReason::HttpPartial),
        (reply("206 Partial Content", &["Content-Range: bytes 0-0/*"], "x"), Transient, MediaReason::HttpPartial),
        (reply("202 Accepted", &[], "x"), Transient, MediaReason::HttpStatus),
        (reply("408 Request Timeout", &[], "x"), Transient, MediaReason::HttpStatus),
        (reply("425 Too Early", &[], "x"), Transient, MediaReason::HttpStatus),
        (reply("429 Too Many Requests", &[], "x"), Transient, MediaReason::HttpThrottled),
        (reply("500 Internal Server Error", &[], "x"), Transient, MediaReason::HttpServerError),
        (reply("503 Service Unavailable", &[], "x"), Transient, MediaReason::HttpUnavailable),
        (reply("200 OK", &[], ""), Permanent, MediaReason::Empty),
        (raw(&[OK], "", Then::Close), Permanent, MediaReason::Empty),
        (reply("200 OK", &["Content-Encoding: compress"], "packed"), Permanent, MediaReason::HttpEncodingUnsupported),
        (reply("200 OK", &["Content-Encoding: deflate"], "not packed at all"), Permanent, MediaReason::EncodingDamaged),
        (reply("200 OK", &["Content-Encoding: deflate"], "x\u{1}\u{1}\u{0}"), Transient, MediaReason::BodyIncomplete),
        (raw(&[OK, "Content-Length: 10001"], "", Then::Stall), Permanent, MediaReason::TooLarge),
        (raw(&[OK], "", Then::Endless), Permanent, MediaReason::TooLarge),
        (raw(&[OK, "Content-Length: 9"], "short", Then::Close), Transient, MediaReason::BodyIncomplete),
        (raw(&["nonsense"], "", Then::Close), Transient, MediaReason::HttpMalformed),
        (raw(&["nonsense"], "", Then::Stall), Transient, MediaReason::HttpMalformed),
        (raw(&[OK, "Transfer-Encoding: chunked"], "nonsense\r\n", Then::Stall), Transient, MediaReason::HttpMalformed),
        (raw(&[OK, "Transfer-Encoding: chunked"], "3\r\npic\r\n", Then::Close), Transient, MediaReason::BodyIncomplete),
        (
            Reply { bytes: b"HTTP/1.1 200 OK\r\nContent-Le".to_vec(), then: Then::Close },
            Transient,
            MediaReason::HttpFailed,
        ),
        (reply("302 Found", &[], ""), Permanent, MediaReason::RedirectForbidden),
        (reply("302 Found", &["Location: ftp://x/y"], ""), Permanent, MediaReason::RedirectForbidden),
        (reply("302 Found", &["Location: http://10.0.0.1/x"], ""), Permanent, MediaReason::AddressForbidden),
        (reply("302 Found", &["Location: http://[::ffff:a9fe:a9fe]/x"], ""), Permanent, MediaReason::AddressForbidden),
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
        assert_eq!((error.class, error.reason), (Class::Transient, MediaReason::FetchTimeout));
        assert!(error.to_string().contains(doing), "{}", error.message);
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
        assert_eq!((error.class, error.reason), (Class::Transient, MediaReason::FetchTimeout), "{}", error.message);
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
        raw(&["HTTP/9.9 200 OK"], "x", Then::Close),
    ];
    for head in heads {
        let shown = String::from_utf8_lossy(&head.bytes[..head.bytes.len().min(60)]).into_owned();
        let error = get(&settings(), &always(head).await.url("/")).await.unwrap_err();
        assert_eq!(
            (error.class, error.reason),
            (Class::Transient, MediaReason::HttpMalformed),
            "{shown}: {}",
            error.message
        );
        assert!(error.message.len() < 400, "{}", error.message);
    }
}

/// What each of them gives was asked of curl 7.88 and of browsers' rules; what curl refuses and browsers read is marked.
#[tokio::test]
async fn what_curl_gets_from_an_untidy_server_we_get() {
    let length = "Content-Length: 7";
    let chunks = "7\r\npicture\r\n0\r\n\r\n";
    let cases = [
        raw(&[OK, "PHP Warning:  Undefined variable $x in /a.php on line 3", length], "picture", Then::Stall),
        // Browsers.
        raw(&[OK, "<br />", "<b>Warning</b> in <b>/a.php</b>", length], "picture", Then::Stall),
        raw(&[OK, "X-A: b", "\tfolded", length], "picture", Then::Stall),
        raw(&[OK, ": nameless", "X\u{1}Y: z", length], "picture", Then::Stall),
        raw(&[OK, "Content-Length : 7"], "picture", Then::Stall),
        raw(&["HTTP/1.1 200", "content-length:7"], "picture", Then::Stall),
        raw(&["HTTP/1.1  200 OK", length], "picture", Then::Stall),
        raw(&["HTTP/1.0 200 OK"], "picture", Then::Close),
        raw(&["HTTP/1.0 200 OK", "Transfer-Encoding: chunked"], chunks, Then::Close),
        raw(&[OK, length, length], "picture", Then::Stall),
        raw(&[OK, "Content-Length: 7, 7"], "picture", Then::Stall),
        raw(&[OK, "Content-Length: 3", length], "picture", Then::Stall),
        // Browsers, and curl as far as it goes: it takes the last length.
        raw(&[OK, length, "Content-Length: 3"], "picture", Then::Stall),
        raw(&[OK, "Content-Length: 99999999999999999999999"], "picture", Then::Close),
        // Browsers.
        raw(&[OK, "Content-Length: -1"], "picture", Then::Close),
        raw(&[OK, "Content-Length: 9", "Transfer-Encoding: chunked"], chunks, Then::Stall),
        raw(&[OK, "Transfer-Encoding: chunked"], "3\npic\n4 ;x\nture\n0\n\n", Then::Stall),
        raw(&[OK, "Transfer-Encoding: Chunked, chunked"], "7\r\npicture\r\n0\r\nX-Trailer: 1\r\n\r\n", Then::Stall),
        raw(&[OK, length], "picture and more than was announced", Then::Stall),
        raw(&["HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK", length], "picture", Then::Stall),
        raw(&["HTTP/1.1 206 Partial Content", "Content-Range: bytes 0-6/7", length], "picture", Then::Stall),
        raw(&["HTTP/1.1 206 Partial Content", length], "picture", Then::Stall),
        Reply {
            bytes: b"HTTP/1.1 200 D\xe9j\xe0 vu\nX: caf\xe9\nContent-Length: 7\n\npicture".to_vec(),
            then: Then::Stall,
        },
        raw(&[OK, &["X-A: b"; 500].join("\r\n"), length], "picture", Then::Stall),
    ];
    for answer in cases {
        let shown = String::from_utf8_lossy(&answer.bytes[..answer.bytes.len().min(100)]).into_owned();
        let found = get(&settings(), &always(answer).await.url("/a.jpg")).await;
        let found = found.unwrap_or_else(|error| panic!("{shown:?}: {}", error.message));
        assert_eq!(&found.bytes[..], b"picture", "{shown:?}");
    }
}

/// Answers two requests on each connection, whatever it said, and closes it as soon as the third one comes.
#[tokio::test]
async fn a_kept_connection_that_the_server_closes_costs_no_attempt() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a.jpg", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            for answers in 0..3 {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => break,
                    }
                }
                if answers < 2 {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npicture").await.unwrap();
                }
            }
        }
    });
    let fetcher = fetcher(&settings(), 1);
    for _ in 0..6 {
        let deadline = &mut Deadline::after(Duration::from_secs(20));
        assert!(matches!(fetcher.fetch(&url, None, deadline).await, Ok(Answer::Fetched(_))));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3, "connections are kept, answers tidied or not");
    server.abort();
}

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

/// Neither the type that the server claims nor a packing that was not asked for changes what arrives: what it is, is
/// found out from the bytes, which are counted as they come out.
#[tokio::test]
async fn claimed_types_and_codings_are_not_believed() {
    let typed = always(reply("200 OK", &["Content-Type: text/html"], "picture")).await;
    assert_eq!(&get(&settings(), &typed.url("/")).await.unwrap().bytes[..], b"picture");
    for encoding in ["gzip", "none", "UTF-8", "Identity", "binary", "", "gzip, utf-8", "x-gzip", "a\u{1}b"] {
        let server = always(reply("200 OK", &[&format!("Content-Encoding: {encoding}")], "picture")).await;
        assert_eq!(&get(&settings(), &server.url("/")).await.unwrap().bytes[..], b"picture", "{encoding}");
    }
    let (picture, bomb) = (gzip(&b"picture".repeat(100)), gzip(&vec![0; 1_000_000]));
    for head in ["Content-Encoding: gzip", "Content-Encoding: X-GZIP", "X-A: b", "Transfer-Encoding: gzip"] {
        for (packed, expected) in [(&picture, Ok(b"picture".repeat(100))), (&bomb, Err(MediaReason::TooLarge))] {
            let mut answer = raw(&[OK, head, &format!("Content-Length: {}", packed.len())], "", Then::Stall);
            answer.bytes.extend_from_slice(packed);
            let found = get(&settings(), &always(answer).await.url("/")).await;
            assert_eq!(found.map(|found| found.bytes.to_vec()).map_err(|error| error.reason), expected, "{head}");
        }
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut encoder = flate2::read::GzEncoder::new(content, flate2::Compression::default());
    std::io::Read::read_to_end(&mut encoder, &mut packed).unwrap();
    packed
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
    assert_eq!((error.class, error.reason), (Class::Permanent, MediaReason::RedirectsExceeded));
    assert_eq!(server.requests() - before, 4, "one request and three redirects");
    assert!(!error.to_string().contains("hush"), "{}", error.message);
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
        assert_eq!(
            (error.class, error.reason),
            (Class::Permanent, MediaReason::HttpStatus),
            "{path}: {}",
            error.message
        );
    }
}

#[test]
fn https_never_steps_down() {
    let headers = |to: &'static str| HeaderMap::from_iter([(LOCATION, to.parse().unwrap())]);
    let from = Url::parse("https://a.example/x").unwrap();
    let error = redirected(&from, &headers("http://a.example/y?sig=hush")).unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Permanent, MediaReason::RedirectForbidden));
    assert!(error.to_string().contains("expected https") && !error.to_string().contains("hush"), "{}", error.message);
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
        assert_eq!(
            (error.class, error.reason),
            (Class::Permanent, MediaReason::AddressForbidden),
            "{host}: {}",
            error.message
        );
    }
    let error = get(&closed, "http://metadata.google.internal/computeMetadata/v1/").await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Permanent, MediaReason::AddressForbidden));
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
        assert_eq!(error.reason, MediaReason::AddressForbidden, "the name is listed, not the address");
    }
    let other = MediaSettings { allow_hosts: vec!["localhost:1".into()], ..MediaSettings::default() };
    assert_eq!(
        get(&other, &format!("http://localhost:{port}/")).await.unwrap_err().reason,
        MediaReason::AddressForbidden
    );
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
    assert_eq!(error.reason, MediaReason::HttpNotFound);
    assert!(!["joe", "hunter2", "hush"].iter().any(|s| error.to_string().contains(s)), "{}", error.message);
}

#[tokio::test]
async fn nobody_there_is_transient() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = get(&settings(), &format!("http://joe:hunter2@127.0.0.1:{port}/")).await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Transient, MediaReason::ConnectFailed), "{}", error.message);
    assert!(error.to_string().contains("refused") && !error.to_string().contains("hunter2"), "{}", error.message);
}

/// As curl has it, which percent-encodes what is not ASCII as it stands.
#[test]
fn locations_are_taken_as_their_bytes() {
    let from = Url::parse("https://a.example/b/c?d").unwrap();
    for (location, to) in [
        (&b"caf\xe9.png"[..], "https://a.example/b/caf%E9.png"),
        ("/caf\u{e9} x.png".as_bytes(), "https://a.example/caf%C3%A9%20x.png"),
        (b"//b.example/x.png", "https://b.example/x.png"),
        (b" /x.png\t", "https://a.example/x.png"),
        (b"www.b.example/x.png", "https://a.example/b/www.b.example/x.png"),
        (b"?e", "https://a.example/b/c?e"),
        (b"HTTPS://b.example:443/x#y", "https://b.example/x#y"),
    ] {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_bytes(location).unwrap())]);
        assert_eq!(redirected(&from, &headers).unwrap().as_str(), to, "{location:?}");
    }
}

#[tokio::test]
async fn untrusted_certificates_are_refused() {
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
    // Nobody has been trusted yet: it may be this machine's authorities.
    assert_eq!((error.class, error.reason), (Class::Outage, MediaReason::TlsTrustBroken), "{}", error.message);
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
    // `good` was service; a host that never gave any is never down (host_health).
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

/// A fetcher with a budget of 2 MiB for files of 512 KiB, and what it gets of a server that announces such a file and stops
/// after 100 KiB.
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

/// Runs `others` until they have come, beside fetches of `stalled` that are dropped then.
async fn beside(fetcher: &HttpFetcher, stalled: Vec<String>, budget: &Budget, held: u64, good: &Server) {
    // What has come is no longer held.
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
    // A quarter is full; the host's other bodies wait for it, and nobody else does.
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
