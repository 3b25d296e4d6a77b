"""An fp16 graph whose LayerNorms and softmaxes compute in fp32.

Their sums over thousands of squares or exponentials are where half precision overflows. Every runtime takes the casts for little: the
products, where the work is, stay fp16.
"""

from pathlib import Path

import onnx_ir as ir

OPERATORS = ("LayerNormalization", "GroupNormalization", "InstanceNormalization", "Softmax", "ReduceMean", "Pow", "Sqrt", "Reciprocal")


def widen(model: ir.Model) -> int:
    """Puts casts around these operators where they compute in fp16; returns around how many."""
    count = 0
    for node in list(model.graph):
        if node.op_type not in OPERATORS or node.outputs[0].dtype != ir.DataType.FLOAT16:
            continue
        before, after = [], []
        for index, value in enumerate(node.inputs):
            if value is not None and _dtype(value) == ir.DataType.FLOAT16:
                cast = ir.node("Cast", [value], attributes={"to": ir.DataType.FLOAT})
                before.append(cast)
                node.replace_input_with(index, cast.outputs[0])
        for value in node.outputs:
            if value.dtype != ir.DataType.FLOAT16:
                continue
            uses = list(value.uses())
            value.dtype = ir.DataType.FLOAT
            cast = ir.node("Cast", [value], attributes={"to": ir.DataType.FLOAT16})
            cast.outputs[0].dtype = ir.DataType.FLOAT16
            after.append(cast)
            for use in uses:
                use.node.replace_input_with(use.idx, cast.outputs[0])
        model.graph.insert_before(node, before)
        model.graph.insert_after(node, after)
        count += 1
    return count


def _dtype(value: ir.Value):
    return value.const_value.dtype if value.const_value is not None else value.dtype


def load(path: Path) -> ir.Model:
    """The whole graph in memory, so that its file can be written anew."""
    model = ir.load(path)
    ir.external_data.load_to_model(model)
    return model
