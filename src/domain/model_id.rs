//! Names of models, and the collection and folder names made from them.

use std::fmt;
use std::str::FromStr;

/// A model variant with its checkpoint, written `ViT-B-32/openai`, as OpenCLIP names its pretrained models.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelId {
    pub variant: String,
    pub checkpoint: String,
}

impl ModelId {
    /// Lower case with every run of other characters than letters and digits as one `-` (`-` itself kept): safe in
    /// collection and file names.
    pub fn slug(part: &str) -> String {
        let mut slug = String::with_capacity(part.len());
        for c in part.chars() {
            if c.is_ascii_alphanumeric() || c == '_' {
                slug.push(c.to_ascii_lowercase());
            } else if !slug.ends_with('-') {
                slug.push('-');
            }
        }
        slug.trim_matches('-').to_owned()
    }

    /// `{variant}__{checkpoint}`, as Immich names its exports: the model's folder below the models' directory.
    pub fn directory_name(&self) -> String {
        format!("{}__{}", self.variant, self.checkpoint).replace(['/', '\\'], "-")
    }

    /// Collection name from a template with `{catalog}`, `{variant}` and `{checkpoint}`, each slugged.
    pub fn collection(&self, template: &str, catalog: &str) -> String {
        template
            .replace("{catalog}", &Self::slug(catalog))
            .replace("{variant}", &Self::slug(&self.variant))
            .replace("{checkpoint}", &Self::slug(&self.checkpoint))
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.variant, self.checkpoint)
    }
}

impl FromStr for ModelId {
    type Err = InvalidModelId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let part_ok = |p: &str| !ModelId::slug(p).is_empty() && !p.contains(char::is_whitespace);
        match text.rsplit_once('/') {
            Some((variant, checkpoint)) if part_ok(variant) && part_ok(checkpoint) => {
                Ok(Self { variant: variant.to_owned(), checkpoint: checkpoint.to_owned() })
            }
            _ => Err(InvalidModelId { found: text.chars().take(100).collect() }),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a model id; expected VARIANT/CHECKPOINT, for example ViT-B-32/openai")]
pub struct InvalidModelId {
    pub found: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_a_collection_per_variant() {
        let id: ModelId = "ViT-B-32/laion2b_s34b_b79k".parse().unwrap();
        assert_eq!(id.to_string(), "ViT-B-32/laion2b_s34b_b79k");
        assert_eq!(
            id.collection("{catalog}__{variant}__{checkpoint}", "My Catalog"),
            "my-catalog__vit-b-32__laion2b_s34b_b79k"
        );
    }

    #[test]
    fn rejects_what_is_no_pair() {
        for bad in ["", "ViT-B-32", "/openai", "ViT-B-32/", "ViT B/openai"] {
            assert!(bad.parse::<ModelId>().is_err(), "{bad}");
        }
    }
}
