//! The pictures: an HTTP server in this process with a weather of its own, and objects of the S3 server.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use clipstream_test_support::services::Services;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Error;

const HTTP_PICTURES: usize = 48;
const S3_PICTURES: usize = 16;
pub const BUCKET: &str = "chaos";

/// How the HTTP server is today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Fine,
    ServerErrors,
    TooManyRequests,
    /// No answer before it clears up.
    Stalled,
    /// The length of the whole picture, and half of it.
    Truncated,
}

/// A picture that messages name, by its URL.
#[derive(Clone, Debug)]
pub struct Picture {
    pub bytes: Bytes,
    pub sha256: String,
}

pub struct Media {
    pub address: SocketAddr,
    weather: watch::Sender<Weather>,
    /// Requests that the weather spoiled.
    spoiled: Arc<AtomicU64>,
    server: JoinHandle<()>,
}

/// Names of the pictures, in order; those of the second list are in S3.
pub fn names() -> Result<(Vec<String>, Vec<String>), Error> {
    let mut names: Vec<String> = fs::read_dir(folder())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".webp"))
        .collect();
    names.sort();
    // Faces and things from the middle of the catalog: flags, which come first, look alike.
    let start = names.len() / 2;
    let chosen =
        names.get(start..start + HTTP_PICTURES + S3_PICTURES).ok_or("the demo catalog has too few pictures")?;
    let (http, s3) = chosen.split_at(HTTP_PICTURES);
    Ok((http.to_vec(), s3.to_vec()))
}

pub fn picture(name: &str) -> Result<Picture, Error> {
    let bytes = Bytes::from(fs::read(folder().join(name))?);
    let sha256 = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    Ok(Picture { bytes, sha256 })
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/catalog/images")
}

impl Media {
    pub async fn start() -> Result<Self, Error> {
        Self::serving(|router| router).await
    }

    /// Each picture over a connection of its own, so that its host's name and certificate are asked for again.
    pub async fn start_without_keepalive() -> Result<Self, Error> {
        let close = async |mut response: Response| {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            response
        };
        Self::serving(|router| router.layer(map_response(close))).await
    }

    async fn serving(dressed: impl FnOnce(Router) -> Router) -> Result<Self, Error> {
        let (http, _) = names()?;
        let files = http.into_iter().map(|name| Ok((name.clone(), picture(&name)?)));
        let (weather, spoiled) = (watch::Sender::new(Weather::Fine), Arc::new(AtomicU64::new(0)));
        let served = Served {
            files: Arc::new(files.collect::<Result<_, Error>>()?),
            weather: weather.subscribe(),
            spoiled: spoiled.clone(),
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let router = dressed(Router::new().fallback(serve).with_state(served));
        let server = tokio::spawn(async move {
            // Ends with the campaign only.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, weather, spoiled, server })
    }

    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    pub fn spoiled(&self) -> u64 {
        self.spoiled.load(Ordering::Relaxed)
    }
}

impl Drop for Media {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Clone)]
struct Served {
    files: Arc<BTreeMap<String, Picture>>,
    weather: watch::Receiver<Weather>,
    spoiled: Arc<AtomicU64>,
}

/// `/images/NAME`: a picture, or 304 to whoever has it. `/page/…`: HTML that says it is a picture. Anything else: 404.
async fn serve(State(mut served): State<Served>, uri: Uri, headers: HeaderMap) -> Response {
    let weather = *served.weather.borrow_and_update();
    if weather != Weather::Fine {
        served.spoiled.fetch_add(1, Ordering::Relaxed);
    }
    match weather {
        Weather::Fine | Weather::Truncated => {}
        Weather::ServerErrors => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Weather::TooManyRequests => {
            return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response();
        }
        Weather::Stalled => {
            // An error means that the campaign is over.
            let _ = served.weather.wait_for(|now| *now != Weather::Stalled).await;
        }
    }
    let path = uri.path();
    if path.starts_with("/page/") {
        return ([(header::CONTENT_TYPE, "image/webp")], "<!doctype html><title>Sign in</title>").into_response();
    }
    let Some(picture) = path.strip_prefix("/images/").and_then(|name| served.files.get(name)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let (bytes, etag) = (picture.bytes.clone(), format!("\"{}\"", &picture.sha256[..16]));
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response();
    }
    if weather == Weather::Truncated {
        let half = bytes.slice(..bytes.len() / 2);
        let broken = futures::stream::iter([Ok(half), Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))]);
        return ([(header::CONTENT_LENGTH, bytes.len().to_string())], Body::from_stream(broken)).into_response();
    }
    ([(header::ETAG, etag)], bytes).into_response()
}

/// Puts the pictures of S3 into a bucket.
pub async fn fill_bucket(services: &Services) -> Result<(), Error> {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(format!("http://{}", services.s3))
        .force_path_style(true)
        .credentials_provider(Credentials::new(&services.s3_access_key, &services.s3_secret_key, None, None, "chaos"))
        .build();
    let client = aws_sdk_s3::Client::from_conf(config);
    client.create_bucket().bucket(BUCKET).send().await.map_err(|e| format!("the bucket cannot be made: {e:?}"))?;
    for name in names()?.1 {
        let put = client.put_object().bucket(BUCKET).key(&name).body(picture(&name)?.bytes.into());
        put.send().await.map_err(|e| format!("{name} cannot be put into S3: {e:?}"))?;
    }
    Ok(())
}
