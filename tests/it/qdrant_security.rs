//! TLS and API keys towards Qdrant.

use std::path::{Path, PathBuf};

use clipstream::config::{StoreKind, StoreSettings};
use clipstream::domain::{Class, StoreReason};
use clipstream::redact::Secret;
use clipstream::store::{QdrantStore, Store, StoreError};
use clipstream_test_support::qdrant::{Options, QdrantEndpoint};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

fn start(dir: &Path) -> QdrantEndpoint {
    let read = |name| std::fs::read(fixture(name)).expect("a fixture");
    Options::new(dir).api_key("right").tls(&read("server.pem"), &read("server.key")).start().expect("it starts")
}

fn settings(endpoint: &QdrantEndpoint) -> StoreSettings {
    StoreSettings {
        kind: StoreKind::Qdrant,
        url: endpoint.url(),
        api_key: Some(Secret::new("right")),
        ca_file: Some(fixture("ca.pem").display().to_string()),
        ..StoreSettings::default()
    }
}

async fn check(settings: &StoreSettings) -> Result<String, StoreError> {
    QdrantStore::connect(settings)?.check().await
}

#[tokio::test]
async fn an_authority_of_ones_own_and_a_key_let_us_in() {
    let dir = tempfile::tempdir().expect("a folder");
    let endpoint = start(dir.path());
    assert!(endpoint.url().starts_with("https://"));
    let store = QdrantStore::connect(&settings(&endpoint)).expect("the settings are right");
    store.check().await.expect("it is trusted");
    // Behind the key, unlike the health check.
    let error = store.fingerprint("absent").await.expect_err("there is nothing yet");
    assert_eq!(error.reason, StoreReason::CollectionMissing, "{}", error.message);
}

#[tokio::test]
async fn refusals_name_the_setting_and_not_the_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let endpoint = start(dir.path());
    let right = settings(&endpoint);
    let file = |name: &str| Some(fixture(name).display().to_string());
    let cases = [
        (StoreSettings { ca_file: file("other-ca.pem"), ..right.clone() }, StoreReason::Unreachable, "store.ca_file"),
        (StoreSettings { ca_file: None, ..right.clone() }, StoreReason::Unreachable, "store.ca_file"),
        (
            StoreSettings { ca_file: file("server.key"), ..right.clone() },
            StoreReason::SettingsInvalid,
            "no certificate",
        ),
        (
            StoreSettings { ca_file: file("absent.pem"), ..right.clone() },
            StoreReason::SettingsInvalid,
            "cannot be read",
        ),
        (
            StoreSettings { api_key: Some(Secret::new("hunter2\n")), ..right.clone() },
            StoreReason::SettingsInvalid,
            "store.api_key",
        ),
    ];
    for (settings, reason, part) in cases {
        let error = check(&settings).await.expect_err("it is refused");
        assert_eq!((error.reason, error.class), (reason, Class::Outage), "{}", error.message);
        assert!(error.to_string().contains(part) && !error.to_string().contains("hunter2"), "{}", error.message);
    }
    let wrong = StoreSettings { api_key: Some(Secret::new("hunter2")), ..right };
    let store = QdrantStore::connect(&wrong).expect("the settings are well formed");
    let error = store.fingerprint("absent").await.expect_err("the key is wrong");
    assert_eq!((error.reason, error.class), (StoreReason::Unauthorized, Class::Outage), "{}", error.message);
    assert!(error.to_string().contains("store.api_key") && !error.to_string().contains("hunter2"), "{}", error.message);
}
