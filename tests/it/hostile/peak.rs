//! The most that a worker process ever has resident while it is fed the worst pictures that its settings allow, kind by kind:
//! never more than what `docs/operations.md` (Sizing) adds up for these settings, and not far less.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clipstream::config::{Layers, Settings};
use clipstream::picture::{Preprocess, picture_bytes};
use clipstream_test_support::needs::{self, Need};
use clipstream_test_support::qdrant::QdrantEndpoint;
use serde_json::json;
use tempfile::TempDir;

use super::kinds::{KINDS, Kind, Sides};
use super::memory::MINUTES;
use super::servers::{self, Served};
use super::sizing;
use crate::worker_failures::Topic;
use crate::worker_process::{Process, set};

const MIB: u64 = 1024 * 1024;
/// They take the most of their formats, or leave holes in memory that the next ones do not fit into.
const WORST: [&str; 7] = [
    "JPEG, baseline, colour",
    "JPEG, progressive, 4:4:4",
    "PNG, RGB of 8 or 16 bits",
    "PNG, RGBA of 16 bits, interlaced",
    "WebP, lossless with alpha",
    "WebP, lossy with such alpha",
    "TIFF, RGB of 8 or 16 bits, turned",
];

/// Settings, and how much memory they are made for.
struct Setup {
    config: Option<PathBuf>,
    set: Vec<(&'static str, String)>,
    settings: Settings,
    decode_bytes_max: u64,
}

impl Setup {
    fn new(limit_bytes: u64, config: Option<PathBuf>, own: &[(&'static str, u64)]) -> Self {
        let decode_bytes_max = limit_bytes / 3;
        let mut set: Vec<_> = own.iter().map(|(key, value)| (*key, value.to_string())).collect();
        // What this machine says of itself does not count. Hosts here are on the loopback network; nobody waits for commits.
        set.extend([
            ("clip.decode_bytes_max", decode_bytes_max.to_string()),
            ("media.allow_hosts", "127.0.0.1".to_owned()),
            ("pipeline.commit_interval_ms", "50".to_owned()),
        ]);
        let mut layers = Layers::default();
        if let Some(config) = &config {
            layers = layers.with_file(config.clone(), "--config");
        }
        for (key, value) in &set {
            layers = layers.with_flag("--set", format!("{key}={value}"));
        }
        Self { config, set, settings: Settings::load(layers).unwrap(), decode_bytes_max }
    }

    fn allowed_bytes(&self) -> u64 {
        sizing::bytes(&self.settings, self.decode_bytes_max)
    }

    /// A file of this kind that reserves almost so many bytes, or is as large as it may be: it, and what it reserves.
    fn worst(&self, (name, make): Kind, bytes: u64) -> Picture {
        let model = Preprocess::from_json(r#"{"size": 96}"#).unwrap();
        let media = &self.settings.media;
        let made = |side: u32| {
            let file = make(Sides { width: side, height: side });
            let reserved = picture_bytes(&file, media.pixels_max, u64::MAX, &[&model]);
            Picture { side, reserved: reserved.unwrap_or_else(|error| panic!("{name}: {error}")), file }
        };
        // Both are almost linear in the pixels.
        let (small, large) = (made(512), made(1024));
        let pixels = |small: u64, large: u64, most: u64| {
            let per_pixel = (large - small) as f64 / (1024.0 * 1024.0 - 512.0 * 512.0);
            most.saturating_sub(small) as f64 / per_pixel + 512.0 * 512.0
        };
        let of_bytes = pixels(small.reserved, large.reserved, bytes);
        let of_file = pixels(small.file.len() as u64, large.file.len() as u64, media.media_bytes_max);
        let most = of_bytes.min(of_file).min(media.pixels_max as f64);
        let fits = |picture: &Picture| picture.reserved <= bytes && picture.file.len() as u64 <= media.media_bytes_max;
        let mut side = (most * 0.98).sqrt() as u32 / 16 * 16;
        let mut worst = made(side);
        // Some files grow faster.
        while !fits(&worst) {
            side = side / 10 * 9 / 16 * 16;
            worst = made(side);
        }
        worst
    }
}

struct Picture {
    side: u32,
    reserved: u64,
    file: Vec<u8>,
}

struct Fed {
    kind: &'static str,
    side: u32,
    /// What one of the largest reserves, and what may be reserved at once.
    one: u64,
    at_once: u64,
    most: u64,
}

/// Worker with a model, and a topic with nothing hostile in it yet.
struct Trial {
    topic: Topic,
    worker: Process,
    store: QdrantEndpoint,
    _folders: [TempDir; 2],
    sent: i64,
    idle: u64,
}

impl Trial {
    async fn start(test: &str, setup: &Setup) -> Self {
        let topic = Topic::with(test, &[r#"{"text": "a cat"}"#]).await;
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let store = QdrantEndpoint::start(folders[1].path());
        let mut command = topic.run(&folders[0], &[("store.kind", "qdrant"), ("store.url", &store.url())]);
        if let Some(config) = &setup.config {
            command.arg("--config").arg(config);
        }
        set(&mut command, &setup.set.iter().map(|(key, value)| (*key, value.as_str())).collect::<Vec<_>>());
        let mut worker = Process::spawn(&mut command);
        worker.wait_for("the first message", async |_| (topic.committed() == 1).then_some(())).await;
        let idle = worker.resident().map_or(0, |resident| resident.most);
        Self { topic, worker, store, _folders: folders, sent: 1, idle }
    }

    /// All that the worker decodes at once is of this kind.
    async fn feed(&mut self, setup: &Setup, kind: Kind) -> Fed {
        let threads = setup.settings.clip.preprocess_threads() as u64;
        let mut whole = setup.worst(kind, setup.decode_bytes_max);
        let mut part = setup.worst(kind, setup.decode_bytes_max / threads);
        let at_once = whole.reserved.max(threads * part.reserved);
        for picture in [&mut whole, &mut part] {
            // As large a file as is allowed: nothing reads what is behind its end.
            picture.file.resize(setup.settings.media.media_bytes_max as usize, 0);
        }
        let (side, one) = (whole.side, whole.reserved);
        let files = [("whole", whole.file), ("part", part.file)];
        let files = files.map(|(name, file)| (name.to_owned(), Served::Picture(file)));
        let server = servers::http(BTreeMap::from(files)).await;
        let names = std::iter::once("whole").chain(std::iter::repeat_n("part", threads as usize));
        let names: Vec<_> = names.cycle().take(2 * (1 + threads as usize)).collect();
        let messages: Vec<_> = names
            .into_iter()
            .zip(self.sent..)
            .map(|(name, n)| {
                let url = format!("http://{}/{name}?{n}", server.address);
                (n.to_string(), json!({"image": url}).to_string().into_bytes())
            })
            .collect();
        reset_peak(self.worker.id());
        let pairs: Vec<_> = messages.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
        self.topic.produce_pairs(&pairs).await;
        self.sent += pairs.len() as i64;
        let (topic, sent) = (&self.topic, self.sent);
        self.worker.wait_for(kind.0, async |_| (topic.committed() == sent).then_some(())).await;
        let most = self.worker.resident().map_or(0, |resident| resident.most);
        Fed { kind: kind.0, side, one, at_once, most }
    }

    /// Every picture was indexed.
    async fn end(self) {
        let letters = self.topic.letters();
        self.worker.terminate();
        let (code, lines) = self.worker.end().await;
        assert_eq!(code, Some(0), "{lines:?}");
        assert!(letters.is_empty(), "{} dead letters: {:?}", letters.len(), letters.first());
        self.topic.end().await;
        self.store.stop().await;
    }
}

/// Begins the highest resident size of a process anew; false where that cannot be done.
fn reset_peak(process: u32) -> bool {
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").is_ok()
}

/// The worst kinds; all of them for so many minutes.
async fn no_kind_is_more_than_the_sum(test: &str, setup: &Setup) {
    if !reset_peak(std::process::id()) {
        return needs::go_without(Need::ResidentMemory, &format!("{test} is left out"));
    }
    let minutes: Option<f64> = std::env::var(MINUTES).ok().map(|minutes| minutes.parse().expect("a number"));
    let lasts = Duration::from_secs_f64(minutes.unwrap_or_default() * 60.0);
    let is_worst = |kind: &Kind| minutes.is_some() || WORST.contains(&kind.0);
    let kinds: Vec<Kind> = KINDS.iter().copied().filter(is_worst).collect();
    let mut trial = Trial::start(test, setup).await;
    let (allowed, idle, began) = (setup.allowed_bytes(), trial.idle, Instant::now());
    let mut rows: Vec<Fed> = Vec::new();
    loop {
        for kind in &kinds {
            let fed = trial.feed(setup, *kind).await;
            match rows.iter_mut().find(|row| row.kind == fed.kind) {
                Some(row) => row.most = row.most.max(fed.most),
                None => rows.push(fed),
            }
        }
        if began.elapsed() >= lasts {
            break;
        }
    }
    let mut table = format!("idle {} MiB, allowed {} MiB\n", idle / MIB, allowed / MIB);
    for row in &rows {
        let Fed { kind, side, one, at_once, most } = row;
        let [one, at_once, most] = [one, at_once, most].map(|bytes| bytes / MIB);
        writeln!(table, "| {kind} | {side} × {side} | {one} | {at_once} | {most} |").unwrap();
    }
    println!("{table}");
    trial.end().await;
    for row in &rows {
        assert!(row.most <= allowed, "{}: {} of {} MiB\n{table}", row.kind, row.most / MIB, allowed / MIB);
        assert!(row.most >= idle + row.at_once / 2, "{}: only {} MiB\n{table}", row.kind, row.most / MIB);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_base_deployment_takes_no_more_than_its_sum() {
    let setup = Setup::new(sizing::base_limit_bytes(), Some(sizing::base_config()), &[]);
    no_kind_is_more_than_the_sum("peak-base", &setup).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_worker_takes_no_more_than_its_sum() {
    let own = [
        ("clip.preprocess_threads", 4),
        ("clip.intra_op_threads", 1),
        ("media.media_bytes_max", 8 * MIB),
        ("pipeline.media_in_flight_bytes_max", 64 * MIB),
        ("pipeline.in_flight_max", 64),
    ];
    no_kind_is_more_than_the_sum("peak-small", &Setup::new(512 * MIB, None, &own)).await;
}
