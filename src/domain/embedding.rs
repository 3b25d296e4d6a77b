//! Vectors of unit length, and the two modalities that have them. Only normalised, finite vectors can be made, so nothing later checks
//! them.

use std::fmt;

/// Which tower made a vector, and which named vector of the point holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Modality {
    Image,
    Text,
}

impl Modality {
    pub const ALL: [Self; 2] = [Self::Image, Self::Text];

    /// The named vector in Qdrant, and the label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Text => "text",
        }
    }
}

impl fmt::Display for Modality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A vector of unit length in a model's shared image-text space.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding(Box<[f32]>);

impl Embedding {
    /// Scales `values` to unit length (L2), as OpenCLIP's `encode_image(…, normalize=True)` does.
    pub fn normalised(mut values: Vec<f32>) -> Result<Self, InvalidEmbedding> {
        // f64: the sum of a thousand squares loses digits in f32.
        let length = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        if values.is_empty() || !length.is_finite() || length < 1e-12 {
            return Err(InvalidEmbedding { dimension: values.len(), length });
        }
        for v in &mut values {
            *v = (f64::from(*v) / length) as f32;
        }
        Ok(Self(values.into_boxed_slice()))
    }

    /// The first `dimension` values, of unit length again (Kusupati et al. 2022, "Matryoshka Representation Learning").
    pub fn cut(self, dimension: usize) -> Result<Self, InvalidEmbedding> {
        let mut values = self.0.into_vec();
        values.truncate(dimension);
        Self::normalised(values)
    }

    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    pub fn into_vec(self) -> Vec<f32> {
        self.0.into_vec()
    }

    pub fn dimension(&self) -> usize {
        self.0.len()
    }

    /// Cosine similarity; both have unit length, so it is the dot product. Dimensions must agree.
    pub fn cosine(&self, other: &Self) -> f32 {
        debug_assert_eq!(self.dimension(), other.dimension());
        self.0.iter().zip(&other.0).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
    }
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the model gave a vector of {dimension} values and length {length}; expected a finite length above zero")]
pub struct InvalidEmbedding {
    pub dimension: usize,
    pub length: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_leave_with_unit_length() {
        let e = Embedding::normalised(vec![3.0, 4.0]).unwrap();
        assert_eq!(e.as_slice(), [0.6, 0.8]);
        assert!((e.cosine(&e) - 1.0).abs() < 1e-6);
    }

    /// Expected values by NumPy: `v[:3] / np.linalg.norm(v[:3])`.
    #[test]
    fn what_is_kept_has_unit_length_again() {
        let e = Embedding::normalised(vec![1.0, -2.0, 3.0, 4.0, 5.0]).unwrap();
        let cut = e.clone().cut(3).unwrap();
        let expected = [0.267_261_24, -0.534_522_5, 0.801_783_74];
        assert!(cut.as_slice().iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{cut:?}");
        assert_eq!((cut.dimension(), e.clone().cut(9).unwrap()), (3, e));
        assert!(Embedding::normalised(vec![0.0, 1.0]).unwrap().cut(1).is_err());
    }

    #[test]
    fn nothing_can_be_normalised_from_zero_or_nan() {
        assert!(Embedding::normalised(vec![0.0; 4]).is_err());
        assert!(Embedding::normalised(vec![1.0, f32::NAN]).is_err());
        assert!(Embedding::normalised(vec![]).is_err());
    }
}
