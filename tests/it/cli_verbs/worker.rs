//! `run` from the outside: what it serves, what it logs, how it ends.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clipstream::source::Producer;
use serde_json::{Value, json};

use super::{Broker, Home, clipstream, run};

const PATIENCE: Duration = Duration::from_secs(60);

/// Killed when a test ends early.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail on a process that has ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_it_needs_is_named() {
    run(&["run"]).ended(2).says("kafka.brokers is not set; the worker needs it");
    run(&["run", "--set", "kafka.brokers=localhost:9092"]).ended(2).says("kafka.topics is not set");
}

#[tokio::test]
async fn serves_logs_and_stops_as_documented() {
    let (broker, home) = (Broker::new(), Home::new());
    let (topic, dead) = (broker.topic("run").await, broker.topic("run.dlq").await);
    let producer = Producer::new(&broker.settings()).unwrap();
    let image = "data:image/webp;base64,bm8gcGljdHVyZQ==";
    for n in 0..5 {
        let value = json!({ "id": format!("a{n}"), "text": format!("caption {n}") }).to_string();
        drop(producer.send(&topic, None, Some(value.as_bytes()), &[]).await.unwrap());
    }
    for value in [r#"{"id": "x", "txt": "hunter2"}"#, &json!({ "id": "y", "image": image }).to_string()] {
        drop(producer.send(&topic, None, Some(value.as_bytes()), &[]).await.unwrap());
    }
    producer.flush(PATIENCE).await.unwrap();

    let mut command = clipstream(&["run"]);
    for (key, value) in [
        ("kafka.brokers", broker.address.as_str()),
        ("kafka.topics", &topic),
        ("kafka.group_id", &topic),
        ("dead_letter.topic", &dead),
        ("telemetry.listen", "127.0.0.1:0"),
        ("telemetry.log_format", "json"),
    ] {
        command.args(["--set", &format!("{key}={value}")]);
    }
    command.args(["--set", &home.store()]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running(command.spawn().expect("the binary starts"));
    let mut log = BufReader::new(running.0.stderr.take().unwrap()).lines().map(|line| line.unwrap());
    let mut seen: Vec<Value> = Vec::new();
    let address = loop {
        let line: Value = serde_json::from_str(&log.next().expect("it says where it serves")).unwrap();
        let address = line["address"].as_str().map(str::to_owned);
        seen.push(line);
        if let Some(address) = address {
            break address;
        }
    };
    // Read on, so that a full pipe never stops the worker.
    let rest = std::thread::spawn(move || log.collect::<Vec<String>>());

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: &str| {
        let answer = client.get(format!("http://{address}{path}")).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let started = Instant::now();
    let metrics = loop {
        let (_, text) = get("/metrics").await;
        let is_done = |line: &str| text.lines().any(|l| l == line);
        // Depth and commits are recorded a moment after the last message is settled.
        if is_done(r#"clipstream_messages_total{outcome="indexed"} 5"#)
            && is_done(r#"clipstream_messages_total{outcome="dead_lettered"} 2"#)
            && is_done(r#"clipstream_queue_depth{queue="in_flight"} 0"#)
            && !is_done("clipstream_commits_total 0")
        {
            break text;
        }
        assert!(started.elapsed() < PATIENCE, "{text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(get("/livez").await, (200, "live\n".to_owned()));
    assert_eq!(get("/readyz").await, (200, "ready\nmodel demo-emoji/v1: fp32 on cpu\n".to_owned()));
    for sample in [
        r#"clipstream_failures_total{stage="decode",class="permanent",reason="field_unknown"} 1"#,
        r#"clipstream_failures_total{stage="embed",class="permanent",reason="image_unsupported"} 1"#,
        r#"clipstream_stage_duration_seconds_count{stage="upsert"} 5"#,
        r#"clipstream_batch_items_sum{kind="upsert",target="catalog__demo-emoji__v1"} 5.0"#,
        r#"clipstream_media_bytes_total 10"#,
    ] {
        assert!(metrics.lines().any(|line| line == sample), "{sample} is not in:\n{metrics}");
    }

    let pid = running.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    let mut stdout = String::new();
    std::io::Read::read_to_string(&mut running.0.stdout.take().unwrap(), &mut stdout).unwrap();
    assert_eq!(stdout, "", "a worker has no results");
    seen.extend(rest.join().unwrap().iter().map(|line| serde_json::from_str(line).expect("every line is JSON")));
    let stopped = seen.iter().find(|line| line["message"] == "stopped").expect("it says how it ended");
    assert_eq!(
        (&stopped["settled"], &stopped["dead_lettered"], &stopped["abandoned"]),
        (&7.into(), &2.into(), &0.into())
    );
    let letters: Vec<&Value> =
        seen.iter().filter(|line| line["level"] == "WARN" && line["stage"].is_string()).collect();
    let mut reasons: Vec<&str> = letters.iter().map(|line| line["reason"].as_str().unwrap()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["field_unknown", "image_unsupported"]);
    assert!(letters.iter().all(|line| line["position"].as_str().unwrap().starts_with(&topic)), "{letters:?}");
    let all = seen.iter().map(Value::to_string).collect::<String>();
    assert!(!all.contains("hunter2") && !all.contains("bm8gcGljdHVyZQ"), "no values of messages: {all}");
}
