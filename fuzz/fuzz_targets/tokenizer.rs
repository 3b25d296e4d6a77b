//! CLIP's tokenizer, on texts and on its own file. A text gives ids of the vocabulary between start and end, never more
//! than the context length; a file is a tokenizer or an error.

#![no_main]

use std::sync::OnceLock;

use clipstream::tokenize::open_clip::{OpenClip, VOCABULARY};
use libfuzzer_sys::fuzz_target;

const CONTEXT_LENGTH: usize = 77;

fn clip() -> &'static OpenClip {
    static TOKENIZER: OnceLock<OpenClip> = OnceLock::new();
    TOKENIZER.get_or_init(|| OpenClip::from_bytes(VOCABULARY, CONTEXT_LENGTH).expect("CLIP's own"))
}

// A file where it begins with `{`, a text otherwise.
fuzz_target!(|data: &[u8]| {
    if data.first() == Some(&b'{') {
        match OpenClip::from_bytes(data, CONTEXT_LENGTH) {
            Ok(tokenizer) => valid(&tokenizer, "a text, and ANOTHER one &amp; 3"),
            Err(error) => assert!(error.to_string().chars().count() <= 1000, "{error}"),
        }
        return;
    }
    let text = String::from_utf8_lossy(data);
    valid(clip(), &text);
    // OpenCLIP's cleaning strips, so white space around a text changes nothing.
    assert_eq!(clip().encode(&text), clip().encode(&format!(" {text}\n")));
});

fn valid(tokenizer: &OpenClip, text: &str) {
    let ids = tokenizer.encode(text);
    assert!((2..=tokenizer.context_length()).contains(&ids.len()), "{} ids", ids.len());
    let size = i64::try_from(tokenizer.vocabulary_size()).expect("a small vocabulary");
    assert!(ids.iter().all(|id| (0..size).contains(id)), "{ids:?} of {size}");
    let (start, end) = (tokenizer.encode("")[0], tokenizer.encode("")[1]);
    assert_eq!((ids[0], ids[ids.len() - 1]), (start, end));
}
