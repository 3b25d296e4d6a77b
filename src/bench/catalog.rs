//! The catalog that benchmarks read.

use std::path::Path;

use serde_json::Value;

use super::BenchError;

/// Picture (below the catalog's folder) and caption of each item.
pub(super) fn read(catalog: &Path) -> Result<Vec<(String, String)>, BenchError> {
    let file = catalog.join("catalog.jsonl");
    let text = std::fs::read_to_string(&file).map_err(|source| BenchError::Io {
        what: format!("cannot read {}; run from the project's folder or name a catalog with --catalog", file.display()),
        source,
    })?;
    let item = |(number, line): (usize, &str)| {
        let item: Value = serde_json::from_str(line).unwrap_or_default();
        match (item["image"].as_str(), item["text"].as_str()) {
            (Some(image), Some(text)) => Ok((image.to_owned(), text.to_owned())),
            _ => Err(BenchError::Input(format!(
                "{} line {}: expected an object with \"image\" and \"text\"",
                file.display(),
                number + 1
            ))),
        }
    };
    let items = text.lines().enumerate().map(item).collect::<Result<Vec<_>, _>>()?;
    if items.is_empty() {
        return Err(BenchError::Input(format!("{} is empty", file.display())));
    }
    Ok(items)
}
