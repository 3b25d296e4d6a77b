//! Why a provider's library cannot be loaded. ONNX Runtime only says that it failed, or names the first missing
//! library; this module names them all.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::options::needs;
use crate::config::Provider;
use crate::domain::Finding;

/// What is missing, and the next step. `None`: nothing found missing, or this is not Linux.
pub(super) fn explain(provider: Provider, runtime: &Path) -> Option<Finding> {
    let name = format!("libonnxruntime_providers_{}.so", library_of(provider)?);
    // ONNX Runtime looks for its providers beside itself.
    let library = runtime.canonicalize().ok()?.with_file_name(&name);
    if cfg!(not(target_os = "linux")) {
        return None;
    }
    if !library.is_file() {
        let message = format!("{} was built without it (no {name} beside it)", runtime.display());
        return Some(Finding::new(message).hint(needs(provider)));
    }
    let missing: Vec<String> =
        needed(&library).unwrap_or_default().into_iter().filter(|name| !can_be_loaded(name, &library)).collect();
    if missing.is_empty() {
        return None;
    }
    let mut found = format!("{} needs {}, which cannot be loaded", library.display(), missing.join(", "));
    if missing.iter().any(|name| name.starts_with("libcuda.so")) {
        found.push_str(" (libcuda.so comes with the NVIDIA driver: is there a GPU in this machine?)");
    }
    Some(Finding::new(found).hint("install them where the loader finds them (ldconfig, LD_LIBRARY_PATH)"))
}

/// The middle of the library's name, for providers that have their own library.
fn library_of(provider: Provider) -> Option<&'static str> {
    match provider {
        Provider::Cuda | Provider::TensorRt | Provider::MiGraphX | Provider::OpenVino => Some(provider.as_str()),
        Provider::Cpu | Provider::CoreMl | Provider::DirectMl => None,
    }
}

/// The libraries that a 64-bit little-endian ELF file needs; `None` for other files.
///
/// Offsets are those of `Elf64_Ehdr`, `Elf64_Shdr` and `Elf64_Dyn` in `elf.h`.
fn needed(library: &Path) -> Option<Vec<String>> {
    /// `SHT_DYNAMIC`, and the tag `DT_NEEDED` of its entries.
    const DYNAMIC: u64 = 6;
    const NEEDED: u64 = 1;
    /// More than any library has: a broken file may claim any size.
    const SECTION_BYTES_MAX: u64 = 64 << 20;
    let mut file = File::open(library).ok()?;
    let mut part = |offset: u64, length: u64| {
        let mut bytes = vec![0; usize::try_from(length).ok().filter(|_| length <= SECTION_BYTES_MAX)?];
        file.seek(SeekFrom::Start(offset)).ok()?;
        file.read_exact(&mut bytes).ok()?;
        Some(bytes)
    };
    let header = part(0, 64)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (entry_bytes, entries) = (number(&header, 58, 2)?, number(&header, 60, 2)?);
    let table = part(number(&header, 40, 8)?, entry_bytes.checked_mul(entries)?)?;
    let sections: Vec<&[u8]> = table.chunks_exact(usize::try_from(entry_bytes).ok().filter(|n| *n >= 64)?).collect();
    let content = |section: &[u8]| Some((number(section, 24, 8)?, number(section, 32, 8)?));
    let dynamic = sections.iter().find(|section| number(section, 4, 4) == Some(DYNAMIC))?;
    // `sh_link` of a dynamic section refers to its string table.
    let strings = sections.get(usize::try_from(number(dynamic, 40, 4)?).ok()?)?;
    let ((offset, length), (text_offset, text_length)) = (content(dynamic)?, content(strings)?);
    let (entries, text) = (part(offset, length)?, part(text_offset, text_length)?);
    let names = entries.chunks_exact(16).filter(|entry| number(entry, 0, 8) == Some(NEEDED)).filter_map(|entry| {
        let name = text.get(usize::try_from(number(entry, 8, 8)?).ok()?..)?;
        Some(String::from_utf8_lossy(name.split(|byte| *byte == 0).next()?).into_owned())
    });
    Some(names.collect())
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    Some(bytes.get(at..at + length)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Looks like the loader does: by name, or beside the library that needs it.
fn can_be_loaded(name: &str, by: &Path) -> bool {
    let beside = by.with_file_name(name);
    // The loader is listed as needed too, and always present.
    name.starts_with("ld-linux") || beside.is_file() || ort::util::preload_dylib(name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(target_os = "linux", target_pointer_width = "64", target_endian = "little"))]
    fn an_elf_file_says_what_it_needs() {
        let own = std::env::current_exe().unwrap();
        let needed = needed(&own).unwrap();
        assert!(needed.iter().any(|name| name.starts_with("libc.so")), "{needed:?}");
        assert!(needed.iter().all(|name| can_be_loaded(name, &own)), "{needed:?}");
        assert!(!can_be_loaded("libnowhere.so.7", &own));
    }

    #[test]
    fn what_is_no_elf_file_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.so");
        for content in
            [&b""[..], b"\x7fELF\x02\x01", &[0xff; 64], &[b"\x7fELF\x02\x01".as_slice(), &[0xff; 58]].concat()]
        {
            std::fs::write(&file, content).unwrap();
            assert_eq!(needed(&file), None);
        }
    }

    #[test]
    fn a_library_without_the_provider_is_named_with_the_next_step() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = folder.path().join("libonnxruntime.so.1");
        std::fs::write(&runtime, "").unwrap();
        if cfg!(target_os = "linux") {
            let said = explain(Provider::Cuda, &runtime).unwrap();
            assert!(said.message.contains("no libonnxruntime_providers_cuda.so beside it"), "{said}");
            assert!(said.hint.as_ref().unwrap().contains("scripts/onnxruntime --cuda"), "{said}");
        }
        assert_eq!(explain(Provider::CoreMl, &runtime), None);
    }
}
