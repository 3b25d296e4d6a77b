"""A tower as ONNX: fp32, fp16 and int8, with external data where protobuf's 2 GB end.

- fp32: PyTorch's `dynamo` exporter, since the tracing one bakes the text length in. Operator set 18: every ONNX Runtime
  that clipstream loads knows it, and fuses its LayerNorm, GELU and QuickGELU.
- fp16: weights and arithmetic in half precision, float32 pixels and vectors, so that callers need not care; the unit
  length is made in float32. For GPUs: a CPU computes it in float32 with a conversion around every operator.
- int8: dynamic quantisation of the matrix products with weights, one scale per output channel. Embeddings, the patches'
  convolution, attention scores, norms and activations stay float32.
"""

import contextlib
import copy
import io
import logging
import warnings
from pathlib import Path

import onnx_ir as ir
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from .towers import ImageTower, TextTower

OPSET = 18
# Protobuf ends at 2^31 bytes; the graph itself takes far less than the difference.
INLINE_BYTES_MAX = 2**31 - 2**27
PRECISIONS = ("fp32", "fp16", "int8")


def file_name(precision: str) -> str:
    return "model.onnx" if precision == "fp32" else f"model_{precision}.onnx"


def export_image(model, image_size, path: Path, half: bool = False) -> None:
    tower = ImageTower(model).eval()
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    # Two: a batch of one would be taken for a constant.
    export(tower, torch.zeros(2, 3, *size), path, {0: "batch"}, "image", half)


def export_text(model, context_length: int, path: Path, half: bool = False) -> None:
    tower = TextTower(model, context_length).eval()
    # Shorter than the context, so that no length is taken for a constant.
    example = torch.ones(2, tower.context_length // 2 if tower.any_length else tower.context_length, dtype=torch.int64)
    export(tower, example, path, {0: "batch", 1: "sequence"} if tower.any_length else {0: "batch"}, "text", half)


def export(tower, example, path: Path, axes: dict, name: str, half: bool = False) -> None:
    """Writes `path`, with inputs and outputs named as Immich names them: `image` and `image_embedding`, `text` and `text_embedding`."""
    if half:
        # A copy: fp16 weights turned back to fp32 are not the ones they were.
        tower = copy.deepcopy(tower).half()
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            tower, (example,), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=[name], output_names=[f"{name}_embedding"], dynamic_shapes=(axes,),
        )  # fmt: skip
    save(program.model, path)


def save(model: ir.Model, path: Path) -> None:
    # The exporter notes PyTorch's stack trace at every node: twice the size of a small graph, and paths of this machine.
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    external = {"external_data": f"{path.name}.data"} if weights > INLINE_BYTES_MAX else {}
    ir.save(model, path, **external)


def quantise(source: Path, path: Path) -> None:
    """The int8 graph of the fp32 graph `source`."""
    large = Path(f"{source}.data").exists()
    with _quiet():
        quantize_dynamic(
            source, path, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul", "Gemm"], use_external_data_format=large
        )


@contextlib.contextmanager
def _quiet():
    """Without the exporter's notes on its own progress; errors are raised as ever."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
