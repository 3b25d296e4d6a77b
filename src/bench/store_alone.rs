//! What a store takes of the processor, without a pipeline.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::{BenchError, input};
use crate::api::processor_time;
use crate::config::StoreSettings;
use crate::domain::{AssetId, Embedding, Point, RESERVED_KEY, Record, Vectors, Write};
use crate::shutdown::Shutdown;
use crate::store::{Store, StoredPoint};

/// Writes the points of `from` to the empty collection `to`, in the batches and with the concurrency that `settings` name. Returns
/// processor seconds per point; `None`: `shutdown` was requested.
pub(super) async fn needs(
    from: (&Arc<dyn Store>, &str),
    to: (&Arc<dyn Store>, &str),
    settings: &StoreSettings,
    shutdown: &Shutdown,
) -> Result<Option<f64>, BenchError> {
    let mut writes = Vec::new();
    let mut after = None;
    loop {
        let points = from.0.scroll(from.1, after, settings.batch_points_max).await?;
        let Some(last) = points.last() else { break };
        after = Some(last.id);
        writes.push(points.into_iter().map(write).collect::<Result<Vec<_>, _>>()?);
    }
    let points: usize = writes.iter().map(Vec::len).sum();
    let before = processor_time();
    stream::iter(writes)
        .take_until(shutdown.requested())
        .map(|batch| async move { to.0.write(to.1, &batch, settings.guard).await.map(drop) })
        .buffer_unordered(settings.writes_in_flight_max)
        .try_collect::<()>()
        .await?;
    let each = processor_time().saturating_sub(before).as_secs_f64() / points.max(1) as f64;
    Ok((!shutdown.is_requested()).then_some(each))
}

/// The write of a whole new point with the same vectors and payload.
fn write(point: StoredPoint) -> Result<Write, BenchError> {
    let StoredPoint { id, image, text, mut payload } = point;
    let unusable = |what: String| input(format!("the store gave a point that was not written to it: {what}"));
    let vector = |values: Option<Vec<f32>>| {
        values.map(|values| Embedding::normalised(values).map_err(|e| unusable(e.to_string()))).transpose()
    };
    let known = payload.remove(RESERVED_KEY).unwrap_or_default();
    let asset = known["asset_id"].as_str().unwrap_or_default();
    let record = Record {
        asset: AssetId::new(asset).map_err(|e| unusable(e.to_string()))?,
        tenant: None,
        source: None,
        version: None,
        media: None,
        text_sha256: known["text_sha256"].as_str().map(str::to_owned),
        labels: None,
        deleted_at: None,
        base: None,
        indexed_at: known["indexed_at"].as_str().unwrap_or_default().to_owned(),
    };
    let vectors = Vectors { image: vector(image)?, text: vector(text)? };
    Ok(Write::Upsert(Point { id, vectors, kept: Vec::new(), payload, record }))
}
