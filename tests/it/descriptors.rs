//! A worker whose file descriptors are used up: an outage of its own, never the fault of a picture's host.

use std::net::Ipv4Addr;
use std::process::Command;

use axum::Router;
use axum::routing::get;
use clipstream_test_support::needs::{self, Need};

use crate::worker_failures::Topic;
use crate::worker_process::{Endpoints, Process};

/// A picture on every address of the loopback network, so that each message needs a connection of its own.
async fn picture_server() -> u16 {
    let picture = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures/rgb.png"));
    let router = Router::new().route("/{name}", get(async || picture.as_slice()));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

/// The lowest number that no descriptor of the process has.
fn first_free(process: &Process) -> u64 {
    let open = std::fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap();
    let open: Vec<u64> = open.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    (0..).find(|number| !open.contains(number)).unwrap()
}

/// Descriptors with this number or a higher one cannot be opened any more (`prlimit` of util-linux; RLIMIT_NOFILE in getrlimit(2)).
fn limit(process: &Process, descriptors: &str) {
    let process = format!("--pid={}", process.id());
    let changed = Command::new("prlimit").args([process, format!("--nofile={descriptors}:")]).status().unwrap();
    assert!(changed.success());
}

/// The soft limit, as `/proc/PID/limits` shows it.
fn limit_of(process: &Process) -> String {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_that_are_used_up_make_no_good_picture_a_dead_letter() {
    if Command::new("prlimit").arg("--version").output().is_err() {
        return needs::go_without(Need::Prlimit, "used-up descriptors are left out");
    }
    let port = picture_server().await;
    let message = |n: u8| format!(r#"{{"image": "http://127.0.0.{n}:{port}/{n}.png"}}"#);
    let topic = Topic::with("descriptors", &[&message(1)]).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("media.allow_networks", "127.0.0.0/8"),
        ("telemetry.listen", "127.0.0.1:0"),
        ("pipeline.backoff_base_ms", "20"),
        ("pipeline.backoff_cap_ms", "200"),
        ("media.host_outage_hold_ms", "0"),
        // The embedded store lacks descriptors, too: nothing is asked of it before the fetch.
        ("pipeline.skip_unchanged", "false"),
    ];
    let mut worker = Process::spawn(&mut topic.run(&folder, &settings));
    worker.wait_for("the first message", async |_| (topic.committed() == 1).then_some(())).await;
    let endpoints = Endpoints::of(&mut worker).await;
    assert_eq!(endpoints.get("/readyz").await.0, 200);

    let before = limit_of(&worker);
    limit(&worker, &first_free(&worker).to_string());
    let messages: Vec<String> = (2..42).map(message).collect();
    topic.produce(&messages.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // What the port keeps back for itself another part of the process may take first: then it answers a little later.
    let unready = async |_: &Process| endpoints.try_get("/readyz").await.filter(|(status, _)| *status == 503);
    let (_, why) = worker.wait_for("unready", unready).await;
    assert!(why.contains(r#""component":"fetch""#) && why.contains("no file descriptors left"), "{why}");
    // Far more failures than attempts_max allows to all that are in flight.
    let failed = ["reason=\"file_descriptors_exhausted\"", "class=\"outage\""];
    let often = async |_: &Process| {
        endpoints.try_metric("clipstream_failures_total", &failed).await.filter(|failures| *failures > 400.0)
    };
    worker.wait_for("many failures", often).await;
    let alive = async |_: &Process| endpoints.try_get("/livez").await;
    assert_eq!(worker.wait_for("/livez", alive).await.0, 200);

    limit(&worker, &before);
    worker.wait_for("all messages", async |_| (topic.committed() == 41).then_some(())).await;
    worker.wait_for("readiness", async |_| (endpoints.get("/readyz").await.0 == 200).then_some(())).await;
    worker.terminate();
    assert_eq!(worker.end().await.0, Some(0));
    assert_eq!(topic.letters().len(), 0);
    topic.end().await;
}
