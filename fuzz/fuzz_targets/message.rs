//! Message decoding; see `clipstream::pipeline::fuzzing`, which the tests compile and run on the seeds, too.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| clipstream::pipeline::fuzzing::message(data));
