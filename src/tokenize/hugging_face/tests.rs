//! Against ids that OpenCLIP's own `HFTokenizer` made (`tools/fixture_tokenizers.py`).

mod fixture;
mod refused;

use self::fixture::{Fixture, Run};
use super::*;
use crate::tokenize::Tokenizer;

/// Every text of the fixture in each of its runs, padded as OpenCLIP pads.
fn compare(kind: &str) {
    let fixture = Fixture::read(kind);
    let mut wrong = Vec::new();
    for Run { arguments, tokenizer, context_length, rows, digests } in &fixture.runs {
        assert_eq!(tokenizer.padding_id(), Some(fixture.pad));
        let row = |mut ids: Vec<i64>| {
            assert!(ids.len() <= *context_length && ids.iter().all(|&id| id < tokenizer.vocabulary_size() as i64));
            ids.resize(*context_length, fixture.pad);
            ids
        };
        for (text, expected) in fixture.texts.iter().zip(rows) {
            let (found, expected) = (row(tokenizer.encode(text)), row(expected.clone()));
            if found != expected {
                let at = found.iter().zip(&expected).take_while(|(a, b)| a == b).count();
                wrong.push(format!(
                    "{arguments} {context_length} {text:?}, from token {at}: {:?}, expected {:?}",
                    &found[at..found.len().min(at + 6)],
                    &expected[at..expected.len().min(at + 6)]
                ));
            }
        }
        let all = fixture::known_texts().iter().chain(&fixture.texts);
        for (text, expected) in all.zip(digests) {
            if fixture::digest(&row(tokenizer.encode(text))) != *expected {
                wrong.push(format!("{arguments} {context_length} {text:?}: another digest"));
            }
        }
        assert!(rows.len() >= 400 && digests.len() >= 6000, "{} rows and {} digests", rows.len(), digests.len());
    }
    let shown = &wrong[..wrong.len().min(40)];
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), shown.join("\n"));
    assert!(fixture.runs.len() >= 4);
}

#[test]
fn word_piece_has_openclips_ids() {
    compare("wordpiece");
}

#[test]
fn byte_level_bpe_has_openclips_ids() {
    compare("byte_bpe");
}

#[test]
fn t5_has_openclips_ids() {
    compare("t5");
}

#[test]
fn mt5_has_openclips_ids() {
    compare("mt5");
}

#[test]
fn xlm_r_has_openclips_ids() {
    compare("xlm_r");
}

#[test]
fn gemma_has_openclips_ids() {
    compare("gemma");
}

#[test]
fn nllb_has_openclips_ids() {
    compare("nllb");
}

/// A long text is encoded in part; what is not looked at changes nothing.
#[test]
fn a_part_of_a_long_text_has_the_ids_of_the_whole() {
    let known = fixture::known_texts();
    for kind in ["wordpiece", "byte_bpe", "t5", "xlm_r", "gemma", "nllb"] {
        let fixture = Fixture::read(kind);
        let Tokenizer::HuggingFace(tokenizer) = &fixture.runs[0].tokenizer else { panic!("{kind} is CLIP's") };
        for first in (0..known.len()).step_by(500) {
            let words = known[first..].join(" ");
            let glued: String = words.chars().filter(|c| !c.is_whitespace()).collect();
            for text in [words, glued] {
                let mut whole = String::new();
                assert!(!Cleaned::of(&text, tokenizer.cleaning).extend(&mut whole, usize::MAX));
                assert_eq!(tokenizer.encode(&text), tokenizer.ids(&whole).unwrap().0, "{kind} from text {first}");
            }
        }
    }
}

#[test]
fn megabytes_are_read_as_far_as_their_first_tokens_need() {
    for kind in ["wordpiece", "byte_bpe", "t5", "gemma"] {
        let fixture = Fixture::read(kind);
        let tokenizer = &fixture.runs[0].tokenizer;
        let cat = tokenizer.encode("cat");
        assert_eq!(tokenizer.encode(&format!("{}cat", " \n".repeat(1_000_000))), cat, "{kind}");
        for part in ["a", "中", "é", "! ", "\u{200b}", "\u{ad}", "a\u{301}", "👩\u{200d}", "x ", "<", "</s>", "<mask>"]
        {
            let ids = tokenizer.encode(&part.repeat(1_000_000 / part.len()));
            assert!(!ids.is_empty() && ids.len() <= 16, "{kind} {part:?}: {} ids", ids.len());
        }
    }
}
