//! Against ids that OpenCLIP's own tokenizer made (`tools/make_fixtures.py tokens`).

use serde::Deserialize;

use super::*;
use crate::tokenize::{Tokenizer, TokenizerSettings};

fn tokenizer() -> Tokenizer {
    Tokenizer::from_bytes(VOCABULARY, None, &TokenizerSettings::OfFile, 77).unwrap()
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
        let ids = tokenizer.encode(&case.text);
        if ids != case.ids {
            let at = ids.iter().zip(&case.ids).take_while(|(a, b)| a == b).count();
            let cut = |ids: &[i64]| format!("{:?}", ids.iter().skip(at).take(6).collect::<Vec<_>>());
            wrong.push(format!(
                "{:?}: cleaned {:?}, from token {at}: found {}, expected {}",
                case.text,
                clean::Lines::of(&case.text).collect::<String>(),
                cut(&ids),
                cut(&case.ids)
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 5000, "{} cases are left of the fixtures", cases.len());
}

#[test]
fn ids_have_their_real_length_and_end_with_end_of_text() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.encode(""), [49_406, 49_407]);
    let long = tokenizer.encode(&"cat ".repeat(500));
    assert_eq!((long.len(), long[0], long[76]), (77, 49_406, 49_407));
    assert_eq!(tokenizer.vocabulary_size(), 49_408);
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&tokenizer);
}

/// Several parts of a line that ftfy fixes apart, blank lines for megabytes, and lines that would take ftfy hours.
#[test]
fn a_long_text_is_read_as_far_as_its_first_tokens_need() {
    let tokenizer = tokenizer();
    let cat = tokenizer.encode("cat");
    assert_eq!(tokenizer.encode(&format!("{}cat", " ".repeat(3_000_000))), cat);
    assert_eq!(tokenizer.encode(&format!("{}cat", "\n".repeat(3_000_000))), cat);
    assert_eq!(tokenizer.encode(&format!("{}ca\u{0}t", "\u{a0}".repeat(999_999))), cat);
    assert_eq!(tokenizer.encode(&format!("&{}", "amp;".repeat(5_000))), tokenizer.encode("&"));
    for part in ["&amp;amp;amp;", "Ã©", "ÃÃ©\u{80}", "中", "a", "Σ\u{301}", "\u{1b}[1;", "&#38", "'s", "<end_of_text>"]
    {
        let ids = tokenizer.encode(&part.repeat(1_000_000 / part.len()));
        assert_eq!((ids[0], ids.last()), (49_406, Some(&49_407)), "{part:?}");
    }
    let layers = format!("é&{}", "amp;".repeat(1_000_000));
    assert_eq!(tokenizer.encode(&layers).len(), 77);
}

/// It has a copy: a model's directory is whole without this library.
#[test]
fn the_demo_model_has_this_vocabulary() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/model/textual/tokenizer.json");
    assert!(std::fs::read(path).unwrap() == VOCABULARY, "{path} differs from the library's own");
}

#[test]
fn a_wrong_file_is_named_with_the_next_step() {
    let of_file = TokenizerSettings::OfFile;
    let error = Tokenizer::from_file("/nowhere/tokenizer.json", &of_file, 77).err().unwrap().to_string();
    assert!(error.contains("/nowhere/tokenizer.json") && error.contains("copy it"), "{error}");
    let error = |json: &str| Tokenizer::from_bytes(json.as_bytes(), None, &of_file, 77).err().unwrap().to_string();
    for broken in ["", "[]", "{}", "null", r#"{"model": {"type": "BPE", "vocab": {"a": 0}}}"#] {
        assert!(error(broken).contains("not a tokenizer.json"), "{broken}: {}", error(broken));
    }
    let error = |json: &str| OpenClip::from_bytes(json.as_bytes(), 77).err().unwrap().to_string();
    let other = error(r#"{"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}"#);
    assert!(other.contains("type WordLevel, expected CLIP's byte-pair encoding"), "{other}");
    let other = error(r#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}"#);
    assert!(other.contains("no token Ā in the vocabulary"), "{other}");
}

/// CLIP's tokens of single bytes, with `merges` and what they make.
fn small(merges: &[&str], specials: &[&str]) -> Result<OpenClip, TokenizerError> {
    let bytes = merges::bytes_to_unicode().map(String::from);
    let ends = bytes.iter().map(|byte| format!("{byte}</w>"));
    let made = merges.iter().map(|merge| merge.replace(' ', ""));
    let tokens = bytes.iter().cloned().chain(ends).chain(made).chain(specials.iter().map(|s| s.to_string()));
    let ids: std::collections::HashMap<_, _> = tokens.zip(0..).collect();
    let json = serde_json::json!({ "model": { "type": "BPE", "vocab": ids, "merges": merges } });
    OpenClip::from_bytes(json.to_string().as_bytes(), 77)
}

#[test]
fn merges_that_are_not_clips_are_refused() {
    let specials = ["<|startoftext|>", "<|endoftext|>"];
    let good = small(&["a b", "ab c</w>"], &specials).unwrap();
    assert_eq!(good.encode("abc"), [514, 513, 515]);
    assert_eq!(small(&["a b"], &["<start_of_text>", "<end_of_text>"]).unwrap().encode(""), [513, 514]);
    let refused = |merges: &[&str]| small(merges, &specials).err().unwrap().to_string();
    assert!(refused(&["ab c", "a b"]).contains("merge 1 of ab and c comes before its parts"));
    assert!(refused(&["a b", "b c", "ab c", "a bc"]).contains("merge 4 of a and bc makes a token a second time"));
    assert!(refused(&["ab"]).contains("has one part"));
    let error = small(&[], &["<|startoftext|>"]).err().unwrap().to_string();
    assert!(error.contains("no token <|endoftext|> in the vocabulary"), "{error}");
}
