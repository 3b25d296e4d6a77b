//! `tokenizer.json` files of every kind; see `clipstream::tokenize::fuzzing`, which the tests compile and run on the seeds, too.

#![no_main]

use std::sync::Once;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    static HOOK: Once = Once::new();
    // The crate `tokenizers` indexes with what a file says; its panics are caught and become errors (`hugging_face/guard`). libFuzzer
    // would take one for a crash. A panic that nobody catches still ends the run.
    HOOK.call_once(|| std::panic::set_hook(Box::new(|panic| eprintln!("panicked: {panic}"))));
    clipstream::tokenize::fuzzing::file(data);
});
