use serde_json::Value;

use super::{Home, Ran, clipstream, finish};

fn result<'a>(lines: &'a [Value], name: &str) -> &'a Value {
    lines.iter().find(|line| line["check"] == name).unwrap_or_else(|| panic!("no check {name}: {lines:?}"))
}

/// `check --json` with nothing about AWS in reach but `variables`.
fn check(home: &Home, set: &[&str], variables: &[(&str, &str)]) -> Ran {
    let store = home.store();
    let mut command = clipstream(&["check", "--json", "--set", &store, "--set", "telemetry.listen=127.0.0.1:0"]);
    for assignment in set {
        command.args(["--set", assignment]);
    }
    let nothing = home.text("nothing");
    std::fs::write(&nothing, "").unwrap();
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("AWS_CONFIG_FILE", &nothing).env("AWS_SHARED_CREDENTIALS_FILE", &nothing);
    command.envs(variables.iter().copied());
    finish(command, b"")
}

#[test]
fn all_is_well_with_the_defaults() {
    let home = Home::new();
    home.catalog(2);
    let ran = check(&home, &[], &[]).ended(0);
    let lines = ran.lines();
    let names: Vec<&str> = lines.iter().map(|line| line["check"].as_str().unwrap()).collect();
    let expected = [
        "configuration",
        "media",
        "onnxruntime",
        "jpeg decoder",
        "avif decoder",
        "model demo-emoji/v1",
        "store",
        "collection catalog__demo-emoji__v1",
        "telemetry",
    ];
    assert_eq!(names, expected);
    assert!(lines.iter().all(|line| line["ok"] == true && line["detail"].is_string()), "{lines:?}");
    // Nothing is to be improved, unless this was built without nasm.
    for line in &lines {
        let is_slow = line["detail"].as_str().unwrap().contains("without SIMD");
        assert_eq!(line["next_step"].is_string(), is_slow, "{line}");
    }
    let model = result(&lines, "model demo-emoji/v1")["detail"].as_str().unwrap();
    assert_eq!(model, "Immich layout, dimension 256, runs fp32 on cpu");
    let collection = &result(&lines, "collection catalog__demo-emoji__v1")["detail"];
    assert!(collection.as_str().unwrap().starts_with("does not exist yet"), "{collection}");

    home.run(&["index", &home.text("catalog.jsonl")]).ended(0);
    let lines = check(&home, &[], &[]).ended(0).lines();
    assert_eq!(result(&lines, "collection catalog__demo-emoji__v1")["detail"], "2 points of this model");
}

#[test]
fn everything_that_is_wrong_is_shown_with_the_next_step() {
    let home = Home::new();
    let set = [
        "kafka.brokers=127.0.0.1:1",
        "kafka.topics=assets",
        "store.kind=qdrant",
        "store.url=http://127.0.0.1:1",
        "clip.models=v/c=/nowhere",
        "media.s3_endpoint=http://127.0.0.1:1",
    ];
    let library = [("CLIPSTREAM_ORT_DYLIB", "/nowhere/lib.so")];
    let ran = check(&home, &set, &library).ended(3);
    let lines = ran.lines();
    for (name, reason, next_step) in [
        ("kafka", "no Kafka broker of [127.0.0.1:1] answered", "kafka.brokers"),
        ("media", "no S3 credentials", "AWS_ACCESS_KEY_ID"),
        ("onnxruntime", "CLIPSTREAM_ORT_DYLIB names /nowhere/lib.so", "scripts/onnxruntime"),
        ("model v/c", "/nowhere", ""),
        ("store", "cannot reach Qdrant at http://127.0.0.1:1", "check store.url"),
        ("collection catalog__v__c", "not checked", "store"),
    ] {
        let line = result(&lines, name);
        assert_eq!(line["ok"], false, "{line}");
        assert!(line["reason"].as_str().unwrap().contains(reason), "{line}");
        let said = line["next_step"].as_str().unwrap();
        assert!(!said.is_empty() && said.contains(next_step), "{line}");
    }
    assert_eq!(result(&lines, "configuration")["ok"], true);
    assert_eq!(ran.stderr, "error: 6 checks failed\n");
}

#[test]
fn labels_are_tried_and_bad_ones_named() {
    let home = Home::new();
    let set = ["labels.content.labels=shoe, hat", "labels.mood.labels=calm", "labels.mood.threshold=0.5"];
    let lines = check(&home, &set, &[]).ended(0).lines();
    assert_eq!(result(&lines, "labels of demo-emoji/v1")["detail"], "3 labels in 2 sets");
    for (set, part) in [
        ("labels.content.labels=a,b,a", "the label \"a\" is there twice"),
        ("labels.content.templates=a photo", "has no {}, where the label goes"),
        ("labels.content.threshold=20", "a number from 0 to 1"),
        ("labels.content.models=ViT-B-32/openai", "ViT-B-32/openai is not among them"),
    ] {
        let ran = check(&home, &["labels.content.labels=shoe", set], &[]).ended(2);
        assert_eq!(result(&ran.lines(), "configuration")["ok"], false);
        ran.says(part);
    }
}

#[test]
fn s3_credentials_are_looked_for_and_never_shown() {
    let home = Home::new();
    let keys = [("AWS_ACCESS_KEY_ID", "AKIAHUNTER2"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];
    let endpoint = "media.s3_endpoint=http://joe:hunter2@127.0.0.1:1";
    let ran = check(&home, &["media.s3_endpoint=http://127.0.0.1:1"], &keys).ended(0);
    let lines = ran.lines();
    let media = result(&lines, "media")["detail"].as_str().unwrap().to_owned();
    assert!(media.contains("S3 at http://127.0.0.1:1") && media.contains("credentials found"), "{media}");
    assert!(media.contains("warning: media.s3_buckets is not set"), "{media}");
    let listed =
        check(&home, &["media.s3_endpoint=http://127.0.0.1:1", "media.s3_buckets=media,shared/public/*"], &keys);
    let lines = listed.ended(0).lines();
    assert!(!result(&lines, "media")["detail"].as_str().unwrap().contains("warning"), "{lines:?}");
    let anonymous = check(&home, &[endpoint, "media.s3_anonymous=true"], &[]);
    for said in [&ran.stdout, &ran.stderr, &anonymous.stdout, &anonymous.stderr] {
        assert!(!said.to_lowercase().contains("hunter2"), "{said}");
    }
}
