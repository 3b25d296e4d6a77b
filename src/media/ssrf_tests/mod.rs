//! Addresses and tricks with which a message could make the worker read what only this machine can reach. Every row
//! goes through [`MediaClient`] like a message's URL, with names that resolve as the table says.

mod table;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use url::{Host, Url};

use table::{REACHED, REFUSED};

use super::address::{AddressPolicy, HostTrust};
use super::client::MediaClient;
use super::hosts::Hosts;
use super::http::HttpFetcher;
use super::resolver::{self, CheckedResolver, Lookup};
use super::test_server::{Server, reply};
use super::{Media, MediaError};
use crate::budget::Budget;
use crate::config::MediaSettings;
use crate::domain::{Class, MediaReason, MediaUrl};

/// Test names. Each answer is given once, the last one always.
#[derive(Debug)]
struct Names {
    answers: Mutex<HashMap<&'static str, Vec<Vec<IpAddr>>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    fn new() -> Arc<Self> {
        let names = [
            ("public.test", vec!["93.184.216.34"]),
            ("public6.test", vec!["2606:2800:220:1::1"]),
            ("private.test", vec!["10.0.0.5"]),
            ("ula.test", vec!["fd12::5"]),
            ("mapped.test", vec!["::ffff:192.168.0.1"]),
            ("nat64.test", vec!["64:ff9b::7f00:1"]),
            ("metadata.test", vec!["169.254.169.254"]),
            ("mixed.test", vec!["10.0.0.5", "93.184.216.34", "::1"]),
            ("private-only.test", vec!["10.0.0.5", "192.168.0.5", "fe80::1"]),
            ("server.test", vec!["127.0.0.1"]),
            ("other.test", vec!["127.0.0.1"]),
            ("mixed-server.test", vec!["10.0.0.5", "127.0.0.1"]),
            ("empty.test", vec![]),
            ("localhost", vec!["127.0.0.1", "::1"]),
            ("metadata.google.internal", vec!["93.184.216.34"]),
            ("files.internal", vec!["10.0.0.5"]),
            ("xn--gogle-jye.test", vec!["10.0.0.5"]),
            ("google.test", vec!["10.0.0.6"]),
            ("xn--bcher-kva.test", vec!["93.184.216.34"]),
            ("intranet", vec!["10.0.0.5"]),
            ("x.nip.test", vec!["127.0.0.1"]),
        ];
        let parse = |addresses: Vec<&str>| addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let mut answers: HashMap<_, Vec<Vec<IpAddr>>> =
            names.into_iter().map(|(name, addresses)| (name, vec![parse(addresses)])).collect();
        answers.insert("rebinds.test", vec![parse(vec!["127.0.0.1"]), parse(vec!["10.0.0.5"])]);
        Arc::new(Self { answers: Mutex::new(answers), asked: Mutex::default() })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Lookup for Names {
    fn addresses(&self, host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        self.asked.lock().unwrap().push(host.clone());
        let mut answers = self.answers.lock().unwrap();
        let found = match answers.get_mut(host.trim_end_matches('.')) {
            Some(answers) if answers.len() > 1 => Ok(answers.remove(0)),
            Some(answers) => Ok(answers[0].clone()),
            None => Err(io::Error::other("no such name")),
        };
        Box::pin(std::future::ready(found))
    }
}

/// `+` allows and `-` denies. An entry with `/` is a network, any other a host.
fn settings(rules: &str) -> MediaSettings {
    let mut settings = MediaSettings { fetch_timeout_ms: 20_000, ..MediaSettings::default() };
    for rule in rules.split_whitespace() {
        let (sign, entry) = rule.split_at(1);
        match (sign, entry.contains('/')) {
            ("+", true) => settings.allow_networks.push(entry.parse().unwrap()),
            ("-", true) => settings.deny_networks.push(entry.parse().unwrap()),
            ("+", false) => settings.allow_hosts.push(entry.to_owned()),
            _ => settings.deny_hosts.push(entry.to_owned()),
        }
    }
    settings
}

fn client(settings: &MediaSettings, names: &Arc<Names>) -> MediaClient {
    let lookup: Arc<dyn Lookup> = names.clone();
    MediaClient::build(settings, Budget::new(1 << 26), Arc::default(), None, lookup).unwrap()
}

async fn fetch(rules: &str, names: &Arc<Names>, url: &str) -> Result<Media, MediaError> {
    client(&settings(rules), names).fetch(&MediaUrl::new(url)).await
}

/// The addresses that the HTTP client would connect to for an allowed `url`.
async fn reached(rules: &str, url: &str) -> Vec<String> {
    let (settings, names) = (settings(rules), Names::new());
    let hosts = Hosts::for_tests(1);
    let fetcher = HttpFetcher::new(&settings, Budget::new(1), hosts, names.clone()).unwrap();
    let url = Url::parse(url).unwrap();
    fetcher.admit(&url).unwrap_or_else(|error| panic!("{url}: {}", error.message));
    match url.host().unwrap() {
        Host::Ipv4(ip) => vec![ip.to_string()],
        Host::Ipv6(ip) => vec![ip.to_string()],
        Host::Domain(name) => {
            let policy = Arc::new(AddressPolicy::new(&settings).unwrap());
            let trust = policy.trust(name, url.port_or_known_default().unwrap());
            let names = resolver::Names::new(names);
            let resolver = CheckedResolver { names, policy, trust, timeout: Duration::from_secs(20) };
            let found = resolver.resolve(name.to_owned()).await.unwrap_or_else(|error| panic!("{url}: {error}"));
            found.iter().map(|address| address.ip().to_string()).collect()
        }
    }
}

#[tokio::test]
async fn addresses_and_tricks_are_refused() {
    let names = Names::new();
    for (url, rules, reason, part) in REFUSED {
        let error = fetch(rules, &names, url).await.expect_err(url);
        assert_eq!(error.reason, *reason, "{url} [{rules}]: {}", error.message);
        assert!(error.to_string().contains(part), "{url} [{rules}]: {}", error.message);
        let is_final = error.class == Class::Permanent;
        assert_eq!(is_final, *reason != MediaReason::DnsFailed, "{url}: a refusal is not tried again");
    }
}

#[tokio::test]
async fn what_is_allowed_is_reached_at_the_address_that_was_checked() {
    for (url, rules, expected) in REACHED {
        assert_eq!(reached(rules, url).await, *expected, "{url} [{rules}]");
    }
}

#[test]
fn the_table_is_as_long_as_it_must_be() {
    assert!(REFUSED.len() + REACHED.len() >= 100);
    let mut seen = std::collections::HashSet::new();
    for (url, rules, ..) in REFUSED {
        assert!(seen.insert((url, rules)), "{url} comes twice");
    }
}

/// A name is resolved once per connection: the checked address is the one connected to, whatever the next answer is.
#[tokio::test]
async fn a_name_cannot_be_checked_as_one_address_and_connected_as_another() {
    let server = Server::start(async |_| reply("200 OK", &["Connection: close"], "picture")).await;
    let names = Names::new();
    let client = client(&settings("+127.0.0.0/8"), &names);
    let url = MediaUrl::new(format!("http://rebinds.test:{}/", server.port));
    assert_eq!(&client.fetch(&url).await.unwrap().bytes[..], b"picture");
    assert_eq!(names.asked(), ["rebinds.test"], "one look-up, for check and connection alike");
    let error = client.fetch(&url).await.unwrap_err();
    assert_eq!((error.reason, server.requests()), (MediaReason::AddressForbidden, 1), "{}", error.message);
    // A private address beside a public one is left out, not tried first.
    let mixed = MediaUrl::new(format!("http://mixed-server.test:{}/", server.port));
    assert_eq!(&client.fetch(&mixed).await.unwrap().bytes[..], b"picture");
}

/// `Location` headers of an allowed server; `PORT` is its own.
#[tokio::test]
async fn every_hop_of_a_redirect_is_checked() {
    let server = Server::start(async |head: String| {
        let target = head.split(' ').nth(1).unwrap();
        match target.strip_prefix("/to?") {
            Some(location) => {
                let location = percent_encoding::percent_decode_str(location).decode_utf8().unwrap().into_owned();
                reply("302 Found", &[&format!("Location: {location}")], "")
            }
            None => reply("200 OK", &[], "picture"),
        }
    })
    .await;
    let cases = [
        ("/b", None),
        ("//other.test:PORT/b", None),
        ("http://mixed-server.test:PORT/b", None),
        ("http://10.0.0.1/", Some(MediaReason::AddressForbidden)),
        ("//10.0.0.1/", Some(MediaReason::AddressForbidden)),
        ("http://0x0a000001/", Some(MediaReason::AddressForbidden)),
        ("\t//10.0.0.1/", Some(MediaReason::AddressForbidden)),
        ("/\\10.0.0.1/", Some(MediaReason::AddressForbidden)),
        ("http://private.test/", Some(MediaReason::AddressForbidden)),
        ("http://[::1]:PORT/b", Some(MediaReason::AddressForbidden)),
        ("http://169.254.169.254/latest/meta-data/", Some(MediaReason::AddressForbidden)),
        ("http://metadata.google.internal/", Some(MediaReason::AddressForbidden)),
        ("http://joe:pw@10.0.0.1/", Some(MediaReason::AddressForbidden)),
        ("http://bad.test/", Some(MediaReason::HostDenied)),
        ("file:///etc/passwd", Some(MediaReason::RedirectForbidden)),
        ("gopher://127.0.0.1:PORT/", Some(MediaReason::RedirectForbidden)),
        ("data:image/png;base64,AAAA", Some(MediaReason::RedirectForbidden)),
        ("s3://bucket/key", Some(MediaReason::RedirectForbidden)),
        ("ftp://server.test/", Some(MediaReason::RedirectForbidden)),
        ("http://", Some(MediaReason::RedirectForbidden)),
        ("/to?/to?/b", None),
        ("/to?/to?/to?/to?/to?/to?/b", Some(MediaReason::RedirectsExceeded)),
        ("http://server.test:PORT/to?http://10.0.0.1/", Some(MediaReason::AddressForbidden)),
    ];
    let names = Names::new();
    for (location, reason) in cases {
        let location = location.replace("PORT", &server.port.to_string());
        let encoded = percent_encoding::utf8_percent_encode(&location, percent_encoding::NON_ALPHANUMERIC);
        let url = format!("http://server.test:{}/to?{encoded}", server.port);
        // The server's own address is open, IPv6's loopback is not.
        let found = fetch("+127.0.0.0/8 -bad.test", &names, &url).await;
        match (found, reason) {
            (Ok(media), None) => assert_eq!(&media.bytes[..], b"picture", "{location}"),
            (Ok(_), Some(reason)) => panic!("{location}: fetched; expected {reason}"),
            (Err(error), reason) => {
                assert_eq!((Some(error.reason), error.class), (reason, Class::Permanent), "{location}: {error}");
                assert!(!error.to_string().contains("pw"), "{}", error.message);
            }
        }
    }
    let itself = Server::start(async |_| reply("307 Temporary Redirect", &["Location: "], "")).await;
    let url = format!("http://server.test:{}/", itself.port);
    let error = fetch("+127.0.0.0/8", &names, &url).await.unwrap_err();
    assert_eq!((error.reason, itself.requests()), (MediaReason::RedirectsExceeded, 6));
}

/// A URL's user info is sent only to its own host.
#[tokio::test]
async fn credentials_do_not_follow_to_another_host() {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    let server = Server::start(move |head: String| {
        seen.lock().unwrap().push(head.to_ascii_lowercase());
        let away = head.split(' ').nth(1).unwrap().strip_prefix("/away?").map(str::to_owned);
        std::future::ready(match away {
            Some(port) => reply("302 Found", &[&format!("Location: http://other.test:{port}/b")], ""),
            None => reply("200 OK", &[], "picture"),
        })
    })
    .await;
    let names = Names::new();
    let url = format!("http://joe:hunter2@server.test:{0}/away?{0}", server.port);
    fetch("+127.0.0.0/8", &names, &url).await.unwrap();
    let heads = heads.lock().unwrap();
    assert!(heads[0].contains("authorization: basic "), "{}", heads[0]);
    for secret in ["authorization", "referer", "cookie", "joe", "hunter2"] {
        assert!(!heads[1].contains(secret), "{secret} in {}", heads[1]);
    }
}

#[tokio::test]
async fn an_inline_picture_meets_the_cap_of_a_fetched_one() {
    let names = Names::new();
    let small = MediaSettings { media_bytes_max: 1000, ..MediaSettings::default() };
    let url = format!("data:image/png;base64,{}", "A".repeat(2000));
    let error = client(&small, &names).fetch(&MediaUrl::new(&url)).await.unwrap_err();
    assert_eq!((error.reason, error.class), (MediaReason::TooLarge, Class::Permanent));
    assert!(error.message.len() < 300, "the content is not quoted: {}", error.message);
}

#[tokio::test]
async fn entries_that_are_no_hosts_are_refused_at_the_start() {
    for entry in ["a b", "host:port", ".", "[::1", "http://x"] {
        let settings = MediaSettings { deny_hosts: vec![entry.to_owned()], ..MediaSettings::default() };
        let error = AddressPolicy::new(&settings).expect_err(entry);
        assert!(error.to_string().contains("media.deny_hosts"), "{}", error.message);
    }
    let open = AddressPolicy::new(&MediaSettings::default()).unwrap();
    assert_eq!(open.trust("anything", 80), HostTrust::Unlisted);
}
