//! A hub as Hugging Face's is, for tests: an API that lists repositories, `resolve` addresses that redirect large files to
//! a second server (the CDN), ranges, and faults on demand.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio_util::task::AbortOnDropHandle;

/// Files from this size on are in large file storage, which the CDN serves.
const LARGE: usize = 1000;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What happens to one request for a file, instead of an answer.
#[derive(Clone, Debug)]
pub enum Fault {
    Status(u16, &'static [(&'static str, &'static str)]),
    /// So many bytes, then the connection breaks.
    Cut(usize),
    /// So many bytes, then silence.
    Stall(usize),
    /// The right number of wrong bytes.
    Garble,
    /// More bytes than were announced.
    Longer,
    /// The whole file, whatever range was asked for.
    IgnoreRange,
}

/// A request, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `hub` or `cdn`.
    pub server: &'static str,
    /// Of files the file's path, of listings `list REVISION`.
    pub what: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
    pub if_range: Option<String>,
}

#[derive(Default)]
struct World {
    /// By repository, then by path.
    repositories: HashMap<String, BTreeMap<String, Vec<u8>>>,
    /// Answers to listings, in place of the true ones.
    listings: HashMap<String, (u16, &'static str, Value)>,
    /// By repository, as its card has it.
    licences: HashMap<String, &'static str>,
    faults: HashMap<String, VecDeque<Fault>>,
    seen: Vec<Seen>,
    cdn: String,
    /// Whether the listing has only names, as some mirrors' have.
    is_terse: bool,
    has_no_tree: bool,
}

type Shared = Arc<Mutex<World>>;

/// Runs until dropped.
pub struct FakeHub {
    pub endpoint: String,
    world: Shared,
    _servers: [AbortOnDropHandle<()>; 2],
}

impl FakeHub {
    pub async fn start() -> Self {
        let world = Shared::default();
        let cdn = Router::new().route("/lfs/{owner}/{name}/{*path}", get(large)).with_state(world.clone());
        let (cdn_url, cdn) = serve(cdn).await;
        world.lock().unwrap().cdn = cdn_url;
        let hub = Router::new()
            .route("/api/models/{owner}/{name}/revision/{revision}", get(list))
            .route("/api/models/{owner}/{name}/tree/{revision}", get(tree))
            .route("/{owner}/{name}/resolve/{revision}/{*path}", get(resolve))
            .with_state(world.clone());
        let (endpoint, hub) = serve(hub).await;
        Self { endpoint, world, _servers: [hub, cdn] }
    }

    pub fn has(&self, repository: &str, files: &[(&str, &[u8])]) {
        let files = files.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())).collect();
        self.world.lock().unwrap().repositories.insert(repository.to_owned(), files);
    }

    pub fn licenses(&self, repository: &str, licence: &'static str) {
        self.world.lock().unwrap().licences.insert(repository.to_owned(), licence);
    }

    /// Requests for this file meet these, one each, then go well.
    pub fn breaks(&self, path: &str, faults: &[Fault]) {
        self.world.lock().unwrap().faults.insert(path.to_owned(), faults.iter().cloned().collect());
    }

    /// Every listing of the repository is answered so. `code`: the `X-Error-Code`.
    pub fn lists(&self, repository: &str, status: u16, code: &'static str, answer: Value) {
        self.world.lock().unwrap().listings.insert(repository.to_owned(), (status, code, answer));
    }

    /// Listings have names only from now on. `tree`: whether the hub answers for the tree, which has the rest.
    pub fn is_terse(&self, tree: bool) {
        let mut world = self.world.lock().unwrap();
        world.is_terse = true;
        world.has_no_tree = !tree;
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.world.lock().unwrap().seen.clone()
    }

    /// The ranges of the requests for this file to the server that has it.
    pub fn ranges(&self, server: &str, path: &str) -> Vec<Option<String>> {
        self.seen().into_iter().filter(|s| s.server == server && s.what == path).map(|s| s.range).collect()
    }
}

async fn serve(router: Router) -> (String, AbortOnDropHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, AbortOnDropHandle::new(task))
}

fn note(world: &mut World, server: &'static str, what: String, headers: &HeaderMap) {
    let header = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).map(str::to_owned);
    world.seen.push(Seen {
        server,
        what,
        authorization: header(header::AUTHORIZATION),
        range: header(header::RANGE),
        if_range: header(header::IF_RANGE),
    });
}

async fn list(
    State(world): State<Shared>,
    Path((owner, name, revision)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let mut world = world.lock().unwrap();
    note(&mut world, "hub", format!("list {revision}"), &headers);
    let repository = format!("{owner}/{name}");
    if let Some((status, code, answer)) = world.listings.get(&repository) {
        return (StatusCode::from_u16(*status).unwrap(), [("x-error-code", *code)], answer.to_string()).into_response();
    }
    let Some(files) = world.repositories.get(&repository) else {
        return (StatusCode::UNAUTHORIZED, [("x-error-code", "RepoNotFound")]).into_response();
    };
    let sibling = |(path, content): (&String, &Vec<u8>)| match content.len() {
        _ if world.is_terse => json!({ "rfilename": path }),
        LARGE.. => json!({
            "rfilename": path, "size": content.len(), "blobId": "f".repeat(40),
            "lfs": { "sha256": sha256(content), "size": content.len(), "pointerSize": 130 },
        }),
        _ => json!({ "rfilename": path, "size": content.len(), "blobId": git_blob(content) }),
    };
    let siblings: Vec<Value> = files.iter().map(sibling).collect();
    let mut tags = vec!["onnx".to_owned()];
    tags.extend(world.licences.get(&repository).map(|licence| format!("license:{licence}")));
    axum::Json(json!({ "id": repository, "sha": COMMIT, "tags": tags, "siblings": siblings })).into_response()
}

async fn tree(
    State(world): State<Shared>,
    Path((owner, name, revision)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let mut world = world.lock().unwrap();
    note(&mut world, "hub", format!("tree {revision}"), &headers);
    let Some(files) = world.repositories.get(&format!("{owner}/{name}")).filter(|_| !world.has_no_tree) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let entry = |(path, content): (&String, &Vec<u8>)| match content.len() {
        LARGE.. => json!({
            "type": "file", "path": path, "size": content.len(), "oid": "f".repeat(40),
            "lfs": { "oid": sha256(content), "size": content.len(), "pointerSize": 130 },
        }),
        _ => json!({ "type": "file", "path": path, "size": content.len(), "oid": git_blob(content) }),
    };
    let entries: Vec<Value> = files.iter().map(entry).collect();
    axum::Json(entries).into_response()
}

async fn resolve(
    State(world): State<Shared>,
    Path((owner, name, revision, path)): Path<(String, String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let mut world = world.lock().unwrap();
    note(&mut world, "hub", path.clone(), &headers);
    let content = world.repositories.get(&format!("{owner}/{name}")).and_then(|files| files.get(&path)).cloned();
    let Some(content) = content.filter(|_| revision == COMMIT) else {
        return (StatusCode::NOT_FOUND, [("x-error-code", "EntryNotFound")]).into_response();
    };
    if content.len() < LARGE {
        return answer(&mut world, &path, &content, &headers);
    }
    let to = format!("{}/lfs/{owner}/{name}/{path}?X-Amz-Signature=signature-of-the-cdn", world.cdn);
    let linked = header::HeaderName::from_static("x-linked-etag");
    (StatusCode::FOUND, [(header::LOCATION, to), (linked, format!("\"{}\"", sha256(&content)))]).into_response()
}

async fn large(
    State(world): State<Shared>,
    Path((owner, name, path)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let mut world = world.lock().unwrap();
    note(&mut world, "cdn", path.clone(), &headers);
    let content = world.repositories[&format!("{owner}/{name}")][&path].clone();
    answer(&mut world, &path, &content, &headers)
}

fn answer(world: &mut World, path: &str, content: &[u8], headers: &HeaderMap) -> Response {
    let fault = world.faults.get_mut(path).and_then(VecDeque::pop_front);
    let etag = format!("\"{}\"", &sha256(content)[..32]);
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let asked = text(header::RANGE).and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let same = text(header::IF_RANGE).is_none_or(|v| v == etag);
    let start: usize = asked.filter(|_| same && !matches!(fault, Some(Fault::IgnoreRange))).unwrap_or(0);
    let mut body = content[start..].to_vec();
    let mut response = Response::builder().header(header::ETAG, &etag);
    if start > 0 {
        let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
        response = response.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, range);
    }
    let chunked = |bytes: &[u8]| futures::stream::iter([Ok::<_, std::io::Error>(bytes.to_vec())]);
    let length = body.len();
    let body = match fault {
        None | Some(Fault::IgnoreRange) => Body::from(body),
        Some(Fault::Status(status, extra)) => {
            let mut refused = Response::builder().status(status);
            for (name, value) in extra {
                refused = refused.header(*name, *value);
            }
            return refused.body(Body::empty()).unwrap();
        }
        Some(Fault::Cut(n)) => {
            let cut = futures::stream::once(async {
                // What was sent so far leaves before the connection breaks.
                tokio::task::yield_now().await;
                Err(std::io::Error::other("cut"))
            });
            response = response.header(header::CONTENT_LENGTH, length);
            Body::from_stream(chunked(&body[..n]).chain(cut))
        }
        Some(Fault::Stall(n)) => {
            response = response.header(header::CONTENT_LENGTH, length);
            Body::from_stream(chunked(&body[..n]).chain(futures::stream::pending()))
        }
        Some(Fault::Garble) => {
            body.iter_mut().for_each(|byte| *byte ^= 0x55);
            Body::from(body)
        }
        Some(Fault::Longer) => {
            body.push(0);
            Body::from(body)
        }
    };
    response.body(body).unwrap()
}

fn sha256(content: &[u8]) -> String {
    format!("{:x}", Sha256::digest(content))
}

/// `git hash-object`.
fn git_blob(content: &[u8]) -> String {
    format!("{:x}", Sha1::new_with_prefix(format!("blob {}\0", content.len())).chain_update(content).finalize())
}
