//! Pictures where the worker fetches them: an HTTP server in this process, and a bucket of a real S3 server.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use clipstream_test_support::needs;
use sha2::{Digest, Sha256};

/// What fetching a URL must give.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The URL as the point records it.
    pub shown: String,
    pub etag: Option<String>,
    pub bytes: Bytes,
    pub mime: &'static str,
}

/// Every picture that can be fetched, by URL; and the servers.
pub struct Media {
    pub pictures: BTreeMap<String, Picture>,
    /// `http://127.0.0.1:port`
    pub origin: String,
    pub bucket: Option<Bucket>,
    /// The catalog's pictures in order of their names, each with its name.
    catalog: Vec<(String, Bytes)>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Media {
    pub async fn start(run: &str) -> Self {
        let catalog = catalog();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let served = Served { files: catalog.iter().cloned().collect(), failed: Arc::default() };
        let router = Router::new().fallback(serve).with_state(served);
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let bucket = Bucket::create(run).await;
        Self { pictures: BTreeMap::new(), origin, bucket, catalog, server }
    }

    /// Picture `n` of the catalog over HTTP, below one of the paths of [`serve`].
    pub fn http(&mut self, path: &str, n: usize) -> String {
        let (name, bytes) = self.catalog[n].clone();
        let url = format!("{}/{path}/{name}", self.origin);
        self.know(url.clone(), url, Some(etag(&bytes)), bytes, "image/webp")
    }

    /// With a user, a password and a token in the URL, none of which may be recorded.
    pub fn signed(&mut self, n: usize) -> String {
        let (name, bytes) = self.catalog[n].clone();
        let host = self.origin.trim_start_matches("http://");
        let url = format!("http://joe:hunter2@{host}/images/{name}?size=full&token=hunter3");
        let shown = format!("http://{host}/images/{name}?size=full&token=REDACTED");
        self.know(url, shown, Some(etag(&bytes)), bytes, "image/webp")
    }

    /// Picture `n` of the catalog in S3; over HTTP where there is no S3 server.
    pub async fn s3(&mut self, n: usize) -> String {
        let Some(bucket) = &self.bucket else { return self.http("images", n) };
        let (name, bytes) = self.catalog[n].clone();
        let key = format!("catalog/{name}");
        let etag = bucket.put(&key, &bytes).await;
        let url = format!("s3://{}/{key}", bucket.name);
        self.know(url.clone(), url, etag, bytes, "image/webp")
    }

    /// A PNG in the message itself.
    pub fn inline(&mut self) -> String {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures/exact.png");
        let bytes = Bytes::from(std::fs::read(file).unwrap());
        let url = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(&bytes));
        let shown = format!("data:image/png,…({} bytes)", url.len());
        self.know(url, shown, None, bytes, "image/png")
    }

    fn know(&mut self, url: String, shown: String, etag: Option<String>, bytes: Bytes, mime: &'static str) -> String {
        self.pictures.insert(url.clone(), Picture { shown, etag, bytes, mime });
        url
    }

    pub async fn end(self) {
        self.server.abort();
        if let Some(bucket) = self.bucket {
            bucket.remove().await;
        }
    }
}

impl Picture {
    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.bytes))
    }

    /// Width and height as the file's header says: the canvas of WebP's extended format, or PNG's first chunk.
    pub fn size(&self) -> (u32, u32) {
        let be = |at: usize| u32::from_be_bytes(self.bytes[at..at + 4].try_into().unwrap());
        let le24 = |at: usize| u32::from_le_bytes([self.bytes[at], self.bytes[at + 1], self.bytes[at + 2], 0]);
        match self.mime {
            "image/png" => (be(16), be(20)),
            _ => {
                assert_eq!(&self.bytes[12..16], b"VP8X");
                (1 + le24(24), 1 + le24(27))
            }
        }
    }
}

fn catalog() -> Vec<(String, Bytes)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/catalog/images");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".webp"))
        .collect();
    names.sort();
    names.truncate(600);
    names.into_iter().map(|name| (name.clone(), std::fs::read(folder.join(name)).unwrap().into())).collect()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", &hex(&Sha256::digest(bytes))[..16])
}

#[derive(Clone)]
struct Served {
    files: BTreeMap<String, Bytes>,
    /// Paths below `/busy/` that were refused once.
    failed: Arc<Mutex<HashSet<String>>>,
}

/// `/images/NAME`: the file. `/moved/NAME`: a redirect to it. `/busy/NAME`: 503 the first time, then the file.
/// `/half/NAME`: the first half of the file. `/page/…`: HTML that says it is a JPEG.
async fn serve(State(served): State<Served>, uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/');
    let (kind, name) = path.split_once('/').unwrap_or((path, ""));
    if kind == "page" {
        return ([(header::CONTENT_TYPE, "image/jpeg")], "<!doctype html><title>Sign in</title>").into_response();
    }
    let Some(bytes) = served.files.get(name).cloned() else { return StatusCode::NOT_FOUND.into_response() };
    let mut headers = HeaderMap::new();
    headers.insert(header::ETAG, etag(&bytes).parse().unwrap());
    match kind {
        "busy" if served.failed.lock().unwrap().insert(name.to_owned()) => {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "0")]).into_response()
        }
        "images" | "busy" => (headers, bytes).into_response(),
        "moved" => (StatusCode::FOUND, [(header::LOCATION, format!("/images/{name}"))]).into_response(),
        "half" => (headers, bytes.slice(..bytes.len() / 2)).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A bucket of this run's own.
pub struct Bucket {
    pub name: String,
    pub endpoint: String,
    pub access_key: String,
    pub secret_key: String,
    admin: aws_sdk_s3::Client,
}

impl Bucket {
    async fn create(run: &str) -> Option<Self> {
        let needs::S3 { endpoint, access_key, secret_key } = needs::s3("end_to_end fetches those pictures over HTTP")?;
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(&endpoint)
            .force_path_style(true)
            .credentials_provider(Credentials::new(&access_key, &secret_key, None, None, "test"))
            .build();
        let admin = aws_sdk_s3::Client::from_conf(config);
        let name = format!("media-{run}");
        admin.create_bucket().bucket(&name).send().await.expect("the server creates the bucket");
        Some(Self { name, endpoint, access_key, secret_key, admin })
    }

    async fn put(&self, key: &str, bytes: &Bytes) -> Option<String> {
        let put = self.admin.put_object().bucket(&self.name).key(key).body(bytes.clone().into());
        put.send().await.expect("the server keeps the object").e_tag
    }

    async fn remove(self) {
        let list = self.admin.list_objects_v2().bucket(&self.name).send().await.expect("the server lists");
        let keys = list.contents().iter().filter_map(|object| object.key());
        let objects = keys.map(|key| ObjectIdentifier::builder().key(key).build().unwrap()).collect();
        let delete = Delete::builder().set_objects(Some(objects)).build().unwrap();
        self.admin.delete_objects().bucket(&self.name).delete(delete).send().await.expect("the server deletes");
        self.admin.delete_bucket().bucket(&self.name).send().await.expect("the bucket is empty");
    }
}
