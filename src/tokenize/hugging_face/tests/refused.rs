//! Files that are no tokenizer, or not the model's: each gives one line, none a panic.

use serde_json::{Value, json};

use super::fixture::{files, open};
use super::*;
use crate::tokenize::TokenizerSettings;

/// What is said of the files of `kind` after a change of `tokenizer.json`.
fn refused(kind: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut files = files(kind);
    change(&mut files.tokenizer);
    line(open(&files.tokenizer, &files.config, HuggingFaceSettings::default(), 77))
}

fn line(opened: Result<Tokenizer, String>) -> String {
    let error = opened.err().expect("it is refused");
    assert!(!error.contains('\n') && error.len() < 500, "{error}");
    error
}

#[test]
fn parts_that_are_not_known_are_named() {
    let error = refused("xlm_r", |file| file["normalizer"]["normalizers"][1]["type"] = json!("Romanize"));
    assert!(error.starts_with("a normalizer of type Romanize, expected one of BertNormalizer, "), "{error}");
    let error = refused("gemma", |file| file["pre_tokenizer"]["type"] = json!("Jieba"));
    assert!(error.starts_with("a pre_tokenizer of type Jieba, expected one of "), "{error}");
    let error = refused("t5", |file| file["post_processor"]["type"] = json!("Other"));
    assert!(error.starts_with("a post_processor of type Other, expected one of "), "{error}");
    for kind in ["WordLevel", "Neural"] {
        let error = refused("t5", |file| file["model"]["type"] = json!(kind));
        assert!(
            error.starts_with(&format!("a model of type {kind}, expected one of BPE, Unigram, WordPiece; ")),
            "{error}"
        );
    }
    let error = refused("byte_bpe", |file| file["model"]["merges"][0] = json!(["no", "token"]));
    assert!(
        error.starts_with("not a tokenizer.json (") && error.ends_with("; download the model's tokenizer.json again"),
        "{error}"
    );
}

#[test]
fn tokens_that_the_vocabulary_lacks_are_named() {
    let error = refused("wordpiece", |file| file["model"]["unk_token"] = json!("[OTHER]"));
    assert!(error.starts_with("no token for unknown parts [OTHER] in the vocabulary"), "{error}");
    let error = refused("t5", |file| file["model"]["unk_id"] = Value::Null);
    assert!(error.starts_with("no id for unknown parts (unk_id)"), "{error}");

    let xlm_r = files("xlm_r");
    let with = |key: &str, value: Value| {
        let mut config = xlm_r.config.clone();
        config[key] = value;
        let settings = HuggingFaceSettings { strip_separator: true, ..Default::default() };
        line(open(&xlm_r.tokenizer, &config, settings, 77))
    };
    assert!(with("pad_token", json!("[none]")).starts_with("no padding token [none] in the vocabulary"));
    assert!(with("sep_token", json!({"content": "[none]"})).starts_with("no separator [none] in the vocabulary"));
    assert!(with("padding_side", json!("left")).starts_with("texts are padded on the side left, expected right"));
    assert!(with("pad_token", json!(3)).starts_with("not a tokenizer_config.json beside it ("));

    let asked = |kind: &str, language: Option<&str>, source: Option<&str>| {
        let files = files(kind);
        let (language, source_language) = (language.map(str::to_owned), source.map(str::to_owned));
        let settings = HuggingFaceSettings { language, source_language, ..Default::default() };
        line(open(&files.tokenizer, &files.config, settings, 77))
    };
    for found in [asked("nllb", Some("xyz_Latn"), None), asked("nllb", None, Some("xyz_Latn"))] {
        assert!(
            found.starts_with("no language code xyz_Latn in the vocabulary, expected one such as eng_Latn"),
            "{found}"
        );
    }
    // Words are no codes, though the vocabulary has them.
    assert!(asked("nllb", None, Some("</s>")).starts_with("no language code </s>"));
    assert!(asked("xlm_r", Some("deu_Latn"), None).starts_with("no language codes, expected NLLB's tokenizer"));
    let files = files("nllb");
    let error = line(open(&files.tokenizer, &files.config, HuggingFaceSettings::default(), 2));
    assert_eq!(error, "context length 2, expected at least 3");
}

#[test]
fn without_its_configuration_a_file_has_the_usual_padding() {
    for (kind, padding) in [("wordpiece", 0), ("byte_bpe", 1), ("t5", 0), ("xlm_r", 1), ("gemma", 0), ("nllb", 1)] {
        let bytes = files(kind).tokenizer.to_string();
        let tokenizer = Tokenizer::from_bytes(bytes.as_bytes(), None, &TokenizerSettings::OfFile, 77).unwrap();
        assert_eq!((tokenizer.padding_id(), tokenizer.names_padding()), (Some(padding), false), "{kind}");
        assert!(!tokenizer.is_clips());
    }
    // SigLIP's pads with the end of the text.
    let t5 = files("t5");
    let named = open(&t5.tokenizer, &t5.config, HuggingFaceSettings::default(), 77).unwrap();
    assert_eq!((named.padding_id(), named.names_padding()), (Some(1), true));
}

#[test]
fn special_tokens_of_the_steps_count_as_ids() {
    let mut byte_bpe = files("byte_bpe");
    byte_bpe.tokenizer["post_processor"]["sep"][1] = json!(70_000);
    let tokenizer = open(&byte_bpe.tokenizer, &byte_bpe.config, HuggingFaceSettings::default(), 77).unwrap();
    assert_eq!((tokenizer.encode("").last(), tokenizer.vocabulary_size()), (Some(&70_000), 70_001));
}

/// A configuration that names a tokenizer is believed, also where the vocabulary is CLIP's.
#[test]
fn a_named_tokenizer_is_taken_as_its_file_describes_it() {
    let file = crate::tokenize::open_clip::VOCABULARY;
    let of_file = Tokenizer::from_bytes(file, None, &TokenizerSettings::OfFile, 77).unwrap();
    assert!(of_file.is_clips());
    let named = TokenizerSettings::HuggingFace(HuggingFaceSettings::default());
    let named = Tokenizer::from_bytes(file, None, &named, 77).unwrap();
    assert!(!named.is_clips() && !named.encode("a photo of a cat").is_empty());
}

/// Changed bytes and cut files. The crate indexes with what it read: a panic inside it must not leave it.
#[test]
fn damaged_files_are_refused_or_used_without_a_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    for kind in ["wordpiece", "t5", "nllb"] {
        let mut tokenizer = files(kind).tokenizer;
        // Few tokens, so that changes hit the other parts as well.
        if let Some(list) = tokenizer["model"]["vocab"].as_array_mut() {
            list.truncate(300);
        }
        let bytes = tokenizer.to_string().into_bytes();
        for _ in 0..60 {
            let mut damaged = bytes.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..damaged.len());
                damaged[at] = b"0129\"[]{},:aA/+"[random.usize(..15)];
            }
            if random.u8(..4) == 0 {
                damaged.truncate(random.usize(..bytes.len()));
            }
            match Tokenizer::from_bytes(&damaged, None, &TokenizerSettings::OfFile, 16) {
                Ok(tokenizer) => drop(tokenizer.encode("a text, and ANOTHER one &amp; 3 中 ㍿ ﬁ")),
                Err(error) => assert!(error.to_string().chars().count() <= 1000, "{error}"),
            }
            assert!(!is_guarded());
        }
    }
}
