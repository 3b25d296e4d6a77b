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

/// Parts of texts on which the ids differ, and why. A text with one of them has to differ; all others have to agree.
const KNOWN_DIFFERENCES: [(&str, &str); 3] = [
    ("'ſ", "OpenCLIP's pattern ignores case, so that U+017F counts as the s of 's"),
    ("MÃœNCHEN", "ftfy 6.3.1 repairs this mojibake, plsfix 0.1.8 does not find it bad enough"),
    ("Ī¬乸", "ftfy 6.3.1 takes these characters for mojibake and changes them, plsfix 0.1.8 leaves them"),
];

#[test]
fn ids_equal_openclips() {
    let tokenizer = tokenizer();
    let cases = cases();
    let mut wrong = Vec::new();
    for case in &cases {
        let ids = tokenizer.encode(&case.text).unwrap();
        let known = KNOWN_DIFFERENCES.iter().find(|(part, _)| case.text.contains(part));
        if (ids != case.ids) != known.is_some() {
            let at = ids.iter().zip(&case.ids).take_while(|(a, b)| a == b).count();
            let cut = |ids: &[i64]| format!("{:?}", ids.iter().skip(at).take(6).collect::<Vec<_>>());
            wrong.push(format!(
                "{:?}: cleaned {:?}, from token {at}: found {}, expected {} {known:?}",
                case.text,
                clean(&case.text),
                cut(&ids),
                cut(&case.ids)
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 500, "{} cases are left of the fixtures", cases.len());
}

#[test]
fn ids_have_their_real_length_and_end_with_end_of_text() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.encode("").unwrap(), [49_406, 49_407]);
    let long = tokenizer.encode(&"cat ".repeat(500)).unwrap();
    assert_eq!((long.len(), long[0], long[76]), (77, 49_406, 49_407));
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&tokenizer);
}

#[test]
fn a_wrong_file_is_named_with_the_next_step() {
    let error = Tokenizer::from_file("/nowhere/tokenizer.json", 77).err().unwrap().to_string();
    assert!(error.contains("/nowhere/tokenizer.json") && error.contains("copy it"), "{error}");
    let error = Tokenizer::from_bytes(b"{}", 77).err().unwrap().to_string();
    assert!(error.contains("not a tokenizer.json"), "{error}");
    let other = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":null,
        "post_processor":null,"decoder":null,"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}}"#;
    let error = Tokenizer::from_bytes(other.as_bytes(), 77).err().unwrap().to_string();
    assert!(error.contains("<|startoftext|>"), "{error}");
}
