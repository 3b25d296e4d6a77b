use std::path::Path;

use super::*;
use crate::domain::Precision;
use crate::model::directory::{self, PreprocessFile};

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/models");

fn files(model: &str) -> ModelFiles {
    directory::find(&"tiny/test".parse().unwrap(), &Path::new(MODELS).join(model), Precision::Fp32).unwrap()
}

fn known(id: &str, files: &ModelFiles) -> Known {
    Known::of(&id.parse().unwrap(), files).unwrap()
}

#[test]
fn a_graph_of_another_activation_is_refused_or_accepted_knowingly() {
    // Only the manifest and the configuration say what the tiny checkpoints are.
    for (model, by) in [("gelu-trap", "config.json"), ("ours-gelu", "clipstream.json")] {
        let mut files = files(model);
        let facts = ModelFacts::read(&files).unwrap();
        if model == "ours-gelu" {
            assert_eq!(known("tiny/own", &files).activation_problem(&facts), None);
            files.manifest = Some(Path::new(MODELS).join("ours-quick-gelu/clipstream.json"));
        }
        let known = known("tiny/own", &files);
        let error = known.check_activation(&facts, ActivationMismatch::Refuse).unwrap_err();
        assert_eq!(error.reason, ModelReason::ActivationMismatch);
        let error = error.to_string();
        assert!(error.starts_with("the image tower's graph computes GELU (2 times), and "), "{error}");
        assert!(
            error.contains(&format!("{by} says that the checkpoint was trained with QuickGELU: its vectors")),
            "{error}"
        );
        assert!(error.ends_with("or set clip.activation_mismatch = \"accept\" to use it as it is"), "{error}");
        let accepted = known.check_activation(&facts, ActivationMismatch::Accept).unwrap();
        assert!(accepted.unwrap().contains("computes GELU"));
    }
    // OpenCLIP's table: GELU in a graph that is said to be OpenAI's, and the other way round.
    let mut trap = files("gelu-trap");
    trap.config = None;
    let gelu = ModelFacts::read(&trap).unwrap();
    assert!(
        known("ViT-B-32/openai", &trap)
            .activation_problem(&gelu)
            .unwrap()
            .contains("and OpenCLIP's ViT-B-32/openai says")
    );
    assert_eq!(known("ViT-B-32/laion2b_s34b_b79k", &trap).activation_problem(&gelu), None);
    assert_eq!(known("my/own", &trap).activation_problem(&gelu), None);
    let quick = ModelFacts::read(&files("immich-traced")).unwrap();
    assert_eq!(known("ViT-B-32/openai", &trap).activation_problem(&quick), None);
    let problem = known("ViT-B-32/laion2b_s34b_b79k", &trap).activation_problem(&quick).unwrap();
    assert!(problem.contains("computes QuickGELU (2 times)") && problem.contains("trained with GELU"), "{problem}");
}

// big_vision's `MlpBlock` has `nn.gelu`, by tanh; timm's `vit_base_patch16_siglip_224`, which OpenCLIP's ViT-B-16-SigLIP2 has, the exact one.
#[test]
fn a_siglip_may_have_the_originals_activation_or_openclips() {
    let files = files("onnx-community-siglip2");
    let facts = ModelFacts::read(&files).unwrap();
    let by_tanh = [Activation::GeluTanh];
    assert!([&facts.image, &facts.text].iter().all(|tower| tower.activations.keys().eq(&by_tanh)));
    for id in ["ViT-B-16-SigLIP2/webli", "ViT-B-16-SigLIP/webli", "ViT-B-32-SigLIP2-256/webli"] {
        assert_eq!(known(id, &files).activation_problem(&facts), None, "{id}");
    }
    // Of no other family: such a graph was made for speed, and gives other vectors than the checkpoint's.
    let problem = known("ViT-B-32/laion2b_s34b_b79k", &files).activation_problem(&facts).unwrap();
    assert!(problem.contains("computes GELU by tanh") && problem.contains("trained with GELU"), "{problem}");
    // And not the other way round.
    let exact = ModelFacts::read(&self::files("siglip-text")).unwrap();
    let problem = known("ViT-B-32-SigLIP2-256/webli", &files).activation_problem(&exact).unwrap();
    assert!(problem.contains("computes GELU (") && problem.contains("trained with GELU by tanh"), "{problem}");
}

#[test]
fn preprocessing_must_be_the_checkpoints() {
    let mut files = files("clip-as-service");
    let mut with = |json: Value, id: &str| {
        let path = "preprocess_cfg.json".into();
        files.preprocess = Some(PreprocessFile { path, json: json.to_string() });
        let found = Preprocess::from_json(&json.to_string()).unwrap();
        known(id, &files).check_preprocessing(&files, &found)
    };
    // The one checkpoint that has 0.5, in conversions that have OpenAI's constants, which are OpenCLIP's defaults.
    let halves = json!({"size": 224, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]});
    assert!(with(halves.clone(), "ViT-L-14/laion2b_s32b_b82k").is_ok());
    let error = with(json!({"size": 224}), "ViT-L-14/laion2b_s32b_b82k").unwrap_err();
    assert_eq!(error.reason, ModelReason::PreprocessMismatch);
    let error = error.to_string();
    assert!(error.contains("found 224x224 shortest bicubic mean=0.48145467,"), "{error}");
    assert!(error.contains("expected 224x224 shortest bicubic mean=0.5,0.5,0.5 std=0.5,0.5,0.5"), "{error}");

    assert!(with(json!({"size": 224}), "ViT-B-32/openai").is_ok());
    assert!(with(halves, "ViT-B-32/openai").is_err());
    assert!(with(json!({"size": 336}), "ViT-B-32/openai").is_err());
    assert!(with(json!({"size": 224, "resize_mode": "squash"}), "ViT-B-32/openai").is_err());
    assert!(with(json!({"size": 224, "interpolation": "bilinear"}), "ViT-B-32/openai").is_err());
    // The operator's own choice, and a model of which nothing is known.
    assert!(with(json!({"size": 224, "background": [255, 255, 255]}), "ViT-B-32/openai").is_ok());
    assert!(with(json!({"size": 64, "mean": 0.1}), "my/own").is_ok());
}

#[test]
fn a_directory_that_says_nothing_has_the_checkpoints_preprocessing() {
    let files = files("clip-as-service");
    let own = known("ViT-L-14-336/openai", &files).preprocessing().unwrap();
    let own = Preprocess::from_json(&own).unwrap().canonical();
    assert!(own.starts_with("336x336 shortest bicubic mean=0.48145467,0.4578275,0.40821072"), "{own}");
    assert_eq!(known("my/own", &files).preprocessing(), None);
}

#[test]
fn sizes_must_be_those_that_are_known() {
    let files = files("ours-quick-gelu");
    let tiny = known("tiny/ours-quick-gelu", &files);
    let check = |dimension, image, context| {
        let found = Sizes { dimension, image: Some(image), context_length: Some(context) };
        tiny.check_sizes(found)
    };
    assert_eq!(check(16, [32, 32], 77), Ok(()));
    assert_eq!(tiny.check_sizes(Sizes { dimension: 16, image: None, context_length: None }), Ok(()));
    for (sizes, found) in [
        ((24, [32, 32], 77), "vectors of 24 values, expected 16 as "),
        ((16, [32, 48], 77), "pictures of 48 pixels, expected 32 as "),
        ((16, [32, 32], 64), "texts of 64 tokens, expected 77 as "),
    ] {
        let error = check(sizes.0, sizes.1, sizes.2).unwrap_err();
        assert_eq!(error.reason, ModelReason::Mismatch);
        assert!(
            error.to_string().contains(found) && error.to_string().contains("clipstream.json has; correct"),
            "{error}"
        );
    }
    let error = Known::of(&"ViT-B-32/openai".parse().unwrap(), &files).err().unwrap().to_string();
    assert!(error.contains("clipstream.json is of tiny/ours-quick-gelu, expected ViT-B-32/openai; correct"), "{error}");
    // An id of the operator's own may be given to any model.
    assert!(Known::of(&"my/own".parse().unwrap(), &files).is_ok());
}

#[test]
fn vectors_are_cut_only_where_the_checkpoint_was_trained_for_it() {
    let mut files = files("clip-as-service");
    let facts = ModelFacts::read(&files).unwrap();
    assert_eq!(facts.dimension(), Some(16));
    let error = |id: &str, files: &ModelFiles| {
        let error = known(id, files).check_dimension(&facts).unwrap_err();
        assert_eq!(error.reason, ModelReason::DimensionUntrained);
        error.to_string()
    };
    assert_eq!(known("ViT-B-32/openai", &files).check_dimension(&facts), Ok(()));
    assert_eq!(known("nllb-clip-base-siglip/mrl@8", &files).check_dimension(&facts), Ok(()));
    let whole = error("nllb-clip-base-siglip/mrl@16", &files);
    assert!(
        whole.contains("found 16 values, expected at least 1 and fewer than 16; use nllb-clip-base-siglip/mrl, whose"),
        "{whole}"
    );
    for other in ["ViT-B-32/openai@8", "nllb-clip-base-siglip/v1@8", "my/own@8"] {
        assert!(error(other, &files).contains("and nothing says so of "), "{other}");
    }
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("clipstream.json");
    let theirs = std::fs::read_to_string(Path::new(MODELS).join("ours-quick-gelu/clipstream.json")).unwrap();
    let mut manifest: Value = serde_json::from_str(&theirs).unwrap();
    manifest["matryoshka"] = json!([4, 8]);
    std::fs::write(&said, manifest.to_string()).unwrap();
    files.manifest = Some(said);
    assert_eq!(known("my/own@8", &files).check_dimension(&facts), Ok(()));
    let unlisted = error("my/own@6", &files);
    assert!(unlisted.contains("my/own@6: found 6 values, expected one of 4, 8; clipstream.json lists"), "{unlisted}");
}

#[test]
fn configurations_declare_an_activation_or_nothing() {
    use Activation::{Gelu, GeluTanh, QuickGelu};
    for (config, image, text) in [
        (json!({"quick_gelu": true}), Some(QuickGelu), Some(QuickGelu)),
        (json!({"model_cfg": {"quick_gelu": true}}), Some(QuickGelu), Some(QuickGelu)),
        // Towers of others have their own.
        (json!({"quick_gelu": true, "text_cfg": {"hf_model_name": "roberta-base"}}), Some(QuickGelu), None),
        (json!({"quick_gelu": true, "vision_cfg": {"timm_model_name": "resnet50_clip"}}), None, Some(QuickGelu)),
        // OpenCLIP's ViT-B-32 is GELU by its name and QuickGELU with OpenAI's weights.
        (json!({"embed_dim": 512}), None, None),
        (
            json!({"vision_config": {"hidden_act": "gelu"}, "text_config": {"hidden_act": "gelu"}}),
            Some(Gelu),
            Some(Gelu),
        ),
        (json!({"hidden_act": "quick_gelu"}), Some(QuickGelu), Some(QuickGelu)),
        (
            json!({"vision_config": {"hidden_act": "gelu"}, "text_config": {"hidden_act": "quick_gelu"}}),
            Some(Gelu),
            Some(QuickGelu),
        ),
        (json!({"hidden_act": "gelu_pytorch_tanh"}), Some(GeluTanh), Some(GeluTanh)),
    ] {
        assert_eq!(declared(&config), Activations { image, text }, "{config}");
    }
}
