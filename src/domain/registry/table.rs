//! OpenCLIP's own table of its pretrained models, which it wrote itself (`tools/make_registry.py`). `tests/fixtures/registry.json`
//! has what OpenCLIP builds of each name; a test compares every row with it.

use std::sync::LazyLock;

use super::{Checkpoint, sources};

/// One object per name of OpenCLIP 3.3.0, in its order.
const OPEN_CLIP: &str = include_str!("open_clip.json");

static TABLE: LazyLock<Vec<Checkpoint>> = LazyLock::new(|| {
    let rows: serde_json::Result<Vec<Checkpoint>> = serde_json::from_str(OPEN_CLIP);
    let mut rows = rows.unwrap_or_else(|error| panic!("the table of models that is built in: {error}"));
    for row in &mut rows {
        row.sources = sources::of(row.variant, row.checkpoint);
    }
    rows
});

pub(super) fn all() -> &'static [Checkpoint] {
    &TABLE
}
