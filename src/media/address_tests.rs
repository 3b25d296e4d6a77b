use super::*;

fn policy(hosts: &[&str], networks: &[&str]) -> AddressPolicy {
    let allow_hosts = hosts.iter().map(|h| (*h).to_owned()).collect();
    let allow_networks = networks.iter().map(|n| n.parse().unwrap()).collect();
    AddressPolicy::new(&MediaSettings { allow_hosts, allow_networks, ..MediaSettings::default() }).unwrap()
}

#[test]
fn special_ranges_are_known_at_both_edges() {
    let cases = [
        ("0.0.0.0", "unspecified"),
        ("0.255.255.255", "unspecified"),
        ("10.0.0.0", "private"),
        ("10.255.255.255", "private"),
        ("100.64.0.0", "CGNAT"),
        ("100.127.255.255", "CGNAT"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.255", "loopback"),
        ("169.254.0.0", "link-local"),
        ("169.254.255.255", "link-local"),
        ("172.16.0.0", "private"),
        ("172.31.255.255", "private"),
        ("192.0.0.0", "reserved"),
        ("192.0.0.255", "reserved"),
        ("192.0.2.0", "documentation"),
        ("192.0.2.255", "documentation"),
        ("192.88.99.1", "6to4"),
        ("192.168.0.0", "private"),
        ("192.168.255.255", "private"),
        ("198.18.0.0", "benchmark"),
        ("198.19.255.255", "benchmark"),
        ("198.51.100.7", "documentation"),
        ("203.0.113.7", "documentation"),
        ("224.0.0.0", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.0", "reserved"),
        ("255.255.255.254", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("169.254.169.254", "metadata"),
        ("169.254.170.2", "metadata"),
        ("169.254.170.23", "metadata"),
        ("100.100.100.200", "metadata"),
        ("168.63.129.16", "metadata"),
        ("192.0.0.192", "metadata"),
        ("fd00:ec2::254", "metadata"),
        ("fd20:ce::254", "metadata"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::7f00:1", "IPv4-compatible"),
        ("::8.8.8.8", "IPv4-compatible"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:10.1.2.3", "private"),
        ("::ffff:169.254.169.254", "metadata"),
        ("::ffff:0:10.0.0.1", "not global unicast"),
        ("64:ff9b::10.0.0.1", "private"),
        ("64:ff9b::169.254.169.254", "metadata"),
        ("64:ff9b:1::8.8.8.8", "NAT64"),
        ("2002:7f00:1::", "loopback"),
        ("2002:c0a8:101::1", "private"),
        ("2002:a9fe:a9fe::", "metadata"),
        ("2001::1", "IETF"),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "IETF"),
        ("2001:1ff:ffff::", "IETF"),
        ("2001:db8::1", "documentation"),
        ("3fff::1", "documentation"),
        ("3fff:fff:ffff::1", "documentation"),
        ("100::1", "not global unicast"),
        ("5f00::1", "not global unicast"),
        ("4000::1", "not global unicast"),
        ("fc00::", "unique local"),
        ("fdff:ffff::1", "unique local"),
        ("fe80::1", "link-local"),
        ("febf:ffff::1", "link-local"),
        ("fec0::1", "site-local"),
        ("ff00::", "multicast"),
        ("ff02::1", "multicast"),
        ("ffff::1", "multicast"),
    ];
    for (ip, expected) in cases {
        let range = forbidden_range(ip.parse().unwrap()).unwrap_or_else(|| panic!("{ip} is open"));
        assert!(range.contains(expected), "{ip}: {range}, expected {expected}");
    }
}

#[test]
fn the_internet_is_open() {
    let cases = [
        "1.0.0.0",
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.0",
        "192.0.3.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "203.0.112.255",
        "203.0.114.0",
        "223.255.255.255",
        "168.63.129.17",
        "2000::1",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2606:4700:4700::1111",
        "2a00:1450:4001::200e",
        "3ffe::1",
        "3fff:1000::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
    ];
    for ip in cases {
        assert_eq!(forbidden_range(ip.parse().unwrap()), None, "{ip}");
    }
}

#[test]
fn networks_open_exceptions_and_nothing_else() {
    let policy = policy(&[], &["10.1.0.0/16", "fd12::/16"]);
    let check = |ip: &str| policy.check(ip.parse().unwrap(), HostTrust::Unlisted);
    assert_eq!(check("10.1.2.3"), Ok(()));
    assert_eq!(check("::ffff:10.1.2.3"), Ok(()));
    assert_eq!(check("fd12::1"), Ok(()));
    assert_eq!(check("10.2.0.1"), Err(Refusal::Special("private")));
    assert_eq!(
        check("64:ff9b::10.1.2.3"),
        Err(Refusal::Special("private")),
        "another way to the address is not the address"
    );
    assert_eq!(check("fd00:ec2::254"), Err(Refusal::Special("cloud metadata")));
    assert_eq!(check("8.8.8.8"), Ok(()));
}

#[test]
fn hosts_are_listed_by_name_suffix_and_port() {
    let policy =
        policy(&["cdn.lan", ".Media.Example", "minio:9000", "10.0.0.5:80", "::1", "[::2]:81", "bücher.lan"], &[]);
    let cases = [
        ("cdn.lan", 80, true),
        ("cdn.lan.", 443, true),
        ("a.cdn.lan", 80, false),
        ("evilcdn.lan", 80, false),
        ("a.media.example", 80, true),
        ("a.b.media.example", 80, true),
        ("media.example", 80, false),
        ("evilmedia.example", 80, false),
        ("minio", 9000, true),
        ("minio", 80, false),
        ("10.0.0.5", 80, true),
        ("10.0.0.5", 81, false),
        ("[::1]", 5, true),
        ("[::2]", 81, true),
        ("[::2]", 80, false),
        ("xn--bcher-kva.lan", 80, true),
    ];
    for (host, port, listed) in cases {
        assert_eq!(policy.trust(host, port) == HostTrust::Listed, listed, "{host}:{port}");
    }
}

#[test]
fn listed_hosts_reach_private_addresses_but_not_metadata() {
    let closed = policy(&[".internal"], &[]);
    assert_eq!(closed.check("10.0.0.1".parse().unwrap(), HostTrust::Listed), Ok(()));
    assert_eq!(
        closed.check("169.254.169.254".parse().unwrap(), HostTrust::Listed),
        Err(Refusal::Special("cloud metadata"))
    );
    assert_eq!(
        closed.check("64:ff9b::a9fe:a9fe".parse().unwrap(), HostTrust::Listed),
        Err(Refusal::Special("cloud metadata"))
    );
    assert_eq!(closed.check_name("metadata.google.internal.", 80), Err(Refusal::Special("cloud metadata")));
    assert_eq!(closed.check_name("files.internal", 80), Ok(()));
    let open = policy(&["metadata.google.internal"], &["169.254.169.254/32"]);
    assert_eq!(open.check_name("metadata.google.internal", 80), Ok(()));
    assert_eq!(open.check("169.254.169.254".parse().unwrap(), HostTrust::Listed), Ok(()));
}

#[test]
fn bad_entries_are_named() {
    for entry in ["a b", "host:port", "host:99999", "", "."] {
        let error =
            AddressPolicy::new(&MediaSettings { allow_hosts: vec![entry.to_owned()], ..MediaSettings::default() })
                .unwrap_err();
        assert!(error.to_string().contains(&format!("\"{entry}\"")), "{}", error.message);
    }
}
