//! The demo's catalog.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::json;

use super::DemoError;
use crate::domain::Finding;

/// The demo's pictures with their names: `catalog.jsonl`, one item per line.
pub struct Catalog {
    pub directory: PathBuf,
    pub items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
pub struct Item {
    pub id: String,
    /// Path below the catalog's folder.
    pub image: String,
    pub text: String,
    pub payload: serde_json::Value,
}

impl Catalog {
    pub fn read(directory: &Path) -> Result<Self, DemoError> {
        let file = directory.join("catalog.jsonl");
        let text = std::fs::read_to_string(&file).map_err(|e| {
            DemoError::Catalog(
                Finding::new(format!("cannot read {}: {e}", file.display()))
                    .hint("run the demo from the project's folder, or name its demo folder with --assets"),
            )
        })?;
        let wrong = |message: String| {
            DemoError::Catalog(Finding::new(message).hint("git checkout demo, or name another folder with --assets"))
        };
        let item = |(number, line): (usize, &str)| {
            serde_json::from_str(line).map_err(|e| wrong(format!("{} line {}: {e}", file.display(), number + 1)))
        };
        let items = text.lines().enumerate().map(item).collect::<Result<Vec<Item>, _>>()?;
        if items.is_empty() {
            return Err(wrong(format!("{} is empty; expected one item per line", file.display())));
        }
        Ok(Self { directory: directory.to_owned(), items })
    }
}

impl Item {
    /// The picture's message, for a topic whose default `op` is `patch`.
    pub fn image_message(&self, media_url: &str) -> Vec<u8> {
        json!({ "image": format!("{media_url}/{}", self.image), "payload": self.payload }).to_string().into_bytes()
    }

    /// The caption's message, for the same point as the picture's.
    pub fn caption_message(&self) -> Vec<u8> {
        json!({ "text": self.text, "payload": { "name": self.text } }).to_string().into_bytes()
    }
}
