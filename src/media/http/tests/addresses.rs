//! Refused addresses and listed hosts.

use super::*;

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
