use serde_json::{Value, json};

use super::Home;
use crate::worker_process::{Process, clipstream, set};

#[test]
fn a_directory_with_broken_files() {
    let home = Home::new();
    home.catalog(3);
    let pictures = home.text("images");
    std::fs::write(home.path("images/broken.webp"), &std::fs::read(home.path("images/0023-20e3.webp")).unwrap()[..200])
        .unwrap();
    std::fs::write(home.path("images/text.png"), "no picture").unwrap();
    std::fs::write(home.path("images/notes.txt"), "not looked at").unwrap();

    let ran = home.run(&["index", &pictures, "--json"]).ended(1);
    let report = &ran.lines()[0];
    let numbers = ["messages", "dead_letters", "abandoned", "points"].map(|key| report[key].as_u64().unwrap());
    assert_eq!((numbers, ran.lines().len()), ([5, 2, 0, 3], 1));
    assert_eq!(report["collection"], "catalog__demo-emoji__v1");
    // Without dead_letter.file the letters are on standard error.
    let letters: Vec<Value> = ran.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(letters.len(), 2, "{}", ran.stderr);
    ran.says("error: 2 messages could not be indexed");
    ran.says("hint: ");

    // Again, with a file for them; the points stay the same.
    let file = format!("dead_letter.file={}", home.text("dead.jsonl"));
    let ran = home.run(&["index", &pictures, "--json", "--set", &file]).ended(1);
    assert_eq!(ran.lines()[0]["points"], 3);
    assert!(ran.stderr.lines().all(|line| !line.starts_with('{')), "{}", ran.stderr);
    let written = std::fs::read_to_string(home.path("dead.jsonl")).unwrap();
    let mut reasons: Vec<(String, String)> = written
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|letter| {
            assert_eq!((&letter["stage"], &letter["class"]), (&"embed".into(), &"permanent".into()));
            let message: Value = serde_json::from_str(letter["value"].as_str().unwrap()).unwrap();
            (message["id"].as_str().unwrap().to_owned(), letter["reason"].as_str().unwrap().to_owned())
        })
        .collect();
    reasons.sort();
    let expected = [("broken.webp", "image_undecodable"), ("text.png", "image_unsupported")];
    assert_eq!(reasons, expected.map(|(id, reason)| (id.to_owned(), reason.to_owned())));
}

#[test]
fn standard_input_with_every_operation() {
    let home = Home::new();
    let lines = [
        json!({ "id": "a", "text": "a dog", "image": "demo/catalog/images/0023-20e3.webp" }),
        json!({ "id": "b", "text": "a cat" }),
        json!({ "id": "gone", "text": "soon gone" }),
        json!({ "id": "b", "op": "patch", "payload": { "lang": "en" } }),
        json!({ "id": "gone", "op": "delete" }),
        json!({ "id": "wrong", "txt": "a field that is none" }),
    ];
    let input = lines.map(|line| line.to_string()).join("\n");
    let ran = home.run_with_input(&["index", "-", "--json"], input.as_bytes()).ended(1);
    let report = &ran.lines()[0];
    assert_eq!((&report["messages"], &report["dead_letters"], &report["points"]), (&6.into(), &1.into(), &2.into()));
    ran.says("txt");
    let found = home.run(&["search", "a cat", "--in", "text", "--json"]).ended(0).lines();
    assert_eq!((&found[0]["id"], &found[0]["payload"]["lang"]), (&"b".into(), &"en".into()));
}

#[test]
fn what_cannot_be_opened_is_named() {
    let home = Home::new();
    let ran = home.run(&["index", "nowhere.jsonl"]).ended(2);
    ran.says("cannot open nowhere.jsonl");
    ran.says("hint: expected a directory of pictures, a JSON Lines file, or - for standard input");
    assert_eq!(ran.stdout, "");
    assert!(!home.path("store").exists(), "nothing was done");
}

#[tokio::test]
async fn a_store_that_others_hold_is_refused() {
    let home = Home::new();
    home.catalog(1);
    let settings = clipstream::config::StoreSettings { path: home.path("store"), ..Default::default() };
    let held = clipstream::store::open(&settings).await.unwrap();
    let catalog = home.text("catalog.jsonl");
    for arguments in [&["index", &catalog][..], &["search", "a"], &["check", "--set", "telemetry.listen="]] {
        let ran = home.run(arguments).ended(3);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains("is in use by another process"), "{arguments:?}: {said}");
    }
    held.close().await.unwrap();
    home.run(&["index", &catalog]).ended(0);
}

/// The campaign (tests/chaos/disk.rs) gives the room back.
#[tokio::test]
async fn without_room_on_the_disk_it_waits_and_says_why() {
    let home = Home::new();
    home.catalog(3);
    let catalog = home.text("catalog.jsonl");
    home.run(&["index", &catalog]).ended(0);

    let more = home.text("more.jsonl");
    std::fs::write(&more, json!({ "id": "more", "text": "a dog" }).to_string()).unwrap();
    let mut index = clipstream("index");
    index.arg(&more);
    // More than any disk has.
    set(&mut index, &[("store.path", &home.text("store")), ("store.disk_free_bytes_min", "1125899906842624")]);
    let mut index = Process::spawn(&mut index);
    let said = index
        .wait_for("index says why it waits", async |index| {
            index.lines().into_iter().find(|line| line.contains("outage, holding messages"))
        })
        .await;
    for part in [&home.text("store"), "store_disk_full", "are free, expected", "store.disk_free_bytes_min"] {
        assert!(said.contains(part), "{said}");
    }
    index.terminate();
    let (code, lines) = index.end().await;
    assert_eq!(code, Some(1), "{lines:?}");
    // Nothing else was said of it, and nothing was written.
    assert_eq!(lines.iter().filter(|line| line.contains("outage")).count(), 1, "{lines:?}");
    assert_eq!(home.run(&["index", &catalog, "--json"]).ended(0).lines()[0]["points"], 3);
}
