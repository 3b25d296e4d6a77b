//! Execution providers that a machine has not got, with the real binary: what it says, and that it never runs on the CPU
//! in silence.
//!
//! `CLIPSTREAM_TEST_ORT_CUDA_DYLIB` names ONNX Runtime's library with CUDA (`scripts/onnxruntime --cuda`), for a machine
//! without an NVIDIA driver; the tests of that library are run with `--ignored`.

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

/// The library with CUDA, on a machine that cannot use it.
fn cuda_library() -> OsString {
    std::env::var_os("CLIPSTREAM_TEST_ORT_CUDA_DYLIB").expect("the library that scripts/onnxruntime --cuda prints")
}

#[test]
fn a_required_provider_that_the_library_lacks_stops_with_the_next_step() {
    let output = embed(&[("clip.providers", "openvino,cpu")], None);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(output.stdout.is_empty());
    assert!(said.contains("execution provider openvino cannot be had: "), "{said}");
    assert!(said.contains("\"openvino:preferred\""), "{said}");
}

#[test]
#[ignore = "needs CLIPSTREAM_TEST_ORT_CUDA_DYLIB"]
fn required_cuda_without_its_libraries_names_all_that_are_missing() {
    let library = cuda_library();
    for (provider, needs) in [
        ("cuda", ["libcublasLt.so.13", "libcudnn.so.9", "libcuda.so.1"]),
        ("tensorrt", ["libnvinfer.so.10", "libcudnn.so.9", "libcudart.so.13"]),
    ] {
        let output = embed(&[("clip.providers", provider)], Some(&library));
        let said = said(&output);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(output.stdout.is_empty());
        assert!(said.contains(&format!("execution provider {provider} cannot be had")), "{said}");
        for needed in needs {
            assert!(said.contains(needed), "{needed}: {said}");
        }
    }
}

#[test]
#[ignore = "needs CLIPSTREAM_TEST_ORT_CUDA_DYLIB"]
fn preferred_cuda_without_its_libraries_warns_and_runs_on_the_cpu() {
    let library = cuda_library();
    let output = embed(&[("clip.providers", "tensorrt:preferred,cuda:preferred,cpu")], Some(&library));
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("a preferred execution provider cannot be had and is left out"), "{said}");
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
