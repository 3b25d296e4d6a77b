//! Nothing that was planted as a secret comes out of a worker: not through its log, whatever the format, not through
//! metrics and health, not through reasons of dead letters, not into points; nor out of the other verbs.
//!
//! Left out of the search, by contract: key, value and original headers of dead letters, which are the message as it was.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use clipstream::config::{StoreKind, StoreSettings};
use clipstream::redact::Secret;
use clipstream::source::Producer;
use clipstream::store;
use clipstream_test_support::qdrant::{Options, QdrantEndpoint};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rdkafka::message::{Headers, Message as _};
use serde_json::json;

use crate::kafka::Kafka;
use crate::worker_process::clipstream;

const PATIENCE: Duration = Duration::from_secs(120);

const API_KEY: &str = "planted-qdrant-key-5b1f";
const WRONG_API_KEY: &str = "planted-wrong-key-77aa";
const SASL_PASSWORD: &str = "planted/sasl+password=9c";
const HUB_TOKEN: &str = "hf_plantedHubToken4242";
const S3_SECRET: &str = "plantedS3SecretKey/abc+def";
const S3_SESSION: &str = "plantedS3SessionToken==";
/// Of `joe` in URLs, where it is percent-encoded.
const PASSWORD: &str = "planted:pass/word?1";
const IN_LOCATION: &str = "plantedInLocation77";

/// In query strings, under names that grant access: those that everybody knows, those of many a site (imgix, Discord, Facebook,
/// nginx's secure links), one that is no more than a size elsewhere, and one that nobody has heard of.
const PARAMETERS: [(&str, &str); 20] = [
    ("X-Amz-Signature", "plantedAmzSignature00ff"),
    ("X-Amz-Security-Token", "plantedAmzToken//11=="),
    ("X-Amz-Credential", "plantedAmzCredential22"),
    ("X-Goog-Signature", "plantedGoogSignature33"),
    ("sig", "plantedSasSignature%2B44="),
    ("access_token", "plantedAccessToken55"),
    ("X%2DAmz%2DSignature", "plantedEncodedName66"),
    ("api_key", "plantedApiKey88"),
    ("v", "eyJwbGFudGVkIjoxfQ.e30.plantedJwt99"),
    ("md5", "plantedMd5aa10"),
    ("st", "plantedSt11"),
    ("hash", "plantedHash12"),
    ("s", "plantedS13"),
    ("hm", "plantedHm14"),
    ("oh", "plantedOh15"),
    ("tk", "plantedTk16"),
    ("k", "plantedK17"),
    ("width", "plantedWidth18"),
    ("qzx", "plantedUnheardOf19"),
    ("plantedAsAName20", ""),
];
const NAME_ALONE: &str = "plantedAsAName20";

/// In the path.
const IN_PATH: &str = "AplantedInPath9SignatureOfAnImageProxy4Xy";

/// Every planted text in every form in which it might come out.
fn planted() -> Vec<(String, String)> {
    let all = [
        API_KEY,
        WRONG_API_KEY,
        SASL_PASSWORD,
        HUB_TOKEN,
        S3_SECRET,
        S3_SESSION,
        PASSWORD,
        IN_LOCATION,
        IN_PATH,
        NAME_ALONE,
    ];
    let mut out = Vec::new();
    for secret in all.into_iter().chain(PARAMETERS.iter().map(|(_, value)| *value).filter(|value| !value.is_empty())) {
        let mut forms = vec![
            secret.to_owned(),
            utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
            percent_encoding::percent_decode_str(secret).decode_utf8_lossy().into_owned(),
            BASE64_STANDARD.encode(secret),
            BASE64_URL_SAFE_NO_PAD.encode(secret),
            BASE64_STANDARD.encode(format!("joe:{secret}")),
            serde_json::Value::from(secret).to_string().trim_matches('"').to_owned(),
        ];
        forms.sort();
        forms.dedup();
        out.extend(forms.into_iter().map(|form| (secret.to_owned(), form)));
    }
    out
}

/// What was found, to be told all at once.
#[derive(Default)]
struct Leaks(Vec<String>);

impl Leaks {
    fn look(&mut self, what: &str, text: &str) {
        for (secret, form) in planted() {
            if let Some(line) = text.lines().find(|line| line.contains(&form)) {
                let at = line.find(&form).unwrap_or_default();
                let from = line[..at].char_indices().rev().nth(300).map_or(0, |(at, _)| at);
                let shown: String = line[from..].chars().take(500).collect();
                self.0.push(format!("{what} shows {secret:?} as {form:?}: {shown}"));
            }
        }
    }
}

/// Answers by path. Everything that the server says of itself holds a secret, too.
async fn serve(State(picture): State<Arc<Vec<u8>>>, uri: Uri) -> Response {
    let to = |location: String| (StatusCode::FOUND, [(header::LOCATION, location)]).into_response();
    let password = utf8_percent_encode(PASSWORD, NON_ALPHANUMERIC);
    match uri.path() {
        path if path == "/ok.webp" || path == "/bucket/ok.webp" || path == format!("/{IN_PATH}/ok.webp") => {
            picture.to_vec().into_response()
        }
        "/moved.webp" => to(format!("/ok.webp?token={IN_LOCATION}")),
        "/around" => to(format!("/around?token={IN_LOCATION}")),
        "/inside" => to(format!("http://joe:{password}@10.0.0.1/a?sig={IN_LOCATION}")),
        "/nowhere" => to(format!("http://joe:{password}@[::1/a?sig={IN_LOCATION}")),
        "/scheme" => to(format!("ftp://joe:{password}@host/a?sig={IN_LOCATION}")),
        "/refused" => (StatusCode::FORBIDDEN, format!("signature {IN_LOCATION} is wrong")).into_response(),
        "/busy" => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "0")]).into_response(),
        "/half.webp" => picture[..picture.len() / 2].to_vec().into_response(),
        "/page" => format!("<!doctype html><a href='?token={IN_LOCATION}'>sign in</a>").into_response(),
        "/bucket/denied" => {
            let body = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
            (StatusCode::FORBIDDEN, body).into_response()
        }
        // Until the deadline.
        "/slow" => std::future::pending().await,
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Messages with secrets in their URLs, and how many of them can be indexed.
fn messages(host: &str, closed: u16) -> (Vec<Vec<u8>>, usize) {
    let query: Vec<String> = PARAMETERS
        .iter()
        .map(|(name, value)| {
            let value = if value.contains('%') {
                (*value).to_owned()
            } else {
                utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()
            };
            if value.is_empty() { (*name).to_owned() } else { format!("{name}={value}") }
        })
        .collect();
    let query = query.join("&");
    let user = format!("joe:{}", utf8_percent_encode(PASSWORD, NON_ALPHANUMERIC));
    let url = |path: &str| format!("http://{user}@{host}{path}?size=full&{query}#{IN_LOCATION}");
    let image = |url: &str| json!({ "image": url }).to_string().into_bytes();
    let signed_path = url(&format!("/{IN_PATH}/ok.webp"));
    let good = [url("/ok.webp"), url("/moved.webp"), format!("s3://{user}@bucket/x"), "s3://bucket/ok.webp".to_owned()];
    let mut out = vec![image(&good[0]), image(&good[1]), image(&good[3]), image(&signed_path)];
    let indexed = out.len();
    let paths =
        ["/none", "/around", "/inside", "/nowhere", "/scheme", "/refused", "/busy", "/half.webp", "/page", "/slow"];
    out.extend(paths.map(|path| image(&url(path))));
    out.extend(
        [
            good[2].clone(),
            format!("s3://{user}@/x"),
            "s3://bucket/denied".to_owned(),
            "s3://bucket/none".to_owned(),
            format!("http://{user}@127.0.0.1:{closed}/a?{query}"),
            format!("https://{user}@{host}/a?{query}"),
            format!("http://{user}@10.0.0.1/a?{query}"),
            format!("http://10.0.0.1/{IN_PATH}/a;token={IN_LOCATION}/x"),
            format!("data:{IN_LOCATION}"),
            format!("http://{user}@ho st/a?{query}"),
            format!("http://{user}@unknown.invalid/a?{query}"),
            format!("ftp://{user}@{host}/a?{query}"),
            format!("{user}@{host}/a?{query}"),
            format!("file:///a?{query}"),
            format!("data:image/png;base64,{}", BASE64_STANDARD.encode(IN_LOCATION)),
        ]
        .map(|url| image(&url)),
    );
    let url = url("/ok.webp");
    let escaped = url.replace('/', "\\/");
    out.extend(
        [
            format!("{{\"image\": \"{url}"),
            format!("{{\"image\": \"{escaped}"),
            format!("{url} is no JSON"),
            format!("[\"{url}\"]"),
            json!({ "image": [url] }).to_string(),
            json!({ "image": { "url": url } }).to_string(),
            json!({ "text": 1, "op": url }).to_string(),
            json!({ "text": "x", "models": [url] }).to_string(),
            json!({ "text": "x", "payload": url }).to_string(),
            json!({ "text": "x", "version": url }).to_string(),
            json!({ "text": "x", (url.clone()): 1 }).to_string(),
            format!("{{\"text\": \"x\", \"payload\": {{\"{url}\": 1, \"{url}\": 2}}}}"),
        ]
        .map(String::into_bytes),
    );
    (out, indexed)
}

struct Worker {
    child: Child,
    output: std::path::PathBuf,
}

impl Worker {
    fn spawn(mut command: Command, output: &Path) -> Self {
        let file = File::create(output).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { child: command.spawn().expect("the binary starts"), output: output.to_owned() }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap()).into_owned()
    }

    async fn wait_for<T>(&mut self, what: &str, mut ready: impl AsyncFnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.said();
            if let Some(found) = ready(&said).await {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            let tail: String = said.lines().rev().take(20).collect::<Vec<_>>().join("\n");
            assert!(ended.is_none() && Instant::now() < deadline, "{what}: ended {ended:?}\n{tail}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn terminate(&self) {
        let script = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both fail on a process that has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn endpoint(folder: &Path, port: u16) -> QdrantEndpoint {
    Options::new(folder).port(port).api_key(API_KEY).start().expect("the endpoint starts")
}

/// The address in the line that says where metrics are served; of either log format.
fn address(said: &str) -> Option<String> {
    let line = said.lines().find(|line| line.contains("serving /metrics"))?;
    let at = line.find("127.0.0.1:")?;
    Some(line[at..].chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_planted_comes_out() {
    let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/catalog/images/0023-20e3.webp");
    let picture = Arc::new(std::fs::read(picture).unwrap());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let server =
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(serve).with_state(picture)).await });
    // A port that was free a moment ago.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let kafka = Kafka::start("secrets");

    let mut leaks = Leaks::default();
    for format in ["text", "json"] {
        let run = format!("secrets-{format}-{}", uuid::Uuid::from_u128(rand::random()).simple());
        let letters_topic = format!("{run}.dlq");
        for topic in [&run, &letters_topic] {
            kafka.create_topic(topic, 1).await;
        }
        let points = folder.path().join(&run);
        let qdrant = endpoint(&points, 0);
        let (url, port) = (qdrant.url(), qdrant.port());
        let (messages, indexed) = messages(&host, closed);
        let producer = Producer::new(&kafka.settings()).unwrap();
        let secret_header: [(&str, Option<&[u8]>); 1] = [("authorization", Some(API_KEY.as_bytes()))];
        for (n, message) in messages.iter().enumerate() {
            let key = format!("asset-{n}");
            drop(producer.send(&run, Some(key.as_bytes()), Some(message), &secret_header).await.unwrap());
        }
        producer.flush(PATIENCE).await.unwrap();

        let config = folder.path().join(format!("{format}.toml"));
        let brokers = kafka.brokers.join(",");
        let text = format!(
            "[kafka]\nbrokers = '{brokers}'\ntopics = ['{run}']\ngroup_id = '{run}'\n\
             [kafka.properties]\n'sasl.password' = '{SASL_PASSWORD}'\n\
             [clip]\nmodels = ['demo-emoji/v1=demo/model']\n\
             [store]\nkind = 'qdrant'\nurl = '{url}'\ncatalog = '{run}'\napi_key = '{API_KEY}'\n\
             [hub]\ntoken = '{HUB_TOKEN}'\n\
             [media]\nallow_hosts = ['127.0.0.1']\nfetch_timeout_ms = 1500\nconnect_timeout_ms = 1000\n\
             s3_endpoint = 'http://{host}'\ns3_region = 'us-east-1'\ns3_path_style = true\n\
             [pipeline]\nattempts_max = 2\nbackoff_base_ms = 10\ncommit_interval_ms = 200\n\
             [telemetry]\nlisten = '127.0.0.1:0'\nlog_filter = 'trace'\nlog_format = '{format}'\n"
        );
        std::fs::write(&config, text).unwrap();
        let verb = |verb: &str| {
            let mut command = clipstream(verb);
            command.arg("--config").arg(&config);
            command.env("AWS_ACCESS_KEY_ID", "AKIAPUBLIC").env("AWS_SECRET_ACCESS_KEY", S3_SECRET);
            command.env("AWS_SESSION_TOKEN", S3_SESSION).env("HF_TOKEN", HUB_TOKEN);
            command
        };

        let mut worker = Worker::spawn(verb("run"), &folder.path().join(format!("{format}.log")));
        let address = worker.wait_for("it serves", async |said| address(said)).await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let get = async |path: &str| match client.get(format!("http://{address}{path}")).send().await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        };
        let dead = messages.len() - indexed;
        let is_settled = |metrics: &str, outcome: &str, n: usize| {
            metrics.contains(&format!("clipstream_messages_total{{outcome=\"{outcome}\"}} {n}\n"))
        };
        worker
            .wait_for("every message is settled", async |_| {
                let metrics = get("/metrics").await;
                let done = is_settled(&metrics, "indexed", indexed) && is_settled(&metrics, "dead_lettered", dead);
                done.then_some(())
            })
            .await;

        // The store goes away with a message in flight, and comes back.
        qdrant.stop().await;
        let late = messages[0].clone();
        drop(producer.send(&run, Some(b"late"), Some(&late), &[]).await.unwrap());
        producer.flush(PATIENCE).await.unwrap();
        let unready = worker
            .wait_for("it is unready", async |_| Some(get("/readyz").await).filter(|text| text.contains("store.url")))
            .await;
        leaks.look("/readyz", &unready);
        let qdrant = endpoint(&points, port);
        worker
            .wait_for("it recovers", async |_| is_settled(&get("/metrics").await, "indexed", indexed + 1).then_some(()))
            .await;
        leaks.look("/metrics", &get("/metrics").await);
        leaks.look("/readyz", &get("/readyz").await);

        let letters = kafka.read(&letters_topic);
        assert_eq!(letters.len(), dead);
        for letter in &letters {
            let headers = letter.headers().expect("a letter has headers");
            for header in headers.iter().filter(|header| header.key != "authorization") {
                let value = String::from_utf8_lossy(header.value.unwrap_or_default());
                leaks.look(
                    &format!("header {} of {:?}", header.key, letter.payload().map(String::from_utf8_lossy)),
                    &value,
                );
            }
            assert!(headers.iter().any(|header| header.key.starts_with("__connect.errors.exception")));
        }

        let settings = StoreSettings {
            kind: StoreKind::Qdrant,
            url: url.clone(),
            api_key: Some(Secret::new(API_KEY)),
            ..Default::default()
        };
        let store = store::open(&settings).await.unwrap();
        let collection = format!("{run}__demo-emoji__v1");
        let stored = store.scroll(&collection, None, 1000).await.unwrap();
        assert_eq!(stored.len(), indexed + 1);
        for point in &stored {
            leaks.look("a payload", &serde_json::to_string(&point.payload).unwrap());
        }
        assert!(
            stored
                .iter()
                .any(|point| point.payload["clipstream"]["media"]["url"].as_str().unwrap().contains("size=full"))
        );
        store.close().await.unwrap();

        worker.terminate();
        let deadline = Instant::now() + PATIENCE;
        while worker.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not stop");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let said = worker.said();
        assert!(said.contains("dead letter") && said.contains("TRACE"), "it logged, and everything");
        leaks.look(&format!("the {format} log"), &said);

        // The other verbs, when all is well and when it is not.
        let bad = utf8_percent_encode(PASSWORD, NON_ALPHANUMERIC).to_string();
        let wrong_store = format!("http://joe:{bad}@127.0.0.1:{closed}");
        let sasl = ["kafka.security_protocol=sasl_plaintext", "kafka.sasl_mechanism=PLAIN", "kafka.sasl_username=joe"];
        let image = format!("http://joe:{bad}@{host}/none?sig={IN_LOCATION}");
        let runs: [(&str, Vec<String>); 11] = [
            ("config", vec!["show".into()]),
            ("config", vec!["validate".into()]),
            ("check", vec![]),
            ("check", vec!["--set".into(), format!("store.api_key={WRONG_API_KEY}")]),
            (
                "check",
                ["--set".to_owned(), format!("kafka.sasl_password={SASL_PASSWORD}")]
                    .into_iter()
                    .chain(sasl.iter().flat_map(|s| ["--set".to_owned(), (*s).to_owned()]))
                    .collect(),
            ),
            ("config", vec!["show".into(), "--set".into(), format!("store.url={wrong_store}")]),
            ("search", vec!["red".into(), "--set".into(), format!("store.api_key={WRONG_API_KEY}")]),
            ("search", vec!["red".into(), "--set".into(), format!("store.url={wrong_store}")]),
            ("search", vec!["red".into(), "--json".into()]),
            ("embed", vec!["image".into(), image]),
            (
                "config",
                vec![
                    "validate".into(),
                    "--set".into(),
                    format!("media.s3_endpoint=joe:{bad}@{host}"),
                    "--set".into(),
                    format!("store.api_ky={API_KEY}"),
                ],
            ),
        ];
        for (name, arguments) in runs {
            let mut command = verb(name);
            command.args(&arguments);
            let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
            let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
            assert!(!said.is_empty() || output.status.success(), "{name} {arguments:?} says nothing");
            leaks.look(&format!("{name} {arguments:?}"), &said);
        }
        qdrant.stop().await;
        kafka.delete_topics(&[&run, &letters_topic]).await;
    }
    server.abort();
    assert!(leaks.0.is_empty(), "{:#?}", leaks.0);
}
