use serde_json::{Value, json};

use super::{Home, project};
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
    assert_eq!(report["skipped"], json!([{ "kind": "plain text", "count": 1, "examples": ["notes.txt"] }]));
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

/// Files as browsers, cameras and NAS boxes name them.
#[test]
fn a_directory_is_judged_by_content_and_reports_what_it_skipped() {
    let home = Home::new();
    let picture = std::fs::read(project().join("demo/catalog/images/0023-20e3.webp")).unwrap();
    let names =
        ["a.webp", "photo.jfif", "b.jpe", "no_extension", "12:30.png", "Screenshot at 10:20:30.png", "x.bak", "ü.PNG"];
    let skipped =
        [".hidden/a.webp", "._a.webp", ".trashed-1-a.webp", "@eaDir/a.webp/SYNOPHOTO_THUMB_M.jpg", "Thumbs.db"];
    for name in names.into_iter().chain(skipped) {
        let path = home.path(&format!("pictures/{name}"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &picture).unwrap();
    }
    std::fs::write(home.path("pictures/shop.heic"), b"\0\0\0\x1cftypheic\0\0\0\0").unwrap();
    std::fs::write(home.path("pictures/empty"), b"").unwrap();
    let pictures = home.text("pictures");
    let report = home.run(&["index", &pictures, "--json"]).ended(0).lines().remove(0);
    assert_eq!((&report["messages"], &report["points"]), (&names.len().into(), &names.len().into()));
    let kinds = json!([
        { "kind": "hidden", "count": 5, "examples": ["._a.webp", ".hidden/", ".trashed-1-a.webp"] },
        { "kind": "a HEIF picture", "count": 1, "examples": ["shop.heic"] },
        { "kind": "an empty file", "count": 1, "examples": ["empty"] },
    ]);
    assert_eq!(report["skipped"], kinds);
    let ran = home.run(&["index", &pictures]).ended(0);
    assert!(ran.stdout.contains("skipped: 1 a HEIF picture (shop.heic)\n"), "{}", ran.stdout);
    assert_eq!(home.run(&["index", &pictures, "--hidden", "--json"]).ended(0).lines()[0]["messages"], names.len() + 5);

    std::fs::create_dir(home.path("none")).unwrap();
    let ran = home.run(&["index", &home.text("none"), "--json"]).ended(0);
    ran.says("nothing was indexed: there is no picture in");
    assert_eq!((&ran.lines()[0]["messages"], &ran.lines()[0]["skipped"]), (&0.into(), &json!([])));
}

/// What editors, shells and exports put around JSON Lines.
#[test]
fn files_of_lines_in_any_encoding() {
    let home = Home::new();
    std::fs::create_dir_all(home.path("images")).unwrap();
    let source = project().join("demo/catalog/images/0023-20e3.webp");
    std::fs::copy(source, home.path("images/12:30.webp")).unwrap();
    let lines = "{\"id\": \"a\", \"text\": \"café 🐦\"}\r\n\r\n{\"id\": \"b\", \"image\": \"images/12:30.webp\", \"version\": 42.0}\r\n";
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let files: [(&str, Vec<u8>); 4] = [
        ("bom", format!("\u{feff}{lines}").into()),
        ("powershell", utf16(&format!("\u{feff}{lines}"))),
        ("utf16", utf16(lines)),
        ("mac", lines.replace("\r\n", "\r").into()),
    ];
    for (name, bytes) in &files {
        std::fs::write(home.path(name), bytes).unwrap();
        let ran = home.run(&["index", &home.text(name), "--json"]).ended(0);
        assert_eq!((&ran.lines()[0]["messages"], &ran.lines()[0]["points"]), (&2.into(), &2.into()), "{name}");
    }
    let ran =
        home.run_with_input(&["index", "-", "--json"], "\u{feff}{\"id\": \"c\", \"text\": \"x\"}".as_bytes()).ended(0);
    assert_eq!(ran.lines()[0]["points"], 3);

    let others: [(&str, &[u8], &str); 3] = [
        ("lines.gz", b"\x1f\x8b\x08\0\0\0\0\0", "is gzip-compressed; expected JSON Lines"),
        ("list.json", b"[\n  {\"id\": \"a\"}\n]\n", "is one JSON list over several lines"),
        ("pretty.json", b"{\n  \"id\": \"a\"\n}\n", "is one JSON document over several lines"),
    ];
    for (name, bytes, says) in others {
        std::fs::write(home.path(name), bytes).unwrap();
        home.run(&["index", &home.text(name)]).ended(2).says(says);
    }
}

#[test]
fn a_model_directory_that_is_not_there_is_said_in_few_words() {
    let home = Home::new();
    let models = format!("clip.models=ViT-B-32/openai={}", home.text("nowhere"));
    let ran = home.run(&["index", "-", "--set", &models]).ended(3);
    ran.says("there is no such directory\nhint: run clipstream models pull ViT-B-32/openai");
    assert!(ran.stderr.len() < 400, "{}", ran.stderr);
}

/// ONNX Runtime's library is newer than what its binding was designed for, which nobody can do anything about.
#[test]
fn a_start_does_not_warn_of_the_runtimes_version() {
    let home = Home::new();
    let input = b"{\"id\": \"a\", \"text\": \"x\"}";
    let ran = home.run_with_input(&["index", "-", "--set", "telemetry.log_filter=info"], input).ended(0);
    ran.says("ONNX Runtime loaded");
    assert!(!ran.stderr.contains("was designed for"), "{}", ran.stderr);
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
