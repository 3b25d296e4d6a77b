//! Redirects.

use super::*;

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

/// Like curl, which percent-encodes non-ASCII bytes as they are.
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
