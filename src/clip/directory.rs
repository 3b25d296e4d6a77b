//! The files of a model directory, as they are found on the hub.
//!
//! | layout | image tower | text tower |
//! |---|---|---|
//! | Immich | `visual/model.onnx`, `visual/preprocess_cfg.json` | `textual/model.onnx`, `textual/tokenizer.json` |
//! | FastEmbed pair | `*-vision/model.onnx`, `*-vision/preprocessor_config.json` | `*-text/model.onnx`, `*-text/tokenizer.json` |
//!
//! A pair is two repositories (for example `Qdrant/clip-ViT-B-32-vision` and `-text`) below one directory; folders that
//! are just `vision` and `text` are taken too. `config.json`, beside the towers or the tokenizer, may give the
//! context length.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ClipError;
use crate::redact;

/// CLIP's own, for layouts that do not say.
const CONTEXT_LENGTH: usize = 77;

/// A layout is where each role's folder and files are; a new one is a new row.
struct Layout {
    name: &'static str,
    /// The folder's name, or what it ends in after a `-`.
    image_folder: &'static str,
    image_graph: &'static str,
    preprocess: (&'static str, PreprocessFormat),
    text_folder: &'static str,
    text_graph: &'static str,
    tokenizer: &'static str,
}

const LAYOUTS: [Layout; 2] = [
    Layout {
        name: "Immich",
        image_folder: "visual",
        image_graph: "model.onnx",
        preprocess: ("preprocess_cfg.json", PreprocessFormat::OpenClip),
        text_folder: "textual",
        text_graph: "model.onnx",
        tokenizer: "tokenizer.json",
    },
    Layout {
        name: "FastEmbed pair",
        image_folder: "vision",
        image_graph: "model.onnx",
        preprocess: ("preprocessor_config.json", PreprocessFormat::HuggingFace),
        text_folder: "text",
        text_graph: "model.onnx",
        tokenizer: "tokenizer.json",
    },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PreprocessFormat {
    /// `preprocess_cfg.json`, as OpenCLIP writes it.
    OpenClip,
    /// `preprocessor_config.json` of a `CLIPImageProcessor`.
    HuggingFace,
}

/// Where the files of one model are. All exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelFiles {
    pub(super) layout: &'static str,
    pub(super) image_graph: PathBuf,
    pub(super) text_graph: PathBuf,
    pub(super) tokenizer: PathBuf,
    pub(super) context_length: usize,
    pub(super) preprocess_file: PathBuf,
    /// Its content in OpenCLIP's form (`preprocess_cfg.json`), translated where the layout has another.
    pub(super) preprocess: String,
}

/// Finds the layout of `directory` and its files.
pub(super) fn find(directory: &Path) -> Result<ModelFiles, ClipError> {
    let mut missing = Vec::new();
    for layout in &LAYOUTS {
        let (image, text) = (folder(directory, layout.image_folder)?, folder(directory, layout.text_folder)?);
        let files = [
            (&image, layout.image_folder, layout.image_graph),
            (&image, layout.image_folder, layout.preprocess.0),
            (&text, layout.text_folder, layout.text_graph),
            (&text, layout.text_folder, layout.tokenizer),
        ];
        let absent: Vec<_> = files
            .iter()
            .filter(|(folder, _, file)| !folder.as_ref().is_some_and(|f| f.join(file).is_file()))
            .map(|(_, name, file)| format!("{name}/{file}"))
            .collect();
        match (image, text) {
            (Some(image), Some(text)) if absent.is_empty() => return read(layout, directory, &image, &text),
            _ => missing.push(format!("{} layout without {}", layout.name, absent.join(", "))),
        }
    }
    Err(ClipError::load(
        "model_missing",
        format!(
            "no model in {}: {}; there is {}; next: clipstream models pull, or correct [clip] models",
            directory.display(),
            missing.join("; "),
            listing(directory),
        ),
    ))
}

/// The one folder of this name, or whose name ends in it after a `-`.
fn folder(directory: &Path, name: &str) -> Result<Option<PathBuf>, ClipError> {
    let exact = directory.join(name);
    if exact.is_dir() {
        return Ok(Some(exact));
    }
    let ends_in = |path: &PathBuf| {
        let file_name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        path.is_dir() && file_name.strip_suffix(name).is_some_and(|n| n.ends_with('-'))
    };
    let mut found: Vec<_> = entries(directory).into_iter().filter(ends_in).collect();
    if found.len() > 1 {
        let names: Vec<_> = found.iter().map(|p| p.display().to_string()).collect();
        return Err(ClipError::load(
            "model_ambiguous",
            format!(
                "{} are alike; expected one folder *-{name}; give each model a directory of its own",
                names.join(", ")
            ),
        ));
    }
    Ok(found.pop())
}

fn read(layout: &Layout, directory: &Path, image: &Path, text: &Path) -> Result<ModelFiles, ClipError> {
    let (file, format) = layout.preprocess;
    let file = image.join(file);
    let preprocess = match format {
        PreprocessFormat::OpenClip => text_of(&file)?,
        PreprocessFormat::HuggingFace => open_clip_form(&json_of(&file)?)
            .map_err(|problem| {
                ClipError::load(
                    "preprocess_unsupported",
                    format!(
                        "{}: {problem}; use a model whose CLIPImageProcessor does what CLIP's does",
                        file.display()
                    ),
                )
            })?
            .to_string(),
    };
    let configs = [directory.join("config.json"), text.join("config.json")];
    let mut context_length = None;
    for config in configs.iter().filter(|c| c.is_file()) {
        context_length = context_length.or(context_length_of(&json_of(config)?));
    }
    Ok(ModelFiles {
        layout: layout.name,
        image_graph: image.join(layout.image_graph),
        text_graph: text.join(layout.text_graph),
        tokenizer: text.join(layout.tokenizer),
        context_length: context_length.unwrap_or(CONTEXT_LENGTH),
        preprocess_file: file,
        preprocess,
    })
}

/// OpenCLIP's `text_cfg.context_length`, or Hugging Face's `max_position_embeddings`.
fn context_length_of(config: &Value) -> Option<usize> {
    let places = ["/text_cfg/context_length", "/text_config/max_position_embeddings", "/max_position_embeddings"];
    let length = places.iter().find_map(|place| config.pointer(place)?.as_u64())?;
    usize::try_from(length).ok().filter(|l| *l >= 2)
}

/// A `CLIPImageProcessor`'s configuration in OpenCLIP's words. Only what means the same is translated: resize (shortest
/// side, bicubic), centre crop, 1/255, mean and standard deviation.
fn open_clip_form(found: &Value) -> Result<Value, String> {
    for step in ["do_resize", "do_center_crop", "do_rescale", "do_normalize"] {
        if found.get(step).is_some_and(|v| *v != json!(true)) {
            return Err(format!("{step} is {}, expected true", quoted(&found[step])));
        }
    }
    if let Some(factor) = found.get("rescale_factor")
        && !factor.as_f64().is_some_and(|f| (f * 255.0 - 1.0).abs() < 1e-6)
    {
        return Err(format!("rescale_factor is {}, expected 1/255", quoted(factor)));
    }
    // Pillow's numbers of its resampling filters; CLIPImageProcessor's default is bicubic.
    let interpolation = match found.get("resample").map(|r| (r, r.as_u64())) {
        None | Some((_, Some(3))) => "bicubic",
        Some((_, Some(2))) => "bilinear",
        Some((other, _)) => return Err(format!("resample is {}, expected 3 (bicubic) or 2 (bilinear)", quoted(other))),
    };
    let side = |value: &Value| value.as_u64().or_else(|| value.get("shortest_edge")?.as_u64());
    let pair = |value: &Value| Some((value.get("height")?.as_u64()?, value.get("width")?.as_u64()?));
    // Without a crop size of its own, CLIPImageProcessor crops to what it resized to.
    let crop = if found["crop_size"].is_null() { &found["size"] } else { &found["crop_size"] };
    let (height, width) = pair(crop)
        .or(side(crop).map(|s| (s, s)))
        .ok_or_else(|| format!("crop_size is {}, expected pixels", quoted(crop)))?;
    match side(&found["size"]) {
        // OpenCLIP resizes the shortest side to the size that it crops.
        Some(side) if side == height && side == width => {}
        _ => {
            return Err(format!(
                "size is {}, expected a shortest_edge of {height}, equal to crop_size ({height}x{width})",
                quoted(&found["size"])
            ));
        }
    }
    Ok(json!({
        "size": [height, width],
        "mode": "RGB",
        "mean": found["image_mean"],
        "std": found["image_std"],
        "interpolation": interpolation,
        "resize_mode": "shortest",
        "fill_color": 0,
    }))
}

fn quoted(value: &Value) -> String {
    redact::cut(&value.to_string(), 100)
}

fn text_of(file: &Path) -> Result<String, ClipError> {
    std::fs::read_to_string(file).map_err(|e| unreadable(file, &e))
}

fn json_of(file: &Path) -> Result<Value, ClipError> {
    serde_json::from_str(&text_of(file)?).map_err(|e| unreadable(file, &e))
}

fn unreadable(file: &Path, error: &dyn std::fmt::Display) -> ClipError {
    ClipError::load("model_unusable", format!("{} cannot be read: {error}; fetch it again", file.display()))
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let mut paths: Vec<_> = entries.map(|e| e.path()).collect();
    paths.sort();
    paths
}

fn listing(directory: &Path) -> String {
    if !directory.is_dir() {
        return "no such directory".to_owned();
    }
    let names: Vec<_> = entries(directory)
        .iter()
        .filter_map(|p| Some(format!("{}{}", p.file_name()?.to_str()?, if p.is_dir() { "/" } else { "" })))
        .collect();
    if names.is_empty() { "nothing in it".to_owned() } else { redact::cut(&names.join(", "), 300) }
}

/// A graph and its external weights (`model.onnx.data`, `model.onnx_data`, …), in order of name after the graph.
pub(super) fn with_external_data(graph: &Path) -> Vec<PathBuf> {
    let name = graph.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
    let is_data = |path: &PathBuf| {
        let rest = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix(&name));
        rest.is_some_and(|r| r.starts_with(".data") || r.starts_with("_data"))
    };
    let data = entries(graph.parent().unwrap_or(Path::new("."))).into_iter().filter(is_data);
    std::iter::once(graph.to_owned()).chain(data).collect()
}

/// SHA-256 (hex) of the files' contents, one after the other: `cat FILES | sha256sum`.
pub(super) fn sha256(files: &[PathBuf]) -> Result<String, ClipError> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for file in files {
        let mut reader = std::fs::File::open(file).map_err(|e| unreadable(file, &e))?;
        loop {
            match reader.read(&mut buffer).map_err(|e| unreadable(file, &e))? {
                0 => break,
                n => digest.update(&buffer[..n]),
            }
        }
    }
    Ok(format!("{:x}", digest.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, content) in files {
            let file = root.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }
    }

    fn hugging_face() -> Value {
        json!({
            "do_resize": true, "size": 224, "do_center_crop": true, "crop_size": 224, "do_normalize": true, "resample": 3,
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25],
        })
    }

    #[test]
    fn immich_files_are_found() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("visual/model.onnx", ""),
                ("visual/preprocess_cfg.json", r#"{"size": [96, 96]}"#),
                ("textual/model.onnx", ""),
                ("textual/tokenizer.json", ""),
                ("config.json", r#"{"text_cfg": {"context_length": 64}}"#),
            ],
        );
        let files = find(root.path()).unwrap();
        assert_eq!((files.layout, files.context_length), ("Immich", 64));
        assert_eq!(files.text_graph, root.path().join("textual/model.onnx"));
        assert_eq!(files.preprocess, r#"{"size": [96, 96]}"#);
    }

    #[test]
    fn a_pair_is_found_and_its_preprocessing_translated() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("clip-ViT-B-32-vision/model.onnx", ""),
                ("clip-ViT-B-32-vision/preprocessor_config.json", &hugging_face().to_string()),
                ("clip-ViT-B-32-text/model.onnx", ""),
                ("clip-ViT-B-32-text/tokenizer.json", ""),
            ],
        );
        let files = find(root.path()).unwrap();
        assert_eq!((files.layout, files.context_length), ("FastEmbed pair", 77));
        let preprocess: Value = serde_json::from_str(&files.preprocess).unwrap();
        assert_eq!(preprocess["size"], json!([224, 224]));
        assert_eq!(preprocess["resize_mode"], "shortest");
        assert_eq!(preprocess["std"], json!([0.25, 0.25, 0.25]));

        write(root.path(), &[("other-vision/model.onnx", "")]);
        assert_eq!(find(root.path()).unwrap_err().reason(), "model_ambiguous");
    }

    #[test]
    fn what_is_missing_is_listed_beside_what_is_there() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &[("visual/model.onnx", ""), ("textual/model.onnx", ""), ("notes.txt", "")]);
        let error = find(root.path()).unwrap_err().to_string();
        assert!(error.contains("Immich layout without visual/preprocess_cfg.json, textual/tokenizer.json;"), "{error}");
        assert!(error.contains("there is notes.txt, textual/, visual/;"), "{error}");
        let error = find(&root.path().join("nowhere")).unwrap_err().to_string();
        assert!(error.contains("there is no such directory"), "{error}");
    }

    #[test]
    fn only_preprocessing_that_means_the_same_is_translated() {
        let with = |key: &str, value: Value| {
            let mut config = hugging_face();
            config[key] = value;
            open_clip_form(&config)
        };
        assert!(with("size", json!({"shortest_edge": 224})).is_ok());
        assert!(with("crop_size", json!({"height": 224, "width": 224})).is_ok());
        assert!(with("rescale_factor", json!(0.003_921_568_6)).is_ok());
        assert_eq!(with("resample", json!(2)).unwrap()["interpolation"], "bilinear");
        for (key, value) in [
            ("do_center_crop", json!(false)),
            ("rescale_factor", json!(1.0)),
            ("resample", json!(1)),
            ("size", json!({"shortest_edge": 256})),
            ("size", json!({"height": 224, "width": 224})),
            ("crop_size", json!("large")),
        ] {
            let problem = with(key, value).unwrap_err();
            assert!(problem.contains("expected"), "{problem}");
        }
    }

    #[test]
    fn external_weights_belong_to_the_graph() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), &[("model.onnx", "a"), ("model.onnx_data", "c"), ("model.onnx.data", "b"), ("other", "x")]);
        let files = with_external_data(&root.path().join("model.onnx"));
        // sha256sum of "abc", from FIPS 180-4.
        assert_eq!(sha256(&files).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
