//! Servers that mean harm, and the files that they have.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::bombs::{huge_sides, png_of_zeros};
use super::formats::{picture, pictures as fixtures, png_chunk, repair_png, set_tiff};

/// What an HTTP server has at a path.
#[derive(Clone)]
pub enum Served {
    Picture(Vec<u8>),
    /// A body that does not end.
    Endless,
    /// 256 MiB of zeros, packed with gzip, which nobody asked for.
    Compressed,
}

/// Ends when dropped.
pub struct Server {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Pictures that ask for much, by name: those that are refused by their header, those that lie in it, and those that are
/// exactly as large as is allowed.
pub fn pictures(pixels_max: u64) -> Vec<(String, Vec<u8>)> {
    let mut out: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>| out.push((name.to_owned(), bytes));
    for (name, bytes) in huge_sides() {
        add(&format!("huge-{name}"), bytes);
    }
    let side = pixels_max.isqrt() as u32;
    for (name, bytes) in claiming(side) {
        add(&format!("claims-{name}"), bytes);
    }
    let zeros = png_of_zeros(20_000);
    let mut behind = zeros.clone();
    behind[16..24].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
    repair_png(&mut behind);
    let at = zeros.windows(4).position(|part| part == b"IDAT").expect("the data");
    let length = u32::from_be_bytes(zeros[at - 4..at].try_into().unwrap()) as usize;
    let plain = picture("rgb.png");
    for (kind, head) in [(b"zTXt", &b"a\0\0"[..]), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\x01\0\0\0")] {
        let chunk = png_chunk(kind, &[head, &zeros[at + 4..at + 4 + length]].concat());
        add(
            &format!("bomb-{}", String::from_utf8_lossy(kind)),
            [&plain[..33], &chunk.repeat(12), &plain[33..]].concat(),
        );
    }
    add("bomb-zeros", zeros);
    add("bomb-behind-a-small-header", behind);
    add("allowed-rgba16", deep_png(side));
    add("allowed-grey", png_of_zeros(side));
    let gif = picture("animated.gif");
    let (trailer, table) = (gif.len() - 1, 13 + if gif[10] & 0x80 != 0 { 3 << ((gif[10] & 7) + 1) } else { 0 });
    let mut frames = gif[..trailer].to_vec();
    while frames.len() < 6_000_000 {
        frames.extend_from_slice(&gif[table..trailer]);
    }
    add("frames", frames);
    let scans = picture("progressive_large.jpg");
    let scan = scans.windows(2).rposition(|pair| pair == [0xFF, 0xDA]).expect("a scan");
    let mut endless = scans[..scan].to_vec();
    while endless.len() < 6_000_000 {
        endless.extend_from_slice(&scans[scan..scans.len() - 2]);
    }
    add("scans", endless);
    out
}

/// Files of every format whose header says `side` x `side`, with the data of a small picture.
fn claiming(side: u32) -> Vec<(&'static str, Vec<u8>)> {
    let mut png = picture("rgb.png");
    png[16..20].copy_from_slice(&side.to_be_bytes());
    png[20..24].copy_from_slice(&side.to_be_bytes());
    repair_png(&mut png);
    let short = (side as u16).to_le_bytes();
    let mut gif = picture("plain.gif");
    gif[6..8].copy_from_slice(&short);
    gif[8..10].copy_from_slice(&short);
    let mut bmp = picture("rgb.bmp");
    bmp[18..22].copy_from_slice(&side.to_le_bytes());
    bmp[22..26].copy_from_slice(&side.to_le_bytes());
    let mut tiff = picture("rgb.tif");
    for tag in [256, 257, 278] {
        set_tiff(&mut tiff, tag, side);
    }
    let mut webp = picture("lossy_alpha.webp");
    webp[24..27].copy_from_slice(&(side - 1).to_le_bytes()[..3]);
    webp[27..30].copy_from_slice(&(side - 1).to_le_bytes()[..3]);
    let mut jpeg = picture("progressive_large.jpg");
    super::bombs::set_jpeg_sides(&mut jpeg, side as u16);
    vec![("png", png), ("gif", gif), ("bmp", bmp), ("tiff", tiff), ("webp", webp), ("jpeg", jpeg)]
}

/// The most bytes per pixel that there are, all zero: small as a file.
fn deep_png(side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Sixteen);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![0; 8 * side as usize * side as usize]).unwrap();
    writer.finish().unwrap();
    bytes
}

/// `/good/N`: one of the demo's pictures, never the same bytes twice running. Any other path: what was given for its name.
pub async fn http(files: BTreeMap<String, Served>) -> Server {
    let good = fixtures().into_iter().filter(|(name, _)| name.ends_with(".webp")).map(|(_, bytes)| Bytes::from(bytes));
    let state = Files { files: Arc::new(files), good: good.collect() };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(serve).with_state(state);
    let task = tokio::spawn(async move {
        // Ends with the test.
        let _ = axum::serve(listener, router).await;
    });
    Server { address, task }
}

#[derive(Clone)]
struct Files {
    files: Arc<BTreeMap<String, Served>>,
    good: Arc<[Bytes]>,
}

async fn serve(State(served): State<Files>, uri: Uri) -> Response {
    let name = uri.path().trim_start_matches('/');
    if let Some(n) = name.strip_prefix("good/") {
        let n: usize = n.parse().unwrap_or_default();
        return served.good[n % served.good.len()].clone().into_response();
    }
    match served.files.get(name) {
        None => StatusCode::NOT_FOUND.into_response(),
        Some(Served::Picture(bytes)) => bytes.clone().into_response(),
        Some(Served::Compressed) => ([(header::CONTENT_ENCODING, "gzip")], gzip_bomb()).into_response(),
        Some(Served::Endless) => {
            let chunk = Bytes::from(vec![0; 64 * 1024]);
            let chunks = futures::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
            Body::from_stream(chunks).into_response()
        }
    }
}

fn gzip_bomb() -> Vec<u8> {
    let mut packed = Vec::new();
    let zeros = std::io::Read::take(std::io::repeat(0), 256 << 20);
    std::io::copy(&mut flate2::read::GzEncoder::new(zeros, flate2::Compression::fast()), &mut packed).unwrap();
    packed
}

/// `/head`: an answer whose head never ends; `/drip`: a body of `body_bytes` that comes a byte at a time; `/silent`: the same
/// body, of which nothing comes.
pub async fn tarpit(body_bytes: u64) -> Server {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let Ok((connection, _)) = listener.accept().await else { continue };
            // Fails when the client has had enough.
            tokio::spawn(async move { drip(connection, body_bytes).await.ok() });
        }
    });
    Server { address, task }
}

async fn drip(mut connection: TcpStream, body_bytes: u64) -> std::io::Result<()> {
    let mut request = String::new();
    BufReader::new(&mut connection).read_line(&mut request).await?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {body_bytes}\r\n");
    connection.write_all(head.as_bytes()).await?;
    let drop: &[u8] = match request.split(['/', '?']).nth(1) {
        Some("head") => b"X-A: b\r\n",
        Some("drip") => {
            connection.write_all(b"\r\n").await?;
            b"\0"
        }
        _ => {
            connection.write_all(b"\r\n").await?;
            b""
        }
    };
    loop {
        connection.write_all(drop).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
