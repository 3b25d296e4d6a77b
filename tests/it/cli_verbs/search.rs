use serde_json::json;

use super::Home;

/// The first thirty of the demo catalog, indexed from their file: pictures are named relative to it.
fn indexed() -> Home {
    let home = Home::new();
    home.catalog(30);
    let report = home.run(&["index", &home.text("catalog.jsonl"), "--json"]).ended(0).lines();
    assert_eq!((&report[0]["messages"], &report[0]["points"]), (&30.into(), &30.into()));
    home
}

#[test]
fn by_text_by_picture_and_with_a_filter() {
    let home = indexed();
    let hits = home.run(&["search", "keycap: #", "--in", "text", "--json", "-n", "3"]).ended(0).lines();
    assert_eq!((hits.len(), &hits[0]["id"], &hits[0]["modality"]), (3, &"0023-20e3".into(), &"text".into()));
    assert!(hits[0]["score"].as_f64().unwrap() > 0.999);
    let mut keys: Vec<&String> = hits[0].as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["id", "modality", "payload", "probability", "score"]);
    assert!(hits[0]["probability"].is_null(), "the demo model records no bias");
    assert_eq!(hits[0]["payload"]["group"], "symbols");
    assert_eq!(hits[0]["payload"]["clipstream"]["asset_id"], "0023-20e3");
    let scores: Vec<f64> = hits.iter().map(|hit| hit["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");

    let picture = home.text("images/002a-20e3.webp");
    let hits = home.run(&["search", "--image", &picture, "--json", "--limit", "1"]).ended(0).lines();
    assert_eq!((hits.len(), &hits[0]["id"]), (1, &"002a-20e3".into()));
    assert!(hits[0]["score"].as_f64().unwrap() > 0.999);

    let other = r#"{"must_not": [{"key": "group", "match": {"value": "symbols"}}]}"#;
    let hits = home.run(&["search", "keycap: #", "--json", "--filter", other, "-n", "30"]).ended(0).lines();
    assert!(hits.iter().all(|hit| hit["payload"]["group"] != "symbols"));
    let all = home.run(&["search", "keycap: #", "--json", "-n", "30"]).ended(0).lines();
    assert!(all.len() == 30 && hits.len() < 30, "{} of {}", hits.len(), all.len());

    let ran = home.run(&["search", "keycap: #", "--in", "text", "-n", "1"]).ended(0);
    let header: Vec<&str> = ran.stdout.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["score", "id", "payload"]);
    assert!(ran.stdout.contains("0023-20e3") && !ran.stdout.contains("asset_id"), "{}", ran.stdout);
    assert_eq!(ran.stderr, "");
}

/// `sigmoid(scale · score + bias)`, as SigLIP's paper has it (Zhai et al. 2023, algorithm 1), in double precision.
#[test]
fn a_model_with_a_bias_says_how_probable_its_hits_are() {
    let home = indexed();
    let (scale, bias) = (5.0, -3.0);
    let folder = home.with_manifest(&json!({"logit_scale": scale, "logit_bias": bias}));
    let model = format!("clip.models=demo-emoji/v1={folder}");
    let search = |arguments: &[&str]| {
        let all = [&["search", "--json", "-n", "5", "--set", &model], arguments].concat();
        let hits = home.run(&all).ended(0).lines();
        assert_eq!(hits.len(), 5);
        hits
    };
    let picture = home.text("images/002a-20e3.webp");
    for arguments in [&["keycap: #"][..], &["--image", &picture, "--in", "text"]] {
        let mut probabilities = Vec::new();
        for hit in search(arguments) {
            let expected = 1.0 / (1.0 + (-(scale * hit["score"].as_f64().unwrap() + bias)).exp());
            let found = hit["probability"].as_f64().unwrap_or_else(|| panic!("{hit}"));
            assert!((found - expected).abs() < 1e-5, "{hit}, expected {expected}");
            probabilities.push(found);
        }
        assert!(probabilities[0] - probabilities[4] > 0.01, "too alike to test anything: {probabilities:?}");
    }
    // Texts with texts and pictures with pictures: the model was trained for no such pairs.
    for arguments in [&["keycap: #", "--in", "text"][..], &["--image", &picture]] {
        assert!(search(arguments).iter().all(|hit| hit["probability"].is_null()), "{arguments:?}");
    }
}

#[test]
fn shorter_vectors_have_a_collection_of_their_own() {
    let home = indexed();
    let folder = home.with_manifest(&json!({"matryoshka": [64]}));
    let models = format!("clip.models=demo-emoji/v1={folder},demo-emoji/v1@64={folder}");
    let run = |arguments: &[&str]| home.run(&[arguments, &["--json", "--set", &models][..]].concat()).ended(0).lines();
    run(&["index", &home.text("catalog.jsonl")]);
    let hits = run(&["search", "keycap: #", "--in", "text", "-n", "3", "--model", "demo-emoji/v1@64"]);
    assert_eq!((hits.len(), &hits[0]["id"]), (3, &"0023-20e3".into()));
    assert!(hits[0]["score"].as_f64().unwrap() > 0.999);
    let picture = home.text("images/002a-20e3.webp");
    let labels = ["--label", "keycap: *", "--label", "dog face", "--template", "{}"];
    let line = &run(&[&["label", &picture, "--model", "demo-emoji/v1@64"], &labels[..]].concat())[0];
    assert_eq!((&line["model"], &line["labels"][0]["label"]), (&"demo-emoji/v1@64".into(), &"keycap: *".into()));
    let lines = run(&["check", "--set", "telemetry.listen="]);
    let detail = |name: &str| {
        let line = lines.iter().find(|line| line["check"] == name).unwrap_or_else(|| panic!("{name}: {lines:?}"));
        line["detail"].as_str().unwrap().to_owned()
    };
    assert_eq!(detail("collection catalog__demo-emoji__v1-64"), "30 points of this model");
    assert!(detail("model demo-emoji/v1@64").contains("dimension 64,"), "{lines:?}");
    // A model whose collection would have the same name.
    let other = format!("clip.models=demo-emoji/v1-64={folder}");
    let ran = home.run(&["search", "a dog", "--set", &other]).ended(1);
    ran.says("belongs to another model");
    ran.says("dimension: found 64, expected 256");
}

#[test]
fn what_cannot_be_searched_is_explained() {
    let home = Home::new();
    let ran = home.run(&["search", "a dog", "--json"]).ended(1);
    ran.says("collection catalog__demo-emoji__v1 does not exist in the store\nhint: index something first");
    assert_eq!((ran.stdout.as_str(), ran.stderr.lines().count()), ("", 2));

    let home = indexed();
    let ran = home.run(&["search", "a dog", "--filter", "{\"must\""]).ended(2);
    ran.says("--filter is not JSON");
    let ran = home.run(&["search", "a dog", "--filter", r#"{"must": [{"kei": "lang"}]}"#]).ended(2);
    ran.says("filter.must[0]: unknown key `kei`");
    home.run(&["search"]).ended(2).says("Usage");
    home.run(&["search", "a", "--image", "b"]).ended(2);
    home.run(&["search", "a", "-n", "0"]).ended(2);
    let ran = home.run(&["search", "--image", "nowhere.png"]).ended(1);
    ran.says("cannot read nowhere.png");
}

#[test]
fn another_models_vectors_are_refused() {
    let home = indexed();
    let model = home.other_preprocessing();
    let catalog = home.text("catalog.jsonl");
    let ran = home.run(&["search", "a dog", "--set", &model]).ended(1);
    ran.says("belongs to another model");
    ran.says("preprocessing: found ");
    assert!(!ran.stderr.contains("tokenizer:"), "only what differs: {}", ran.stderr);
    let ran = home.run(&["index", &catalog, "--set", &model]).ended(3);
    ran.says("preprocessing: found ");
    let ran = home.run(&["check", "--json", "--set", &model, "--set", "telemetry.listen="]).ended(3);
    let lines = ran.lines();
    let collection = lines.iter().find(|l| l["check"] == "collection catalog__demo-emoji__v1").unwrap();
    assert!(collection["reason"].as_str().unwrap().contains("preprocessing: found "), "{collection}");
}
