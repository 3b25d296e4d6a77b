use super::{Home, run};

const HEART: &str = "demo/catalog/images/2764.webp";

#[test]
fn labels_are_told_by_their_similarity() {
    let labels = ["--label", "red heart", "--label", "dog face", "--label", "keycap: #", "--template", "{}"];
    let arguments: Vec<&str> = [&["label", HEART, "--json"], &labels[..]].concat();
    let line = &run(&arguments).ended(0).lines()[0];
    assert_eq!((&line["input"], &line["model"]), (&HEART.into(), &"demo-emoji/v1".into()));
    let found = line["labels"].as_array().unwrap();
    let probabilities: Vec<f64> = found.iter().map(|label| label["probability"].as_f64().unwrap()).collect();
    assert_eq!((found.len(), &found[0]["label"]), (3, &"red heart".into()));
    assert!(probabilities.is_sorted_by(|a, b| a >= b), "{probabilities:?}");
    assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{probabilities:?}");
    let shown = run(&[&["label", HEART, "--threshold", "0.5"], &labels[..]].concat()).ended(0).stdout;
    assert!(shown.starts_with(&format!("{HEART}  red heart 1.000")) && !shown.contains("dog"), "{shown}");
}

#[test]
fn labels_come_from_a_file_and_are_averaged_over_templates() {
    let home = Home::new();
    std::fs::write(home.path("labels.txt"), "# what we sell\nred heart\n\n  dog face\n").unwrap();
    let file = home.text("labels.txt");
    let templates = ["--template", "{}", "--template", "a drawing of a {}"];
    let arguments: Vec<&str> = [&["label", HEART, "--labels", &file, "-n", "1", "--json"], &templates[..]].concat();
    let line = &run(&arguments).ended(0).lines()[0];
    assert_eq!(line["labels"][0]["label"], "red heart");
    assert_eq!(line["labels"].as_array().unwrap().len(), 1);
}

#[test]
fn wrong_arguments_are_named() {
    for (arguments, code, part) in [
        (&["label", HEART][..], 2, "--label"),
        (&["label", HEART, "--label", "a", "--label", "a"], 2, "is there twice"),
        (&["label", HEART, "--label", "a", "--template", "a photo"], 2, "has no {}"),
        (&["label", HEART, "--label", "a", "--threshold", "2"], 2, "expected 0 to 1"),
        (&["label", HEART, "--labels", "no/such/file"], 2, "no/such/file"),
        (&["label", "no/such.jpg", "--label", "a"], 1, "1 picture has no labels"),
    ] {
        let ran = run(arguments).ended(code);
        assert!(ran.stderr.contains(part), "{part:?} is not in {}", ran.stderr);
    }
}
