//! The layouts of model files as a table: where each tower's graph is, what is beside it, and how repositories of the hub
//! have them. `directory` and `hub` read it; tests hold the registry, `docs/model-files.md` and
//! `docs/models.md` to it. A new layout is a new row, and a variant of [`Layout`] where the hub has it.

use crate::domain::registry::Layout;

/// What says how to preprocess: OpenCLIP's own file, OpenCLIP's on the hub, Hugging Face's.
pub const OPEN_CLIP: &str = "preprocess_cfg.json";
pub const OPEN_CLIP_HUB: &str = "open_clip_config.json";
pub const HUGGING_FACE: &str = "preprocessor_config.json";

pub const TOKENIZER: &str = "tokenizer.json";
/// What is beside a `tokenizer.json`: the names of special tokens, NLLB's language, whether texts have a mask.
pub use crate::tokenize::TOKENIZER_CONFIG;

/// What the model was made with; may give the context length.
pub const CONFIG: &str = "config.json";
/// What our export tool says of a model's files.
pub const MANIFEST: &str = "clipstream.json";
/// Vectors to compare with.
pub const GOLDEN: &str = "golden.json";

/// One way to lay out the files of a model.
#[derive(Debug)]
pub struct DirectoryLayout {
    pub name: &'static str,
    pub image: Place,
    /// The same as `image` where one graph has both towers.
    pub text: Place,
    /// File names, by preference, looked for beside the image tower and in the directory itself.
    pub preprocess: &'static [&'static str],
    /// Whether preprocessing and tokenizer may be left out: the export had them in its code.
    pub bare: bool,
    /// Repositories of the hub that are fetched into such a directory; none: those are not known to be worth fetching.
    pub hub: Option<OnHub>,
}

/// How the hub has a layout.
#[derive(Debug)]
pub struct OnHub {
    /// What the registry calls it.
    pub layout: Layout,
    /// Whether each tower is a repository of its own, at its root, which goes to the tower's folder.
    pub is_pair: bool,
    /// Whether preprocessing and tokenizer are at the root of the repository, not in their towers' folders.
    pub is_beside_root: bool,
}

/// Where a graph is: a folder, and the file's name without its precision and `.onnx`.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name, or what its name ends in after a `-`. Empty: the directory itself.
    pub folder: &'static str,
    pub stem: &'static str,
}

const fn at(folder: &'static str, stem: &'static str) -> Place {
    Place { folder, stem }
}

/// In the order in which they are tried. A directory may have split and combined graphs: the split ones are taken.
pub static LAYOUTS: [DirectoryLayout; 8] = [
    DirectoryLayout {
        name: "Immich",
        image: at("visual", "model"),
        text: at("textual", "model"),
        preprocess: &[OPEN_CLIP],
        bare: false,
        hub: Some(OnHub { layout: Layout::Immich, is_pair: false, is_beside_root: false }),
    },
    DirectoryLayout {
        name: "FastEmbed pair",
        image: at("vision", "model"),
        text: at("text", "model"),
        preprocess: &[HUGGING_FACE],
        bare: false,
        hub: Some(OnHub { layout: Layout::FastEmbedPair, is_pair: true, is_beside_root: true }),
    },
    DirectoryLayout {
        name: "Optimum",
        image: at("onnx", "vision_model"),
        text: at("onnx", "text_model"),
        preprocess: &[HUGGING_FACE, OPEN_CLIP],
        bare: false,
        hub: Some(OnHub { layout: Layout::Xenova, is_pair: false, is_beside_root: true }),
    },
    DirectoryLayout {
        name: "flat Optimum",
        image: at("", "vision_model"),
        text: at("", "text_model"),
        preprocess: &[HUGGING_FACE, OPEN_CLIP],
        bare: false,
        hub: None,
    },
    DirectoryLayout {
        name: "open_clip_inference",
        image: at("", "visual"),
        text: at("", "text"),
        preprocess: &[OPEN_CLIP_HUB, OPEN_CLIP],
        bare: false,
        hub: None,
    },
    DirectoryLayout {
        name: "clip-as-service",
        image: at("", "visual"),
        text: at("", "textual"),
        preprocess: &[OPEN_CLIP, OPEN_CLIP_HUB, HUGGING_FACE],
        bare: true,
        hub: None,
    },
    DirectoryLayout {
        name: "combined Optimum",
        image: at("onnx", "model"),
        text: at("onnx", "model"),
        preprocess: &[HUGGING_FACE, OPEN_CLIP],
        bare: false,
        hub: Some(OnHub { layout: Layout::Combined, is_pair: false, is_beside_root: true }),
    },
    DirectoryLayout {
        name: "flat combined Optimum",
        image: at("", "model"),
        text: at("", "model"),
        preprocess: &[HUGGING_FACE, OPEN_CLIP],
        bare: false,
        hub: None,
    },
];

/// What a repository of the hub has of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// Where its files go below the model's directory; empty: as they are.
    pub folder: &'static str,
    /// One or both.
    pub towers: Vec<TowerFiles>,
}

/// What a repository has of one tower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TowerFiles {
    /// The graph without its precision and `.onnx`, for example `visual/model`.
    pub graph: String,
    /// What must be beside it.
    pub needed: Vec<String>,
    /// What is taken with it where the repository has it.
    pub optional: Vec<String>,
}

/// Files of every layout that are taken where a repository has them: the context length, and what our own exports say about
/// themselves.
pub const OPTIONAL: [&str; 3] = [CONFIG, MANIFEST, GOLDEN];

/// The layouts that the hub has in one repository, or in a pair of them.
pub fn on_hub(is_pair: bool) -> impl Iterator<Item = Layout> {
    LAYOUTS.iter().filter_map(|row| row.hub.as_ref()).filter(move |hub| hub.is_pair == is_pair).map(|hub| hub.layout)
}

/// The repositories of a layout, in the order of [`Source::repositories`](crate::domain::registry::Source::repositories).
pub fn repositories(layout: Layout) -> Vec<Repository> {
    let rows = LAYOUTS.iter().filter_map(|row| Some((row, row.hub.as_ref().filter(|hub| hub.layout == layout)?)));
    rows.flat_map(|(row, hub)| {
        let tower = |place: &Place, needed: &str, optional: &[&str]| {
            let is_root = hub.is_pair || place.folder.is_empty();
            let inside = |name: &str| if is_root { name.to_owned() } else { format!("{}/{name}", place.folder) };
            let beside = |name: &str| if hub.is_beside_root { name.to_owned() } else { inside(name) };
            let optional = optional.iter().map(|name| beside(name)).collect();
            TowerFiles { graph: inside(place.stem), needed: vec![beside(needed)], optional }
        };
        let image = tower(&row.image, row.preprocess[0], &[]);
        let text = tower(&row.text, TOKENIZER, &[TOKENIZER_CONFIG]);
        if hub.is_pair {
            let of = |place: &Place, tower| Repository { folder: place.folder, towers: vec![tower] };
            vec![of(&row.image, image), of(&row.text, text)]
        } else {
            vec![Repository { folder: "", towers: vec![image, text] }]
        }
    })
    .collect()
}

/// Both places of every layout.
pub fn places() -> impl Iterator<Item = &'static Place> {
    LAYOUTS.iter().flat_map(|row| [&row.image, &row.text])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::registry;

    fn repository(folder: &'static str, towers: &[[&str; 2]]) -> Repository {
        let tower = |[graph, needed]: &[&str; 2]| {
            let config = needed.strip_suffix("tokenizer.json").map(|folder| format!("{folder}tokenizer_config.json"));
            TowerFiles {
                graph: (*graph).into(),
                needed: vec![(*needed).into()],
                optional: config.into_iter().collect(),
            }
        };
        Repository { folder, towers: towers.iter().map(tower).collect() }
    }

    #[test]
    fn repositories_become_directories_of_their_layout() {
        assert_eq!(
            repositories(Layout::Immich),
            [repository(
                "",
                &[["visual/model", "visual/preprocess_cfg.json"], ["textual/model", "textual/tokenizer.json"]]
            )]
        );
        assert_eq!(
            repositories(Layout::FastEmbedPair),
            [
                repository("vision", &[["model", "preprocessor_config.json"]]),
                repository("text", &[["model", "tokenizer.json"]])
            ]
        );
        assert_eq!(
            repositories(Layout::Xenova),
            [repository(
                "",
                &[["onnx/vision_model", "preprocessor_config.json"], ["onnx/text_model", "tokenizer.json"]]
            )]
        );
        assert_eq!(
            repositories(Layout::Combined),
            [repository("", &[["onnx/model", "preprocessor_config.json"], ["onnx/model", "tokenizer.json"]])]
        );
    }

    #[test]
    fn the_registry_names_as_many_repositories_as_the_layout_has_and_pins_their_files() {
        for source in registry::all().iter().flat_map(|row| row.sources) {
            let repositories = repositories(source.layout);
            assert_eq!(source.repositories().count(), repositories.len(), "{source:?}");
            for (name, repository) in source.repositories().zip(repositories) {
                for (file, _) in registry::pins().iter().filter(|pin| pin.repository == name).flat_map(|pin| pin.files)
                {
                    let is_known = |tower: &TowerFiles| {
                        let mut beside = tower.needed.iter().chain(&tower.optional);
                        file.starts_with(&tower.graph) || beside.any(|name| name == file)
                    };
                    assert!(repository.towers.iter().any(is_known), "{name} has {file} pinned");
                }
            }
        }
    }

    /// Its table has a row for each layout, or one for a layout with and without its folder.
    #[test]
    fn the_documents_name_every_layout() {
        let of = |name: &str| {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
            std::fs::read_to_string(path).expect("the document is in the repository")
        };
        let rows: Vec<String> =
            of("model-files.md").lines().filter(|l| l.starts_with('|')).map(str::to_owned).collect();
        for layout in &LAYOUTS {
            let name = layout.name.strip_prefix("flat ").unwrap_or(layout.name);
            let names_graphs = |row: &&String| {
                [&layout.image, &layout.text].iter().all(|place| row.contains(&format!("{}.onnx", place.stem)))
            };
            let named = rows.iter().filter(|row| row.to_lowercase().contains(&name.to_lowercase()));
            assert!(named.clone().any(|row| names_graphs(&row)), "docs/model-files.md has no row of {}", layout.name);
        }
        let rows: Vec<String> = of("models.md").lines().filter(|l| l.starts_with('|')).map(str::to_owned).collect();
        for layout in on_hub(false).chain(on_hub(true)) {
            let row = rows.iter().find(|row| row.starts_with(&format!("| `{layout}` |")));
            let row = row.unwrap_or_else(|| panic!("docs/models.md has no row of {layout}"));
            for tower in repositories(layout).iter().flat_map(|repository| &repository.towers) {
                assert!(row.contains(&format!("`{}.onnx`", tower.graph)), "{row}");
                assert!(tower.needed.iter().all(|file| row.contains(&format!("`{file}`"))), "{row}");
            }
        }
    }
}
