use serde_json::Value;

use super::*;
use crate::domain::{Explain as _, TextCleaning};

/// Made by OpenCLIP itself: `tools/make_registry_fixture.py`.
const OPEN_CLIP: &str = include_str!("../../../tests/fixtures/registry.json");

#[test]
fn every_row_is_what_open_clip_builds() {
    let theirs: Vec<Value> = serde_json::from_str(OPEN_CLIP).unwrap();
    let names = |row: &Value| format!("{}/{}", row["variant"].as_str().unwrap(), row["checkpoint"].as_str().unwrap());
    let ours: Vec<String> = all().iter().map(|row| row.id().to_string()).collect();
    assert_eq!(ours, theirs.iter().map(names).collect::<Vec<_>>());
    assert_eq!(ours.len(), 196);
    for (row, theirs) in all().iter().zip(&theirs) {
        let triple = |key: &str| -> Vec<f32> {
            theirs[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
        };
        let name = row.id();
        assert_eq!(row.dimension as u64, theirs["dimension"], "{name}");
        assert_eq!(serde_json::json!([row.image_size, row.image_size]), theirs["size"], "{name}");
        assert_eq!(row.mean.to_vec(), triple("mean"), "{name}");
        assert_eq!(row.std.to_vec(), triple("std"), "{name}");
        assert_eq!(u64::from(row.fill), theirs["fill"], "{name}");
        assert_eq!(row.resize_mode, theirs["resize_mode"], "{name}");
        assert_eq!(row.interpolation, theirs["interpolation"], "{name}");
        assert_eq!(row.weights, theirs["hub"], "{name}");
        assert_eq!(row.sigmoid, theirs["sigmoid"], "{name}");
        // Of the transformers of OpenCLIP itself.
        for (tower, activation) in
            [("image_activation", row.image_activation), ("text_activation", row.text_activation)]
        {
            let built = &theirs[tower];
            let is_quick = activation == Some(Activation::QuickGelu);
            assert!(built.is_null() || (built == "quick_gelu") == is_quick, "{name}, {tower}: {built}");
        }
        // A text tower that OpenCLIP would download was not built.
        if theirs.get("context_length").is_some() {
            assert_eq!(row.context_length as u64, theirs["context_length"], "{name}");
            assert_eq!(row.pooling, theirs["pooling"], "{name}");
            assert_eq!(row.causal, theirs["causal"], "{name}");
            assert_eq!(row.tokenizer.vocabulary_size.map(u64::from), theirs["vocabulary_size"].as_u64(), "{name}");
        }
    }
}

/// Facts that were read elsewhere than in OpenCLIP's configurations: in the models' papers and cards.
#[test]
fn families_have_what_their_authors_say() {
    let of = |id: &str| find(&id.parse().unwrap()).unwrap();
    let siglip2 = of("ViT-B-16-SigLIP2/webli");
    assert_eq!((siglip2.context_length, siglip2.pooling, siglip2.causal), (64, "last", false));
    assert_eq!((siglip2.tokenizer.kind, siglip2.tokenizer.vocabulary_size), (TokenizerKind::GemmaBpe, Some(256_000)));
    assert_eq!((siglip2.tokenizer.clean, siglip2.tokenizer.padding_id), (TextCleaning::Canonicalize, 0));
    assert_eq!((siglip2.resize_mode, siglip2.mean), ("squash", [0.5; 3]));
    let siglip = of("ViT-SO400M-14-SigLIP-384/webli");
    assert_eq!((siglip.tokenizer.kind, siglip.tokenizer.padding_id), (TokenizerKind::Unigram, 1));
    let bert = of("ViT-L-14-CLIPA/datacomp1b").tokenizer;
    assert_eq!((bert.kind, bert.strip_separator), (TokenizerKind::Wordpiece, true));
    let mobile = of("MobileCLIP2-S0/dfndr2b");
    assert_eq!((mobile.causal, mobile.interpolation, mobile.std), (false, "bilinear", [1.0; 3]));
    assert_eq!((of("PE-Core-B-16/meta").context_length, of("coca_ViT-L-14/laion2b_s13b_b90k").pooling), (32, "last"));
    let xlm_r = of("xlm-roberta-large-ViT-H-14/frozen_laion5b_s13b_b90k");
    assert_eq!((xlm_r.pooling, xlm_r.tokenizer.padding_id, xlm_r.multilingual), ("mean", 1, true));
    assert_eq!(of("ViT-H-14-worldwide/metaclip2_worldwide").tokenizer.vocabulary_size, Some(901_629));
    for (id, licence) in [
        ("ViT-B-32/metaclip_400m", Some("CC-BY-NC-4.0")),
        ("nllb-clip-large-siglip/mrl", Some("CC-BY-NC-4.0")),
        ("MobileCLIP2-L-14/dfndr2b", Some("apple-amlr")),
        ("ViT-B-16-SigLIP2/webli", None),
        ("ViT-B-32/openai", None),
    ] {
        assert_eq!(of(id).not_commercial(), licence, "{id}");
    }
    // As the hub writes them.
    assert!(["cc-by-nc-4.0", "cc-by-nc-sa-4.0", "apple-amlr"].into_iter().all(forbids_commercial_use));
    assert!(["mit", "apache-2.0", "cc-by-4.0", "other", "gemma"].into_iter().all(|name| !forbids_commercial_use(name)));
}

/// Those of OpenCLIP's pull request 838, whose author trained them so.
#[test]
fn matryoshka_is_what_was_trained_so() {
    let trained: Vec<_> = all().iter().filter(|row| row.matryoshka).map(|row| row.id().to_string()).collect();
    assert_eq!(trained, ["nllb-clip-base-siglip/mrl", "nllb-clip-large-siglip/mrl"]);
}

#[test]
fn pins_are_of_sources_and_whole_hashes() {
    let digits =
        |text: &str, count: usize| text.len() == count && text.bytes().all(|b| b"0123456789abcdef".contains(&b));
    let sources: std::collections::BTreeSet<_> =
        all().iter().flat_map(|row| row.sources).flat_map(Source::repositories).collect();
    for pin in pins() {
        assert!(sources.contains(pin.repository), "{}: no model has it for a source", pin.repository);
        assert!(digits(pin.commit, 40), "{}", pin.repository);
        assert!(!pin.files.is_empty() && pin.files.iter().all(|(_, sha256)| digits(sha256, 64)), "{}", pin.repository);
    }
    assert!(pins().is_sorted_by_key(|pin| pin.repository), "as tools/pin_models.py prints them");
}

#[test]
fn ids_are_their_own_names_and_collections_stay_apart() {
    let mut collections = std::collections::BTreeSet::new();
    for row in all() {
        let id = row.id();
        let own = row.same_as.map_or_else(|| id.clone(), |same| same.parse().unwrap());
        assert_eq!(resolve(&id.to_string()).as_ref(), Ok(&own));
        assert_eq!(find(&id).map(Checkpoint::id), Some(id.clone()));
        assert_eq!(find(&own).and_then(|own| own.same_as), None, "{id}");
        assert!(collections.insert(id.collection("{variant}__{checkpoint}", "")), "{id}");
    }
}

/// The weights' own repositories, which `open_clip` takes as `hf-hub:` names, and those that have the graphs.
#[test]
fn repositories_are_names_of_their_models() {
    for row in all().iter().filter(|row| row.same_as.is_none()) {
        for name in row.sources.iter().flat_map(Source::repositories).chain([row.weights]) {
            for name in [name.to_owned(), format!("hf-hub:{name}")] {
                let named = resolve(&name).unwrap();
                // Two names of OpenCLIP share one repository of weights.
                let is_same = find(&named).is_some_and(|found| found.weights == row.weights);
                assert!(named == row.id() || (is_same && name.ends_with(row.weights)), "{name} is {named}");
            }
        }
    }
    let sources = all().iter().filter(|row| !row.sources.is_empty()).count();
    assert_eq!(sources, super::sources::count(), "each belongs to a model");
}

#[test]
fn what_people_type_resolves() {
    for (typed, id) in [
        ("ViT-L/14", "ViT-L-14/openai"),
        ("ViT-L/14@336px", "ViT-L-14-336/openai"),
        ("vit_l_14", "ViT-L-14/openai"),
        ("ViT-B/32", "ViT-B-32/openai"),
        ("ViT-B/16/openai", "ViT-B-16/openai"),
        ("clip-ViT-B-32", "ViT-B-32/openai"),
        ("CLIP ViT-B/32", "ViT-B-32/openai"),
        ("sentence-transformers/clip-ViT-L-14", "ViT-L-14/openai"),
        ("openai/clip-vit-base-patch32", "ViT-B-32/openai"),
        ("openai/clip-vit-large-patch14-336", "ViT-L-14-336/openai"),
        ("clip-vit-base-patch16", "ViT-B-16/openai"),
        ("ViT-B-32-quickgelu", "ViT-B-32/openai"),
        ("ViT-B-32-quickgelu/laion400m_e32", "ViT-B-32/laion400m_e32"),
        ("ViT-H-14-quickgelu__dfn5b", "ViT-H-14/dfn5b"),
        ("hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "ViT-B-32/laion2b_s34b_b79k"),
        ("laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", "ViT-L-14/datacomp_xl_s13b_b90k"),
        ("apple/DFN5B-CLIP-ViT-H-14-378", "ViT-H-14-378/dfn5b"),
        ("ViT-B-32__openai", "ViT-B-32/openai"),
        ("ViT-B-32:openai", "ViT-B-32/openai"),
        ("VIT-b-32/OpenAI", "ViT-B-32/openai"),
        (" ViT-B-32/laion2b-s34b-b79k ", "ViT-B-32/laion2b_s34b_b79k"),
        ("ViT-H/14", "ViT-H-14/laion2b_s32b_b79k"),
        ("ViT-H-14-378", "ViT-H-14-378/dfn5b"),
        ("ViT-B-16-SigLIP2", "ViT-B-16-SigLIP2/webli"),
        ("vit_b_16_siglip2__webli", "ViT-B-16-SigLIP2/webli"),
        ("immich-app/XLM-Roberta-Base-ViT-B-32__laion5b_s13b_b90k", "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k"),
        ("RN50", "RN50/openai"),
        ("nllb-clip-base-siglip/mrl@256", "nllb-clip-base-siglip/mrl@256"),
        ("nllb_clip_large_siglip__mrl@64", "nllb-clip-large-siglip/mrl@64"),
        ("ViT-L-14/openai@336", "ViT-L-14/openai@336"),
        ("timm/ViT-SO400M-14-SigLIP-384", "ViT-SO400M-14-SigLIP-384/webli"),
    ] {
        assert_eq!(resolve(typed).map(|id| id.to_string()), Ok(id.to_owned()), "{typed}");
    }
}

#[test]
fn a_wrong_name_suggests_the_nearest() {
    for (typed, nearest) in [
        ("ViT-B-23/openai", Some("ViT-B-32/openai")),
        ("ViT-B-32/opanai", Some("ViT-B-32/openai")),
        ("vitb32/laion2b_s34b_b97k", Some("ViT-B-32/laion2b_s34b_b79k")),
        ("ViT-L-41", Some("ViT-L-14/openai")),
        // Weights that were trained with GELU have no -quickgelu form.
        ("ViT-B-32-quickgelu/laion2b_s34b_b79k", Some("ViT-B-32/laion2b_s34b_b79k")),
        ("resnet", None),
        ("", None),
    ] {
        let error = resolve(typed).unwrap_err();
        assert_eq!(error.nearest.as_ref().map(ToString::to_string).as_deref(), nearest, "{typed}");
        let hint = nearest.map_or("clipstream models list".to_owned(), |nearest| format!("did you mean {nearest}?"));
        assert_eq!(error.explain().hint.as_deref(), Some(hint.as_str()), "{error}");
    }
    // An owner of many checkpoints says nothing about which.
    assert!(resolve("laion/CLIP-ViT-B-32").is_err());
}

#[test]
fn custom_models_keep_their_names() {
    for (typed, id) in [
        ("demo-emoji/v1", "demo-emoji/v1"),
        ("ViT-B-32/our_finetune", "ViT-B-32/our_finetune"),
        ("vit_b_32/openai", "ViT-B-32/openai"),
        ("ours/v1@64", "ours/v1@64"),
    ] {
        assert_eq!(resolve_or_custom(typed).map(|id| id.to_string()), Ok(id.to_owned()), "{typed}");
    }
    assert!(resolve_or_custom("b32").is_err());
}
