//! Two ends of a graph: whether its vectors have unit length, and how many tokens its embedding has.

use std::collections::HashSet;

use super::proto::NodeProto;
use super::wiring::Wiring;

/// Most nodes between a vector and its norm: square, sum, root, a floor, expansion.
const STEPS_MAX: usize = 8;

/// Whether the graph divides `output` by its norm.
pub(super) fn is_normalised(wiring: &Wiring<'_>, output: &str) -> bool {
    let Some(last) = wiring.source(output) else { return false };
    let divisor = match (last.op_type.as_str(), last.input.as_slice()) {
        ("LpNormalization", _) => return true,
        ("Div", [_, divisor]) => vec![divisor],
        // With the reciprocal of the norm.
        ("Mul", [a, b]) => vec![a, b],
        _ => return false,
    };
    divisor.into_iter().any(|value| is_norm(wiring, value, STEPS_MAX))
}

fn is_norm(wiring: &Wiring<'_>, value: &str, steps: usize) -> bool {
    let Some(node) = wiring.source(value).filter(|_| steps > 0) else { return false };
    match node.op_type.as_str() {
        "ReduceL2" | "ReduceSumSquare" => true,
        "ReduceSum" => node.input.first().and_then(|i| wiring.source(i)).is_some_and(|square| {
            square.op_type == "Pow" || (square.op_type == "Mul" && square.input.first() == square.input.get(1))
        }),
        "Clip" | "Max" | "Add" | "Sqrt" | "Pow" | "Reciprocal" | "Expand" | "Unsqueeze" | "Reshape" => {
            node.input.iter().any(|input| is_norm(wiring, input, steps - 1))
        }
        _ => false,
    }
}

/// Rows of the table in which the token ids `input` are looked up.
pub(super) fn vocabulary(wiring: &Wiring<'_>, input: &str) -> Option<u64> {
    let (mut ahead, mut seen) = (vec![input.to_owned()], HashSet::new());
    while let Some(value) = ahead.pop() {
        if !seen.insert(value.clone()) {
            continue;
        }
        for node in wiring.users(&value) {
            if let Some(rows) = rows_looked_up(wiring, node, &value) {
                return Some(rows);
            }
            let reshapes = ["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Clip", "Max", "Min", "Slice", "Where"];
            if reshapes.contains(&node.op_type.as_str()) {
                ahead.extend(node.output.first().cloned());
            }
        }
    }
    None
}

fn rows_looked_up(wiring: &Wiring<'_>, node: &NodeProto, ids: &str) -> Option<u64> {
    let (table, indices) = match node.op_type.as_str() {
        "Gather" | "GatherBlockQuantized" => (0, 1),
        // `com.microsoft`: ids, segments, word table.
        "EmbedLayerNormalization" => (2, 0),
        _ => return None,
    };
    if wiring.origin(node.input.get(indices)?) != wiring.origin(ids) {
        return None;
    }
    let table = wiring.tensor(node.input.get(table)?)?;
    let [rows, _] = table.dims[..] else { return None };
    u64::try_from(rows).ok()
}
