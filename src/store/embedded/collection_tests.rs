use serde_json::json;

use super::*;
use crate::domain::{AssetId, Deletion, Embedding, Patch, Point, Record, Vectors};

const DIMENSION: usize = 512;

fn vector(n: usize) -> Option<Embedding> {
    let values = (0..DIMENSION).map(|i| ((n * 31 + i * 17) % 101) as f32 - 50.0 + i as f32 / 600.0).collect();
    Some(Embedding::normalised(values).unwrap())
}

fn point(n: usize, image: Option<Embedding>, text: Option<Embedding>) -> Point {
    let asset = AssetId::new(format!("p{n}")).unwrap();
    let id = PointId::of(None, &asset);
    let record = Record {
        asset,
        tenant: None,
        source: None,
        version: None,
        media: None,
        text_sha256: None,
        labels: None,
        deleted_at: None,
        base: None,
        indexed_at: "2026-11-23T10:00:00Z".into(),
    };
    let payload = json!({ "n": n }).as_object().cloned().unwrap();
    Point { id, vectors: Vectors { image, text }, kept: Vec::new(), payload, record }
}

fn created(path: &Path) -> (Collection, Arc<DiskBudget>) {
    let disk = Arc::new(DiskBudget::new(path.parent().unwrap(), 0));
    let fingerprint = Fingerprint {
        variant: "v".into(),
        checkpoint: "c".into(),
        dimension: DIMENSION,
        preprocessing: "p".into(),
        tokenizer: "t".into(),
        graph: "g".into(),
        activation: None,
        precision: None,
    };
    let collection = Collection::create("c", path, &disk, &fingerprint, &CollectionDefinition::built_in()).unwrap();
    (collection, disk)
}

/// As on a disk that is read-only for a while: the first request after the files are available again succeeds.
#[test]
fn a_collection_that_could_not_be_reopened_is_reopened_by_readers_and_not_after_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (path, away) = (folder.path().join("c"), folder.path().join("away"));
    let (collection, _) = created(&path);
    let point = point(1, vector(1), None);
    let id = point.id;
    collection.write(&[Write::Upsert(point)], Guard::Off).unwrap();
    fs::rename(&path, &away).unwrap();
    collection.reopen(&mut collection.writer().unwrap()).unwrap_err();
    assert_ne!(collection.records(&[id]).unwrap_err().reason, StoreReason::Closed);
    fs::rename(&away, &path).unwrap();
    assert_eq!(collection.records(&[id]).unwrap().len(), 1);
    collection.close();
    assert_eq!(collection.records(&[id]).unwrap_err().reason, StoreReason::Closed);
}

/// A point that changes leaves its indexed segment, and on that way the engine keeps vectors that an upsert does
/// not mention unless they are deleted. Reopening with a trimmed log must not make new operations look old.
#[test]
fn changes_to_indexed_points_hold_and_survive_a_trimmed_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c");
    let (collection, disk) = created(&path);
    // Beyond the engine's indexing threshold (10 MB per vector), and several log files long.
    for start in (0..6144).step_by(512) {
        let writes: Vec<_> = (start..start + 512).map(|n| Write::Upsert(point(n, vector(n), vector(n + 1)))).collect();
        collection.write(&writes, Guard::Off).unwrap();
    }
    let closed = || {
        fs::read_dir(path.join("wal"))
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("closed-"))
            .count()
    };
    assert!(closed() > 1);
    {
        let mut writer = collection.writer().unwrap();
        writer.points_since_optimize = OPTIMIZE_AFTER_POINTS;
        writer.bytes_since_open = LOG_BYTES_MAX;
        collection.maintain(&mut writer).unwrap();
    }
    assert_eq!(closed(), 1);
    assert!(collection.read(|shard| Ok(shard.info().indexed_vectors_count)).unwrap() > 0, "nothing was indexed");
    let patch = point(7, vector(11), None);
    let Point { id, vectors, kept, payload, record } = patch;
    let patch = Patch { id, vectors, kept, payload, record };
    let Point { id, record, .. } = point(6, None, None);
    let delete = Deletion { id, record };
    let upsert = point(5, vector(9), None);
    let (upserted, patched) = (upsert.id, patch.id);
    collection.write(&[Write::Upsert(upsert), Write::Patch(patch), Write::Delete(delete)], Guard::Off).unwrap();
    let ids = [upserted, patched].map(convert::id);
    let found = collection.read(|shard| shard.retrieve(&ids, None, Some(edge::WithVector::Bool(true)))).unwrap();
    let found: Vec<_> = found.into_iter().map(|r| convert::stored(r).unwrap()).collect();
    let near = |found: &Option<Vec<f32>>, expected: Option<Embedding>| {
        let found = Embedding::normalised(found.clone().unwrap()).unwrap();
        assert!(found.cosine(&expected.unwrap()) > 0.9999);
    };
    near(&found[0].image, vector(9));
    assert_eq!(found[0].text, None, "the upsert does not mention it");
    near(&found[1].image, vector(11));
    near(&found[1].text, vector(8));
    let count = |c: &Collection| c.read(|s| s.count(edge::CountRequest { filter: None, exact: true })).unwrap();
    assert_eq!(count(&collection), 6143);
    collection.close();
    assert_eq!(count(&Collection::load("c", &path, &disk).unwrap()), 6143);
}
