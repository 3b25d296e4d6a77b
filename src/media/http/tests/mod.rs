//! Fetches over HTTP from test servers.

mod addresses;
mod answers;
mod conditional;
mod hosts;
mod redirects;
mod stalls;
mod untidy;

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
async fn longer_than_announced_is_cut_at_what_was_announced() {
    let server = always(raw(&[OK, "Content-Length: 3"], "picture", Then::Close)).await;
    assert_eq!(&get(&settings(), &server.url("/")).await.unwrap().bytes[..], b"pic");
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
    // A port that was just free.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = get(&settings(), &format!("http://joe:hunter2@127.0.0.1:{port}/")).await.unwrap_err();
    assert_eq!((error.class, error.reason), (Class::Transient, MediaReason::ConnectFailed), "{}", error.message);
    assert!(error.to_string().contains("refused") && !error.to_string().contains("hunter2"), "{}", error.message);
}

#[tokio::test]
async fn untrusted_certificates_are_refused() {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let certificate = CertificateDer::from_pem_slice(include_bytes!("../../test_certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../../test_certificate.pem")).unwrap();
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
        // Ends with the alert with which the client refuses the certificate.
        while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
    });
    let error = get(&settings(), &format!("https://127.0.0.1:{port}/")).await.unwrap_err();
    // No certificate was trusted yet, so this machine's authorities may be wrong.
    assert_eq!((error.class, error.reason), (Class::Outage, MediaReason::TlsTrustBroken), "{}", error.message);
    server.join().unwrap();
}
