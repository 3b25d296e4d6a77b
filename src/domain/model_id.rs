//! Names of models, and the collection and folder names made from them.

use std::fmt;
use std::str::FromStr;

/// A model variant with its checkpoint, written `ViT-B-32/openai`, as OpenCLIP names its pretrained models; with `@256` behind it, its
/// vectors are cut to 256 values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelId {
    pub variant: String,
    pub checkpoint: String,
    /// Values that are kept of each vector. None: all.
    pub dimension: Option<usize>,
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

    /// The model whose vectors are not cut.
    #[must_use]
    pub fn whole(&self) -> Self {
        Self { dimension: None, ..self.clone() }
    }

    /// `{variant}__{checkpoint}`, as Immich names its exports: the model's folder below the models' directory, whatever is kept of
    /// its vectors.
    pub fn directory_name(&self) -> String {
        format!("{}__{}", self.variant, self.checkpoint).replace(['/', '\\'], "-")
    }

    /// Collection name from a template with `{catalog}`, `{variant}` and `{checkpoint}`, each slugged. The checkpoint's part ends with
    /// the dimension, where vectors are cut: `mrl-256`.
    pub fn collection(&self, template: &str, catalog: &str) -> String {
        template
            .replace("{catalog}", &Self::slug(catalog))
            .replace("{variant}", &Self::slug(&self.variant))
            .replace("{checkpoint}", &Self::slug(&self.checkpoint_written()))
    }
}

impl ModelId {
    fn checkpoint_written(&self) -> String {
        let dimension = self.dimension.map_or(String::new(), |dimension| format!("@{dimension}"));
        format!("{}{dimension}", self.checkpoint)
    }
}

/// `256` of `name@256`, and what is before it.
pub(super) fn split_dimension(text: &str) -> Option<(&str, usize)> {
    let (name, dimension) = text.trim_end().rsplit_once('@')?;
    let is_number = !dimension.is_empty() && dimension.bytes().all(|b| b.is_ascii_digit());
    Some((name, dimension.parse().ok().filter(|_| is_number)?))
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.variant, self.checkpoint_written())
    }
}

impl FromStr for ModelId {
    type Err = InvalidModelId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, dimension) = split_dimension(text).map_or((text, None), |(name, dimension)| (name, Some(dimension)));
        let part_ok = |p: &str| !ModelId::slug(p).is_empty() && !p.contains(char::is_whitespace);
        match name.rsplit_once('/') {
            Some((variant, checkpoint)) if part_ok(variant) && part_ok(checkpoint) => {
                Ok(Self { variant: variant.to_owned(), checkpoint: checkpoint.to_owned(), dimension })
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
    fn a_dimension_is_part_of_the_name_and_of_no_directory() {
        let id: ModelId = "nllb-clip-base-siglip/mrl@256".parse().unwrap();
        assert_eq!((id.checkpoint.as_str(), id.dimension), ("mrl", Some(256)));
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        assert_eq!(id.collection("{catalog}__{variant}__{checkpoint}", "c"), "c__nllb-clip-base-siglip__mrl-256");
        assert_eq!(
            (id.directory_name(), id.whole().to_string().as_str()),
            (id.whole().directory_name(), "nllb-clip-base-siglip/mrl")
        );
        for other in ["a/b@x", "a/b@", "a/b@-1", "a/b@99999999999999999999"] {
            let id: ModelId = other.parse().unwrap();
            assert_eq!((id.to_string().as_str(), id.dimension), (other, None));
        }
    }

    #[test]
    fn rejects_what_is_no_pair() {
        for bad in ["", "ViT-B-32", "/openai", "ViT-B-32/", "ViT B/openai", "@256", "ViT-B-32@256", "ViT-B-32/@256"] {
            assert!(bad.parse::<ModelId>().is_err(), "{bad}");
        }
    }
}
