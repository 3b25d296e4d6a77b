//! A directory's preprocessing, in OpenCLIP's words (`preprocess_cfg.json`).
//!
//! | file | written by |
//! |---|---|
//! | `preprocess_cfg.json` | OpenCLIP's `get_model_preprocess_cfg`: Immich, and our own exports |
//! | `open_clip_config.json` | OpenCLIP's `push_to_hf_hub`, with `preprocess_cfg` in it; the size is the model's where it is left out |
//! | `preprocessor_config.json` | Hugging Face's `CLIPImageProcessor` and `SiglipImageProcessor`; Jina's `JinaCLIPImageProcessor`, which has OpenCLIP's words |

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::files::{json_of, text_of};
use crate::domain::{Finding, ModelReason};
use crate::model::ModelError;
use crate::model::layouts::{HUGGING_FACE, OPEN_CLIP_HUB};
use crate::redact;

/// What a model's directory says about preprocessing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PreprocessFile {
    pub(crate) path: PathBuf,
    /// Its content in OpenCLIP's form, translated where the file has another.
    pub(crate) json: String,
}

impl PreprocessFile {
    /// Reads one of the files above, told apart by name.
    pub(super) fn read(path: &Path) -> Result<Self, ModelError> {
        let json = match path.file_name().and_then(|n| n.to_str()) {
            Some(HUGGING_FACE) => translated(path, open_clip_form)?,
            Some(OPEN_CLIP_HUB) => translated(path, hub_form)?,
            _ => text_of(path)?,
        };
        Ok(Self { path: path.to_owned(), json })
    }
}

fn translated(path: &Path, translate: fn(&Value) -> Result<Value, Finding>) -> Result<String, ModelError> {
    let unsupported = |finding: Finding| ModelError::found(ModelReason::PreprocessUnsupported, finding);
    let translated = translate(&json_of(path)?).map_err(|finding| unsupported(finding).about(path.display()))?;
    Ok(translated.to_string())
}

/// `preprocess_cfg` of an `open_clip_config.json`.
fn hub_form(found: &Value) -> Result<Value, Finding> {
    let Some(Value::Object(preprocess)) = found.get("preprocess_cfg") else {
        let message = format!(
            "preprocess_cfg is {}, expected an object like OpenCLIP's preprocess_cfg.json",
            quoted(&found["preprocess_cfg"])
        );
        return Err(Finding::new(message).hint("fetch it again"));
    };
    let mut preprocess = preprocess.clone();
    if !preprocess.contains_key("size")
        && let Some(size) = found.pointer("/model_cfg/vision_cfg/image_size")
    {
        preprocess.insert("size".into(), size.clone());
    }
    Ok(preprocess.into())
}

/// The configuration of a `CLIPImageProcessor` or `SiglipImageProcessor` in OpenCLIP's words. Only what means the same is translated:
/// resize (the shortest side, then a centre crop; or both sides), 1/255, mean and standard deviation.
fn open_clip_form(found: &Value) -> Result<Value, Finding> {
    let hint = "use a model whose CLIPImageProcessor does what CLIP's does";
    processor_form(found).map_err(|problem| Finding::new(problem).hint(hint))
}

fn processor_form(found: &Value) -> Result<Value, String> {
    if found["image_processor_type"] == "JinaCLIPImageProcessor" {
        return Ok(jina_form(found));
    }
    for step in ["do_resize", "do_rescale"] {
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
    let (resize_mode, [height, width]) = resize(found)?;
    // MobileCLIP takes pixels between 0 and 1.
    let (mean, std) = match found.get("do_normalize") {
        Some(Value::Bool(false)) => (json!([0.0, 0.0, 0.0]), json!([1.0, 1.0, 1.0])),
        None | Some(Value::Bool(true)) => (found["image_mean"].clone(), found["image_std"].clone()),
        Some(other) => return Err(format!("do_normalize is {}, expected true or false", quoted(other))),
    };
    Ok(json!({
        "size": [height, width],
        "mode": "RGB",
        "mean": mean,
        "std": std,
        "interpolation": interpolation,
        "resize_mode": resize_mode,
        "fill_color": 0,
    }))
}

/// Jina's processor calls OpenCLIP's `image_transform_v2` with the file's keys.
fn jina_form(found: &Value) -> Value {
    let keys = ["size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"];
    let given = keys.into_iter().filter_map(|key| Some((key.to_owned(), found.get(key)?.clone())));
    Value::Object(given.collect())
}

/// OpenCLIP's `resize_mode`, and `[height, width]`.
fn resize(found: &Value) -> Result<(&'static str, [u64; 2]), String> {
    let side = |value: &Value| value.as_u64().or_else(|| value.get("shortest_edge")?.as_u64());
    let pair = |value: &Value| Some([value.get("height")?.as_u64()?, value.get("width")?.as_u64()?]);
    let sides = |value: &Value| pair(value).or(side(value).map(|side| [side; 2]));
    let (size, crop) = (&found["size"], &found["crop_size"]);
    // Each side is resized for itself. What is then cropped to the same sides stays as it is.
    if let Some([height, width]) = pair(size) {
        return match sides(crop) {
            Some(cropped) if cropped != [height, width] && found["do_center_crop"] == json!(true) => {
                Err(format!("crop_size is {}, expected that of size ({height}x{width})", quoted(crop)))
            }
            _ => Ok(("squash", [height, width])),
        };
    }
    if found.get("do_center_crop").is_some_and(|v| *v != json!(true)) {
        return Err(format!(
            "do_center_crop is {}, expected true, or a size of height and width",
            quoted(&found["do_center_crop"])
        ));
    }
    // Without a crop size of its own, CLIPImageProcessor crops to what it resized to.
    let crop = if crop.is_null() { size } else { crop };
    let [height, width] = sides(crop).ok_or_else(|| format!("crop_size is {}, expected pixels", quoted(crop)))?;
    match side(size) {
        // OpenCLIP resizes the shortest side to the size that it crops.
        Some(side) if side == height && side == width => Ok(("shortest", [height, width])),
        _ => Err(format!(
            "size is {}, expected a shortest_edge of {height}, equal to crop_size ({height}x{width})",
            quoted(size)
        )),
    }
}

fn quoted(value: &Value) -> String {
    redact::cut(&value.to_string(), 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hugging_face() -> Value {
        json!({
            "do_resize": true, "size": 224, "do_center_crop": true, "crop_size": 224, "do_normalize": true, "resample": 3,
            "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25],
        })
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
            ("size", json!({"height": 256, "width": 256})),
            ("crop_size", json!("large")),
        ] {
            let problem = with(key, value).unwrap_err().message;
            assert!(problem.contains("expected"), "{problem}");
        }
    }

    // google/siglip-base-patch16-224
    #[test]
    fn both_sides_may_be_resized_without_a_crop() {
        let mut siglip = hugging_face();
        for key in ["do_center_crop", "crop_size"] {
            siglip.as_object_mut().unwrap().remove(key);
        }
        siglip["size"] = json!({"height": 256, "width": 224});
        let translated = open_clip_form(&siglip).unwrap();
        assert_eq!((&translated["resize_mode"], &translated["size"]), (&json!("squash"), &json!([256, 224])));
        siglip["do_center_crop"] = json!(false);
        assert_eq!(open_clip_form(&siglip).unwrap()["resize_mode"], "squash");
        siglip["crop_size"] = json!({"height": 256, "width": 224});
        siglip["do_center_crop"] = json!(true);
        assert_eq!(open_clip_form(&siglip).unwrap()["resize_mode"], "squash");
    }

    // Xenova/mobileclip_s0
    #[test]
    fn pixels_that_are_not_normalised_stay_between_0_and_1() {
        let mut mobile = hugging_face();
        mobile["do_normalize"] = json!(false);
        let translated = open_clip_form(&mobile).unwrap();
        assert_eq!((&translated["mean"], &translated["std"]), (&json!([0.0, 0.0, 0.0]), &json!([1.0, 1.0, 1.0])));
        mobile["do_normalize"] = json!("maybe");
        assert!(open_clip_form(&mobile).unwrap_err().message.starts_with("do_normalize is \"maybe\", expected"));
    }

    // jinaai/jina-clip-v1 and -v2
    #[test]
    fn jinas_processor_has_openclips_words() {
        let jina = json!({
            "image_processor_type": "JinaCLIPImageProcessor", "interpolation": "bicubic", "resize_mode": "shortest", "size": 512,
            "fill_color": 0, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "processor_class": "JinaCLIPProcessor",
        });
        let expected = json!({
            "interpolation": "bicubic", "resize_mode": "shortest", "size": 512, "fill_color": 0, "mean": [0.5, 0.5, 0.5],
            "std": [0.25, 0.25, 0.25],
        });
        assert_eq!(open_clip_form(&jina), Ok(expected));
    }

    #[test]
    fn the_hub_form_takes_the_models_size() {
        let config =
            json!({"model_cfg": {"vision_cfg": {"image_size": 336}}, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}});
        assert_eq!(hub_form(&config), Ok(json!({"mean": [0.5, 0.5, 0.5], "size": 336})));
        let own = json!({"model_cfg": {"vision_cfg": {"image_size": 336}}, "preprocess_cfg": {"size": [224, 224]}});
        assert_eq!(hub_form(&own), Ok(json!({"size": [224, 224]})));
        assert!(hub_form(&json!({"model_cfg": {}})).unwrap_err().message.contains("preprocess_cfg is null, expected"));
    }
}
