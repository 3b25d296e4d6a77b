//! What the store holds against what it must hold, and the dead letters against the messages that must die.

use std::collections::{BTreeMap, BTreeSet};

use clipstream::api::Embedder;
use clipstream::config::{ModelEntry, Settings};
use clipstream::domain::{AssetId, Embedding, PointId, RESERVED_KEY, Tenant};
use clipstream::store::{Store, StoredPoint};
use rdkafka::message::OwnedMessage;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::expected::{Asset, Expected, Whose};
use crate::journal::{Journal, Place};
use crate::letters;
use crate::media::Picture;
use crate::topics::Topic;

const COSINE_MIN: f64 = 0.9999;
/// Differences that are shown with the history of their asset.
const SHOWN_MAX: usize = 8;

/// What was found. All but `skipped`, `points`, `duplicate_letters` and `dead_letters` must be zero.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Points, or dead letters, that should be there and are not; good messages among the dead.
    pub lost: u64,
    /// Those of them that are dead letters.
    pub wrongly_dead: u64,
    /// Two points of one asset.
    pub doubled: u64,
    /// An older state than the last one.
    pub stale: u64,
    /// Another state than any that was asked for.
    pub wrong: u64,
    /// Messages that the broker removed before they were read, as a worker said.
    pub skipped: u64,
    pub points: u64,
    pub dead_letters: u64,
    pub duplicate_letters: u64,
    pub differences: Vec<String>,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        (self.lost, self.doubled, self.stale, self.wrong) == (0, 0, 0, 0)
    }

    /// What was found elsewhere counts as well.
    pub fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.wrongly_dead += other.wrongly_dead;
        self.doubled += other.doubled;
        self.stale += other.stale;
        self.wrong += other.wrong;
        self.skipped += other.skipped;
        self.points += other.points;
        self.dead_letters += other.dead_letters;
        self.duplicate_letters += other.duplicate_letters;
        self.differences.extend(other.differences);
    }

    pub fn note(&mut self, what: String) {
        if self.differences.len() < SHOWN_MAX {
            self.differences.push(what);
        }
    }
}

/// The library's own vectors of everything that assets are made of, by URL and by text.
pub struct Vectors {
    images: BTreeMap<String, Embedding>,
    texts: BTreeMap<String, Embedding>,
}

impl Vectors {
    pub async fn of(expected: &Expected, pictures: &BTreeMap<String, Picture>) -> Result<Self, Error> {
        let mut settings = Settings::default();
        let directory = Some(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model").into());
        settings.clip.models = vec![ModelEntry { id: crate::campaign::MODEL.parse()?, directory }];
        let embedder = Embedder::open(&settings, None).await?;
        let assets = expected.assets.values().filter(|asset| !asset.deleted);
        let urls: BTreeSet<String> = assets.clone().filter_map(|asset| asset.image.clone()).collect();
        let texts: BTreeSet<String> = assets.filter_map(|asset| asset.text.clone()).collect();
        let mut images = BTreeMap::new();
        for url in urls {
            let bytes = pictures.get(&url).ok_or("a picture that was not planned")?.bytes.clone();
            images.insert(url, embedder.embed_image(bytes.to_vec().into()).await?);
        }
        let texts: Vec<String> = texts.into_iter().collect();
        let embedded = embedder.embed_documents(&texts).await?;
        Ok(Self { images, texts: texts.into_iter().zip(embedded).collect() })
    }
}

pub async fn scroll(store: &dyn Store, collection: &str) -> Result<Vec<StoredPoint>, Error> {
    let (mut points, mut after) = (Vec::<StoredPoint>::new(), None);
    loop {
        let page = store.scroll(collection, after, 500).await?;
        let Some(last) = page.last() else { return Ok(points) };
        after = Some(last.id);
        points.extend(page);
    }
}

/// Everything that [`judge`] needs to know.
pub struct Evidence<'a> {
    pub expected: &'a Expected,
    pub stored: &'a [StoredPoint],
    pub vectors: &'a Vectors,
    pub pictures: &'a BTreeMap<String, Picture>,
    pub letters: &'a [OwnedMessage],
    pub journal: &'a Journal,
}

pub fn judge(evidence: &Evidence<'_>) -> Result<Verdict, Error> {
    let mut verdict = Verdict::default();
    judge_points(evidence, &mut verdict)?;
    letters::judge(evidence, &mut verdict)?;
    Ok(verdict)
}

fn judge_points(evidence: &Evidence<'_>, verdict: &mut Verdict) -> Result<(), Error> {
    let mut found: BTreeMap<PointId, &StoredPoint> = BTreeMap::new();
    let mut assets: BTreeSet<(Option<&str>, &str)> = BTreeSet::new();
    for point in evidence.stored {
        let (tenant, id) = (record(point)["tenant"].as_str(), record(point)["asset_id"].as_str());
        let asset = id.map(|id| (tenant, id));
        let twice = found.insert(point.id, point).is_some() || asset.is_some_and(|asset| !assets.insert(asset));
        if twice {
            verdict.doubled += 1;
            verdict.note(format!("point {} of asset {asset:?} is there twice", point.id));
        }
    }
    for (key, asset) in &evidence.expected.assets {
        let tenant = key.tenant.as_deref().map(Tenant::new).transpose()?;
        let id = PointId::of(tenant.as_ref(), &AssetId::new(key.id.as_str())?);
        let stored = found.remove(&id);
        verdict.points += u64::from(!asset.deleted);
        let Some(what) = difference(key, asset, stored, evidence) else { continue };
        if stored.is_none() && asset.removed.is_some_and(|place| evidence.journal.was_skipped(place)) {
            verdict.skipped += 1;
            continue;
        }
        let kind = if stored.is_none() {
            verdict.lost += 1;
            "LOST"
        } else if stored.is_some_and(|point| is_older(asset, point)) {
            verdict.stale += 1;
            "STALE"
        } else {
            verdict.wrong += 1;
            "WRONG"
        };
        verdict.note(format!("{kind} {key:?}: {what}\n{}", history(asset, evidence.journal)));
    }
    let lives: BTreeSet<&str> = evidence.stored.iter().filter_map(topic_id_of_anew).collect();
    if lives.len() > 1 {
        verdict.stale += 1;
        verdict.note(format!(
            "STALE: there are points of {} topics named {}: {lives:?}",
            lives.len(),
            Topic::Anew.name()
        ));
    }
    for (id, point) in found {
        verdict.wrong += 1;
        verdict.note(format!("WRONG: nobody asked for point {id}: {}", Value::Object(point.payload.clone())));
    }
    Ok(())
}

/// What workers say was removed before it was read must have been removed.
pub fn judge_skipped(expected: &Expected, journal: &Journal, verdict: &mut Verdict) {
    let removed: BTreeSet<Place> = expected.assets.values().filter_map(|asset| asset.removed).collect();
    for ((topic, partition), from, to) in journal.all_skipped() {
        let kept = (from..=to).filter(|offset| !removed.contains(&(topic, partition, *offset)));
        let (kept, at) = (kept.collect::<Vec<_>>(), format!("{}[{partition}], offsets {from} to {to}", topic.name()));
        if from > to || !kept.is_empty() {
            verdict.wrong += 1;
            verdict.note(format!(
                "WRONG: a worker says that {at} were removed before they were read; {} were not, the first {:?}",
                kept.len(),
                kept.first()
            ));
        }
    }
}

fn record(point: &StoredPoint) -> &Value {
    point.payload.get(RESERVED_KEY).unwrap_or(&Value::Null)
}

/// What is not as it should be.
fn difference(key: &Whose, asset: &Asset, stored: Option<&StoredPoint>, evidence: &Evidence<'_>) -> Option<String> {
    let Some(point) = stored else { return (!asset.deleted).then(|| "there is no point".to_owned()) };
    let (record, mut payload) = (record(point), point.payload.clone());
    if (record["tenant"].as_str(), record["asset_id"].as_str()) != (key.tenant.as_deref(), Some(key.id.as_str())) {
        return Some(format!("it is of another asset: {record}"));
    }
    payload.remove(RESERVED_KEY);
    let is_tombstone = record["deleted_at"].is_string();
    if asset.deleted {
        let empty = is_tombstone && payload.is_empty() && point.image.is_none() && point.text.is_none();
        return (!empty).then(|| format!("it was deleted, and is there: {}", Value::Object(point.payload.clone())));
    }
    if is_tombstone {
        return Some(format!("it is a tombstone: {record}"));
    }
    if payload != asset.payload {
        let (found, expected) = (Value::Object(payload), Value::Object(asset.payload.clone()));
        return Some(format!("payload {found}, expected {expected}; record {record}"));
    }
    if record["version"].as_u64() != asset.version {
        return Some(format!("version {}, expected {:?}", record["version"], asset.version));
    }
    if !source(record).is_some_and(|place| asset.sources.values().flatten().any(|allowed| *allowed == place)) {
        return Some(format!("source {}, expected one of {:?}", record["source"], asset.sources));
    }
    let text = asset.text.as_ref().map(|text| &evidence.vectors.texts[text]);
    let image = asset.image.as_ref().map(|url| &evidence.vectors.images[url]);
    let vectors = vector("text", point.text.as_deref(), text).or(vector("image", point.image.as_deref(), image));
    if let Some(what) = vectors {
        return Some(format!("{what}; record {record}"));
    }
    let text_sha256 = asset.text.as_ref().map(|text| hex(&Sha256::digest(text)));
    if record["text_sha256"].as_str() != text_sha256.as_deref() {
        return Some(format!("text_sha256 {}, expected {text_sha256:?}", record["text_sha256"]));
    }
    let sha256 = asset.image.as_ref().map(|url| evidence.pictures[url].sha256.as_str());
    let (url, media) = (asset.image.as_deref(), &record["media"]);
    if (media["url"].as_str(), media["sha256"].as_str()) != (url, sha256) {
        return Some(format!("media {media}, expected {url:?} with sha256 {sha256:?}"));
    }
    None
}

fn vector(name: &str, found: Option<&[f32]>, expected: Option<&Embedding>) -> Option<String> {
    let (found, expected) = match (found, expected) {
        (None, None) => return None,
        (Some(found), Some(expected)) => (found, expected.as_slice()),
        (found, expected) => {
            return Some(format!(
                "{name} vector: found {}, expected {}",
                if found.is_some() { "one" } else { "none" },
                if expected.is_some() { "one" } else { "none" }
            ));
        }
    };
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = dot(found, expected) / dot(found, found).sqrt() / dot(expected, expected).sqrt();
    // Not a number is not above it either.
    let close = found.len() == expected.len() && cosine > COSINE_MIN;
    (!close).then(|| format!("{name} vector: cosine {cosine:.5} to the one that it should be"))
}

/// Whether the point's own record says that it comes from an earlier message than the last.
fn is_older(asset: &Asset, point: &StoredPoint) -> bool {
    let record = record(point);
    if let (Some(found), Some(expected)) = (record["version"].as_u64(), asset.version) {
        return found < expected;
    }
    let Some((topic, partition, offset)) = source(record) else { return false };
    let last =
        asset.history.iter().rev().find(|((t, p, _), _, note)| (*t, *p) == (topic, partition) && note.is_empty());
    last.is_some_and(|((_, _, last), ..)| offset < *last)
}

/// Of a point of the topic that was made anew, each of whose lives writes all of its assets.
fn topic_id_of_anew(point: &StoredPoint) -> Option<&str> {
    let source = &record(point)["source"];
    (source["topic"] == Topic::Anew.name()).then(|| source["topic_id"].as_str().unwrap_or("none"))
}

fn source(record: &Value) -> Option<Place> {
    let source = &record["source"];
    let partition = source["partition"].as_i64()?.try_into().ok()?;
    Some((Topic::named(source["topic"].as_str()?)?, partition, source["offset"].as_i64()?))
}

/// The last messages of an asset, and who processed them when.
fn history(asset: &Asset, journal: &Journal) -> String {
    const LAST: usize = 12;
    let skipped = asset.history.len().saturating_sub(LAST);
    let lines = asset.history.iter().skip(skipped).map(|((topic, partition, offset), message, note)| {
        let processed: Vec<String> = journal
            .processed((*topic, *partition, *offset))
            .iter()
            .map(|p| format!("worker {} at {:.1} s", p.worker, p.at.as_secs_f64()))
            .collect();
        let processed = if processed.is_empty() { "not processed".to_owned() } else { processed.join(", ") };
        format!("    {}[{partition}]@{offset} {message} {note} [{processed}]", topic.name())
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
