//! Reused input buffers in the element type of the graph.

use half::f16;
use half::slice::HalfFloatSliceExt;
use ort::session::SessionInputValue;
use ort::value::TensorRef;

use crate::clip::graph::{Float, Integer, PixelType};

/// Pixels.
pub(super) enum PixelBuffer {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Rgb(Vec<u8>),
}

impl PixelBuffer {
    pub(super) fn new(pixel_type: PixelType) -> Self {
        match pixel_type {
            PixelType::Planes(Float::F32) => Self::F32(Vec::new()),
            PixelType::Planes(Float::F16) => Self::F16(Vec::new()),
            PixelType::Rgb => Self::Rgb(Vec::new()),
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            Self::F32(values) => values.clear(),
            Self::F16(values) => values.clear(),
            Self::Rgb(values) => values.clear(),
        }
    }

    /// One picture, as planes of its channels.
    pub(super) fn extend(&mut self, more: &[f32]) {
        match self {
            Self::F32(values) => values.extend_from_slice(more),
            Self::F16(values) => {
                let start = values.len();
                values.resize(start + more.len(), f16::ZERO);
                values[start..].convert_from_f32_slice(more);
            }
            Self::Rgb(values) => {
                let (red, rest) = more.split_at(more.len() / 3);
                let (green, blue) = rest.split_at(red.len());
                let pixels = red.iter().zip(green).zip(blue);
                values.extend(pixels.flat_map(|((r, g), b)| [*r as u8, *g as u8, *b as u8]));
            }
        }
    }

    pub(super) fn pad(&mut self, length: usize) {
        match self {
            Self::F32(values) => values.resize(length, 0.0),
            Self::F16(values) => values.resize(length, f16::ZERO),
            Self::Rgb(values) => values.resize(length, 0),
        }
    }

    pub(super) fn tensor(&self, shape: [usize; 4]) -> ort::Result<SessionInputValue<'_>> {
        Ok(match self {
            Self::F32(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
            Self::F16(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
            Self::Rgb(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        })
    }
}

/// Token ids, attention masks and token types, each with its padding value.
pub(super) enum Integers {
    I32(Vec<i32>, i32),
    I64(Vec<i64>, i64),
}

impl Integers {
    pub(super) fn new(integer: Integer, padding: i64) -> Self {
        match integer {
            Integer::I32 => Self::I32(Vec::new(), in_32_bits(padding)),
            Integer::I64 => Self::I64(Vec::new(), padding),
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            Self::I32(values, _) => values.clear(),
            Self::I64(values, _) => values.clear(),
        }
    }

    pub(super) fn extend(&mut self, more: impl Iterator<Item = i64>) {
        match self {
            Self::I32(values, _) => values.extend(more.map(in_32_bits)),
            Self::I64(values, _) => values.extend(more),
        }
    }

    pub(super) fn pad(&mut self, length: usize) {
        match self {
            Self::I32(values, padding) => values.resize(length, *padding),
            Self::I64(values, padding) => values.resize(length, *padding),
        }
    }

    pub(super) fn tensor(&self, shape: [usize; 2]) -> ort::Result<SessionInputValue<'_>> {
        Ok(match self {
            Self::I32(values, _) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
            Self::I64(values, _) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        })
    }
}

/// No vocabulary reaches `i32::MAX`, so the graph refuses that id as it would refuse the `i64` one.
fn in_32_bits(id: i64) -> i32 {
    i32::try_from(id).unwrap_or(i32::MAX)
}
