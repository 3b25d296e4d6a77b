//! After stage 4: the labels of each target's picture, from the vector that is there anyway.
//!
//! Every write that brings a picture says the picture's labels: those of a new vector, or those that the point records. If those were
//! found by other sets (the settings have changed since), they are found anew from the vector that the store has, so that nothing is
//! embedded for it.

use std::sync::Arc;

use uuid::Uuid;

use super::embed::{Embedded, TargetVectors};
use crate::domain::{
    Embedding, Failure, LabelRecord, Labelling, MediaRecord, Modality, PointId, RESERVED_KEY, Recorded, Stage,
};
use crate::store::{Store, StoreError, StoredPoint};

/// One target: its collection, what its pictures are labelled with, and what the collection records of the asset.
pub struct Labelled<'a> {
    pub collection: &'a str,
    pub labelling: Option<&'a Arc<Labelling>>,
    pub known: &'a Recorded,
}

/// Of each target, in order. `None`: a point has changed since its record was read, or its vector is not found; everything is to be
/// embedded.
pub async fn labels(
    targets: &[Labelled<'_>],
    embedded: &Embedded,
    id: PointId,
    store: &dyn Store,
) -> Result<Option<Vec<Option<LabelRecord>>>, Failure> {
    let mut all = Vec::with_capacity(targets.len());
    for (target, given) in targets.iter().zip(&embedded.targets) {
        let Some(labelling) = target.labelling else {
            all.push(None);
            continue;
        };
        let TargetVectors { vectors, kept, .. } = given;
        let labels = match (&vectors.image, &target.known.labels) {
            (Some(picture), _) => Some(labelling.of(picture)),
            (None, _) if !kept.contains(&Modality::Image) => None,
            (None, Some(known)) if known.sha256 == labelling.sha256() => Some(known.clone()),
            (None, _) => {
                let point = stored(store, target.collection, id).await.map_err(|error| error.at(Stage::Recall))?;
                let Some(picture) = point.and_then(|point| picture_of(point, embedded.media.as_ref()?)) else {
                    return Ok(None);
                };
                Some(labelling.of(&picture))
            }
        };
        all.push(labels);
    }
    Ok(Some(all))
}

async fn stored(store: &dyn Store, collection: &str, id: PointId) -> Result<Option<StoredPoint>, StoreError> {
    let before = id.as_uuid().as_u128().checked_sub(1).map(|before| PointId::from(Uuid::from_u128(before)));
    let found = store.scroll(collection, before, 1).await?;
    Ok(found.into_iter().find(|point| point.id == id))
}

/// The point's image vector, if its record says that it is of this picture.
fn picture_of(point: StoredPoint, media: &MediaRecord) -> Option<Embedding> {
    let recorded = Recorded::read(point.payload.get(RESERVED_KEY)?.as_object()?);
    let is_of_it = !recorded.is_tombstone() && recorded.media?.sha256 == media.sha256;
    Embedding::normalised(point.image.filter(|_| is_of_it)?).ok()
}
