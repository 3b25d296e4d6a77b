//! Execution providers that a machine has not got, with the real binary: what it says, and that it never runs on the CPU
//! in silence.
//!
//! `CLIPSTREAM_TEST_ORT_CUDA_DYLIB` names ONNX Runtime's library with CUDA (`scripts/onnxruntime --cuda`), on a machine
//! without an NVIDIA driver: then it is tried itself, not a stand-in.

use std::ffi::OsString;
use std::process::Output;

use crate::worker_process::{clipstream, set};

fn embed(settings: &[(&str, &str)], library: Option<&OsString>) -> Output {
    let mut command = clipstream("embed");
    set(&mut command, &[("clip.models", "demo-emoji/v1=demo/model")]);
    set(&mut command, settings);
    if let Some(library) = library {
        command.env("CLIPSTREAM_ORT_DYLIB", library);
    }
    command.args(["--json", "text", "a red heart"]).output().expect("the binary starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_required_provider_that_the_library_lacks_stops_with_the_next_step() {
    let output = embed(&[("clip.providers", "openvino,cpu")], None);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(output.stdout.is_empty());
    assert!(said.contains("execution provider openvino is unavailable: "), "{said}");
    assert!(said.contains("\"openvino:preferred\""), "{said}");
}

/// Libraries are told from their files on Linux alone.
#[cfg(target_os = "linux")]
mod without_what_they_need {
    use clipstream::config::Settings;
    use tempfile::TempDir;

    use super::*;

    /// ONNX Runtime with providers of which libraries are missing, and those libraries, by provider.
    struct Library {
        path: OsString,
        missing: [(&'static str, [&'static str; 3]); 2],
        _folder: Option<TempDir>,
    }

    impl Library {
        /// The one with CUDA, on a machine that cannot use it; without one, a stand-in that needs what no machine has.
        fn with_cuda() -> Self {
            let named = std::env::var_os("CLIPSTREAM_TEST_ORT_CUDA_DYLIB").filter(|library| !library.is_empty());
            let Some(path) = named else { return Self::stand_in() };
            let missing = [
                ("cuda", ["libcublasLt.so.13", "libcudnn.so.9", "libcuda.so.1"]),
                ("tensorrt", ["libnvinfer.so.10", "libcudnn.so.9", "libcudart.so.13"]),
            ];
            Self { path, missing, _folder: None }
        }

        /// The library that the other tests use, with files beside it that say what they need, as CUDA's and TensorRT's do.
        fn stand_in() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("libonnxruntime.so");
            let own =
                clipstream::clip::load_runtime(&Settings::default().clip).expect("scripts/onnxruntime fetches it");
            std::fs::copy(own, &path).unwrap();
            let missing = [
                ("cuda", ["libcublasLt.so.99", "libcudnn.so.99", "libcuda.so.99"]),
                ("tensorrt", ["libnvinfer.so.99", "libcudnn.so.99", "libcudart.so.99"]),
            ];
            for (provider, needs) in missing {
                let file = folder.path().join(format!("libonnxruntime_providers_{provider}.so"));
                std::fs::write(file, shared_library(&needs)).unwrap();
            }
            Self { path: path.into(), missing, _folder: Some(folder) }
        }
    }

    /// A file in the 64-bit little-endian form of ELF (`elf.h`) that has nothing but the names of what it needs.
    fn shared_library(needs: &[&str]) -> Vec<u8> {
        const HEADER_BYTES: u64 = 64;
        let (mut dynamic, mut text) = (Vec::new(), vec![0]);
        for name in needs {
            // `DT_NEEDED`, and where the name is.
            dynamic.extend([1u64.to_le_bytes(), (text.len() as u64).to_le_bytes()].concat());
            text.extend([name.as_bytes(), &[0]].concat());
        }
        let section = |kind: u32, link: u32, offset: u64, bytes: usize| {
            let mut header = [0; 64];
            header[4..8].copy_from_slice(&kind.to_le_bytes());
            header[24..32].copy_from_slice(&offset.to_le_bytes());
            header[32..40].copy_from_slice(&(bytes as u64).to_le_bytes());
            header[40..44].copy_from_slice(&link.to_le_bytes());
            header
        };
        let text_offset = HEADER_BYTES + dynamic.len() as u64;
        // `SHT_DYNAMIC`, whose strings are in the section after it, and `SHT_STRTAB`.
        let sections = [section(6, 1, HEADER_BYTES, dynamic.len()), section(3, 0, text_offset, text.len())].concat();
        let mut header = vec![0; HEADER_BYTES as usize];
        header[..6].copy_from_slice(b"\x7fELF\x02\x01");
        header[40..48].copy_from_slice(&(text_offset + text.len() as u64).to_le_bytes());
        header[58..62].copy_from_slice(&[64, 0, 2, 0]);
        [header, dynamic, text, sections].concat()
    }

    #[test]
    fn required_cuda_without_its_libraries_names_all_that_are_missing() {
        let library = Library::with_cuda();
        for (provider, needs) in library.missing {
            let output = embed(&[("clip.providers", provider)], Some(&library.path));
            let said = said(&output);
            assert_eq!(output.status.code(), Some(3), "{said}");
            assert!(output.stdout.is_empty());
            assert!(said.contains(&format!("execution provider {provider} is unavailable")), "{said}");
            for needed in needs {
                assert!(said.contains(needed), "{needed}: {said}");
            }
        }
    }

    #[test]
    fn preferred_cuda_without_its_libraries_warns_and_runs_on_the_cpu() {
        let library = Library::with_cuda();
        let output = embed(&[("clip.providers", "tensorrt:preferred,cuda:preferred,cpu")], Some(&library.path));
        let said = said(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("a preferred execution provider is unavailable and is left out"), "{said}");
        assert!(said.contains("provider=tensorrt") && said.contains("provider=cuda"), "{said}");
        let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(line["embedding"].as_array().map(Vec::len), Some(256));
        // Its own library, the same vector.
        let cpu: serde_json::Value = serde_json::from_slice(&embed(&[], None).stdout).unwrap();
        let values = |line: &serde_json::Value| -> Vec<f64> {
            line["embedding"].as_array().unwrap().iter().filter_map(serde_json::Value::as_f64).collect()
        };
        assert!(values(&line).iter().zip(values(&cpu)).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}
