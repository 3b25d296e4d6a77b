//! Why a provider's library cannot be loaded. ONNX Runtime says only that it failed, or names the first library that is
//! missing; here all of them are named.

use std::fs::File;
use std::path::Path;

use object::LittleEndian;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::ReadCache;
use object::read::elf::FileHeader;

use super::options::needs;
use crate::config::Provider;

/// What is missing, and the next step; none where nothing was found that is (or this is not Linux).
pub(super) fn explain(provider: Provider, runtime: &Path) -> Option<String> {
    let name = format!("libonnxruntime_providers_{}.so", library_of(provider)?);
    // ONNX Runtime looks for its providers beside itself.
    let library = runtime.canonicalize().ok()?.with_file_name(&name);
    if cfg!(not(target_os = "linux")) {
        return None;
    }
    if !library.is_file() {
        let runtime = runtime.display();
        return Some(format!("{runtime} was built without it (no {name} beside it); {}", needs(provider)));
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
    Some(format!("{found}; install them where the loader finds them (ldconfig, LD_LIBRARY_PATH)"))
}

/// The middle of the library's name, for providers that are libraries of their own.
fn library_of(provider: Provider) -> Option<&'static str> {
    match provider {
        Provider::Cuda | Provider::TensorRt | Provider::MiGraphX | Provider::OpenVino => Some(provider.as_str()),
        Provider::Cpu | Provider::CoreMl | Provider::DirectMl => None,
    }
}

/// The libraries that an ELF file names as needed.
fn needed(library: &Path) -> Option<Vec<String>> {
    let file = ReadCache::new(File::open(library).ok()?);
    let header = FileHeader64::<LittleEndian>::parse(&file).ok()?;
    let endian = header.endian().ok()?;
    let table = header.sections(endian, &file).ok()?.dynamic_table(endian, &file).ok()?;
    let names = table.iter().filter(|entry| entry.tag == DT_NEEDED).filter_map(|entry| table.string(entry).ok());
    Some(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

/// As the loader would: by name, or from the folder of the library that needs it.
fn can_be_loaded(name: &str, by: &Path) -> bool {
    let beside = by.with_file_name(name);
    // The loader itself is named as needed, and is there already.
    name.starts_with("ld-linux") || beside.is_file() || ort::util::preload_dylib(name).is_ok()
}
