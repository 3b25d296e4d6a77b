//! ONNX Runtime, loaded once per process from the first of:
//!
//! 1. `CLIPSTREAM_ORT_DYLIB`, then `ORT_DYLIB_PATH`
//! 2. `[clip] onnxruntime`
//! 3. the folder of the executable, and `lib` beside it
//! 4. `${XDG_CACHE_HOME:-$HOME/.cache}/clipstream/onnxruntime/VERSION/`, where `scripts/onnxruntime` puts it
//! 5. `LD_LIBRARY_PATH` and the system's library folders
//!
//! A library named by 1 or 2 must exist: it is never silently replaced by another one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use ort::LoadDynamicError;
use ort::environment::Environment;
use ort::logging::LogLevel;

use super::ClipError;
use crate::domain::{ClipReason, Fault};

/// The version that `scripts/onnxruntime` fetches.
const VERSION: &str = include_str!("../../config/onnxruntime.version");

const VARIABLES: [&str; 2] = ["CLIPSTREAM_ORT_DYLIB", "ORT_DYLIB_PATH"];

const SYSTEM_FOLDERS: [&str; 7] = [
    "/usr/local/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/opt/onnxruntime/lib",
    "/opt/homebrew/lib",
];

/// The hint if no library is found, or none works.
const GET_LIBRARY: &str = "run scripts/onnxruntime, or set CLIPSTREAM_ORT_DYLIB to the library";

/// The loaded library. It stays loaded until the process ends.
#[derive(Debug)]
pub(super) struct Runtime {
    pub(super) environment: Environment,
    pub(super) path: PathBuf,
}

static RUNTIME: OnceLock<Runtime> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

/// The process's ONNX Runtime. The first successful call decides which library it is; a failed call may be repeated
/// with other settings.
pub(super) fn runtime(configured: Option<&Path>) -> Result<&'static Runtime, ClipError> {
    let _one_at_a_time = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let path = find(&Places::of_this_process(configured))?;
    // `ort` logs at every start that it was built for its oldest supported version. The loaded version is logged below.
    let silent = tracing::subscriber::NoSubscriber::default();
    let builder = tracing::subscriber::with_default(silent, || ort::init_from(&path));
    let builder = builder.map_err(|e| not_loaded(&path, &e))?;
    let environment = builder.with_name("clipstream").with_telemetry(false).build().map_err(|e| {
        Fault::new(ClipReason::OnnxruntimeFailed, format!("ONNX Runtime of {} did not start: {e}", path.display()))
    })?;
    // `ort` forwards everything to `tracing`; below `warn` that is several lines per run.
    environment.set_log_level(LogLevel::Warning);
    tracing::info!(library = %path.display(), build = ort::info(), "ONNX Runtime loaded");
    Ok(RUNTIME.get_or_init(|| Runtime { environment, path }))
}

/// Where to look.
#[derive(Debug, Default)]
struct Places {
    /// Explicitly named libraries: who named them, and the file.
    named: Vec<(String, PathBuf)>,
    folders: Vec<PathBuf>,
}

impl Places {
    fn of_this_process(configured: Option<&Path>) -> Self {
        let executable = std::env::current_exe().ok();
        Self::new(|name| std::env::var_os(name).filter(|v| !v.is_empty()), configured, executable.as_deref())
    }

    fn new(variable: impl Fn(&str) -> Option<OsString>, configured: Option<&Path>, executable: Option<&Path>) -> Self {
        let mut places = Self::default();
        for name in VARIABLES {
            places.named.extend(variable(name).map(|path| (name.to_owned(), PathBuf::from(path))));
        }
        places.named.extend(configured.map(|path| ("[clip] onnxruntime".to_owned(), path.to_owned())));
        if let Some(folder) = executable.and_then(Path::parent) {
            places.folders.extend([folder.to_owned(), folder.join("lib")]);
        }
        let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache")));
        places.folders.extend(cache.map(|c| c.join("clipstream/onnxruntime").join(VERSION.trim())));
        if let Some(list) = variable("LD_LIBRARY_PATH") {
            places.folders.extend(std::env::split_paths(&list).filter(|p| !p.as_os_str().is_empty()));
        }
        places.folders.extend(SYSTEM_FOLDERS.map(PathBuf::from));
        places
    }
}

fn find(places: &Places) -> Result<PathBuf, ClipError> {
    if let Some((who, path)) = places.named.first() {
        return if path.is_file() {
            Ok(path.clone())
        } else {
            let message =
                format!("{who} names {}, which is not a file; expected ONNX Runtime's library", path.display());
            Err(Fault::new(ClipReason::OnnxruntimeMissing, message)
                .hint(format!("correct or unset it, or {GET_LIBRARY}"))
                .into())
        };
    }
    places.folders.iter().find_map(|folder| library_in(folder)).ok_or_else(|| {
        let looked: Vec<_> = places.folders.iter().map(|f| f.display().to_string()).collect();
        let message = format!("ONNX Runtime's library was not found in {}", looked.join(", "));
        Fault::new(ClipReason::OnnxruntimeMissing, message).hint(GET_LIBRARY).into()
    })
}

/// `libonnxruntime.so`, `libonnxruntime.so.1`, `libonnxruntime.so.1.27.0`, or the same for macOS. Prefers the shortest
/// name, which system packages keep current.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let is_library = |name: &str| {
        if cfg!(target_os = "macos") {
            let version = name.strip_prefix("libonnxruntime").and_then(|n| n.strip_suffix(".dylib"));
            version.is_some_and(|v| v.is_empty() || v.starts_with('.'))
        } else {
            let version = name.strip_prefix("libonnxruntime.so");
            version.is_some_and(|v| v.is_empty() || v.starts_with('.'))
        }
    };
    let files = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    files
        .filter(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(is_library) && path.is_file())
        .min_by_key(|path| (path.as_os_str().len(), path.clone()))
}

fn not_loaded(path: &Path, error: &LoadDynamicError) -> ClipError {
    let path = path.display();
    let (reason, message) = match error {
        LoadDynamicError::BadVersion { version_str, .. } => {
            let minor = ort::MINOR_VERSION;
            let message = format!("{path} is ONNX Runtime {version_str}; version 1.{minor} or newer is needed");
            (ClipReason::OnnxruntimeTooOld, message)
        }
        LoadDynamicError::MissingApi { .. } | LoadDynamicError::InvalidVersionString => {
            (ClipReason::OnnxruntimeFailed, format!("{path} is a library, but not ONNX Runtime"))
        }
        LoadDynamicError::Dlopen { error, .. } => {
            (ClipReason::OnnxruntimeFailed, format!("{path} cannot be loaded ({error})"))
        }
    };
    Fault::new(reason, message).hint(GET_LIBRARY).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &Path)], configured: Option<&Path>) -> Places {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_os_str().to_owned());
        Places::new(variable, configured, Some(Path::new("/opt/clipstream/bin/clipstream")))
    }

    #[test]
    fn the_order_is_variable_setting_executable_cache_system() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("clipstream/onnxruntime").join(VERSION.trim());
        std::fs::create_dir_all(&folder).unwrap();
        let cached = folder.join(format!("libonnxruntime.so.{}", VERSION.trim()));
        std::fs::write(&cached, "").unwrap();
        std::fs::write(folder.join("libonnxruntime_providers_shared.so"), "").unwrap();
        let own = cache.path().join("own.so");
        std::fs::write(&own, "").unwrap();

        let home = ("XDG_CACHE_HOME", cache.path());
        if !cfg!(target_os = "macos") {
            assert_eq!(find(&places(&[home], None)).unwrap(), cached);
        }
        assert_eq!(find(&places(&[home], Some(&own))).unwrap(), own);
        assert_eq!(find(&places(&[home, ("ORT_DYLIB_PATH", &own)], Some(&cached))).unwrap(), own);
        let both = [home, ("ORT_DYLIB_PATH", cached.as_path()), ("CLIPSTREAM_ORT_DYLIB", own.as_path())];
        assert_eq!(find(&places(&both, None)).unwrap(), own);
    }

    #[test]
    fn what_is_missing_is_said_with_the_next_step() {
        let nowhere = Places { named: vec![], folders: vec!["/nowhere/a".into(), "/nowhere/b".into()] };
        let error = find(&nowhere).unwrap_err();
        assert_eq!(error.reason(), ClipReason::OnnxruntimeMissing.into());
        assert_eq!(
            error.to_string(),
            "ONNX Runtime's library was not found in /nowhere/a, /nowhere/b; run scripts/onnxruntime, or set \
             CLIPSTREAM_ORT_DYLIB to the library"
        );
        let named = places(&[("CLIPSTREAM_ORT_DYLIB", Path::new("/nowhere/x.so"))], None);
        let error = find(&named).unwrap_err().to_string();
        assert!(error.starts_with("CLIPSTREAM_ORT_DYLIB names /nowhere/x.so, which is not a file"), "{error}");
    }

    #[test]
    fn an_old_library_is_named_with_its_version() {
        let path = PathBuf::from("/opt/libonnxruntime.so");
        let error = LoadDynamicError::BadVersion { version_str: "1.16.3".into(), path: path.clone() };
        let error = not_loaded(&path, &error);
        assert_eq!(error.reason(), ClipReason::OnnxruntimeTooOld.into());
        assert!(
            error.to_string().starts_with("/opt/libonnxruntime.so is ONNX Runtime 1.16.3; version 1.22 or newer"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_onnx_runtime_is_refused() {
        let path = PathBuf::from("/opt/libother.so");
        let error = not_loaded(&path, &LoadDynamicError::MissingApi { path: path.clone() }).to_string();
        assert!(error.starts_with("/opt/libother.so is a library, but not ONNX Runtime"), "{error}");
        assert!(error.ends_with(GET_LIBRARY), "{error}");
    }
}
