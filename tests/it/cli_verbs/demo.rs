use super::Home;

#[test]
fn the_whole_demo() {
    let home = Home::new();
    let page = home.text("pages/demo.html");
    let ran = home.run(&["demo", "--json", "--page", &page]).ended(0);
    let lines = ran.lines();
    let report = lines.last().expect("a report").as_object().expect("an object");
    let mut keys: Vec<&String> = report.keys().collect();
    keys.sort();
    let expected = [
        "bound_items_per_s",
        "dead_letters",
        "items_per_s",
        "messages",
        "model_items_per_s",
        "page",
        "pictures_unchanged",
        "points",
        "recall_at_1",
        "recall_at_5",
    ];
    assert_eq!(keys, expected);
    let number = |key: &str| report[key].as_f64().unwrap();
    assert_eq!((number("messages"), number("points"), number("dead_letters")), (3704.0, 1852.0, 0.0));
    assert!(number("recall_at_1") >= 0.6 && number("recall_at_5") >= number("recall_at_1"), "{report:?}");
    assert!(number("items_per_s") > 0.0 && number("model_items_per_s") > 0.0, "{report:?}");
    assert!(number("bound_items_per_s") > 0.0, "{report:?}");
    assert_eq!(number("pictures_unchanged"), 0.0);
    assert_eq!(report["page"], page.as_str());

    let html = std::fs::read_to_string(&page).expect("the page is there");
    assert!(html.contains("data:image/webp;base64,"));
    assert!(!html.contains("http://") && !html.contains("https://"), "the page needs nothing else");

    // A second run embeds no picture, and shows no rate as if it had.
    let again = home.run(&["demo", "--json", "--page", &page]).ended(0).lines();
    assert_eq!(again.last().expect("a report")["pictures_unchanged"], 1852);
    let html = std::fs::read_to_string(&page).expect("the page is there");
    assert!(html.contains("stored by an earlier run") && !html.contains("images/s end to end"));

    let hits = home.run(&["search", "a red heart", "--json", "-n", "5"]).ended(0).lines();
    assert_eq!(hits.len(), 5);
    // What the caption topic and the picture topic said is in one point.
    let payload = &hits[0]["payload"];
    assert!(payload["name"].is_string() && payload["emoji"].is_string(), "{payload}");
}
