//! The policy on media URLs. No input may lead to an address that is not public, a redirect may not leave http(s) or
//! step down from https, and nothing secret in a URL may be in what is printed of it.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};

use clipstream::budget::Budget;
use clipstream::config::MediaSettings;
use clipstream::domain::MediaUrl;
use clipstream::media::fuzzing::UrlPolicy;
use clipstream::media::{MediaClient, MediaError};
use clipstream::redact;
use clipstream::telemetry::Metrics;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;
use url::{Host, Url};

/// Of the same length.
const SECRETS: [&str; 2] = ["hunter2-hunter2-hunter2", "correct-horse-battery-s"];

struct World {
    policy: UrlPolicy,
    client: MediaClient,
    runtime: Runtime,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let settings = MediaSettings { media_bytes_max: 1 << 20, ..MediaSettings::default() };
        let client = MediaClient::new(&settings, Budget::new(1 << 24), Arc::new(Metrics::default()));
        let client = runtime.block_on(client).expect("a client");
        World { policy: UrlPolicy::new(&settings).expect("a policy"), client, runtime }
    })
}

// First line: a URL. The rest: the `Location` header of its answer.
fuzz_target!(|data: &[u8]| {
    let cut = data.iter().position(|&b| b == b'\n').unwrap_or(data.len());
    let Ok(text) = std::str::from_utf8(&data[..cut]) else { return };
    let location = data.get(cut + 1..).unwrap_or_default();
    let world = world();
    hides_secrets(text);
    let scheme = text.split_once(':').map_or(String::new(), |(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_str() {
        "http" | "https" => {
            let Some(from) = judged(world.policy.judge(text)) else { return };
            assert_eq!(from.scheme(), scheme);
            match world.policy.redirected(&from, location) {
                Err(error) => printable(&error),
                Ok(next) => {
                    assert!(next.scheme() == "https" || (from.scheme(), next.scheme()) == ("http", "http"), "{next}");
                    judged(world.policy.judge(next.as_str()));
                }
            }
        }
        // It would look for credentials.
        "s3" => {}
        // None of these asks the network; `file:` is closed by default.
        _ => match world.runtime.block_on(world.client.fetch(&MediaUrl::new(text))) {
            Ok(media) => {
                assert_eq!(scheme, "data", "only data: needs no server");
                assert!(media.bytes.len() <= text.len());
            }
            Err(error) => printable(&error),
        },
    }
});

fn judged(result: Result<Url, MediaError>) -> Option<Url> {
    match result {
        Err(error) => {
            printable(&error);
            None
        }
        Ok(at) => {
            match at.host().expect("only with a host") {
                Host::Ipv4(ip) => assert!(is_public(ip), "{at}"),
                Host::Ipv6(ip) => assert!(leads_to_public(ip), "{at}"),
                Host::Domain(name) => {
                    // Two dots at the end make it a name that no resolver takes.
                    let name = name.strip_suffix('.').unwrap_or(name);
                    assert!(name.parse::<IpAddr>().is_err(), "an address that is taken for a name: {at}");
                    assert!(!["metadata", "metadata.goog", "metadata.google.internal"].contains(&name), "{at}");
                }
            }
            Some(at)
        }
    }
}

fn printable(error: &MediaError) {
    assert!(error.message.chars().count() <= 1000, "{}", error.message);
    assert!(!error.message.chars().any(char::is_control), "{:?}", error.message);
}

/// With another secret in its userinfo or signature, the rest being the input, a URL is shown as the very same text.
fn hides_secrets(text: &str) {
    let query = text.replace(['#', '&'], "");
    let shown = |secret: &str| {
        [
            format!("https://user:{secret}@{text}"),
            format!("http://{secret}@{text}"),
            format!("https://host/a?X-Amz-Signature={secret}&{text}"),
            format!("https://host/a?{query}&token={secret}"),
            format!("data:image/png;base64,{secret}{text}"),
        ]
        .map(|url| redact::url(&url))
    };
    let [one, other] = SECRETS;
    assert_eq!(shown(one), shown(other));
}

/// Written down a second time, from the standard library's names for ranges and by octets.
fn is_public(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.is_documentation()
        || ip.is_unspecified();
    let other = a == 0 || (a == 100 && (64..128).contains(&b)) || (a, b, c) == (192, 0, 0) || a >= 224;
    let benchmark = a == 198 && (b == 18 || b == 19);
    let azure = ip == Ipv4Addr::new(168, 63, 129, 16);
    !(special || other || benchmark || azure)
}

fn leads_to_public(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    let o = ip.octets();
    let v4 = |at: usize| Ipv4Addr::new(o[at], o[at + 1], o[at + 2], o[at + 3]);
    if let Some(mapped) = ip.to_ipv4_mapped() {
        return is_public(mapped);
    }
    match s {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => is_public(v4(12)),
        [0x2002, ..] => is_public(v4(2)),
        _ => s[0] & 0xe000 == 0x2000 && !(s[0] == 0x2001 && (s[1] < 0x200 || s[1] == 0xdb8)) && s[0] < 0x3fff,
    }
}
