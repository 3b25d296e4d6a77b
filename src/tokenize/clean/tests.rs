use super::*;

#[test]
fn what_needs_no_repair_is_the_same_when_it_is_repaired() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tokens.jsonl");
    let lines = std::fs::read_to_string(path).expect("the fixture is in the repository");
    for line in lines.lines() {
        let case: serde_json::Value = serde_json::from_str(line).expect("fixtures are valid JSON");
        let text = case["text"].as_str().expect("a text");
        let plain: String = text.chars().filter(|c| ftfy::is_plain(c.encode_utf8(&mut [0; 4]))).collect();
        assert!(ftfy::is_plain(&plain));
        let repaired = ftfy::fixed(&plain, true);
        assert!(python::split(&repaired).eq(python::split(&plain)), "{plain:?} becomes {repaired:?}");
    }
}
