//! From cosines to the probabilities of labels, for zero-shot labels.

/// How a model was trained to tell labels by their similarity to a picture: `scale × cosine + bias`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logits {
    pub scale: f32,
    /// There is one where a model was trained with a sigmoid loss, as SigLIP.
    pub bias: Option<f32>,
}

impl Logits {
    /// Where CLIP's training clips its scale (`ln 100` in OpenCLIP's `logit_scale`), and where most of its checkpoints ended.
    pub const OF_CLIP: Self = Self { scale: 100.0, bias: None };

    /// The probability that a text and a picture of this cosine similarity belong together. None without a bias: then it depends on
    /// what else there is.
    pub fn probability(self, cosine: f32) -> Option<f32> {
        let logit = f64::from(self.scale) * f64::from(cosine) + f64::from(self.bias?);
        Some((1.0 / (1.0 + (-logit).exp())) as f32)
    }

    /// Probabilities of labels by their cosine similarities to one picture, in order. With a bias, each label has one of its own
    /// (sigmoid). Without, they are shares of 1 (softmax): a label's probability depends on the others.
    pub fn probabilities(self, cosines: &[f32]) -> Vec<f32> {
        if self.bias.is_some() {
            return cosines.iter().filter_map(|cosine| self.probability(*cosine)).collect();
        }
        let scale = f64::from(self.scale);
        let logits = cosines.iter().map(|cosine| scale * f64::from(*cosine));
        // Relative to the largest, so that no power is infinite.
        let largest = logits.clone().fold(f64::NEG_INFINITY, f64::max);
        let powers: Vec<f64> = logits.map(|logit| (logit - largest).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.into_iter().map(|power| (power / sum) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(found: &[f32], expected: &[f32]) {
        let is_near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6);
        assert!(is_near && found.len() == expected.len(), "{found:?}, expected {expected:?}");
    }

    /// Expected values by PyTorch 2.15: `torch.softmax` and `torch.sigmoid` in float64.
    #[test]
    fn probabilities_are_pytorchs() {
        let cosines = [0.30, 0.28, 0.10, -0.05];
        assert_near(
            &Logits::OF_CLIP.probabilities(&cosines),
            &[0.880_797_1, 0.119_202_92, 1.815_458e-9, 5.553_528e-16],
        );
        let siglip = Logits { scale: 117.33, bias: Some(-12.93) };
        assert_near(&siglip.probabilities(&[0.12, 0.11, 0.0]), &[0.759_437_85, 0.494_075_28, 2.424_216e-6]);
        assert_near(&[siglip.probability(0.12).unwrap()], &[0.759_437_85]);
        assert_eq!(Logits::OF_CLIP.probability(0.3), None);
    }

    #[test]
    fn nothing_overflows() {
        let steep = Logits { scale: 1e6, bias: None };
        assert_eq!(steep.probabilities(&[1.0, -1.0]), [1.0, 0.0]);
        assert_eq!(Logits { bias: Some(0.0), ..steep }.probabilities(&[1.0, -1.0]), [1.0, 0.0]);
        assert!(Logits::OF_CLIP.probabilities(&[]).is_empty());
    }
}
