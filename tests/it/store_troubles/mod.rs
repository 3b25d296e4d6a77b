//! A Qdrant that does not take what it is given, for reasons that are no message's fault: limits, troubles of a server or a
//! cluster, a collection that somebody made anew, nodes that are away. At the port, and through a whole worker.
//!
//! Against the double of a server, or where no fault has to be asked for, against `CLIPSTREAM_TEST_QDRANT_URL`.

mod anew;
mod limits;
mod nodes;
mod worker;

use clipstream::domain::{Class, StoreReason};
use clipstream::store::StoreError;
use clipstream_test_support::qdrant::server::Server;
use qdrant_client::qdrant::{StrictModeConfig, UpdateCollectionBuilder};

/// The call that every write of ours is.
const WRITE: &str = "Points/UpdateBatch";
/// More than come while a fault lasts.
const MANY: usize = 1_000_000;

/// What an operator does; what is not given stays.
async fn limit(server: &Server, collection: &str, limits: StrictModeConfig) {
    let limits = StrictModeConfig { enabled: Some(true), ..limits };
    server
        .client()
        .update_collection(UpdateCollectionBuilder::new(collection).strict_mode_config(limits))
        .await
        .unwrap();
}

fn assert_outage(error: &StoreError, reason: StoreReason, said: &[&str]) {
    assert_eq!((error.class, error.reason), (Class::Outage, reason), "{error}");
    for part in said {
        assert!(error.to_string().contains(part), "{part:?} is not in {error}");
    }
}
