//! Tells the crate whether libjpeg-turbo was built with its SIMD code: without an assembler it is built without, and says nothing.

use std::path::Path;
use std::{env, fs};

/// One of the library's routines, by the names that it has in SIMD builds.
const SIMD_SYMBOLS: [&[u8]; 2] = [b"jsimd_idct_islow_avx2", b"jsimd_idct_islow_neon"];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(jpeg_without_simd)");
    println!("cargo::rerun-if-changed=build.rs");
    // Set by `turbojpeg-sys` where it has built the library. One that was there already is not looked into.
    let Some(include) = env::var_os("DEP_TURBOJPEG_INCLUDE") else { return };
    let library = Path::new(&include).with_file_name("lib").join("libturbojpeg.a");
    let Ok(library) = fs::read(library) else { return };
    let has = |symbol: &&[u8]| library.windows(symbol.len()).any(|window| window == *symbol);
    if !SIMD_SYMBOLS.iter().any(has) {
        println!("cargo::rustc-cfg=jpeg_without_simd");
    }
}
