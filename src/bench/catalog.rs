//! The catalog that benchmarks read.

use std::path::Path;

use serde_json::Value;

use super::{BenchError, input};
use crate::domain::Finding;

const ELSEWHERE: &str = "run from the project's folder, or name a catalog with --catalog";

/// Picture (below the catalog's folder) and caption of each item.
pub(super) fn read(catalog: &Path) -> Result<Vec<(String, String)>, BenchError> {
    let file = catalog.join("catalog.jsonl");
    let text = std::fs::read_to_string(&file).map_err(|error| unreadable("read", &file, &error))?;
    let item = |(number, line): (usize, &str)| {
        let item: Value = serde_json::from_str(line).unwrap_or_default();
        match (item["image"].as_str(), item["text"].as_str()) {
            (Some(image), Some(text)) => Ok((image.to_owned(), text.to_owned())),
            _ => Err(input(format!(
                "{} line {}: expected an object with \"image\" and \"text\"",
                file.display(),
                number + 1
            ))),
        }
    };
    let items = text.lines().enumerate().map(item).collect::<Result<Vec<_>, _>>()?;
    if items.is_empty() {
        return Err(empty(&file, "one item per line"));
    }
    Ok(items)
}

/// A file or folder of the catalog that cannot be opened.
pub(super) fn unreadable(verb: &str, path: &Path, error: &std::io::Error) -> BenchError {
    BenchError::Input(Finding::new(format!("cannot {verb} {}: {error}", path.display())).hint(ELSEWHERE))
}

/// A file or folder of the catalog without content.
pub(super) fn empty(path: &Path, expected: &str) -> BenchError {
    BenchError::Input(Finding::new(format!("{} is empty; expected {expected}", path.display())).hint(ELSEWHERE))
}
