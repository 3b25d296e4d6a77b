//! `models inspect` and `models verify`.

use serde_json::{Value, json};

use super::{Home, run};
use crate::model_vectors::adds_bytes_exactly;

const FIXTURES: &str = "tests/fixtures/models";

fn one(lines: &[Value]) -> &Value {
    assert_eq!(lines.len(), 1, "{lines:?}");
    &lines[0]
}

#[test]
fn a_directory_is_verified_under_the_name_that_it_gives_itself() {
    let ran = run(&["models", "verify", &format!("{FIXTURES}/ours-quick-gelu"), "--json"]).ended(0);
    let lines = ran.lines();
    let line = one(&lines);
    assert_eq!((&line["model"], &line["ok"]), (&json!("tiny/ours-quick-gelu"), &json!(true)));
    assert!(line["cosine_min"].as_f64().unwrap() >= 0.99999, "{line}");
    assert_eq!(line["cosine_to_fp32_min"], Value::Null);
    assert_eq!(line["files_checked"], 10);

    let int8 = run(&["models", "verify", &format!("{FIXTURES}/ours-quick-gelu"), "--precision", "int8"]);
    // Where ONNX Runtime's products of bytes overflow (x86 without VNNI), these weights are as far off as it says.
    let (code, verdict) =
        if adds_bytes_exactly() { (0, "pass: lowest cosine 0.9") } else { (1, "FAIL: lowest cosine 0.") };
    let int8 = int8.ended(code);
    assert!(int8.stdout.contains(verdict), "{}", int8.stdout);
    assert!(int8.stdout.contains(" to its fp32 graphs"), "{}", int8.stdout);
    assert!(int8.stdout.contains("landscape.jpg"), "{}", int8.stdout);
}

#[test]
fn what_fails_or_cannot_be_verified_says_so_and_exits_with_1() {
    let trap = run(&["models", "verify", &format!("my/trap={FIXTURES}/gelu-trap")]).ended(1);
    assert!(trap.stdout.contains("FAIL: lowest cosine 0."), "{}", trap.stdout);
    assert!(trap.stdout.contains("computes GELU"), "{}", trap.stdout);
    trap.says("error: my/trap is not verified");
    trap.says("hint: pull the model again, or export it again");

    // The demo model is no checkpoint of OpenCLIP's, and has no golden vectors.
    let demo = run(&["models", "verify", "--json"]);
    let lines = demo.lines();
    let line = one(&lines);
    if line["ok"] == false {
        assert_eq!((demo.code, &line["cosine_min"]), (Some(1), &Value::Null));
        assert!(line["problems"][0].as_str().unwrap().contains("no golden vectors"), "{line}");
        demo.says("tools/export_openclip.py");
    }

    run(&["models", "verify", "nowhere/model=/nowhere"]).ended(3).says("no model in /nowhere");
    run(&["models", "verify", "nothing"]).ended(2).says("there is no such directory");
}

#[test]
fn inspect_shows_what_the_graphs_are() {
    let ran = run(&["models", "inspect"]).ended(0);
    assert!(ran.stdout.starts_with("demo-emoji/v1 in ") && ran.stdout.contains("demo/model\n"), "{}", ran.stdout);
    for part in ["Immich layout, fp32 shown", "image f32[", "text i", "GELU x ", "in the graph"] {
        assert!(ran.stdout.contains(part), "{part:?} is not in {}", ran.stdout);
    }
    let ran = run(&["models", "inspect", &format!("{FIXTURES}/fastembed"), "--json"]).ended(0);
    let lines = ran.lines();
    let line = one(&lines);
    assert_eq!(line["model"], "fastembed/local");
    assert_eq!(
        line["image"]["inputs"][0],
        json!({"name": "pixel_values", "element": "f32", "axes": ["batch_size", "3", "32", "32"]})
    );
    assert_eq!((&line["image"]["opset"], &line["text"]["activations"]), (&json!(17), &json!({"quick_gelu": 2})));
    assert_eq!((&line["text"]["normalised"], &line["text"]["vocabulary"]), (&json!(false), &json!(600)));
    assert_eq!(line["fingerprint"]["dimension"], 16);
    assert_eq!(line["problems"], json!([]));

    let trap = run(&["models", "inspect", &format!("{FIXTURES}/gelu-trap")]).ended(0);
    assert!(trap.stdout.contains("✗ the image tower's graph computes GELU"), "{}", trap.stdout);
    run(&["models", "inspect", &format!("{FIXTURES}/gelu-trap"), "--precision", "int2"])
        .ended(2)
        .says("expected one of fp32");
}

#[test]
fn a_collection_of_another_activation_is_refused_by_name() {
    let home = Home::new();
    home.catalog(1);
    let models = |name: &str| format!("clip.models=my/model={FIXTURES}/{name}");
    let catalog = home.text("catalog.jsonl");
    home.run(&["index", &catalog, "--set", &models("ours-quick-gelu")]).ended(0);
    let other = home.run(&["index", &catalog, "--set", &models("ours-gelu")]).ended(3);
    other.says("activation: found quick_gelu, expected gelu");
    let search = home.run(&["search", "shoe", "--set", &models("ours-gelu")]).ended(1);
    search.says("activation: found quick_gelu, expected gelu");
}
