//! TLS and SASL with Apache Kafka: the listeners that `scripts/services` opens beside the plain one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use clipstream::config::{DeadLetterSettings, KafkaSettings, OauthSettings, PipelineSettings};
use clipstream::dead_letter::{DeadLetter, DeadLetters, KafkaDeadLetters};
use clipstream::domain::{DecodeReason, Fault, Message, Position, Stage};
use clipstream::redact::Secret;
use clipstream::source::{Demand, KafkaSource, Producer, Source, SourceEvent, ensure_topics};
use clipstream::telemetry::{Component, Health, Metrics};
use clipstream_test_support::needs;

const PATIENCE: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(5);

/// What `scripts/services env` says of the secured listeners.
struct Listeners {
    ssl: String,
    mtls: String,
    sasl: String,
    files: PathBuf,
    user: String,
    password: String,
}

impl Listeners {
    fn from_env(test: &str) -> Option<Self> {
        let needs::KafkaSecurity { ssl, mtls, sasl, files, user, password } =
            needs::kafka_security(&format!("{test} is left out"))?;
        Some(Self { ssl, mtls, sasl, files: files.into(), user, password })
    }

    fn file(&self, name: &str) -> String {
        self.files.join(name).display().to_string()
    }

    fn over(&self, protocol: &str, broker: &str) -> KafkaSettings {
        let mut settings = KafkaSettings {
            brokers: vec![broker.to_owned()],
            security_protocol: protocol.into(),
            ssl_ca_file: Some(self.file("ca.pem")),
            ..KafkaSettings::default()
        };
        settings.properties.insert("message.timeout.ms".into(), "10000".into());
        settings
    }

    fn ssl(&self) -> KafkaSettings {
        self.over("ssl", &self.ssl)
    }

    fn mtls(&self) -> KafkaSettings {
        KafkaSettings {
            ssl_certificate_file: Some(self.file("client.pem")),
            ssl_key_file: Some(self.file("client.key")),
            ssl_key_password: Some(Secret::new(&self.password)),
            ..self.over("ssl", &self.mtls)
        }
    }

    fn sasl(&self, mechanism: &str) -> KafkaSettings {
        KafkaSettings {
            sasl_mechanism: Some(mechanism.into()),
            sasl_username: Some(self.user.clone()),
            sasl_password: Some(Secret::new(&self.password)),
            ..self.over("sasl_ssl", &self.sasl)
        }
    }

    fn oauth(&self, oauth: OauthSettings) -> KafkaSettings {
        KafkaSettings { sasl_mechanism: Some("OAUTHBEARER".into()), oauth, ..self.over("sasl_ssl", &self.sasl) }
    }

    fn token_file(&self, name: &str) -> KafkaSettings {
        self.oauth(OauthSettings { token_file: Some(self.file(name)), ..OauthSettings::default() })
    }
}

/// An authorization server that knows one client.
struct TokenEndpoint {
    url: String,
    /// Whether it hands out the token that the broker refuses.
    expired: Arc<AtomicBool>,
}

impl TokenEndpoint {
    async fn start(listeners: &Listeners) -> Self {
        type Shared = (Arc<AtomicBool>, String, String);
        async fn token(State((expired, good, bad)): State<Shared>, body: String) -> Result<String, StatusCode> {
            if !body.contains("grant_type=client_credentials") {
                return Err(StatusCode::BAD_REQUEST);
            }
            let token = if expired.load(Ordering::Relaxed) { bad } else { good };
            Ok(format!(r#"{{"access_token":"{token}","expires_in":5}}"#))
        }
        let read = |name: &str| std::fs::read_to_string(listeners.files.join(name)).expect("a token");
        let expired = Arc::new(AtomicBool::new(false));
        // Signed by the same key, for another audience: whatever the client thinks of it, the broker refuses it.
        let shared =
            (expired.clone(), read("token.jwt").trim().to_owned(), read("token-foreign.jwt").trim().to_owned());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/token", listener.local_addr().expect("an address"));
        let app = Router::new().route("/token", post(token)).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, expired }
    }

    fn settings(&self) -> OauthSettings {
        OauthSettings {
            token_url: Some(self.url.clone()),
            client_id: Some("clipstream".into()),
            client_secret: Some(Secret::new("hunter2-secret")),
            ..OauthSettings::default()
        }
    }
}

fn named(mut settings: KafkaSettings, test: &str) -> KafkaSettings {
    let seed = format!("{test}/{}/{:?}", std::process::id(), Instant::now());
    let name = format!("security-{test}-{}", uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, seed.as_bytes()));
    settings.group_id = name.clone();
    settings.topics = vec![name];
    settings
}

async fn send(settings: &KafkaSettings, value: &str) -> Result<(i32, i64), String> {
    let producer = Producer::new(settings).map_err(|e| e.to_string())?;
    let sent = producer.send(&settings.topics[0], None, Some(value.as_bytes()), &[]).await;
    sent.map_err(|e| e.to_string())?.await.map_err(|e| e.to_string())
}

async fn next_value(source: &mut KafkaSource) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let event = tokio::time::timeout(left, source.next(Demand::Messages)).await.expect("a message in time");
        if let SourceEvent::Message(message) = event.expect("the source goes on") {
            return String::from_utf8(message.value.expect("a value").to_vec()).expect("text");
        }
    }
}

/// Every kind of client that a worker has: admin, producer, dead letters, check, consumer.
async fn all_clients_work(settings: KafkaSettings, test: &str) {
    let settings = named(settings, test);
    let dead = format!("{}.dlq", settings.topics[0]);
    ensure_topics(&settings, &[&settings.topics[0], &dead], 1).await.expect("the topics are created");
    send(&settings, "hello").await.expect("it is delivered");
    let letters = DeadLetterSettings { topic: dead.clone(), ..DeadLetterSettings::default() };
    let letters = KafkaDeadLetters::new(&settings, &letters).expect("a producer");
    let message = Message {
        position: Position { topic: settings.topics[0].as_str().into(), partition: 0, offset: 0 },
        epoch: 1,
        key: None,
        value: Some("hello".into()),
        headers: Vec::new(),
        timestamp_ms: None,
        topic_id: None,
        leader_epoch: None,
        retry: None,
        suspicion: None,
    };
    let failure = Fault::new(DecodeReason::MessageNotJson, "no JSON").at(Stage::Decode);
    letters
        .send(&DeadLetter { message, failure, attempts: 1, requests: Vec::new() })
        .await
        .expect("the letter is delivered");
    let found =
        KafkaSource::check(&settings, &[], DRAIN, vec![dead, "absent".into()]).await.expect("the broker lets us in");
    assert_eq!((found.topics.len(), found.absent.as_slice()), (1, &["absent".to_owned()][..]));
    assert!(found.creates_topics.is_some(), "the admin client has credentials too");
    let (pipeline, metrics) = (PipelineSettings::default(), Arc::new(Metrics::default()));
    let source = KafkaSource::connect(&settings, Vec::new(), &pipeline, Health::new(), metrics).await;
    let mut source = Box::new(source.expect("the broker lets us in"));
    assert_eq!(next_value(&mut source).await, "hello");
    source.close().await.expect("leaves");
}

/// The error of every client that says why, within a bound.
async fn refused(settings: KafkaSettings, test: &str) -> [String; 2] {
    let mut settings = named(settings, test);
    settings.topics = vec!["any".into()];
    let start = Instant::now();
    let error = KafkaSource::check(&settings, &[], DRAIN, Vec::new()).await.expect_err("it is refused").to_string();
    let sent = send(&settings, "hello").await.expect_err("it is refused");
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
    [error, sent]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_and_mechanism_lets_every_client_in() {
    let Some(kafka) = Listeners::from_env("every protocol and mechanism") else { return };
    let endpoint = TokenEndpoint::start(&kafka).await;
    let all = [
        ("ssl", kafka.ssl()),
        ("mtls", kafka.mtls()),
        ("plain", kafka.sasl("PLAIN")),
        ("scram-256", kafka.sasl("SCRAM-SHA-256")),
        ("scram-512", kafka.sasl("SCRAM-SHA-512")),
        ("token-file", kafka.token_file("token.jwt")),
        ("token-url", kafka.oauth(endpoint.settings())),
    ];
    let all = all.map(|(name, settings)| all_clients_work(settings, name));
    futures::future::join_all(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_come_soon_and_name_the_setting_and_no_secret() {
    let Some(kafka) = Listeners::from_env("refused credentials") else { return };
    let wrong =
        |mechanism: &str| KafkaSettings { sasl_password: Some(Secret::new("hunter2-secret")), ..kafka.sasl(mechanism) };
    let unknown_ca = KafkaSettings { ssl_ca_file: Some(kafka.file("other-ca.pem")), ..kafka.ssl() };
    let no_certificate = KafkaSettings { brokers: vec![kafka.mtls.clone()], ..kafka.ssl() };
    let endpoint = TokenEndpoint::start(&kafka).await;
    endpoint.expired.store(true, Ordering::Relaxed);
    let nowhere = OauthSettings { token_url: Some("http://127.0.0.1:1/token".into()), ..endpoint.settings() };
    let cases = [
        ("plain", wrong("PLAIN"), "kafka.sasl_password"),
        ("scram-256", wrong("SCRAM-SHA-256"), "kafka.sasl_password"),
        ("scram-512", wrong("SCRAM-SHA-512"), "kafka.sasl_password"),
        ("ca", unknown_ca, "kafka.ssl_ca_file"),
        ("certificate", no_certificate, "kafka.ssl_certificate_file"),
        ("expired", kafka.token_file("token-expired.jwt"), "renew the file"),
        ("foreign", kafka.oauth(endpoint.settings()), "[kafka.oauth]"),
        ("nowhere", kafka.oauth(nowhere), "kafka.oauth.token_url"),
    ];
    let all = cases.map(|(name, settings, part)| async move {
        for error in refused(settings, name).await {
            assert!(error.contains(part), "{name}: {error}");
            for secret in ["hunter2", &kafka_password(), "eyJ"] {
                assert!(!error.contains(secret), "{name}: {error}");
            }
        }
    });
    futures::future::join_all(all).await;
}

fn kafka_password() -> String {
    std::env::var("CLIPSTREAM_TEST_KAFKA_PASSWORD").expect("the listeners are there")
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_refused_during_a_run_are_an_outage_and_nothing_is_lost() {
    let Some(kafka) = Listeners::from_env("credentials that are refused during a run") else { return };
    let endpoint = TokenEndpoint::start(&kafka).await;
    let settings = named(kafka.oauth(endpoint.settings()), "outage");
    let sure = KafkaSettings { topics: settings.topics.clone(), ..kafka.sasl("PLAIN") };
    ensure_topics(&sure, &[&settings.topics[0]], 1).await.expect("the topic is created");
    send(&sure, "before").await.expect("it is delivered");
    let health = Health::new();
    let (pipeline, metrics) = (PipelineSettings::default(), Arc::new(Metrics::default()));
    let source = KafkaSource::connect(&settings, Vec::new(), &pipeline, health.clone(), metrics).await;
    let mut source = Box::new(source.expect("the broker lets us in"));
    assert_eq!(next_value(&mut source).await, "before");

    // Tokens last for 5 s, and the broker asks for them again after 3 s.
    endpoint.expired.store(true, Ordering::Relaxed);
    let deadline = Instant::now() + PATIENCE;
    while !health.reasons().iter().any(|(component, _)| *component == Component::Kafka) {
        assert!(Instant::now() < deadline, "the worker never became unready");
        poll(&mut source).await;
    }
    let (_, reason) = health.reasons()[0].clone();
    assert!(!reason.contains("eyJ") && !reason.contains("hunter2"), "{reason}");
    send(&sure, "meanwhile").await.expect("it is delivered");

    endpoint.expired.store(false, Ordering::Relaxed);
    assert_eq!(next_value(&mut source).await, "meanwhile");
    while !health.reasons().is_empty() {
        assert!(Instant::now() < deadline + PATIENCE, "the worker stays unready: {:?}", health.reasons());
        poll(&mut source).await;
    }
    source.close().await.expect("leaves");
}

/// One event, if one comes soon. A broken connection is never an error of the source.
async fn poll(source: &mut KafkaSource) {
    let event = tokio::time::timeout(Duration::from_millis(20), source.next(Demand::Messages)).await;
    if let Ok(event) = event {
        event.expect("the source goes on");
    }
}
