//! Servers with certificates from a private authority, over HTTPS and as S3.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};

use super::{Media, MediaClient, MediaError};
use crate::budget::Budget;
use crate::config::MediaSettings;
use crate::domain::{Class, MediaReason, MediaUrl};
use crate::telemetry::Metrics;

const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\npicture";

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Answers one connection with [`REPLY`], unless the client refuses the certificate.
pub(super) fn serve_once() -> (u16, JoinHandle<()>) {
    serve_once_on(TcpListener::bind("127.0.0.1:0").unwrap())
}

fn serve_once_on(listener: TcpListener) -> (u16, JoinHandle<()>) {
    let certificate = CertificateDer::from_pem_file(fixture("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = Stream::new(&mut connection, &mut socket);
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                // The client's alert or its end of stream.
                _ => return,
            }
        }
        stream.write_all(REPLY).unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
    });
    (port, server)
}

async fn client(ca_file: Option<String>, s3_port: u16) -> Result<MediaClient, MediaError> {
    let settings = MediaSettings {
        allow_hosts: vec!["127.0.0.1".into()],
        ca_file,
        s3_endpoint: Some(format!("https://127.0.0.1:{s3_port}")),
        s3_path_style: true,
        ..MediaSettings::default()
    };
    let credentials = Credentials::new("KEYID", "hush", None, None, "test");
    let (budget, metrics) = (Budget::new(1 << 20), Arc::new(Metrics::default()));
    MediaClient::with_s3_credentials(&settings, budget, metrics, credentials).await
}

async fn fetch(ca: Option<&str>, url: impl Fn(u16) -> String) -> Result<Media, MediaError> {
    let (port, server) = serve_once();
    let result = client(ca.map(fixture), port).await?.fetch(&MediaUrl::new(url(port))).await;
    server.join().unwrap();
    result
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_ones_own_is_trusted_beside_the_systems() {
    for url in [|port| format!("https://127.0.0.1:{port}/a.jpg"), |_| "s3://bucket/a.jpg".to_owned()] {
        let media = fetch(Some("ca.pem"), url).await.unwrap();
        assert_eq!(&media.bytes[..], b"picture");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_authority_is_named_as_the_reason() {
    for ca in [None, Some("other-ca.pem")] {
        let error = fetch(ca, |port| format!("https://127.0.0.1:{port}/a.jpg")).await.unwrap_err();
        // No certificate was trusted yet, so this machine's authorities may be wrong.
        assert_eq!((error.class, error.reason), (Class::Outage, MediaReason::TlsTrustBroken), "{}", error.message);
        assert!(error.to_string().contains("media.ca_file"), "{error}");
        let error = fetch(ca, |_| "s3://bucket/a.jpg".to_owned()).await.unwrap_err();
        assert_eq!((error.class, error.reason), (Class::Outage, MediaReason::S3Unreachable), "{}", error.message);
        assert!(error.to_string().contains("media.ca_file"), "{}", error.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_comes_late_ends_the_outage() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for url in [format!("https://127.0.0.1:{port}/a.jpg"), "s3://bucket/a.jpg".to_owned()] {
        std::fs::copy(fixture("other-ca.pem"), &file).unwrap();
        let client = client(Some(file.display().to_string()), port).await.unwrap();
        let fetch = async || {
            let (_, server) = serve_once_on(listener.try_clone().unwrap());
            let result = client.fetch(&MediaUrl::new(url.as_str())).await;
            server.join().unwrap();
            result
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        assert_eq!(fetch().await.unwrap_err().class, Class::Outage);
        // A half-written file must neither drop the old authorities nor end the process.
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
        assert_eq!(fetch().await.unwrap_err().class, Class::Outage);
        std::fs::copy(fixture("ca.pem"), &file).unwrap();
        while let Err(error) = fetch().await {
            assert_eq!(error.class, Class::Outage, "{}", error.message);
            assert!(Instant::now() < deadline, "{}", error.message);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn a_file_that_holds_no_certificate_is_refused_at_the_start() {
    let settings = MediaSettings { ca_file: Some(fixture("server.key")), ..MediaSettings::default() };
    let made = MediaClient::new(&settings, Budget::new(1), Arc::new(Metrics::default())).await;
    let error = made.err().unwrap();
    assert_eq!(error.reason, MediaReason::SettingsInvalid);
    assert!(
        error.to_string().contains("media.ca_file") && error.to_string().contains("no certificate"),
        "{}",
        error.message
    );
}
