//! Message decoding; see `clipstream::format::fuzzing`, which the tests compile and run on the seeds, too.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| clipstream::format::fuzzing::message(data));
