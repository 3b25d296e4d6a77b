//! What a loaded model runs on: precision and execution providers of both towers, as logs, verbs and metrics show it.

use std::fmt;

use super::providers::Active;
use crate::domain::{Modality, Precision};
use crate::telemetry::TowerInfo;

/// What runs a model: which graphs, on what. Shown as `fp32 on cuda (device 0), cpu`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs {
    pub precision: Precision,
    pub image: Active,
    pub text: Active,
}

impl Runs {
    /// Preferred providers that were unavailable, each once with its reason.
    pub fn left_out(&self) -> Vec<String> {
        let mut left_out: Vec<String> = Vec::new();
        for (provider, reason) in self.image.left_out.iter().chain(&self.text.left_out) {
            if !left_out.iter().any(|known| known.starts_with(provider.as_str())) {
                left_out.push(format!("{provider} ({reason})"));
            }
        }
        left_out
    }

    /// Labels for metrics.
    pub(super) fn info(&self) -> Vec<TowerInfo> {
        let info = |modality, active: &Active| TowerInfo {
            modality,
            precision: self.precision,
            provider: active.first().as_str(),
            unavailable: active.left_out.iter().map(|(provider, _)| provider.as_str()).collect(),
        };
        vec![info(Modality::Image, &self.image), info(Modality::Text, &self.text)]
    }
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (image, text) = (self.image.to_string(), self.text.to_string());
        write!(f, "{} on ", self.precision)?;
        if image == text { f.write_str(&image) } else { write!(f, "{image} for pictures, {text} for texts") }
    }
}
