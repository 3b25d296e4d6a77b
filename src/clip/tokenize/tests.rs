//! Against ids that OpenCLIP's own tokenizer made (`tools/make_fixtures.py tokens`).

use serde::Deserialize;

use super::*;

fn tokenizer() -> Tokenizer {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/textual/tokenizer.json");
    Tokenizer::from_file(path, 77).unwrap()
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<i64>,
}

fn cases() -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tokens.jsonl");
    let text = std::fs::read_to_string(path).expect("the fixture is in the repository");
    text.lines().map(|line| serde_json::from_str(line).expect("fixtures are valid JSON")).collect()
}

#[test]
fn ids_equal_openclips() {
    let tokenizer = tokenizer();
    let cases = cases();
    let mut wrong = Vec::new();
    for case in &cases {
        let ids = tokenizer.encode(&case.text).unwrap();
        if ids != case.ids {
            let at = ids.iter().zip(&case.ids).take_while(|(a, b)| a == b).count();
            let (found, expected) = (ids.get(at..).unwrap_or_default(), case.ids.get(at..).unwrap_or_default());
            let cut = |ids: &[i64]| format!("{:?}", &ids[..ids.len().min(6)]);
            wrong.push(format!("{:?}: cleaned {:?}, from token {at}: found {}, expected {}", case.text, clean(&case.text), cut(found), cut(expected)));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 300, "{} cases are left of the fixtures", cases.len());
}
