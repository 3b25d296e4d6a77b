//! Settings of `[labels]`.

use std::collections::BTreeMap;

use super::clip::ClipSettings;
use super::reader::{Reader, Review};
use super::show::as_toml;
use super::text::{Expected, Text};
use crate::domain::{LabelSet, ModelId, registry};

/// `[labels]`: sets of labels, by name, that the worker records of pictures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelSettings {
    pub sets: BTreeMap<String, LabelSetSettings>,
}

/// `[labels.NAME]`: labels that compete with each other where the model was trained with a softmax.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelSetSettings {
    pub labels: Vec<String>,
    /// Texts around a label, with `{}` in its place; several are averaged.
    pub templates: Vec<String>,
    /// The score from which on a label is recorded, from 0 to 1.
    pub threshold: f64,
    /// The models that it is for; none: all.
    pub models: Vec<ModelId>,
}

impl Default for LabelSetSettings {
    fn default() -> Self {
        Self { labels: Vec::new(), templates: vec!["a photo of a {}".to_owned()], threshold: 0.2, models: Vec::new() }
    }
}

impl LabelSettings {
    /// The sets that are for a model.
    pub fn of<'a>(&'a self, model: &'a ModelId) -> impl Iterator<Item = &'a LabelSetSettings> {
        self.sets.values().filter(|set| set.is_for(model))
    }

    pub(super) fn read(section: &mut Reader) -> Self {
        Self { sets: section.tables(LabelSetSettings::read) }
    }

    pub(super) fn review(&self, clip: &ClipSettings, review: &mut Review<'_>) {
        for (name, set) in &self.sets {
            let key = |key: &str| format!("labels.{name}.{key}");
            // Environment variables and --set reach no others.
            let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
            review.expect(name.chars().all(is_plain), &format!("labels.{name}"), || {
                Expected::new("a name of lower-case letters, digits, - and _")
            });
            if let Err(found) = LabelSet::texts(&set.labels, &[]) {
                review.wrong(&key("labels"), Expected::new("different labels").hint(found.message));
            }
            if let Err(found) = LabelSet::texts(&["any".to_owned()], &set.templates) {
                review.wrong(&key("templates"), Expected::new("texts with {}").hint(found.message));
            }
            for model in &set.models {
                review.expect(clip.entry(Some(model)).is_some(), &key("models"), || {
                    Expected::new(format!("models of clip.models; {model} is not among them"))
                });
            }
        }
        for entry in &clip.models {
            self.review_of(&entry.id, review);
        }
    }

    /// A label says nothing of its set, so sets of one model cannot share any.
    fn review_of(&self, model: &ModelId, review: &mut Review<'_>) {
        let mut known: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, set) in self.sets.iter().filter(|(_, set)| set.is_for(model)) {
            for label in &set.labels {
                let other = known.insert(label, name).filter(|other| *other != name.as_str());
                review.expect(other.is_none(), &format!("labels.{name}.labels"), || {
                    Expected::new(format!(
                        "labels that no other set of {model} has; {label:?} is also in labels.{}",
                        other.unwrap_or_default()
                    ))
                });
            }
        }
    }
}

impl LabelSetSettings {
    fn is_for(&self, model: &ModelId) -> bool {
        self.models.is_empty() || self.models.contains(model)
    }

    fn read(table: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            labels: table.list("labels", default.labels),
            templates: table.list("templates", default.templates),
            threshold: table.share("threshold", default.threshold),
            models: table.list("models", default.models),
        }
    }
}

impl Text for ModelId {
    fn parse(text: &str) -> Result<Self, Expected> {
        registry::resolve_or_custom(text.trim()).map_err(|unknown| {
            let expected = Expected::new("VARIANT/CHECKPOINT, one of clip.models");
            match unknown.nearest {
                Some(near) => expected.hint(format!("did you mean {near}?")),
                None => expected,
            }
        })
    }

    fn text(&self) -> String {
        self.to_string()
    }

    /// What is before an `@` is no user.
    fn shown(&self) -> String {
        as_toml(&self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Layers, Settings};
    use super::*;

    const TWO_MODELS: &str = "[clip]\nmodels = ['ViT-B-32/openai=m', 'ViT-B-16-SigLIP2/webli=n', 'own/v1@64=o']\n";

    fn load(toml: &str) -> Result<Settings, String> {
        let layers = Layers::default().with_text("f", &format!("{TWO_MODELS}{toml}"));
        Settings::load(layers).map_err(|errors| errors.to_string())
    }

    #[test]
    fn sets_have_names_and_defaults_and_models() {
        let settings = load(
            "[labels.content]\nlabels = ['shoe', 'a hat, worn']\n\
             [labels.mood]\nlabels = ['calm']\ntemplates = ['{}', 'a {} picture']\nthreshold = 0\nmodels = ['ViT-B-32/openai', 'own/v1@64']\n",
        )
        .unwrap();
        let ids: Vec<ModelId> = settings.clip.models.iter().map(|entry| entry.id.clone()).collect();
        let sets = |id: &ModelId| settings.labels.of(id).cloned().collect::<Vec<_>>();
        let labels = vec!["shoe".to_owned(), "a hat, worn".to_owned()];
        let content = LabelSetSettings { labels, ..LabelSetSettings::default() };
        assert_eq!(sets(&ids[1]), std::slice::from_ref(&content));
        assert_eq!((content.threshold, content.templates), (0.2, vec!["a photo of a {}".to_owned()]));
        let mood = &sets(&ids[0])[1];
        assert_eq!(
            (mood.threshold, mood.templates.len(), &mood.models),
            (0.0, 2, &vec![ids[0].clone(), ids[2].clone()])
        );
        // What is shown loads again to the same, with the ids of models whose vectors are cut.
        let again = Settings::load(Layers::default().with_text("g", &settings.show())).unwrap();
        assert_eq!((&again.labels, &again.clip.models), (&settings.labels, &settings.clip.models));
    }

    #[test]
    fn the_environment_and_flags_reach_them() {
        let layers = Layers::default()
            .with_environment([("CLIPSTREAM__LABELS__CONTENT__LABELS", "shoe, hat")])
            .with_flag("--set", "labels.content.threshold=0.75");
        let content = &Settings::load(layers).unwrap().labels.sets["content"];
        assert_eq!((&content.labels[..], content.threshold), (&["shoe".to_owned(), "hat".to_owned()][..], 0.75));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (toml, key, part) in [
            ("[labels.content]\nthreshold = 0.5\n", "labels.content.labels", "at least one"),
            ("[labels.content]\nlabels = ['a', 'a']\n", "labels.content.labels", "\"a\" is there twice"),
            ("[labels.content]\nlabels = ['a']\ntemplates = ['x']\n", "labels.content.templates", "has no {}"),
            ("[labels.content]\nlabels = ['a']\nthreshold = 1.5\n", "labels.content.threshold", "0 to 1"),
            ("[labels.content]\nlabels = ['a']\nthreshold = 'nan'\n", "labels.content.threshold", "0 to 1"),
            ("[labels.content]\nlabels = ['a']\nmodels = ['RN50/openai']\n", "labels.content.models", "not among them"),
            ("[labels.content]\nlabels = ['a']\nlabel = 'b'\n", "labels.content.label", "a key of [labels.content]"),
            ("[labels]\nlabels = ['a']\n", "labels.labels", "a table: [labels.labels]"),
            ("[labels.'A b']\nlabels = ['a']\n", "labels.A b", "lower-case letters"),
            ("[labels.a]\nlabels = ['x']\n[labels.b]\nlabels = ['x']\n", "labels.b.labels", "also in labels.a"),
        ] {
            let error = load(toml).expect_err(toml);
            assert!(error.contains(key) && error.contains(part), "{toml}: {error}");
        }
        // Sets of different models may share labels.
        let apart = "[labels.a]\nlabels = ['x']\nmodels = ['ViT-B-32/openai']\n\
                     [labels.b]\nlabels = ['x']\nmodels = ['ViT-B-16-SigLIP2/webli']\n";
        assert!(load(apart).is_ok());
    }
}
