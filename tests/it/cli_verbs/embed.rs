use serde_json::Value;

use super::{Home, clipstream, dot, finish, project, run, run_with_input, vector};

const PICTURE: &str = "demo/catalog/images/0023-20e3.webp";

#[test]
fn texts_come_back_in_order_with_unit_vectors() {
    let ran =
        run_with_input(&["embed", "text", "a red heart", "-", "a dog"], b"a cat\nein Hund \xf0\x9f\x90\xb6\n").ended(0);
    let lines = ran.lines();
    let inputs: Vec<&str> = lines.iter().map(|line| line["input"].as_str().unwrap()).collect();
    assert_eq!(inputs, ["a red heart", "a cat", "ein Hund 🐶", "a dog"]);
    for line in &lines {
        let mut keys: Vec<&String> = line.as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["embedding", "input", "modality", "model"]);
        assert_eq!((&line["modality"], &line["model"]), (&"text".into(), &"demo-emoji/v1".into()));
        let vector = vector(&line["embedding"]);
        assert!((dot(&vector, &vector) - 1.0).abs() < 1e-5, "{line}");
    }
    // --json changes nothing: vectors are JSON lines anyway.
    let again = run(&["embed", "text", "a dog", "--json"]).ended(0).lines();
    assert!(dot(&vector(&again[0]["embedding"]), &vector(&lines[3]["embedding"])) > 0.99999);
    assert_eq!(ran.stderr, "");
}

#[test]
fn the_default_model_is_found_from_any_folder() {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = clipstream(&["embed", "text", "a dog"]);
    command.current_dir(elsewhere.path());
    assert_eq!(finish(command, b"").ended(0).lines()[0]["model"], "demo-emoji/v1");
}

/// The reference model's vectors, cut and scaled to unit length as NumPy does it: `v[:n] / norm(v[:n])`.
#[test]
fn a_model_that_was_trained_for_it_gives_shorter_vectors() {
    let home = Home::new();
    let folder = home.with_manifest(&serde_json::json!({"matryoshka": [64, 128]}));
    let fixture = std::fs::read_to_string(project().join("tests/fixtures/demo_vectors.json")).unwrap();
    let expected: Vec<Value> = serde_json::from_str(&fixture).unwrap();
    let texts: Vec<&Value> = expected.iter().filter(|item| item.get("text").is_some()).collect();
    assert!(texts.len() > 1);
    let inputs: Vec<&str> = texts.iter().map(|item| item["text"].as_str().unwrap()).collect();
    for kept in [64, 128] {
        let models = format!("clip.models=demo-emoji/v1@{kept}={folder}");
        let lines = run(&[&["embed", "text", "--set", &models], &inputs[..]].concat()).ended(0).lines();
        for (line, expected) in lines.iter().zip(&texts) {
            assert_eq!(line["model"], format!("demo-emoji/v1@{kept}"));
            let found = vector(&line["embedding"]);
            let first = &vector(&expected["embedding"])[..kept];
            let length = dot(first, first).sqrt();
            let near = found.iter().zip(first).all(|(found, expected)| (found - expected / length).abs() < 1e-4);
            assert!(found.len() == kept && near, "{}: {found:?}", line["input"]);
        }
    }
    for (kept, part) in [
        (96, "found 96 values, expected one of 64, 128"),
        (256, "found 256 values, expected at least 1 and fewer than 256"),
        (0, "found 0 values"),
    ] {
        let models = format!("clip.models=demo-emoji/v1@{kept}={folder}");
        run(&["embed", "text", "a dog", "--set", &models]).ended(3).says(part);
    }
    let ran = run(&["embed", "text", "a dog", "--set", "clip.models=demo-emoji/v1@64"]).ended(3);
    ran.says("trained for it (Matryoshka representation learning), and nothing says so of demo-emoji/v1");
    ran.says("use demo-emoji/v1");
}

#[test]
fn vectors_are_the_reference_models() {
    let fixture = std::fs::read_to_string(project().join("tests/fixtures/demo_vectors.json")).unwrap();
    let mut expected: Vec<Value> = serde_json::from_str(&fixture).unwrap();
    assert!(!expected.is_empty());
    for modality in ["image", "text"] {
        let of_modality: Vec<&mut Value> = expected.iter_mut().filter(|v| v.get(modality).is_some()).collect();
        let folder = if modality == "image" { "demo/catalog/" } else { "" };
        let inputs: Vec<String> = of_modality
            .iter()
            .map(|v| v[modality].as_str().unwrap())
            .map(|input| if project().join(input).exists() { input.to_owned() } else { format!("{folder}{input}") })
            .collect();
        if inputs.is_empty() {
            continue;
        }
        let arguments: Vec<&str> = ["embed", modality].into_iter().chain(inputs.iter().map(String::as_str)).collect();
        let lines = run(&arguments).ended(0).lines();
        assert_eq!(lines.len(), of_modality.len());
        for (line, expected) in lines.iter().zip(of_modality) {
            let cosine = dot(&vector(&line["embedding"]), &vector(&expected["embedding"]));
            assert!(cosine > 0.99999, "{}: {cosine}", line["input"]);
        }
    }
}

#[test]
fn a_bad_picture_fails_alone() {
    let home = Home::new();
    std::fs::write(home.path("text.png"), "no picture").unwrap();
    let (missing, text) = (home.text("missing.png"), home.text("text.png"));
    let secret = "http://joe:hunter2@127.0.0.1:1/a.png?X-Amz-Signature=s3cr3t";
    let ran = run(&["embed", "image", PICTURE, &missing, &text, secret]).ended(1);
    let lines = ran.lines();
    assert_eq!(lines.len(), 4);
    let own = vector(&lines[0]["embedding"]);
    assert!((dot(&own, &own) - 1.0).abs() < 1e-5);
    for (line, part) in lines[1..].iter().zip(["missing.png", "expected a JPEG", "loopback"]) {
        assert!(line["error"].as_str().unwrap().contains(part), "{line}");
        assert!(line.get("embedding").is_none());
    }
    assert_eq!(lines[2]["hint"], "convert it to one of these formats");
    assert!(lines[3]["hint"].as_str().unwrap().contains("media.allow_hosts"), "{}", lines[3]);
    ran.says("3 inputs have no vector");
    for said in [&ran.stdout, &ran.stderr] {
        assert!(!said.contains("hunter2") && !said.contains("s3cr3t"), "{said}");
    }

    let bytes = std::fs::read(project().join(PICTURE)).unwrap();
    let lines = run_with_input(&["embed", "image", "-"], &bytes).ended(0).lines();
    assert_eq!(lines[0]["input"], "-");
    assert!(dot(&vector(&lines[0]["embedding"]), &own) > 0.99999);
}

#[test]
fn what_is_not_configured_is_named() {
    let ran = run(&["embed", "text", "a", "--model", "ViT-B-32/openai"]).ended(2);
    ran.says("model ViT-B-32/openai is not configured; clip.models has demo-emoji/v1");
    let ran = run(&["embed", "text", "a", "--set", "clip.models=v/c=/nowhere"]).ended(3);
    ran.says("/nowhere");
    let mut command = clipstream(&["embed", "text", "a"]);
    command.env("CLIPSTREAM_ORT_DYLIB", "/nowhere/libonnxruntime.so");
    let ran = finish(command, b"").ended(3);
    ran.says("CLIPSTREAM_ORT_DYLIB names /nowhere/libonnxruntime.so, which is not a file");
    assert_eq!((ran.stdout.as_str(), ran.stderr.lines().count()), ("", 2), "what is wrong, and the hint");
}
