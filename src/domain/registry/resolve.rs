//! From what people type to an id of the table.
//!
//! Names are compared by their letters and digits alone, in lower case: `ViT-L/14@336px`, `vit_l_14_336` and
//! `ViT-L-14-336` differ in the rest only. What remains are other words for the same variant, and the names of
//! repositories.

use std::borrow::Cow;

use super::{Checkpoint, all};
use crate::domain::model_id::split_dimension;
use crate::domain::{Explain, Finding, ModelId};

/// Other words for a variant, in the form of [`key`]: OpenAI's own, Hugging Face's and timm's.
const VARIANT_ALIASES: [(&str, &str); 11] = [
    ("vitbasepatch32", "ViT-B-32"),
    ("vitbasepatch32clip224", "ViT-B-32"),
    ("vitbasepatch16", "ViT-B-16"),
    ("vitbasepatch16clip224", "ViT-B-16"),
    ("vitlargepatch14", "ViT-L-14"),
    ("vitlargepatch14clip224", "ViT-L-14"),
    ("vitl14336px", "ViT-L-14-336"),
    ("vitlargepatch14336", "ViT-L-14-336"),
    ("vitlargepatch14clip336", "ViT-L-14-336"),
    ("vithugepatch14clip224", "ViT-H-14"),
    ("vithugepatch14clip378", "ViT-H-14-378"),
];

/// Other words for a checkpoint, in the form of [`key`]: timm's.
const CHECKPOINT_ALIASES: [(&str, &str); 1] = [("metaclip2pt5b", "metaclip_fullcc")];

/// Owners of repositories that a name may begin with. In those of the first list a bare variant is OpenAI's checkpoint;
/// those of the second have others too, so that their name must say which.
const OWNERS_OF_OPENAI: [&str; 5] = ["openai", "qdrant", "xenova", "sentence-transformers", "immich-app"];
const OWNERS: [&str; 3] = ["laion", "apple", "timm"];

/// What a bare variant means where OpenAI has no checkpoint of it, and others have several: LAION's, the one that OpenCLIP's README
/// documents.
const BARE: [(&str, &str); 1] = [("ViT-H-14", "laion2b_s32b_b79k")];

/// Names less alike than this are not suggested.
const SIMILARITY_MIN: f64 = 0.6;

/// What was typed names no model of the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a known model; expected VARIANT/CHECKPOINT, for example ViT-B-32/openai")]
pub struct UnknownModel {
    /// As typed, cut.
    pub found: String,
    /// The model that was most likely meant.
    pub nearest: Option<ModelId>,
}

impl Explain for UnknownModel {
    fn explain(&self) -> Finding {
        let hint = match &self.nearest {
            Some(nearest) => format!("did you mean {nearest}?").into(),
            None => Cow::Borrowed("clipstream models list"),
        };
        Finding::new(self.to_string()).hint(hint)
    }
}

/// The model of the table that `text` names: its id in any notation (`ViT-B-32/openai`, `vit_b_32__openai`,
/// `ViT-B-32:openai`, `ViT-B-32-quickgelu/openai`), a repository of it (`openai/clip-vit-base-patch32`,
/// `hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K`), or its variant alone (`ViT-L/14@336px`, `clip-ViT-B-32`), which means
/// the checkpoint `openai` where there is one, or the only one. `@256` behind a name that is none with it (`ViT-L/14@336px` is one) is what
/// is kept of each vector.
///
/// # Errors
/// With the nearest name, if there is one that is near.
pub fn resolve(text: &str) -> Result<ModelId, UnknownModel> {
    whole(text).or_else(|unknown| {
        let (name, dimension) = split_dimension(text).ok_or_else(|| unknown.clone())?;
        Ok(ModelId { dimension: Some(dimension), ..whole(name).map_err(|_| unknown)? })
    })
}

/// The same without a dimension.
fn whole(text: &str) -> Result<ModelId, UnknownModel> {
    let exact = |row: &&Checkpoint| text.split_once('/') == Some((row.variant, row.checkpoint));
    let name = Name::of(text);
    let row = all().iter().find(exact).or_else(|| all().iter().find(|row| name.is(row))).or_else(|| {
        let sharing = all().iter().filter(|row| name.is_repository(row.weights));
        // Two of OpenCLIP's names share one repository, which is called as one of them.
        sharing.min_by_key(|row| key(row.variant) != name.key)
    });
    row.map(id_of).ok_or_else(|| UnknownModel { found: text.chars().take(100).collect(), nearest: nearest(&name.key) })
}

/// What this program calls the row's weights.
fn id_of(row: &Checkpoint) -> ModelId {
    row.same_as.and_then(|id| id.parse().ok()).unwrap_or_else(|| row.id())
}

/// Like [`resolve`], but `VARIANT/CHECKPOINT` of a model that is not in the table is taken as it stands.
///
/// # Errors
/// For what is neither, with the nearest name of the table.
pub fn resolve_or_custom(text: &str) -> Result<ModelId, UnknownModel> {
    resolve(text).or_else(|unknown| text.parse().map_err(|_| unknown))
}

/// A name without what all names may have.
struct Name {
    key: String,
    /// Whether a variant alone says enough.
    bare: bool,
}

impl Name {
    fn of(text: &str) -> Self {
        let lower = text.trim().to_ascii_lowercase();
        let lower = lower.strip_prefix("hf-hub:").unwrap_or(&lower);
        let (owner, name) = lower.split_once('/').unwrap_or(("", lower));
        let openai = OWNERS_OF_OPENAI.contains(&owner);
        let known = openai || OWNERS.contains(&owner);
        let whole = key(if known { name } else { lower });
        let whole = whole.strip_prefix("clip").unwrap_or(&whole);
        // Qdrant's pair is one repository per tower.
        let tower = if owner == "qdrant" { whole.strip_suffix("vision").or(whole.strip_suffix("text")) } else { None };
        Self { key: tower.unwrap_or(whole).to_owned(), bare: openai || !known }
    }

    fn is(&self, row: &Checkpoint) -> bool {
        variants(row).any(|variant| match self.key.strip_prefix(&variant) {
            Some("") => self.bare && bare_checkpoint(row.variant) == Some(row.checkpoint),
            Some(rest) => rest == key(row.checkpoint) || CHECKPOINT_ALIASES.contains(&(rest, row.checkpoint)),
            None => false,
        })
    }

    fn is_repository(&self, repository: &str) -> bool {
        Name::of(repository).key == self.key
    }
}

/// Every word for the row's variant.
fn variants(row: &Checkpoint) -> impl Iterator<Item = String> {
    let aliases = VARIANT_ALIASES.iter().filter(|(_, variant)| *variant == row.variant).map(|(alias, _)| *alias);
    aliases.map(str::to_owned).chain([key(row.variant)])
}

fn bare_checkpoint(variant: &str) -> Option<&'static str> {
    let named = BARE.iter().find(|(name, _)| *name == variant).map(|(_, checkpoint)| *checkpoint);
    named.or_else(|| {
        let mut all = all().iter().filter(|row| row.variant == variant).map(|row| row.checkpoint);
        let first = all.next();
        first.filter(|first| *first == "openai").or_else(|| first.filter(|_| all.next().is_none()))
    })
}

/// Letters and digits in lower case.
fn key(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn nearest(found: &str) -> Option<ModelId> {
    let similarity = |row: &Checkpoint| {
        let variant = key(row.variant);
        let whole = strsim::normalized_damerau_levenshtein(found, &(variant.clone() + &key(row.checkpoint)));
        let bare = if bare_checkpoint(row.variant) == Some(row.checkpoint) {
            strsim::normalized_damerau_levenshtein(found, &variant)
        } else {
            0.0
        };
        whole.max(bare)
    };
    let named = all().iter().filter(|row| row.same_as.is_none());
    let scored = named.map(|row| (similarity(row), row)).filter(|(score, _)| *score >= SIMILARITY_MIN);
    // Of equals the first, which is the better known one.
    scored.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, row)| row.id())
}
