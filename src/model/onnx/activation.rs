//! Which activation a graph computes, by its arithmetic.
//!
//! | activation | as exporters and optimisers write it |
//! |---|---|
//! | QuickGELU, `x * sigmoid(1.702 x)` | `Mul`, `Sigmoid`, `Mul`; `com.microsoft.QuickGelu`; `Swish` with alpha 1.702 (operator set 24) |
//! | GELU, `x/2 (1 + erf(x / √2))` | `Div` or `Mul`, `Erf`, `Add`; `Gelu` (operator set 20); `com.microsoft.Gelu`, `BiasGelu` |
//! | GELU by tanh, `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))` | `Mul`, `Tanh`, `Add`; `Gelu` with `approximate="tanh"`; `com.microsoft.FastGelu` |

use std::collections::BTreeMap;
use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use super::proto::NodeProto;
use super::wiring::{Wiring, about};
use crate::domain::Activation;

/// The factor in QuickGELU (`open_clip/transformer.py`).
const QUICK_GELU_FACTOR: f64 = 1.702;

/// √(2/π).
const TANH_FACTOR: f64 = 0.797_884_560_8;

/// How often each activation is found.
pub(super) fn find(wiring: &Wiring<'_>) -> BTreeMap<Activation, usize> {
    let mut found = BTreeMap::new();
    for activation in wiring.nodes.iter().filter_map(|node| of_node(wiring, node)) {
        *found.entry(activation).or_default() += 1;
    }
    found
}

fn of_node(wiring: &Wiring<'_>, node: &NodeProto) -> Option<Activation> {
    match node.op_type.as_str() {
        "QuickGelu" => alpha_is_quick(node, QUICK_GELU_FACTOR),
        "Swish" => alpha_is_quick(node, 1.0),
        "Sigmoid" => is_quick_gelu(wiring, node).then_some(Activation::QuickGelu),
        "Gelu" => {
            let approximate = node.attribute("approximate").map_or(&b"none"[..], |a| &a.s);
            Some(if approximate == b"tanh" { Activation::GeluTanh } else { Activation::Gelu })
        }
        "BiasGelu" => Some(Activation::Gelu),
        "FastGelu" => Some(Activation::GeluTanh),
        "Erf" => {
            let argument = wiring.source(node.input.first()?)?;
            let halved = match argument.op_type.as_str() {
                "Div" => wiring.scalar(argument.input.get(1)?).is_some_and(|c| about(c, SQRT_2)),
                "Mul" => wiring.other_than(argument, FRAC_1_SQRT_2).is_some(),
                _ => false,
            };
            (halved && one_is_added(wiring, node)).then_some(Activation::Gelu)
        }
        "Tanh" => {
            let argument = wiring.source(node.input.first()?).filter(|n| n.op_type == "Mul")?;
            // Some exporters multiply the factor in before, so that it is one step further back.
            let scaled = |n: &NodeProto| n.op_type == "Mul" && wiring.other_than(n, TANH_FACTOR).is_some();
            let before = argument.input.iter().filter_map(|i| wiring.source(i));
            let factor = scaled(argument) || before.into_iter().any(scaled);
            (factor && one_is_added(wiring, node)).then_some(Activation::GeluTanh)
        }
        _ => None,
    }
}

fn alpha_is_quick(node: &NodeProto, default: f64) -> Option<Activation> {
    let alpha = node.attribute("alpha").map_or(default, |a| f64::from(a.f));
    about(alpha, QUICK_GELU_FACTOR).then_some(Activation::QuickGelu)
}

/// Whether the sigmoid is of 1.702 x, and is multiplied with the same x.
fn is_quick_gelu(wiring: &Wiring<'_>, sigmoid: &NodeProto) -> bool {
    let (Some(input), Some(output)) = (sigmoid.input.first(), sigmoid.output.first()) else { return false };
    let scaled = wiring.source(input).filter(|n| n.op_type == "Mul");
    let Some(x) = scaled.and_then(|n| wiring.other_than(n, QUICK_GELU_FACTOR)) else { return false };
    let x = wiring.origin(x);
    let takes_x = |node: &&NodeProto| node.op_type == "Mul" && node.input.iter().any(|i| wiring.origin(i) == x);
    wiring.users(output).iter().any(takes_x)
}

fn one_is_added(wiring: &Wiring<'_>, node: &NodeProto) -> bool {
    let Some(output) = node.output.first() else { return false };
    wiring.users(output).iter().any(|n| n.op_type == "Add" && wiring.other_than(n, 1.0).is_some())
}
