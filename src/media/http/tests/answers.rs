//! What a server answers, and how slowly.

use super::*;

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
        (
            reply("200 OK", &["Content-Encoding: deflate"], "not packed at all"),
            Permanent,
            MediaReason::ContentEncodingInvalid,
        ),
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

/// A server that always sends something still hits the deadline: it covers the whole fetch.
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

/// Input that is not HTTP, or a head that is too large, ends as an error within the client's own memory limits.
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
