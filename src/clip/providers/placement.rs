//! Which provider ran which nodes of a graph, from ONNX Runtime's profile of a run.

use std::collections::BTreeMap;
use std::fmt;

use ort::session::Session;
use serde::Deserialize;
use tempfile::TempDir;

use crate::clip::ClipError;
use crate::config::Provider;
use crate::domain::{ClipReason, Fault, Finding};

/// Operators with nearly all the work of a CLIP tower. With a GPU, only others (shapes, gathers) may run on the CPU.
const HEAVY: [&str; 15] = [
    "Attention",
    "Conv",
    "ConvInteger",
    "DynamicQuantizeMatMul",
    "FusedConv",
    "FusedGemm",
    "FusedMatMul",
    "Gemm",
    "MatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "MultiHeadAttention",
    "NhwcFusedConv",
    "QAttention",
    "QGemm",
];

/// Number of nodes that ran, by ONNX Runtime's provider name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Placement {
    nodes: BTreeMap<String, usize>,
    /// Matrix products and convolutions on the CPU.
    heavy_on_cpu: usize,
}

/// The fields of a profile event that are used; see `onnxruntime/core/common/profiler_common.h`.
#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    cat: String,
    #[serde(default)]
    args: Args,
}

#[derive(Default, Deserialize)]
struct Args {
    op_name: Option<String>,
    provider: Option<String>,
}

impl Placement {
    /// Ends the session's profile and reads it.
    pub(super) fn of(session: &mut Session, folder: TempDir) -> Result<Self, ClipError> {
        let failed = |what: String| {
            Fault::new(ClipReason::ProviderUnknown, format!("what ran the trial run is unknown: {what}"))
        };
        let file = session.end_profiling().map_err(|e| failed(e.to_string()))?;
        let record = std::fs::read(&file).map_err(|e| failed(format!("{file}: {e}")))?;
        drop(folder);
        Ok(Self::read(&record).map_err(|e| failed(format!("{file}: {e}")))?)
    }

    fn read(record: &[u8]) -> Result<Self, serde_json::Error> {
        let mut placement = Self::default();
        for event in serde_json::from_slice::<Vec<Event>>(record)? {
            let (true, Some(provider)) = (event.cat == "Node", event.args.provider) else { continue };
            let on_cpu = provider == name_of(Provider::Cpu);
            let is_heavy = event.args.op_name.is_some_and(|op| HEAVY.contains(&op.as_str()));
            placement.heavy_on_cpu += usize::from(on_cpu && is_heavy);
            *placement.nodes.entry(provider).or_default() += 1;
        }
        Ok(placement)
    }

    /// Whether the first provider did the work; otherwise the provider at fault, and why.
    pub(super) fn check(&self, providers: &[Provider]) -> Result<(), (Provider, Finding)> {
        let Some(first) = providers.first().copied().filter(|p| *p != Provider::Cpu) else { return Ok(()) };
        let ran = self.nodes.get(name_of(first)).copied().unwrap_or(0);
        if ran == 0 {
            let finding = Finding::new(format!("ONNX Runtime took it and ran nothing on it ({self})"))
                .hint("use a graph with operators that it knows, such as clip.precision = \"fp32\"");
            return Err((first, finding));
        }
        // Core ML and OpenVINO run what they support and are meant to leave the rest.
        let takes_all = first.has_device_ids();
        if takes_all && self.heavy_on_cpu > 0 {
            let heavy = self.heavy_on_cpu;
            let message = format!("{heavy} matrix products or convolutions ran on the CPU beside it ({self})");
            let hint = "use a graph with operators that it knows, such as clip.precision = \"fp32\" or \"fp16\"";
            return Err((first, Finding::new(message).hint(hint)));
        }
        if self.heavy_on_cpu > 0 {
            tracing::warn!(provider = %first, placement = %self, heavy_on_cpu = self.heavy_on_cpu,
                "matrix products or convolutions run on the CPU beside the execution provider");
        }
        Ok(())
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (provider, nodes)) in self.nodes.iter().enumerate() {
            write!(f, "{}{nodes} nodes on {provider}", if n > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

/// The provider's name in ONNX Runtime.
fn name_of(provider: Provider) -> &'static str {
    match provider {
        Provider::Cpu => "CPUExecutionProvider",
        Provider::Cuda => "CUDAExecutionProvider",
        Provider::TensorRt => "TensorrtExecutionProvider",
        Provider::OpenVino => "OpenVINOExecutionProvider",
        Provider::CoreMl => "CoreMLExecutionProvider",
        Provider::DirectMl => "DmlExecutionProvider",
        Provider::MiGraphX => "MIGraphXExecutionProvider",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(nodes: &[(&str, &str)]) -> Placement {
        let mut events = vec![serde_json::json!({"cat": "Session", "name": "model_loading_uri", "args": {}})];
        for (op, provider) in nodes {
            events.push(serde_json::json!({"cat": "Node", "args": {"op_name": op, "provider": provider}}));
        }
        Placement::read(serde_json::Value::from(events).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_provider_that_ran_nothing_is_at_fault() {
        let placement = record(&[("Conv", "CPUExecutionProvider"), ("Add", "CPUExecutionProvider")]);
        let (provider, found) = placement.check(&[Provider::Cuda, Provider::Cpu]).unwrap_err();
        assert_eq!(provider, Provider::Cuda);
        assert_eq!(found.message, "ONNX Runtime took it and ran nothing on it (2 nodes on CPUExecutionProvider)");
        assert_eq!(placement.check(&[Provider::Cpu]), Ok(()));
    }

    #[test]
    fn shapes_may_run_on_the_cpu_beside_a_gpu_and_matrix_products_may_not() {
        let (gpu, cpu) = ("CUDAExecutionProvider", "CPUExecutionProvider");
        let order = [Provider::Cuda, Provider::Cpu];
        assert_eq!(record(&[("MatMul", gpu), ("Gather", cpu), ("Shape", cpu)]).check(&order), Ok(()));
        let (_, found) = record(&[("Softmax", gpu), ("MatMul", cpu), ("Conv", cpu)]).check(&order).unwrap_err();
        assert!(found.message.starts_with("2 matrix products or convolutions ran on the CPU"), "{found}");
    }
}
