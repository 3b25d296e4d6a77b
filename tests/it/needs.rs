//! Tests that lack something: they say so, and where it is required they fail.

use std::path::Path;
use std::process::{Command, Output};

use clipstream_test_support::needs::{Need, REQUIRE, requires};

#[test]
fn what_is_required_is_named() {
    let kafka = |required: &str, started: &str| requires(required, started, Need::Kafka);
    for (required, started, expected) in [
        ("", "kafka", false),
        ("all", "", true),
        ("kafka", "", true),
        ("s3, kafka", "", true),
        ("kafka-security,s3", "kafka", false),
        ("services", "", false),
        ("services", "s3", false),
        ("cc,services", "kafka,s3", true),
    ] {
        assert_eq!(kafka(required, started), Ok(expected), "{required:?} with {started:?}");
    }
    // A name that is misspelt would require nothing.
    assert_eq!(kafka("kafka,S3", ""), Err("S3".into()));
    assert_eq!(kafka("services", "kafka,minio"), Err("minio".into()));
}

/// One of the tests that need a server, by itself.
fn one_that_needs_s3(required: &str) -> Output {
    let test = "s3::messages_read_what_is_listed_and_what_was_stored_packed";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env_remove("CLIPSTREAM_TEST_S3_ENDPOINT").env(REQUIRE, required);
    command.env("CLIPSTREAM_TEST_SERVICES", "s3").output().unwrap()
}

#[test]
fn a_test_that_lacks_a_server_fails_where_that_is_required() {
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let tolerated = one_that_needs_s3("kafka");
    assert!(tolerated.status.success() && said(&tolerated).contains("*** NO S3: "), "{}", said(&tolerated));
    for required in ["all", "s3", "services"] {
        let failed = one_that_needs_s3(required);
        let asked = format!("{REQUIRE}={required} asks for s3");
        assert!(!failed.status.success() && said(&failed).contains(&asked), "{required}: {}", said(&failed));
    }
    let misspelt = one_that_needs_s3("s4");
    assert!(
        !misspelt.status.success() && said(&misspelt).contains("found \"s4\", expected all"),
        "{}",
        said(&misspelt)
    );
}

#[test]
fn every_name_is_documented_and_the_workflow_and_the_script_use_no_other() {
    let read = |file: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let contributing = read("CONTRIBUTING.md");
    let missing: Vec<_> =
        Need::ALL.map(Need::name).into_iter().filter(|name| !contributing.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "CONTRIBUTING.md does not name {missing:?}");
    for (file, before) in
        [(".github/workflows/ci.yml", "CLIPSTREAM_TEST_REQUIRE: "), (".ci/run", "CLIPSTREAM_TEST_REQUIRE:-")]
    {
        let text = read(file);
        let value = text.split(before).nth(1).and_then(|rest| rest.split(['\n', '}']).next());
        let value = value.unwrap_or_else(|| panic!("{file} requires nothing"));
        // Whatever could be started: a missing server must not pass.
        for need in [Need::Kafka, Need::KafkaSecurity, Need::S3, Need::Cc] {
            assert_eq!(requires(value, "", need), Ok(true), "{file}: {} in {value}", need.name());
        }
    }
    for name in ["kafka", "kafka-security", "s3"] {
        assert!(Need::named(name).is_some() && read("scripts/services").contains(&format!("\"{name}\"")), "{name}");
    }
}
